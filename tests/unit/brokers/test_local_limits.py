"""What the file has of limits, and what keeps a kernel alive."""

from __future__ import annotations

import pytest

from agentq_nb import RateLimit
from tests.unit.brokers.conformance.words import (
    acquire,
    drain,
    send,
    take_one,
)
from tests.unit.brokers.limited import LOCAL, THREE_A_MINUTE, LimitedSetting, meets_limit, send_numbers

pytestmark = pytest.mark.anyio


@LOCAL
async def test_a_start_is_durable_before_the_message_is_handed_out(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 1)
    await take_one(await acquire(limited.setting))
    kinds = limited.broker.log.fetch("select kind from events where kind in ('message.started', 'limit.started')")
    assert sorted(kinds) == [("limit.started",), ("message.started",)]


@LOCAL
async def test_messages_of_queues_without_limits_have_no_rows_and_no_gate(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send(limited.broker, "free", actor="other/a")
    assert await drain(await acquire(limited.setting, "other/a")) == ["free"]
    assert limited.broker._commit_log.live_messages.actors["other/a"].gates == ()
    assert limited.broker.log.fetch("select 1 from events where kind = 'limit.started'") == []


@LOCAL
async def test_a_kernel_is_kept_alive_only_for_what_may_start_in_time(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(1, per=3600, name="api"))
    await send_numbers(limited, 2)
    await drain(await acquire(limited.setting))
    now = limited.clock.time()
    assert not await limited.broker.works_until({"worker": ["tasks"]}, now + 3000)
    assert await limited.broker.works_until({"worker": ["tasks"]}, now + 4000)


@LOCAL
async def test_a_kernel_is_kept_alive_for_a_pause_that_ends_just_in_time(limited: LimitedSetting) -> None:
    await send_numbers(limited, 2)
    lease, end = await acquire(limited.setting), limited.clock.time() + 100
    await meets_limit(lease, await take_one(lease), until=end)
    assert (await limited.queue()).paused_until == end
    assert not await limited.broker.works_until({"worker": ["tasks"]}, end - 1)
    assert await limited.broker.works_until({"worker": ["tasks"]}, end)
