"""Messages with a ttl: started in time, or settled as expired."""

from __future__ import annotations

import asyncio

import pytest

from agentq_nb._brokers.changes import Cancel, Pause, Purge, Redeliver
from agentq_nb._brokers.messages import Commit, Take
from tests.unit.brokers.conformance.words import (
    ACTOR,
    acquire,
    bodies,
    counts,
    drain,
    new_message,
    rest,
    restart,
    send,
    settle,
    soon,
    status_of,
    survives,
    take,
    take_one,
)
from tests.unit.brokers.settings import Setting


class Expiring:
    async def test_a_message_expires_at_its_moment_and_is_never_handed_out(self, setting: Setting) -> None:
        message = await send(setting.broker, "late", ttl=10.0)
        await send(setting.broker, "patient")
        setting.clock.advance(9.5)
        assert await status_of(setting.broker, message) == "queued"
        setting.clock.advance(0.5)
        result = await soon(setting.broker.wait(message, 5))
        assert (result.status, result.attempts, result.reply) == ("expired", 0, None)
        assert result.error is not None
        assert (result.error["group"], result.error["code"]) == ("queue", "expired")
        assert await drain(await acquire(setting)) == ["patient"]

    async def test_a_waiter_is_told_without_any_actor(self, setting: Setting) -> None:
        message = await send(setting.broker, ttl=10.0)
        waiting = asyncio.ensure_future(setting.broker.wait(message, None))
        await rest()
        setting.clock.advance(10)
        assert (await soon(waiting)).status == "expired"

    async def test_what_was_started_in_time_never_expires(self, setting: Setting) -> None:
        message = await send(setting.broker, ttl=10.0)
        lease = await acquire(setting)
        first = await take_one(lease)
        setting.clock.advance(20)
        assert await status_of(setting.broker, message) == "running"
        await settle(lease, first, "again", delay=5.0)
        setting.clock.advance(20)
        second = await take_one(lease)
        await settle(lease, second, "released")
        setting.clock.advance(20)
        assert await drain(lease) == [1]

    async def test_the_time_begins_when_it_is_due(self, setting: Setting) -> None:
        message = await send(setting.broker, delay=60.0, ttl=10.0)
        setting.clock.advance(69)
        assert await status_of(setting.broker, message) == "queued"
        setting.clock.advance(1)
        assert (await soon(setting.broker.wait(message, 5))).status == "expired"

    async def test_time_in_which_the_queue_is_paused_counts(self, setting: Setting) -> None:
        message = await send(setting.broker, ttl=10.0)
        await setting.broker.change(ACTOR, Pause("tasks"))
        setting.clock.advance(10)
        assert (await soon(setting.broker.wait(message, 5))).status == "expired"

    async def test_it_frees_its_key_and_its_place(self, setting: Setting) -> None:
        first = await send(setting.broker, "one", ttl=10.0, idempotency_key="k", max_size=1)
        setting.clock.advance(10)
        second = await send(setting.broker, "two", idempotency_key="k", max_size=1)
        assert second != first
        assert await counts(setting.broker) == {(ACTOR, "tasks"): {"ready": 1}}

    async def test_redelivery_puts_it_back_for_good(self, setting: Setting) -> None:
        message = await send(setting.broker, "again", ttl=10.0)
        setting.clock.advance(10)
        assert await status_of(setting.broker, message) == "expired"
        assert await setting.broker.change(ACTOR, Redeliver(message)) == 1
        setting.clock.advance(100)
        assert await drain(await acquire(setting)) == ["again"]

    async def test_a_cancelled_message_that_is_redelivered_does_not_expire(self, setting: Setting) -> None:
        message = await send(setting.broker, ttl=10.0)
        await setting.broker.change(ACTOR, Cancel(message))
        await setting.broker.change(ACTOR, Redeliver(message))
        setting.clock.advance(100)
        assert await status_of(setting.broker, message) == "queued"

    async def test_what_is_settled_otherwise_does_not_expire_as_well(self, setting: Setting) -> None:
        cancelled, purged = [await send(setting.broker, queue=queue, ttl=10.0) for queue in ("a", "b")]
        await setting.broker.change(ACTOR, Cancel(cancelled))
        await setting.broker.change(ACTOR, Purge("b"))
        setting.clock.advance(10)
        assert [await status_of(setting.broker, one) for one in (cancelled, purged)] == ["cancelled"] * 2
        lease = await acquire(setting)
        destroyed = await send(setting.broker, ttl=10.0)
        await lease.commit(Commit(state=b"{}"))
        await lease.commit(Commit(destroy=True))
        setting.clock.advance(10)
        assert await status_of(setting.broker, destroyed) == "cancelled"

    async def test_a_batch_leaves_out_what_has_expired(self, setting: Setting) -> None:
        for number in range(6):
            await send(setting.broker, number, **({"ttl": 5.0} if number % 2 else {}))
        lease = await acquire(setting)
        setting.clock.jump(5)  # no timer rings
        assert bodies(await take(lease, 4)) == [0, 2, 4]

    async def test_a_refused_call_leaves_nothing_that_expires(self, setting: Setting) -> None:
        with pytest.raises(Exception, match="Queue is full"):
            await setting.broker.enqueue([new_message(n, max_size=1, ttl=5.0) for n in range(2)])
        setting.clock.advance(5)
        assert await counts(setting.broker) == {}

    async def test_a_receiver_that_waits_gets_the_next_message(self, setting: Setting) -> None:
        await setting.broker.change(ACTOR, Pause("tasks", setting.clock.time() + 20))
        await send(setting.broker, "late", ttl=10.0)
        await send(setting.broker, "patient")
        lease = await acquire(setting)
        waiting = asyncio.ensure_future(lease.turn(None, Take(None, 1, None)))
        await rest()
        setting.clock.advance(20)
        assert bodies(await soon(waiting)) == ["patient"]

    async def test_very_many_expire_at_once(self, setting: Setting) -> None:
        await setting.broker.enqueue([new_message(n, ttl=5.0) for n in range(1000)])
        setting.clock.advance(5)
        for _ in range(50):
            setting.clock.advance(0.01)
            await asyncio.sleep(0)
        assert await counts(setting.broker) == {}

    # --- restarts -----------------------------------------------------------------------------------------------------

    @survives
    async def test_it_expires_while_no_host_runs(self, setting: Setting, how: str) -> None:
        late = await send(setting.broker, "late", ttl=10.0, idempotency_key="k")
        later = await send(setting.broker, "later", ttl=30.0)
        setting.clock.jump(20)  # the host has no time to notice
        await restart(setting, how)
        assert await status_of(setting.broker, late) == "expired"
        assert await status_of(setting.broker, later) == "queued"
        assert await send(setting.broker, "other", idempotency_key="k") != late
        setting.clock.advance(10)
        assert (await soon(setting.broker.wait(later, 5))).status == "expired"
        assert await drain(await acquire(setting)) == ["other"]

    @survives
    async def test_an_expiry_and_its_reason_are_kept(self, setting: Setting, how: str) -> None:
        message = await send(setting.broker, ttl=10.0)
        setting.clock.advance(10)
        assert await status_of(setting.broker, message) == "expired"
        await restart(setting, how)
        result = await setting.broker.wait(message, 0)
        assert result.status == "expired"
        assert result.error is not None
        assert result.error["code"] == "expired"

    @survives
    async def test_what_was_started_is_handed_out_however_long_no_host_ran(self, setting: Setting, how: str) -> None:
        await send(setting.broker, "started", ttl=10.0)
        await take_one(await acquire(setting))
        await restart(setting, how)
        setting.clock.advance(100)
        await restart(setting, how)
        assert await drain(await acquire(setting)) == ["started"]

    @survives
    async def test_what_was_redelivered_does_not_expire_after_a_restart(self, setting: Setting, how: str) -> None:
        message = await send(setting.broker, "again", ttl=10.0)
        setting.clock.advance(10)
        await setting.broker.change(ACTOR, Redeliver(message))
        await restart(setting, how)
        setting.clock.advance(100)
        assert await drain(await acquire(setting)) == ["again"]
