"""Limits of queues in both brokers: times of deliveries, their order, and places."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentq_nb import ConcurrencyLimit, RateLimit
from agentq_nb._brokers.base import Lease
from agentq_nb._brokers.messages import Commit, Settlement, Take
from tests.unit.brokers.conformance.restarting import survives
from tests.unit.brokers.conformance.words import (
    ACTOR,
    OTHER,
    acquire,
    bodies,
    drain,
    rest,
    send,
    settle,
    soon,
    take,
    take_one,
    until,
)
from tests.unit.brokers.limited import THREE_A_MINUTE, LimitedSetting, send_numbers

pytestmark = pytest.mark.anyio


# --- rate limits ------------------------------------------------------------------------------------------------------


async def test_no_more_messages_are_handed_out_than_the_window_has_room_for(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 10)
    lease = await acquire(limited.setting)
    assert await drain(lease) == [0, 1, 2]
    limited.clock.advance(59.9)
    assert await drain(lease) == []
    limited.clock.advance(0.2)
    assert await drain(lease) == [3, 4, 5]


async def test_a_batch_counts_as_many_starts_as_it_has_messages(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 10)
    assert bodies(await take(await acquire(limited.setting), 5)) == [0, 1, 2]


@pytest.mark.parametrize("outcome", ["again", "released"])
async def test_repeated_and_released_attempts_count_as_starts(limited: LimitedSetting, outcome: Any) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 1)
    lease = await acquire(limited.setting)
    for _ in range(3):
        await settle(lease, await take_one(lease), outcome, front=True)
    assert await take(lease) == []


async def test_a_limit_without_a_name_is_each_queues_own(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(1, per=60))
    for actor in (ACTOR, OTHER):
        await send_numbers(limited, 2, actor)
        assert await drain(await acquire(limited.setting, actor)) == [0]
    assert {status.name for status in await limited.broker.limits.look()} == {f"{ACTOR} tasks", f"{OTHER} tasks"}


async def test_all_limits_of_a_queue_hold(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(2, per=1), RateLimit(3, per=60), ConcurrencyLimit(1, name="gpu"))
    await send_numbers(limited, 9)
    lease = await acquire(limited.setting)
    first = await take(lease, 5)
    assert bodies(first) == [0]
    assert await take(lease) == []
    await settle(lease, first[0])
    assert await drain(lease) == [1]
    limited.clock.advance(1.1)
    assert await drain(lease) == [2]


async def test_a_spread_limit_keeps_its_distance(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(4, per=60, spread=True))
    await send_numbers(limited, 9)
    lease = await acquire(limited.setting)
    for number in range(4):
        assert await drain(lease) == [number]
        limited.clock.advance(14.9)
        assert await drain(lease) == []
        limited.clock.advance(0.2)


async def test_who_waits_is_woken_when_the_window_has_room(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 4)
    lease = await acquire(limited.setting)
    await drain(lease)
    waiting = asyncio.ensure_future(lease.turn(None, Take(None)))
    await rest()
    limited.clock.advance(59)
    await rest()
    assert not waiting.done()
    limited.clock.advance(2)
    assert bodies(await soon(waiting)) == [3]


async def test_a_sleeping_actor_is_named_only_when_its_limit_has_room(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 3)
    await drain(await acquire(limited.setting))
    hints = limited.broker.ready_actors({"worker": None})
    hint = asyncio.ensure_future(hints.__anext__())
    await send_numbers(limited, 1, OTHER)
    await rest()
    assert not hint.done()
    limited.clock.advance(61)
    assert await soon(hint) == OTHER


async def test_a_take_that_is_cancelled_while_its_start_is_written_counts_as_a_start(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(1, per=60, name="api"))
    await send_numbers(limited, 1)
    lease = await acquire(limited.setting)
    taking = asyncio.ensure_future(lease.turn(None, Take(None)))
    await asyncio.sleep(0)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    await limited.until_used("api", 1)
    assert (await limited.queue()).ready == 1
    assert await take(lease) == []


async def test_status_says_which_limit_holds_a_queue_and_until_when(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 4)
    assert ((await limited.queue()).limited_by, (await limited.limit()).used) == (None, 0)
    await drain(await acquire(limited.setting))
    shown = await limited.queue()
    assert shown.limited_by == "api"
    assert shown.next_start == pytest.approx(limited.clock.time() + 60, abs=0.1)
    assert (await limited.limit()).used == 3
    assert (await limited.limit()).next_start == shown.next_start


# --- shared by name ---------------------------------------------------------------------------------------------------


async def test_a_name_is_one_limit_for_all_actors_and_classes(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await limited.declare(THREE_A_MINUTE, name="other")
    await send_numbers(limited, 2)
    await send_numbers(limited, 2, "other/a", first=2)
    assert await drain(await acquire(limited.setting)) == [0, 1]
    assert await drain(await acquire(limited.setting, "other/a")) == [2]


async def test_the_oldest_message_of_all_queues_starts_first(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(1, per=10, name="api"))
    leases = {actor: await acquire(limited.setting, actor) for actor in (ACTOR, OTHER)}
    await send(limited.broker, "before")
    await drain(leases[ACTOR])
    order = [ACTOR, OTHER, OTHER, ACTOR, OTHER, ACTOR, ACTOR]
    seen: list[int] = []

    async def receive(lease: Lease) -> None:
        commit: Commit | None = None
        while True:
            (delivery,) = await lease.turn(commit, Take(None))
            seen.extend(bodies([delivery]))
            commit = Commit([Settlement(delivery, "completed")])

    tasks = [asyncio.ensure_future(receive(lease)) for lease in (leases[OTHER], leases[ACTOR])]
    await rest()
    for number, actor in enumerate(order):
        await send(limited.broker, number, actor=actor)
    for number in range(len(order)):
        limited.clock.advance(10.2)
        await until(lambda number=number: len(seen) > number)
        await rest()
        await limited.clock.settled()  # until the next ones are asked for
    assert seen == list(range(len(order)))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_who_does_not_ask_holds_nobody_up(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(1, per=10, name="api"))
    await acquire(limited.setting)
    await send(limited.broker, "older, whose actor is busy")
    await send(limited.broker, "newer", actor=OTHER)
    assert await drain(await acquire(limited.setting, OTHER)) == ["newer"]


# --- concurrency limits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["completed", "failed", "again", "released"])
async def test_a_place_is_free_again_when_the_attempt_has_ended(limited: LimitedSetting, outcome: Any) -> None:
    await limited.declare(ConcurrencyLimit(1, name="gpu"))
    first, second = await acquire(limited.setting), await acquire(limited.setting, OTHER)
    for actor in (ACTOR, OTHER):
        await send_numbers(limited, 1, actor)
    delivery = await take_one(first)
    waiting = asyncio.ensure_future(second.turn(None, Take(None)))
    await rest()
    assert not waiting.done()
    await settle(first, delivery, outcome)
    assert bodies(await soon(waiting)) == [0]


@survives
async def test_nobody_is_at_work_after_a_restart(limited: LimitedSetting, how: str) -> None:
    await limited.declare(ConcurrencyLimit(1, name="gpu"))
    await send_numbers(limited, 2)
    await take_one(await acquire(limited.setting))
    await limited.restart(how)
    assert (await limited.limit("gpu")).used == 0
    assert bodies(await take(await acquire(limited.setting), 2)) == [0]


async def test_no_message_is_at_work_after_a_failed_write(limited: LimitedSetting) -> None:
    await limited.declare(ConcurrencyLimit(1, name="gpu"))
    await send_numbers(limited, 2)
    await take_one(await acquire(limited.setting))
    await limited.renew()
    assert (await limited.limit("gpu")).used == 0
    assert bodies(await take(await acquire(limited.setting), 2)) == [0]


@pytest.mark.parametrize("outcome", ["again", "dead", None])
async def test_a_thread_that_outlives_its_attempt_keeps_its_place_across_a_failed_write(
    limited: LimitedSetting, outcome: Any
) -> None:
    await limited.declare(ConcurrencyLimit(1, name="gpu"))
    await send_numbers(limited, 2)
    lease = await acquire(limited.setting)
    delivery = await take_one(lease)
    allow = lease.withhold(delivery.id)
    if outcome is not None:
        await settle(lease, delivery, outcome, error={"message": "too late"})
    await limited.renew()
    await limited.until_used("gpu", 1)
    lease = await acquire(limited.setting)
    allow_again = lease.withhold(delivery.id)  # as the actor's next activation does
    await limited.until_used("gpu", 1)
    assert await take(lease) == []
    allow()
    allow_again()
    await limited.until_used("gpu", 0)
    assert len(await take(lease)) == 1


async def test_a_thread_that_is_noted_after_a_failed_write_has_a_place_too(limited: LimitedSetting) -> None:
    await limited.declare(ConcurrencyLimit(1, name="gpu"))
    await send_numbers(limited, 2)
    delivery = await take_one(await acquire(limited.setting))
    await limited.renew()
    lease = await acquire(limited.setting)
    allow = lease.withhold(delivery.id)
    await limited.until_used("gpu", 1)
    assert await take(lease) == []
    allow()
    await limited.until_used("gpu", 0)
    assert bodies(await take(lease)) == [0]
