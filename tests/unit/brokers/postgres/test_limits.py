"""Limits over several hosts on one PostgreSQL: who gets the last place, what wakes who waits, and what a host leaves behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentq_nb import ConcurrencyLimit, RateLimit
from agentq_nb._brokers.messages import Take
from tests.unit.brokers.conformance.words import (
    ACTOR,
    OTHER,
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
from tests.unit.brokers.limited import THREE_A_MINUTE
from tests.unit.brokers.postgres.hosts import (
    GPU,
    Join,
    after_the_next,
    lease_of,
    send_to,
    until_waiting,
    used,
)
from tests.unit.brokers.postgres_setting import PostgresSetting

pytestmark = pytest.mark.anyio


# --- who gets the last place ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [RateLimit(1, per=60, name="api"), ConcurrencyLimit(1, name="api")])
async def test_of_hosts_that_want_the_last_place_at_once_one_gets_it(
    setting: PostgresSetting, join: Join, limit: Any
) -> None:
    brokers = [setting.broker, await join(limit), await join(limit), await join(limit)]
    leases = [await lease_of(broker, f"worker/{number}") for number, broker in enumerate(brokers)]
    for number in range(4):
        await send_to(setting.broker, f"worker/{number}", 10)
    for _ in range(10):
        taken = await asyncio.gather(*(take(lease, 2) for lease in leases))
        assert sorted(len(each) for each in taken) == [0, 0, 0, 1]
        for lease, (delivery, *_) in [(lease, each) for lease, each in zip(leases, taken, strict=True) if each]:
            await settle(lease, delivery)
        setting.clock.pass_by_alive(61)


async def test_a_start_that_took_long_to_commit_counts_from_when_it_is_handed_out(
    setting: PostgresSetting, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = RateLimit(1, per=60, name="api")
    other = await join(limit)
    await send_to(setting.broker, ACTOR, 2)
    await send_to(setting.broker, OTHER, 2)
    lease, behind = await lease_of(setting.broker, ACTOR), await lease_of(other, OTHER)

    async def time_passes() -> None:
        setting.clock.pass_by_alive(30)

    after_the_next("run", setting.broker, monkeypatch, time_passes)
    assert bodies(await take(lease)) == [0]
    setting.clock.pass_by_alive(59)
    assert await take(behind) == []
    setting.clock.pass_by_alive(2)
    assert bodies(await take(behind)) == [0]


async def test_a_start_whose_place_has_gone_meanwhile_is_put_back_uncounted(
    setting: PostgresSetting, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commit took longer than the window, and another host started one in between."""
    other = await join(RateLimit(1, per=10, name="api"))
    await send_to(setting.broker, ACTOR, 1)
    await send_to(setting.broker, OTHER, 1)
    lease, between = await lease_of(setting.broker, ACTOR), await lease_of(other, OTHER)

    async def another_starts() -> None:
        setting.clock.pass_by_alive(30)
        assert bodies(await take(between)) == [0]

    after_the_next("run", setting.broker, monkeypatch, another_starts)
    assert await take(lease) == []
    monkeypatch.undo()
    assert await used(setting.broker, "api") == 1
    setting.clock.advance(11)
    again = await take_one(lease)
    assert (bodies([again]), again.attempt) == ([0], 1)


# --- waiting ----------------------------------------------------------------------------------------------------------


async def test_a_place_that_comes_free_in_one_host_wakes_who_waits_in_another(
    setting: PostgresSetting, join: Join
) -> None:
    """By a notification: the clock, and so the poll, stands still."""
    other = await join(GPU)
    await send_to(setting.broker, ACTOR, 1)
    await send_to(setting.broker, OTHER, 1)
    lease, waits = await lease_of(setting.broker, ACTOR), await lease_of(other, OTHER)
    delivery = await take_one(lease)
    waiting = asyncio.ensure_future(waits.turn(None, Take(None)))
    await until_waiting(setting.broker, 1)
    await rest()
    assert not waiting.done()
    await settle(lease, delivery)
    assert bodies(await soon(waiting)) == [0]


