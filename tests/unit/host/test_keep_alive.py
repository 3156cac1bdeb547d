"""Which work keeps a kernel alive, and when that ends: on a clock that stands still until it is moved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentq_nb import Actor, Queue, action, setup
from agentq_nb._actor.message import CRON_QUEUE, SCHEDULE_QUEUE
from agentq_nb._brokers.changes import Cancel, Pause
from agentq_nb._brokers.messages import Commit, NewMessage, Settlement, Take
from agentq_nb._core.ids import mint_id
from agentq_nb._host.earlier_hosts import end_of_host_before
from agentq_nb._host.keep_alive import HORIZON, KeepAlive, KeepAliveSettings
from agentq_nb.errors import ValidationFailed
from tests.unit.brokers.settings import LocalSetting

pytestmark = pytest.mark.anyio


class Worker(Actor):
    tasks = Queue(int)

    @action
    async def tick(self) -> None: ...


class Kept:
    """A keep-alive rule, and how often activity was shown for it."""

    def __init__(self, setting: LocalSetting) -> None:
        self.setting = setting
        self.settings = KeepAliveSettings()
        self.shown = 0
        self.rule = KeepAlive(setting.broker, self.settings, {"worker": Worker}, self._show)

    def _show(self) -> None:
        self.shown += 1

    async def passes(self, seconds: float) -> int:
        """How often activity was shown while ``seconds`` passed."""
        before = self.shown
        working = asyncio.create_task(self._work())
        await self.setting.clock.pass_by(seconds)
        working.cancel()
        await asyncio.wait([working])
        return self.shown - before

    async def _work(self) -> None:
        while True:
            await self.rule.work()

    async def send(self, actor: str = "worker/a", queue: str = "tasks", delay: float = 0) -> str:
        offer = NewMessage(mint_id(), actor, queue, b"1", {"delay": delay} if delay else {})
        await self.setting.broker.enqueue([offer])
        return offer.id

    async def take(self, outcome: str | None = None) -> None:
        """Begin with a message, and end it where it has an outcome."""
        lease = await self.setting.broker.acquire("worker/a", "host")
        assert lease is not None
        (delivery,) = await lease.turn(None, Take(["tasks"], 1, 0))
        if outcome is not None:
            await lease.commit(Commit([Settlement(delivery, outcome, error={})]))  # type: ignore[arg-type]
            await lease.release()

    async def works_for(self, seconds: float) -> None:
        """Let hours pass without looking every two seconds of them."""
        self.rule._without_progress += seconds


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    setting = await LocalSetting.open(tmp_path)
    yield Kept(setting)
    await setting.close()


async def test_an_empty_host_shows_no_activity(kept: Kept) -> None:
    assert await kept.passes(61) == 0
    assert not kept.rule.active


async def test_due_work_shows_activity_every_20_seconds_and_at_once(kept: Kept) -> None:
    await kept.passes(10)
    await kept.send()
    assert await kept.passes(3) == 1
    assert await kept.passes(60) == 3
    assert kept.rule.active


async def test_running_work_counts_also_when_its_queue_was_paused_meanwhile(kept: Kept) -> None:
    await kept.send()
    await kept.take()
    await kept.setting.broker.change("worker/a", Pause("tasks", None))
    assert await kept.passes(1) == 1


async def test_a_cron_schedule_counts_when_its_call_is_due_and_not_because_there_always_is_one(kept: Kept) -> None:
    await kept.send(queue=CRON_QUEUE, delay=60)
    assert await kept.passes(50) == 0
    assert kept.setting.broker.unfinished == 0
    assert await kept.passes(20) == 1


@pytest.mark.parametrize(("delay", "counts"), [(HORIZON - 60, 1), (HORIZON + 60, 0)])
async def test_delayed_and_scheduled_work_counts_from_12_hours_before_it_is_due(
    kept: Kept, delay: float, counts: int
) -> None:
    for queue in ("tasks", SCHEDULE_QUEUE):
        message = await kept.send(queue=queue, delay=delay)
        assert await kept.passes(1) == counts, queue
        kept.rule._without_activity = 20.0
        await kept.setting.broker.change("worker/a", Cancel(message))


async def test_a_pause_counts_only_where_it_ends_by_itself_within_12_hours(kept: Kept) -> None:
    await kept.send()
    await kept.setting.broker.change("worker/a", Pause("tasks", None))
    assert await kept.passes(1) == 0
    now = kept.setting.clock.time()
    await kept.setting.broker.change("worker/a", Pause("tasks", now + HORIZON + 60))
    assert await kept.passes(1) == 0
    await kept.setting.broker.change("worker/a", Pause("tasks", now + 3600))
    assert await kept.passes(3) == 1


@pytest.mark.parametrize(("actor", "queue"), [("stranger/a", "tasks"), ("worker/a", "gone")])
async def test_work_that_no_class_here_will_do_does_not_count(kept: Kept, actor: str, queue: str) -> None:
    await kept.send(actor, queue)
    assert await kept.passes(1) == 0


async def test_dead_letters_do_not_count(kept: Kept) -> None:
    await kept.send()
    await kept.take("dead")
    assert await kept.passes(1) == 0


async def test_it_ends_after_12_hours_without_a_settlement_says_so_and_begins_again_with_one(
    kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    await kept.send()
    await kept.send()
    assert await kept.passes(1) == 1
    await kept.works_for(HORIZON - 30)
    assert await kept.passes(24) == 1
    assert kept.rule.notice is None
    await kept.works_for(30)
    assert await kept.passes(60) == 0
    assert not kept.rule.active
    assert kept.rule.notice is not None
    assert "--keep-alive=always" in kept.rule.notice
    assert [record.getMessage() for record in caplog.records if record.name == "agentq"] == [kept.rule.notice]
    await kept.take("completed")
    assert await kept.passes(21) >= 1
    assert kept.rule.notice is None


async def test_always_goes_on_without_work_and_never_does_not_with_it(kept: Kept) -> None:
    kept.settings.mode = "always"
    assert await kept.passes(41) == 3
    await kept.works_for(2 * HORIZON)
    assert await kept.passes(20) == 1
    kept.settings.mode = "never"
    await kept.send()
    assert await kept.passes(60) == 0
    assert not kept.rule.active


async def test_another_mode_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed, match='"never", "work" or "always"; not \'sometimes\''):
        setup(store=tmp_path / "x.agentq.duckdb", keep_alive="sometimes")  # type: ignore[arg-type]
    with pytest.raises(ValidationFailed, match="from 1 to 12 hours; not 0"):
        setup(store=tmp_path / "x.agentq.duckdb", keep_alive_interval=0)


def test_the_next_start_says_how_the_work_came_to_stand_still() -> None:
    at = 1_700_000_000.0
    assert end_of_host_before("host.stopped", at, {}, 5) is None
    assert end_of_host_before("host.stopped", at, {"at_exit": True, "keep_alive": "work"}, 0) is None
    assert end_of_host_before("host.stopped", at, {"at_exit": True, "keep_alive": "work"}, 85) == (
        "The process that had this file before was shut down at 2023-11-14 22:13 UTC with 85 unfinished messages; "
        "work resumes now."
    )
    never = end_of_host_before("host.stopped", at, {"at_exit": True, "keep_alive": "never"}, 1)
    assert never is not None
    assert "1 unfinished message; " in never
    assert never.endswith("%agentq start --keep-alive=work")
    ended = end_of_host_before("host.stopped", at, {"at_exit": True, "keep_alive": "ended"}, 1)
    assert ended is not None
    assert "nothing had been settled for 12 hours" in ended
    killed = end_of_host_before("host.started", at, {}, 2)
    assert killed is not None
    assert "was killed at 2023-11-14 22:13 UTC or later, with 2 unfinished messages" in killed
