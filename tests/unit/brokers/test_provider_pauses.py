"""Pauses because of providers' limits, in both brokers."""

from __future__ import annotations

import asyncio

import pytest

from agentq_nb import ConcurrencyLimit
from agentq_nb._brokers.changes import Pause, Resume
from agentq_nb._brokers.messages import Commit, Take
from tests.unit.brokers.conformance.restarting import survives
from tests.unit.brokers.conformance.words import (
    ACTOR,
    OTHER,
    acquire,
    bodies,
    drain,
    rest,
    settle,
    soon,
    take,
    take_one,
)
from tests.unit.brokers.limited import LimitedSetting, meets_limit, send_numbers

pytestmark = pytest.mark.anyio


# --- pauses by providers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [None, "api", "named nowhere"])
async def test_a_message_that_meets_a_limit_comes_first_again_with_no_attempt_lost(
    limited: LimitedSetting, limit: str | None
) -> None:
    await send_numbers(limited, 2)
    lease = await acquire(limited.setting)
    first = await take_one(lease)
    await meets_limit(lease, first, until=limited.clock.time() + 100, limit=limit)
    assert await take(lease) == []
    shown = await limited.queue()
    assert (shown.paused, shown.paused_until, shown.pause_reason) == (True, limited.clock.time() + 100, "429")
    limited.clock.advance(99)
    assert await take(lease) == []
    limited.clock.advance(1)
    again, second = await take(lease, 2)
    assert (again.id, again.attempt, again.failures, bodies([second])) == (first.id, 1, 0, [1])
    assert not (await limited.queue()).paused


async def test_a_pause_holds_all_queues_of_the_name_and_no_others(limited: LimitedSetting) -> None:
    shared = ConcurrencyLimit(9, name="api")
    await limited.declare(shared)
    await limited.declare(shared, name="sharing")
    await limited.declare(ConcurrencyLimit(9, name="another"), name="apart")
    for actor in (ACTOR, "sharing/a", "apart/a", "free/a"):
        await send_numbers(limited, 1, actor)
    lease = await acquire(limited.setting)
    await meets_limit(lease, await take_one(lease), until=limited.clock.time() + 100, limit="api")
    assert await take(await acquire(limited.setting, "sharing/a")) == []
    assert (await limited.queue("sharing/a")).limited_by == "api"
    for actor in ("apart/a", "free/a"):
        assert await drain(await acquire(limited.setting, actor)) == [0]


@survives
@pytest.mark.parametrize("seconds", [None, 3600.0])
async def test_a_pause_is_there_after_a_restart(limited: LimitedSetting, how: str, seconds: float | None) -> None:
    await send_numbers(limited, 3)
    lease = await acquire(limited.setting)
    end = None if seconds is None else limited.clock.time() + seconds
    await meets_limit(lease, await take_one(lease), until=end)
    before = await limited.queue()
    await limited.restart(how)
    assert await limited.queue() == before
    lease = await acquire(limited.setting)
    assert await take(lease) == []
    limited.clock.advance(seconds or 5)
    assert len(await take(lease, 3)) == (3 if seconds else 1), "without a known end one message is tried"


async def test_who_waits_is_woken_at_the_end_of_a_pause(limited: LimitedSetting) -> None:
    await send_numbers(limited, 1)
    lease = await acquire(limited.setting)
    await meets_limit(lease, await take_one(lease), until=limited.clock.time() + 100)
    waiting = asyncio.ensure_future(lease.turn(None, Take(None)))
    hints = limited.broker.ready_actors({"worker": None})
    await rest()
    limited.clock.advance(100)
    assert bodies(await soon(waiting)) == [0]
    await lease.release()
    assert await soon(hints.__anext__()) == ACTOR


async def test_one_message_at_a_time_is_tried_until_one_meets_no_limit(limited: LimitedSetting) -> None:
    await limited.declare(ConcurrencyLimit(9, name="api"))
    leases = [await acquire(limited.setting, actor) for actor in (ACTOR, OTHER)]
    for actor in (ACTOR, OTHER):
        await send_numbers(limited, 3, actor)
    await meets_limit(leases[0], await take_one(leases[0]), limit="api")
    for length in (5, 10, 20):
        limited.clock.advance(length - 1)
        assert await take(leases[0]) == []
        limited.clock.advance(1)
        (tried,) = await take(leases[0], 3)
        assert (await take(leases[1]), tried.attempt) == ([], 1)
        if length < 20:
            await meets_limit(leases[0], tried, limit="api")
    await settle(leases[0], tried)
    assert bodies(await take(leases[1], 3)) == [0, 1, 2]
    assert not (await limited.queue()).paused


