"""Limits of queues in both brokers, across restarts and changes by users."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentq_nb import ConcurrencyLimit, RateLimit
from agentq_nb._brokers.messages import Take
from agentq_nb.errors import AgentqError
from tests.unit.brokers.conformance.restarting import survives
from tests.unit.brokers.conformance.words import (
    acquire,
    bodies,
    drain,
    rest,
    settle,
    soon,
    take,
    take_one,
)
from tests.unit.brokers.limited import THREE_A_MINUTE, LimitedSetting, send_numbers

pytestmark = pytest.mark.anyio


# --- restarts ---------------------------------------------------------------------------------------------------------


@survives
async def test_the_window_holds_across_a_restart(limited: LimitedSetting, how: str) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 2)
    lease = await acquire(limited.setting)
    assert await drain(lease) == [0, 1]
    limited.clock.advance(30)
    await send_numbers(limited, 9, first=2)
    assert await drain(lease) == [2]
    await limited.restart(how)
    lease = await acquire(limited.setting)
    assert await drain(lease) == []
    limited.clock.advance(29.9)
    assert await drain(lease) == []
    limited.clock.advance(0.2)
    assert await drain(lease) == [3, 4]
    limited.clock.advance(29.8)
    assert await drain(lease) == []
    limited.clock.advance(0.4)
    assert await drain(lease) == [5]


@survives
async def test_what_was_in_flight_counts_in_the_window_after_a_restart(limited: LimitedSetting, how: str) -> None:
    await limited.declare(RateLimit(1, per=60, name="api"))
    await send_numbers(limited, 2)
    await take_one(await acquire(limited.setting))
    await limited.restart(how)
    lease = await acquire(limited.setting)
    assert await take(lease) == []
    limited.clock.advance(61)
    assert bodies(await take(lease)) == [0]


async def test_a_clock_set_back_before_a_restart_lets_nothing_start_early(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(1, per=60, name="api"))
    await send_numbers(limited, 2)
    await drain(await acquire(limited.setting))
    limited.clock.advance(30)
    limited.clock.jump(-3600)
    await limited.restart("reopened")
    lease = await acquire(limited.setting)
    limited.clock.advance(59)
    assert await drain(lease) == []
    limited.clock.advance(2)
    assert await drain(lease) == [1], "a stored start later than now counts as now"


async def test_a_clock_that_is_set_while_it_runs_changes_nothing(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(1, per=60, name="api"))
    await send_numbers(limited, 2)
    lease = await acquire(limited.setting)
    await drain(lease)
    limited.set_clock(3600)
    assert await drain(lease) == []
    limited.clock.advance(61)
    assert await drain(lease) == [1]


async def test_pruning_leaves_starts_that_still_count(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(2, per=3600, name="api"))
    await send_numbers(limited, 3)
    lease = await acquire(limited.setting)
    await drain(lease)
    limited.clock.advance(600)
    await limited.setting.prune()
    assert (await limited.queue()).ready == 1, "the others are gone"
    await limited.restart("crashed")
    assert await drain(await acquire(limited.setting)) == []
    limited.clock.advance(3001)
    await limited.setting.prune()
    await limited.declare(RateLimit(2, per=360_000, name="api"))
    assert (await limited.limit()).used == 0, "what counts no more is gone"


# --- changes by users -------------------------------------------------------------------------------------------------


async def test_a_limit_is_changed_while_queues_wait_for_it(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 9)
    lease = await acquire(limited.setting)
    await drain(lease)
    waiting = asyncio.ensure_future(lease.turn(None, Take(None)))
    await rest()
    changed = await limited.broker.limits.change("api", 5, None)
    assert (changed.count, changed.per, changed.declared, changed.changed) == (5, 60, THREE_A_MINUTE, True)
    (delivery,) = await soon(waiting)
    await settle(lease, delivery)
    assert await drain(lease) == [4]


async def test_a_longer_window_counts_the_starts_that_the_shorter_one_had_forgotten(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 9)
    lease = await acquire(limited.setting)
    await drain(lease)
    limited.clock.advance(100)
    assert (await limited.limit()).used == 0
    await limited.broker.limits.change("api", None, 600)
    assert (await limited.limit()).used == 3
    limited.clock.advance(499)
    assert await drain(lease) == []
    limited.clock.advance(2)
    assert await drain(lease) == [3, 4, 5]


@survives
async def test_a_change_lasts_across_restarts_until_it_is_reset(limited: LimitedSetting, how: str) -> None:
    await limited.declare(THREE_A_MINUTE)
    await limited.broker.limits.change("api", 1, 30)
    await limited.restart(how)
    assert ((await limited.limit()).count, (await limited.limit()).per) == (1, 30)
    await limited.broker.limits.reset("api")
    assert not (await limited.limit()).changed
    await limited.restart(how)
    assert ((await limited.limit()).count, (await limited.limit()).per) == (3, 60)


@survives
async def test_a_change_ends_when_the_limit_is_declared_differently(limited: LimitedSetting, how: str) -> None:
    await limited.declare(THREE_A_MINUTE)
    await limited.broker.limits.change("api", 1, None)
    await limited.declare(THREE_A_MINUTE)
    assert (await limited.limit()).count == 1
    await limited.declare(RateLimit(7, per=60, name="api"))
    assert (await limited.limit()).count == 7
    await limited.declare(THREE_A_MINUTE)
    await limited.restart(how)
    assert (await limited.limit()).count == 3


@pytest.mark.parametrize(
    ("name", "count", "per", "code"),
    [
        ("apy", 1, None, "queue.limit_unknown"),
        ("api", 0, None, "actor.validation_error"),
        ("api", None, -1, "actor.validation_error"),
        ("gpu", None, 60, "actor.validation_error"),
    ],
)
async def test_a_change_that_makes_no_sense_is_refused(
    limited: LimitedSetting, name: str, count: Any, per: Any, code: str
) -> None:
    await limited.declare(THREE_A_MINUTE, ConcurrencyLimit(2, name="gpu"))
    with pytest.raises(AgentqError) as caught:
        await limited.broker.limits.change(name, count, per)
    assert caught.value.full_code == code
    assert not any(status.changed for status in await limited.broker.limits.look())


async def test_starts_are_counted_on_when_a_class_is_deployed_again(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(2, per=60))
    await send_numbers(limited, 9)
    lease = await acquire(limited.setting)
    assert await drain(lease) == [0, 1]
    await limited.declare(RateLimit(3, per=60))
    assert await drain(lease) == [2]
    await limited.declare()
    assert await drain(lease) == [3, 4, 5, 6, 7, 8]
