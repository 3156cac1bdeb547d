"""The history of pauses: what held a queue up, why, and for how long, also after a restart."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agentq_nb import Actor, ConcurrencyLimit, Queue, RateLimited
from agentq_nb._display import document_of
from agentq_nb._display.document import as_text
from agentq_nb._policies.pause import PauseHistory, after_limit
from tests.unit.runtime.world import World, queue_of

pytestmark = pytest.mark.anyio

API = ConcurrencyLimit(3, name="api")


class Night(Actor):
    """Meets the limits that it is told to meet, one message after another."""

    tasks = Queue(str, limits=[API])
    others = Queue(str, limits=[API])
    limits: list[RateLimited | None]

    async def run(self) -> None:
        async for _ in self.queue.iter():
            limit = self.limits.pop(0) if self.limits else None
            if limit is not None:
                raise limit


@pytest.fixture
def night() -> type[Night]:
    made: type[Night] = type("Night", (Night,), {})
    made.limits = []
    return made


@pytest.mark.parametrize("how", [None, "restart", "crash"])
async def test_the_pauses_of_a_queue_are_kept_with_their_reasons_and_lengths(
    slow_world: World, night: type[Night], how: str | None
) -> None:
    night.limits = [
        RateLimited("5-hour limit", retry_after=600, limit="api"),
        None,
        RateLimited("still there", retry_after=60),
        RateLimited("and again", retry_after=60),
    ]
    handle = (await slow_world.start(night=night)).night.get_or_create("x")
    assert slow_world.clock is not None
    began = slow_world.clock.time()
    await handle.send("tasks", "first")
    await slow_world.pass_by(700)
    await handle.send("tasks", "second")
    await slow_world.pass_by(200)
    if how is not None:
        for queue in ("tasks", "others"):
            await handle.send(queue, "tomorrow", delay=86_400)
        handle = (await getattr(slow_world, how)(night=night)).night.get_or_create("x")

    first, second = (await queue_of(handle, "tasks")).pauses
    assert (first.reason, first.limit) == ("RateLimited: 5-hour limit", "api")
    assert (first.began, first.ended) == (pytest.approx(began, abs=1), pytest.approx(began + 600, abs=1))
    assert (second.reason, second.limit) == ("RateLimited: and again", None)
    assert second.ended is not None
    assert second.ended - second.began == pytest.approx(120, abs=1), "pauses in a row are one"
    others = (await queue_of(handle, "others")).pauses
    assert [pause.reason for pause in others] == ["RateLimited: 5-hour limit"] * (how is not None), "it shares a limit"


async def test_a_pause_in_force_has_no_end_and_one_that_is_ended_by_hand_ends_then(
    slow_world: World, night: type[Night]
) -> None:
    night.limits = [RateLimited("for long", retry_after=3600)]
    handle = (await slow_world.start(night=night)).night.get_or_create("x")
    await handle.send("tasks", "first")
    await slow_world.pass_by(100)
    (pause,) = (await queue_of(handle, "tasks")).pauses
    assert pause.ended is None
    await handle.resume("tasks")
    await slow_world.pass_by(50)
    (pause,) = (await queue_of(handle, "tasks")).pauses
    assert pause.ended is not None
    assert pause.ended - pause.began == pytest.approx(100, abs=1)


async def test_in_the_morning_it_is_read_as_a_table_and_in_the_status(world: World, night: type[Night]) -> None:
    night.limits = [RateLimited("5-hour limit", retry_after=1, limit="api"), RateLimited("too fast", retry_after=1)]
    handle = (await world.start(night=night)).night.get_or_create("x")
    await handle.send("tasks", "first", wait=True, timeout=20)
    await handle.pause("others")
    limits = world.registry.limits
    table = await limits.pauses_table(since=timedelta(hours=12))
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [(row["limit_name"], row["queue"], row["cause"], row["reason"]) for row in rows] == [
        ("api", None, "provider", "RateLimited: 5-hour limit"),
        (None, "tasks", "provider", "RateLimited: too fast"),
        (None, "others", "by hand", None),
    ]
    assert all(0.9 < row["seconds"] < 20 for row in rows[:2])
    assert rows[2]["ended_at"] is None
    assert len((await limits.pauses_table("api")).rows) == 1
    assert len((await limits.pauses_table("night/x tasks")).rows) == 2
    assert [row[6] for row in (await limits.pauses_table(since=timedelta(seconds=-5))).rows] == ["others"]
    for status in (await world.registry.status(), await handle.status()):
        text = as_text(document_of(status))  # type: ignore[arg-type]  # a status has one
        assert "was paused" in text
        assert "too fast" in text


def test_only_the_latest_pauses_are_in_memory() -> None:
    history = PauseHistory()
    for number in range(50):
        pause = after_limit(None, now=100.0 * number, until=100.0 * number + 50, reason=str(number))
        assert pause is not None
        history.add(pause)
    kept = history.pauses(now=10_000)
    assert [pause.reason for pause in kept] == [str(number) for number in range(40, 50)]
    assert {pause.seconds(10_000) for pause in kept} == {50.0}
