"""Waiting for results, and the end of a broker."""

from __future__ import annotations

import asyncio

import pytest

from agentq_nb._brokers.changes import Cancel, Purge
from agentq_nb._brokers.messages import Take
from agentq_nb._core.ids import mint_id
from agentq_nb.errors import LeaseLost, MessageUnknown, Unavailable
from tests.unit.brokers.conformance.words import (
    ACTOR,
    acquire,
    new_message,
    rest,
    send,
    settle,
    soon,
    status_of,
    take_one,
)
from tests.unit.brokers.settings import Setting


class Waiting:
    async def test_a_wait_ends_when_the_message_is_settled(self, setting: Setting) -> None:
        message = await send(setting.broker)
        waiting = [asyncio.ensure_future(setting.broker.wait(message, None)) for _ in range(3)]
        lease = await acquire(setting)
        delivery = await take_one(lease)
        await rest()
        assert not any(one.done() for one in waiting)
        await settle(lease, delivery, reply=b'"done"')
        for one in waiting:
            result = await soon(one)
            assert (result.message, result.status, result.reply) == (message, "completed", b'"done"')

    async def test_a_failed_attempt_does_not_end_the_wait(self, setting: Setting) -> None:
        message = await send(setting.broker)
        waiting = asyncio.ensure_future(setting.broker.wait(message, None))
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), "again", error={"message": "no"})
        await rest()
        assert not waiting.done()
        await settle(lease, await take_one(lease), "dead", error={"message": "no"})
        assert (await soon(waiting)).status == "failed"

    @pytest.mark.parametrize("purge", [False, True])
    async def test_a_cancel_or_a_purge_ends_the_wait(self, setting: Setting, purge: bool) -> None:
        message = await send(setting.broker)
        waiting = asyncio.ensure_future(setting.broker.wait(message, None))
        await rest()
        await setting.broker.change(ACTOR, Purge("tasks") if purge else Cancel(message))
        assert (await soon(waiting)).status == "cancelled"

    async def test_a_wait_that_times_out_tells_how_the_message_stands(self, setting: Setting) -> None:
        message = await send(setting.broker)
        waiting = asyncio.ensure_future(setting.broker.wait(message, 5.0))
        await rest()
        lease = await acquire(setting)
        await take_one(lease)
        setting.clock.advance(4.9)
        await rest()
        assert not waiting.done()
        setting.clock.advance(0.1)
        standing = await soon(waiting)
        assert (standing.status, standing.attempts) == ("running", 1)

    @pytest.mark.parametrize("jump", [-3600, 3600])
    async def test_a_wait_takes_as_long_however_the_wall_clock_is_set(self, setting: Setting, jump: int) -> None:
        message = await send(setting.broker)
        waiting = asyncio.ensure_future(setting.broker.wait(message, 5.0))
        await rest()
        setting.clock.jump(jump)
        setting.clock.advance(4.9)
        await rest()
        assert not waiting.done()
        setting.clock.advance(0.1)
        assert (await soon(waiting)).status == "queued"

    async def test_timeout_zero_tells_how_the_message_stands_now(self, setting: Setting) -> None:
        queued, delayed, running = [
            await send(setting.broker, queue=queue, delay=delay)
            for queue, delay in (("a", None), ("a", 60.0), ("b", None))
        ]
        lease = await acquire(setting)
        await take_one(lease, ["b"])
        assert [await status_of(setting.broker, message) for message in (queued, delayed, running)] == [
            "queued",
            "delayed",
            "running",
        ]

    async def test_a_result_can_be_had_again_and_again(self, setting: Setting) -> None:
        message = await send(setting.broker)
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), reply=b"1")
        for timeout in (0, 5.0, None):
            assert (await soon(setting.broker.wait(message, timeout))).reply == b"1"

    async def test_a_large_reply_comes_back_whole(self, setting: Setting) -> None:
        message = await send(setting.broker)
        lease = await acquire(setting)
        reply = b'"' + b"x" * 60_000 + b'"'
        waiting = asyncio.ensure_future(setting.broker.wait(message, None))
        await rest()
        await settle(lease, await take_one(lease), reply=reply)
        assert (await soon(waiting)).reply == reply
        assert (await setting.broker.wait(message, None)).reply == reply

    async def test_an_unknown_message_is_said_to_be_unknown(self, setting: Setting) -> None:
        for timeout in (0, None):
            with pytest.raises(MessageUnknown):
                await soon(setting.broker.wait(mint_id(), timeout))

    async def test_a_cancelled_wait_leaves_the_message_alone(self, setting: Setting) -> None:
        message = await send(setting.broker)
        waiting = asyncio.ensure_future(setting.broker.wait(message, None))
        await rest()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert await status_of(setting.broker, message) == "queued"

    # --- the end of a broker ------------------------------------------------------------------------------------------

    async def test_closing_ends_pending_waits(self, setting: Setting) -> None:
        message = await send(setting.broker)
        waiting = asyncio.ensure_future(setting.broker.wait(message, None))
        await rest()
        await setting.broker.close()
        with pytest.raises(Unavailable):
            await soon(waiting)

    async def test_closing_takes_every_lease_away(self, setting: Setting) -> None:
        lease = await acquire(setting)
        receiving = asyncio.ensure_future(lease.turn(None, Take(None)))
        await rest()
        await setting.broker.close()
        await soon(lease.lost.wait())
        with pytest.raises((LeaseLost, Unavailable)):
            await soon(receiving)

    async def test_a_closed_keeper_is_unavailable(self, setting: Setting) -> None:
        message = await send(setting.broker)
        await setting.broker.close()
        await setting.broker.close()
        with pytest.raises(Unavailable):
            await setting.broker.enqueue([new_message()])
        with pytest.raises(Unavailable):
            await setting.broker.acquire(ACTOR, "host-1")
        with pytest.raises(Unavailable):
            await setting.broker.wait(message, 0)
        with pytest.raises(Unavailable):
            await setting.broker.change(ACTOR, Cancel(message))
        with pytest.raises(Unavailable):
            await setting.broker.exists(ACTOR)

    async def test_closing_ends_the_hints(self, setting: Setting) -> None:
        hint = asyncio.ensure_future(anext(setting.broker.ready_actors({"worker": None}), None))
        await rest()
        await setting.broker.close()
        assert await soon(hint) is None
