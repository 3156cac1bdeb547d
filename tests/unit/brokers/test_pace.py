"""How far a queue is, how fast it goes, and when it will be done."""

from __future__ import annotations

import pytest

from agentq_nb._brokers.changes import Redeliver
from agentq_nb._brokers.statuses import QueueStatus
from agentq_nb._core.rate import WINDOW, RateMeter
from tests.unit.brokers.conformance.words import ACTOR, acquire, send, settle, take_one
from tests.unit.brokers.settings import LocalSetting

pytestmark = pytest.mark.anyio


async def test_status_counts_what_is_done_what_failed_and_all_of_it(setting: LocalSetting) -> None:
    for number in range(5):
        await send(setting.broker, number)
    lease = await acquire(setting)
    await settle(lease, await take_one(lease), "completed")
    await settle(lease, await take_one(lease), "completed")
    await settle(lease, await take_one(lease), "dead", error={"message": "no"})
    (queue,) = await setting.broker.status()
    assert (queue.completed, queue.dead, queue.done, queue.total) == (2, 1, 3, 5)


async def test_one_that_is_put_back_is_not_counted_twice(setting: LocalSetting) -> None:
    message = await send(setting.broker, 1)
    lease = await acquire(setting)
    await settle(lease, await take_one(lease), "dead", error={"message": "no"})
    await setting.broker.change(ACTOR, Redeliver(message))
    (queue,) = await setting.broker.status()
    assert (queue.done, queue.total) == (0, 1)
    await settle(lease, await take_one(lease), "completed")
    (queue,) = await setting.broker.status()
    assert (queue.done, queue.total) == (1, 1)


@pytest.mark.parametrize("end", ["stop", "crash"])
async def test_after_a_restart_in_the_midst_what_was_done_before_is_counted_too(
    setting: LocalSetting, end: str
) -> None:
    for number in range(6):
        await send(setting.broker, number)
    await send(setting.broker, 0, queue="other")
    lease = await acquire(setting)
    await settle(lease, await take_one(lease), "completed")
    await settle(lease, await take_one(lease), "completed")
    await settle(lease, await take_one(lease), "dead", error={"message": "no"})
    await (setting.reopen() if end == "stop" else setting.crash())
    assert await counts(setting) == {"tasks": (3, 6), "other": (0, 1)}
    lease = await acquire(setting)
    await settle(lease, await take_one(lease), "completed")
    assert await counts(setting) == {"tasks": (4, 6), "other": (0, 1)}


async def test_one_that_completed_before_a_failed_write_is_counted_once(setting: LocalSetting) -> None:
    for number in range(3):
        await send(setting.broker, number)
    lease = await acquire(setting)
    await settle(lease, await take_one(lease), "completed")
    assert await counts(setting) == {"tasks": (1, 3)}
    await setting.renew()
    assert await counts(setting) == {"tasks": (1, 3)}


async def counts(setting: LocalSetting) -> dict[str, tuple[int, int]]:
    return {queue.queue: (queue.done, queue.total) for queue in await setting.broker.status()}


def test_the_pace_is_what_was_settled_since_work_came() -> None:
    pace = RateMeter()
    pace.begin(1000.0)
    for moment in (1010.0, 1020.0, 1030.0):
        pace.note(moment)
    assert pace.per_minute(1030.0) == 6


def test_the_pace_forgets_what_is_long_ago_and_the_time_without_work() -> None:
    pace = RateMeter()
    pace.begin(0.0)
    for _ in range(1000):
        pace.note(1.0)
    assert pace.per_minute(WINDOW + 10) == 0
    pace.begin(9000.0)
    pace.note(9002.0)
    assert pace.per_minute(9004.0) == 15


def test_there_is_no_pace_before_there_was_work_and_none_in_its_first_moment() -> None:
    pace = RateMeter()
    assert pace.per_minute(5.0) == 0
    pace.begin(5.0)
    pace.note(5.001)
    assert pace.per_minute(5.002) == 0


def test_time_left_is_for_what_is_due_and_unknown_while_nothing_moves() -> None:
    queue = QueueStatus("worker/main", "jobs", ready=19, running=1, delayed=5, per_minute=10.0)
    assert queue.time_left == 120
    assert queue._replace(paused=True).time_left is None
    assert queue._replace(per_minute=0.0).time_left is None
    assert queue._replace(ready=0, running=0).time_left is None