async def test_a_tried_message_that_is_put_back_leaves_the_question_open(limited: LimitedSetting) -> None:
    await send_numbers(limited, 3)
    lease = await acquire(limited.setting)
    await meets_limit(lease, await take_one(lease))
    limited.clock.advance(5)
    await settle(lease, await take_one(lease), "released")
    assert len(await take(lease, 3)) == 1
    assert (await limited.queue()).paused


async def test_messages_in_flight_that_meet_the_same_limit_make_one_pause(limited: LimitedSetting) -> None:
    await send_numbers(limited, 4)
    lease = await acquire(limited.setting)
    for delivery in await take(lease, 4):
        await meets_limit(lease, delivery)
    assert (await limited.queue()).paused_until == limited.clock.time() + 5
    limited.clock.advance(5)
    assert bodies(await take(lease, 4)) == [0]


async def test_a_pause_beyond_the_longest_allowed_fails_the_attempt(limited: LimitedSetting) -> None:
    await send_numbers(limited, 1)
    lease = await acquire(limited.setting)
    await meets_limit(lease, await take_one(lease), until=limited.clock.time() + 601, max_pause=600.0)
    shown = await limited.queue()
    assert (shown.paused, shown.ready) == (False, 1)
    again = await take_one(lease)
    assert (again.attempt, again.failures) == (2, 1)


@survives
async def test_a_pause_is_ended_by_hand(limited: LimitedSetting, how: str) -> None:
    await send_numbers(limited, 2)
    lease = await acquire(limited.setting)
    await meets_limit(lease, await take_one(lease), until=limited.clock.time() + 3600)
    assert await limited.broker.change(ACTOR, Resume("tasks")) == 1
    assert await limited.broker.change(ACTOR, Resume("tasks")) == 0
    assert len(await take(lease)) == 1
    await limited.restart(how)
    assert not (await limited.queue()).paused


async def test_the_pause_of_a_name_is_ended_by_hand(limited: LimitedSetting) -> None:
    await limited.declare(ConcurrencyLimit(9, name="api"))
    await send_numbers(limited, 2)
    lease = await acquire(limited.setting)
    await meets_limit(lease, await take_one(lease), until=limited.clock.time() + 3600, limit="api")
    assert ((await limited.limit()).paused_until, (await limited.limit()).reason) == (
        limited.clock.time() + 3600,
        "429",
    )
    assert await limited.broker.limits.resume("api")
    assert not await limited.broker.limits.resume("api")
    assert len(await take(lease)) == 1


async def test_a_pause_by_hand_and_one_by_the_provider_both_hold(limited: LimitedSetting) -> None:
    await send_numbers(limited, 1)
    lease = await acquire(limited.setting)
    delivery = await take_one(lease)
    await limited.broker.change(ACTOR, Pause("tasks", limited.clock.time() + 10))
    await meets_limit(lease, delivery, until=limited.clock.time() + 100)
    limited.clock.advance(10)
    assert await take(lease) == []
    limited.clock.advance(90)
    assert len(await take(lease)) == 1


async def test_a_destroyed_actor_leaves_no_pause_behind(limited: LimitedSetting) -> None:
    await send_numbers(limited, 1)
    lease = await acquire(limited.setting)
    await meets_limit(lease, await take_one(lease), until=limited.clock.time() + 100)
    await lease.commit(Commit(destroy=True))
    await lease.release()
    await limited.restart("reopened")
    await send_numbers(limited, 1)
    assert len(await take(await acquire(limited.setting))) == 1


async def test_a_suspect_whose_queue_is_paused_by_a_provider_holds_nothing_back(limited: LimitedSetting) -> None:
    """Otherwise all other messages would wait for it, for a minute at least."""
    for actor in (ACTOR, OTHER):
        await send_numbers(limited, 2, actor)
    lease, other = await acquire(limited.setting), await acquire(limited.setting, OTHER)
    _, meets = await take(lease, 2)
    await take_one(other)
    await meets_limit(lease, meets, until=limited.clock.time() + 3600)
    await limited.restart("crashed")
    lease, other = await acquire(limited.setting), await acquire(limited.setting, OTHER)
    waiting = asyncio.ensure_future(lease.turn(None, Take(None)))
    await rest()
    assert await drain(other) == [0, 1]
    waiting.cancel()
