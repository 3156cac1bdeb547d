"""What the dashboard shows of batches, limits and providers' pauses, and what its buttons do with them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from agentq_nb import Actor, ConcurrencyLimit, Queue, RateLimit, RateLimited, Retry
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._core.clock import SystemClock
from agentq_nb._notebook.dashboard import batches as batch_rows
from agentq_nb._notebook.dashboard.overview import Overview
from agentq_nb._notebook.dashboard.patch import difference
from agentq_nb.errors import AgentqError
from tests.unit.dashboard.test_pictures import HOSTILE, UNSAFE
from tests.unit.runtime.world import World, until

pytestmark = pytest.mark.anyio

BAD: set[str] = set()
"""What fails: a test may repair it."""


class Worker(Actor):
    jobs = Queue(str, reply=str, retry=Retry(attempts=1))

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            if message.body in BAD:
                raise ValueError(f"row {message.body!r} is bad")
            await message.complete(f"did {message.body}")


class Limited(Actor):
    jobs = Queue(str, limits=[RateLimit(2, per=600, name="api")])
    more = Queue(str, limits=[RateLimit(2, per=600, name="api")])
    few = Queue(str, limits=[ConcurrencyLimit(3, name="few")])
    alone = Queue(str)

    async def run(self) -> None:
        async for message in self.queue.iter(["jobs", "alone", "few"]):
            if message.body.startswith("refused"):
                raise RateLimited("5-hour limit reached", retry_after=600)
            if message.body.startswith("named"):
                raise RateLimited("429 from the provider", retry_after=300, limit="few")


@pytest.fixture(autouse=True)
def all_good() -> None:
    BAD.clear()


def overview(world: World) -> Overview:
    return Overview(world.registry, SystemClock())


async def seen(shown: Overview, section: str) -> dict[str, Any]:
    return dict((await shown.look())[section])


async def press(shown: Overview, **asked: Any) -> str:
    return str((await shown.answer({"type": "do", **asked}))["note"])


async def until_row(shown: Overview, section: str, key: str, holds: Callable[[Any], object]) -> dict[str, Any]:
    """The row, once it is as it should be."""

    async def found() -> bool:
        row = (await seen(shown, section)).get(key)
        return row is not None and bool(holds(row))

    await until(found)
    return (await seen(shown, section))[key]


# --- batches ----------------------------------------------------------------------------------------------------------


async def test_a_batch_is_shown_with_its_counts_and_its_failures_in_groups(world: World) -> None:
    BAD.update({"2", "4", "6", "7"})
    client = await world.start(worker=Worker)
    worker = client.worker.get_or_create("main")
    shown = overview(world)
    batch = await worker.send_many("jobs", [str(number) for number in range(10)], name="reviews-v1")
    await batch
    row = await until_row(shown, "batches", "reviews-v1", lambda row: row["failures"])
    assert (row["total"], row["done"], row["failed"], row["waiting"], row["running"]) == (10, 6, 4, 0, 0)
    assert (row["name"], row["at"], row["stopped"]) == ("reviews-v1", "worker/main jobs", None)
    assert row["failures"] == [{"what": "ValueError: row '2' is bad", "rows": "2, 4, 6, …", "count": 4}]


async def test_the_buttons_of_a_batch_retry_what_failed_cancel_the_rest_and_let_it_go_on(world: World) -> None:
    BAD.update({"2", "4"})
    client = await world.start(worker=Worker)
    worker = client.worker.get_or_create("main")
    shown = overview(world)
    batch = await worker.send_many("jobs", [str(number) for number in range(6)], name="b")
    await batch
    BAD.clear()
    assert await press(shown, action="retry failed", batch="b") == "Put 2 rows of b back into the queue."
    await batch
    row = (await seen(shown, "batches"))["b"]
    assert (row["done"], row["failed"], row["failures"]) == (6, 0, [])
    await worker.pause("jobs")
    await worker.send_many("jobs", ["one", "two", "three"], name="c")
    assert await press(shown, action="cancel batch", batch="c") == "Cancelled 3 rows of c."
    row = (await seen(shown, "batches"))["c"]
    assert (row["cancelled"], row["waiting"]) == (3, 0)
    assert await press(shown, action="resume batch", batch="c") == "c was not stopped."


class Fragile(Actor):
    jobs = Queue(str, retry=Retry(attempts=1), stop_after=2)

    @jobs.handler
    async def work(self, body: str) -> None:
        if body in BAD:
            raise ValueError(f"{body} is bad")


async def test_a_stopped_batch_and_its_queue_say_why_and_a_button_lets_them_go_on(world: World) -> None:
    BAD.update({"0", "1"})
    client = await world.start(fragile=Fragile)
    shown = overview(world)
    await client.fragile.get_or_create("main").send_many("jobs", ["0", "1", "2", "3"], name="b")
    row = await until_row(shown, "batches", "b", lambda row: row["stopped"])
    assert "1 is bad" in row["stopped"]
    assert (row["failed"], row["waiting"], row["per_minute"]) == (2, 2, 0)
    sections = await shown.look()
    assert sections["queues"]["fragile/main jobs"]["stopped"]
    pause = sections["pauses"]["fragile/main jobs"]
    assert (pause["stopped"], pause["limit"], pause["until"]) == (True, None, None)
    assert pause["reason"] == row["stopped"]
    assert await press(shown, action="resume batch", batch="b") == "b is resumed."
    row = await until_row(shown, "batches", "b", lambda row: row["done"] == 2)
    assert row["stopped"] is None
    assert await seen(shown, "pauses") == {}


@pytest.mark.parametrize(
    "asked",
    [
        {"action": "retry failed", "batch": "nothing"},
        {"action": "cancel batch"},
        {"action": "end pause", "limit": "nothing"},
        {"action": "end pause", "limit": ["api"]},
    ],
)
async def test_a_button_of_what_is_not_there_says_so(world: World, asked: dict[str, Any]) -> None:
    await world.start(worker=Worker)
    with pytest.raises(AgentqError):
        await overview(world).answer({"type": "do", **asked})


async def test_batches_of_an_earlier_kernel_are_shown_before_anything_used_them(world: World) -> None:
    client = await world.start(worker=Worker)
    worker = client.worker.get_or_create("main")
    await (await worker.send_many("jobs", ["one"], name="settled"))
    await worker.pause("jobs")
    await worker.send_many("jobs", ["two", "three"], name="has work left")
    await world.crash()
    rows = await seen(overview(world), "batches")
    assert list(rows) == ["has work left", "settled"]
    assert (rows["has work left"]["waiting"], rows["settled"]["done"]) == (2, 1)


async def test_batches_with_work_left_come_first_then_the_latest_and_fifty_in_all(world: World) -> None:
    client = await world.start(worker=Worker)
    worker = client.worker.get_or_create("main")
    other = client.worker.get_or_create("other")
    await other.pause("jobs")
    await other.send_many("jobs", ["waits"], name="old and unfinished")
    for number in range(52):
        await (await worker.send_many("jobs", ["x"], name=f"b{number}"))
    sections = await overview(world).look()
    names = list(sections["batches"])
    assert names[:2] == ["old and unfinished", "b51"]
    assert len(names) == batch_rows.MOST_BATCHES
    assert sections["host"]["it"]["more_batches"]


async def test_a_batch_that_waits_changes_nothing_from_look_to_look_and_reads_no_failures_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    BAD.add("0")
    client = await world.start(worker=Worker)
    worker = client.worker.get_or_create("main")
    await (await worker.send_many("jobs", ["0", "1"], name="b"))
    await worker.pause("jobs")
    await worker.send_many("jobs", ["waits"], name="c")
    shown = overview(world)
    await until_row(shown, "batches", "b", lambda row: row["failures"])
    await until(lambda: shown._table)
    await until(lambda: shown._reading is None)
    reads: list[object] = []
    monkeypatch.setattr(world.registry.host.broker.batches, "failed", lambda *asked: reads.append(asked))
    before = await shown.look()
    for _ in range(20):
        await asyncio.sleep(0.03)
        assert difference(before, await shown.look()) == {}
    assert reads == []


def failure(row: int, kind: str, message: str) -> tuple[int, StoredResult]:
    error = {"type": kind, "message": message}
    return row, StoredResult(str(row), "worker/main", "jobs", "failed", 1, None, error)


def test_failures_are_one_group_if_only_numbers_and_quoted_texts_differ() -> None:
    found = batch_rows.groups(
        [
            failure(10, "KeyError", "'a'"),
            failure(21, "ValueError", "row 21 has 3 columns"),
            failure(22, "ValueError", "row 22 has 4 columns"),
            failure(23, "TypeError", "row 22 has 4 columns"),
            failure(24, "OSError", "disk full"),
            failure(25, "RuntimeError", "hm"),
        ],
        [range(10, 12), range(20, 30)],
    )
    assert found[0] == {"what": "ValueError: row 21 has 3 columns", "rows": "3, 4", "count": 2}
    assert found[1] == {"what": "KeyError: 'a'", "rows": "0", "count": 1}
    assert found[3] == {"what": "2 other kinds of errors", "rows": "", "count": 2}
    assert sum(group["count"] for group in found) == 6


async def test_hostile_names_and_errors_are_made_safe(world: World) -> None:
    name = "<img src=x onerror=alert(1)>"
    BAD.add(HOSTILE[:300].encode("utf-8", "replace").decode())
    client = await world.start(worker=Worker)
    worker = client.worker.get_or_create("<script>alert(5)</script>")
    for batch in (name, "__proto__"):
        await (await worker.send_many("jobs", list(BAD), name=batch))
    row = await until_row(overview(world), "batches", name, lambda row: row["failures"])
    assert "<script>" in row["failures"][0]["what"]
    assert not UNSAFE.search(str([row[field] for field in ("name", "actor", "queue", "failures")]))


# --- limits and pauses ------------------------------------------------------------------------------------------------


async def test_a_limit_is_shown_with_its_use_its_next_start_what_was_changed_and_who_waits(world: World) -> None:
    client = await world.start(limited=Limited)
    handle = client.limited.get_or_create("main")
    shown = overview(world)
    for body in ("one", "two"):
        await handle.send("jobs", body, wait=True)
    await handle.send("jobs", "waits")
    row = await until_row(shown, "limits", "api", lambda row: row["waiting"])
    assert (row["count"], row["declared_count"], row["per"], row["used"]) == (2, 2, 600, 2)
    assert 590 < row["next_start"] - time.time() <= 601
    assert row["queues"] == ["jobs of limited/main"]
    assert list(await seen(shown, "limits")) == ["api", "few"]
    few = (await seen(shown, "limits"))["few"]
    assert (few["count"], few["per"], few["used"], few["next_start"], few["waiting"]) == (3, None, 0, None, 0)
    await world.registry.limits.change("api", count=20, per=60)
    row = (await seen(shown, "limits"))["api"]
    assert (row["count"], row["declared_count"], row["per"], row["declared_per"]) == (20, 2, 60, 600)


async def test_a_queue_in_which_nothing_waits_is_not_held_by_its_full_limit(world: World) -> None:
    client = await world.start(limited=Limited)
    handle = client.limited.get_or_create("main")
    for body in ("one", "two"):
        await handle.send("jobs", body, wait=True)
    row = (await seen(overview(world), "queues"))["limited/main jobs"]
    assert row["limit"] is None


async def test_a_queue_that_waits_for_a_limit_of_its_own_says_so_without_repeating_its_name(world: World) -> None:
    class Own(Actor):
        jobs = Queue(str, limits=[RateLimit(1, per=600)])

        @jobs.handler
        async def work(self, body: str) -> None: ...

    client = await world.start(own=Own)
    handle = client.own.get_or_create("main")
    for body in ("one", "two"):
        await handle.send("jobs", body)
    shown = overview(world)
    await until_row(shown, "queues", "own/main jobs", lambda row: row["limit"] == "its limit")
    row = await until_row(shown, "limits", "own/main jobs", lambda row: row["queues"] == ["jobs of own/main"])
    assert row["queues"] == ["jobs of own/main"]


async def test_a_providers_pause_of_a_limit_is_shown_with_its_end_and_reason_and_a_button_ends_it(world: World) -> None:
    client = await world.start(limited=Limited)
    handle = client.limited.get_or_create("main")
    shown = overview(world)
    receipt = await handle.send("few", "named")
    row = await until_row(shown, "pauses", "few", lambda row: row["waiting"])
    assert 290 < row["until"] - time.time() <= 301
    assert row["reason"] == "429 from the provider"
    assert (row["limit"], row["queues"]) == ("few", ["few of limited/main"])
    limit = (await seen(shown, "limits"))["few"]
    assert (limit["paused_until"], limit["queues"]) == (row["until"], row["queues"])
    await handle.pause("few")
    assert await press(shown, action="end pause", limit="few") == "The pause of few has ended."
    assert await seen(shown, "pauses") == {}
    assert await press(shown, action="end pause", limit="few") == "few is not paused any more."
    assert await receipt.cancel()


async def test_a_providers_pause_of_one_queue_is_shown_and_resuming_the_queue_ends_it(world: World) -> None:
    client = await world.start(limited=Limited)
    handle = client.limited.get_or_create("main")
    shown = overview(world)
    receipt = await handle.send("alone", "refused")
    key = "limited/main alone"
    row = await until_row(shown, "pauses", key, lambda row: row["reason"])
    assert (row["name"], row["limit"], row["queue"]) == ("alone of limited/main", None, key)
    assert "5-hour limit reached" in row["reason"]
    before = await seen(shown, "pauses")
    assert before == await seen(shown, "pauses")
    await press(shown, action="resume", key=key)
    await until_row(shown, "pauses", key, lambda row: row["until"] != before[key]["until"])
    assert await receipt.cancel()
