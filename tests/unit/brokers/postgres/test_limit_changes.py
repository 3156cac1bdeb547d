"""Declarations, changes, pauses and calls under limits, over several hosts on one PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest

from agentq_nb import ConcurrencyLimit, RateLimit
from agentq_nb._brokers.changes import Resume
from agentq_nb._brokers.messages import Take
from agentq_nb.errors import LimitConflict, RateLimited
from tests.unit.brokers.conformance.words import (
    ACTOR,
    OTHER,
    bodies,
    drain,
    rest,
    settle,
    soon,
    take,
    take_one,
    until,
)
from tests.unit.brokers.limited import THREE_A_MINUTE, meets_limit
from tests.unit.brokers.postgres.hosts import Join, after_the_next, lease_of, send_to
from tests.unit.brokers.postgres_setting import PostgresSetting

pytestmark = pytest.mark.anyio


# --- declarations and changes -----------------------------------------------------------------------------------------


async def test_a_limit_that_another_live_host_declares_differently_is_refused(
    setting: PostgresSetting, join: Join
) -> None:
    other = await join(THREE_A_MINUTE)
    with pytest.raises(LimitConflict, match="another host") as refused:
        await other.limits.declare("another", {"calls": [RateLimit(300, per=60, name="api")]})
    assert "3 per 60 s by worker.tasks" in str(refused.value)
    assert "300 per 60 s by another.calls" in str(refused.value)
    await other.limits.declare("another", {"calls": [THREE_A_MINUTE]})
    await setting.broker.close()
    await other.limits.declare("worker", {})
    await other.limits.declare("another", {"calls": [RateLimit(300, per=60, name="api")]})
    assert [limit.count for limit in other.limits.status()] == [300]


async def test_a_host_that_comes_back_goes_by_what_was_declared_meanwhile(
    setting: PostgresSetting, join: Join, caplog: pytest.LogCaptureFixture
) -> None:
    other = await join(RateLimit(9, per=60, name="api"))
    setting.clock.expire_sessions(alive=setting.broker.session)
    await setting.broker.limits.declare("worker", {"tasks": [THREE_A_MINUTE]})
    await setting.broker.acquire("worker/x", "host")
    other._session_lost()
    await until(lambda: "declared in two ways" in caplog.text)
    await send_to(other, ACTOR, 9)
    assert await drain(await lease_of(other, ACTOR)) == [0, 1, 2]


async def test_a_change_made_in_one_host_holds_in_all_at_once(setting: PostgresSetting, join: Join) -> None:
    other = await join(THREE_A_MINUTE)
    await send_to(setting.broker, ACTOR, 9)
    lease = await lease_of(setting.broker, ACTOR)
    assert await drain(lease) == [0, 1, 2]
    waiting = asyncio.ensure_future(lease.turn(None, Take(None)))
    await rest()
    await other.limits.change("api", 4, None)
    assert bodies(await soon(waiting)) == [3]
    (shown,) = await setting.broker.limits.look()
    assert (shown.count, shown.declared, shown.used) == (4, THREE_A_MINUTE, 4)


# --- providers' pauses ------------------------------------------------------------------------------------------------


async def test_a_change_is_shown_though_an_earlier_look_is_answered_after_it(
    setting: PostgresSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = setting.broker.limits
    await limits.declare("worker", {"tasks": [THREE_A_MINUTE]})
    read, go_on = asyncio.Event(), asyncio.Event()

    async def held_up() -> None:
        read.set()
        await go_on.wait()

    after_the_next("run", setting.broker, monkeypatch, held_up)
    looking = asyncio.ensure_future(limits.look())
    await soon(read.wait())
    await limits.change("api", 2, None)
    go_on.set()
    await soon(looking)
    assert [limit.count for limit in limits.status()] == [2]


async def test_a_pause_holds_the_queues_of_its_name_in_all_hosts_and_one_message_is_tried(
    setting: PostgresSetting, join: Join
) -> None:
    shared = ConcurrencyLimit(9, name="api")
    other = await join(shared)
    leases = [await lease_of(setting.broker, ACTOR), await lease_of(other, OTHER)]
    for actor in (ACTOR, OTHER):
        await send_to(setting.broker, actor, 3)
    await meets_limit(leases[0], await take_one(leases[0]), limit="api")
    assert await take(leases[1]) == []
    (shown,) = await other.status(OTHER)
    assert (shown.paused, shown.limited_by, shown.pause_reason) == (True, "api", "429")
    setting.clock.advance(5)
    tried = await asyncio.gather(*(take(lease, 3) for lease in leases))
    assert sorted(len(each) for each in tried) == [0, 1]
    holder = 0 if tried[0] else 1
    await settle(leases[holder], tried[holder][0])
    assert len(await take(leases[1 - holder], 3)) == 3


async def test_a_pause_is_ended_by_hand_from_another_host(setting: PostgresSetting, join: Join) -> None:
    other = await join(ConcurrencyLimit(9, name="api"))
    await send_to(setting.broker, ACTOR, 1)
    lease = await lease_of(setting.broker, ACTOR)
    await meets_limit(lease, await take_one(lease), until=setting.clock.time() + 3600, limit="api")
    waiting = asyncio.ensure_future(lease.turn(None, Take(None)))
    await rest()
    assert await other.change(ACTOR, Resume("tasks")) == 1
    assert bodies(await soon(waiting)) == [0]
    await until(lambda: setting.broker.limits.resumed_at == setting.clock.monotonic())


# --- calls ------------------------------------------------------------------------------------------------------------


async def test_calls_share_limits_with_the_queues_of_other_hosts(setting: PostgresSetting, join: Join) -> None:
    other = await join(RateLimit(2, per=60, name="api"))
    for broker in (setting.broker, other):
        await broker.limits.declare("vm", {"$prompts": [RateLimit(2, per=60, name="api")]})
    first = await setting.broker.limits.calls.start("vm/a", "$prompts", ())
    await first.begin()
    first.leave()
    unused = await setting.broker.limits.calls.start("vm/a", "$prompts", ())
    await send_to(other, ACTOR, 1)
    lease = await lease_of(other, ACTOR)
    assert await take(lease) == [], "it may start at any moment"
    unused.leave()
    async with asyncio.timeout(10):
        while not (taken := await take(lease)):  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.01)
    assert bodies(taken) == [0]
    waiting = asyncio.ensure_future(setting.broker.limits.calls.start("vm/b", "$prompts", ()))
    await rest()
    assert not waiting.done()
    setting.clock.advance(61)
    (await soon(waiting)).leave()


async def test_calls_are_refused_in_all_hosts_while_their_limit_is_paused(setting: PostgresSetting, join: Join) -> None:
    other = await join(RateLimit(9, per=60, name="api", scope="anthropic"))
    (name,) = setting.broker.limits.calls.bound_to("anthropic", "opus")
    began = setting.clock.monotonic()
    setting.broker.limits.calls.met("vm/a", [name], RateLimited("5-hour limit", retry_after=600), began)

    async def is_refused() -> bool:
        try:
            (await other.limits.calls.start("vm/b", "$prompts", [name])).leave()
        except RateLimited as error:
            return "5-hour limit" in str(error)
        return False

    async with asyncio.timeout(10):
        while not await is_refused():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.01)
    (shown,) = await other.limits.look()
    assert (shown.paused_until, shown.reason) == (setting.clock.time() + 600, "5-hour limit")
    setting.clock.advance(601)
    assert not await is_refused()