async def test_a_lost_notification_is_made_up_for_by_the_poll(
    setting: PostgresSetting, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await join(GPU)
    await send_to(setting.broker, ACTOR, 1)
    await send_to(setting.broker, OTHER, 1)
    lease, waits = await lease_of(setting.broker, ACTOR), await lease_of(other, OTHER)
    delivery = await take_one(lease)
    waiting = asyncio.ensure_future(waits.turn(None, Take(None)))
    await until_waiting(other, 1)
    await rest()
    monkeypatch.setattr(other.notifications, "_received", lambda payload: None)
    await settle(lease, delivery)
    await rest()
    assert not waiting.done()
    setting.clock.advance(5.1)
    assert bodies(await soon(waiting)) == [0]


async def test_the_oldest_message_of_all_hosts_starts_first(setting: PostgresSetting, join: Join) -> None:
    other = await join(GPU)
    leases = [await lease_of(setting.broker, ACTOR), await lease_of(other, OTHER)]
    await send(setting.broker, "before")
    delivery = await take_one(leases[0])
    await send(setting.broker, "older", actor=OTHER)
    await send(setting.broker, "newer")
    waiting = asyncio.ensure_future(leases[1].turn(None, Take(None)))
    await until_waiting(setting.broker, 1)
    newer = asyncio.ensure_future(leases[0].turn(None, Take(None)))
    await until_waiting(setting.broker, 2)
    await settle(leases[0], delivery)
    (older,) = await soon(waiting)
    assert bodies([older]) == ["older"]
    assert not newer.done()
    await settle(leases[1], older)
    assert bodies(await soon(newer)) == ["newer"]


async def test_a_host_that_stalls_in_line_holds_up_the_others_for_a_moment_only(
    setting: PostgresSetting, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await join(GPU)
    stalled, lease = await lease_of(other, OTHER), await lease_of(setting.broker, ACTOR)
    await send(setting.broker, "before")
    delivery = await take_one(lease)
    await send(setting.broker, "older", actor=OTHER)
    waiting = asyncio.ensure_future(stalled.turn(None, Take(None)))
    await until_waiting(setting.broker, 1)
    monkeypatch.setattr(other.notifications, "_received", lambda payload: None)
    await send(setting.broker, "newer")
    await settle(lease, delivery)
    newer = asyncio.ensure_future(lease.turn(None, Take(None)))
    await rest()
    assert not newer.done()
    await until_waiting(setting.broker, 2)
    setting.clock.advance(1.1)
    assert bodies(await soon(newer)) == ["newer"]
    waiting.cancel()


async def test_a_sleeping_actor_whose_message_is_older_is_woken_and_not_overtaken(
    setting: PostgresSetting, join: Join
) -> None:
    limit = RateLimit(1, per=10, name="api")
    other = await join(limit)
    await send(setting.broker, "before")
    busy = await lease_of(setting.broker, ACTOR)
    assert await drain(busy) == ["before"]
    await send(setting.broker, "older", actor=OTHER)
    await send_to(setting.broker, ACTOR, 3)
    hint = asyncio.ensure_future(anext(other.ready_actors({"worker": None})))
    waiting = asyncio.ensure_future(busy.turn(None, Take(None)))
    await until_waiting(setting.broker, 2)
    assert not hint.done()
    setting.clock.advance(10.1)
    assert await soon(hint) == OTHER
    assert bodies(await take(await lease_of(other, OTHER))) == ["older"]
    await rest()
    assert not waiting.done()
    waiting.cancel()


async def test_a_sleeping_actor_is_woken_when_a_place_comes_free(setting: PostgresSetting, join: Join) -> None:
    other = await join(GPU)
    await send_to(setting.broker, ACTOR, 1)
    lease = await lease_of(setting.broker, ACTOR)
    delivery = await take_one(lease)
    await send_to(setting.broker, OTHER, 1)
    hint = asyncio.ensure_future(anext(other.ready_actors({"worker": None})))
    await until_waiting(setting.broker, 1)
    assert not hint.done()
    await settle(lease, delivery)
    assert await soon(hint) == OTHER


async def test_a_sleeping_actor_is_woken_when_a_place_comes_free_while_its_host_looks(
    setting: PostgresSetting, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await join(GPU)
    await send_to(setting.broker, ACTOR, 1)
    lease = await lease_of(setting.broker, ACTOR)
    delivery = await take_one(lease)
    with other.notifications.watch(("sent", OTHER, "tasks")) as sent:
        await send_to(setting.broker, OTHER, 1)
        await until(sent.rung)

    async def a_place_comes_free() -> None:
        heard = other.limits.line.now
        await settle(lease, delivery)
        await until(lambda: other.limits.line.now > heard)

    after_the_next("look", other, monkeypatch, a_place_comes_free)
    assert await soon(anext(other.ready_actors({"worker": None}))) == OTHER


# --- what a host leaves behind ----------------------------------------------------------------------------------------


async def test_the_places_of_a_host_that_died_come_back_with_its_lease(setting: PostgresSetting, join: Join) -> None:
    other = await join(ConcurrencyLimit(3, name="gpu"))
    await send_to(other, ACTOR, 1)
    dying = await lease_of(other, ACTOR)
    delivery = await take_one(dying)
    dying.withhold(delivery.id)
    await other.limits.declare("caller", {"$prompts": [ConcurrencyLimit(3, name="gpu")]})
    await other.limits.calls.start("caller/a", "$prompts", ())
    async with asyncio.timeout(10):
        while await used(setting.broker, "gpu") != 3:  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.01)
    await other.abandon()
    assert await used(setting.broker, "gpu") == 3, "until its lease is over"
    setting.clock.expire_sessions()
    lease = await lease_of(setting.broker, ACTOR)
    assert await used(setting.broker, "gpu") == 0
    assert bodies(await take(lease)) == [0]


async def test_the_starts_of_a_host_that_died_still_count(setting: PostgresSetting, join: Join) -> None:
    other = await join(RateLimit(1, per=60, name="api"))
    await send_to(other, ACTOR, 2)
    await take_one(await lease_of(other, ACTOR))
    await other.abandon()
    setting.clock.expire_sessions()
    lease = await lease_of(setting.broker, ACTOR)
    assert await take(lease) == []
    setting.clock.advance(61)
    assert bodies(await take(lease)) == [0]


async def test_a_host_that_was_taken_for_dead_declares_its_limits_again(setting: PostgresSetting, join: Join) -> None:
    other = await join(THREE_A_MINUTE)
    await other.limits.declare("another", {"tasks": [RateLimit(9, per=9, name="its own")]})
    setting.clock.expire_sessions()
    await setting.broker.acquire("worker/x", "host")
    other._session_lost()
    await until(lambda: setting.clock.alive(other.session))
    assert {limit.name for limit in await setting.broker.limits.look()} >= {"its own"}
