"""Room in queues: limits of messages and bytes, and senders that wait for it in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agentq_nb._brokers.changes import Cancel, Purge
from agentq_nb._brokers.messages import Commit
from agentq_nb.errors import AgentqError, QueueFull
from tests.unit.brokers.conformance.words import (
    ACTOR,
    OTHER,
    acquire,
    bodies,
    counts,
    drain,
    new_message,
    rest,
    send,
    settle,
    soon,
    status_of,
    take,
    take_one,
)
from tests.unit.brokers.settings import Setting


@asynccontextmanager
async def waiting(setting: Setting, *offers: Any, timeout: float | None = None) -> AsyncIterator[list[Any]]:
    """Tasks that send these offers, each with room for itself to wait in; ended at the end."""
    tasks: list[Any] = []
    for offer in offers:
        tasks.append(asyncio.ensure_future(setting.broker.enqueue([offer], timeout)))
        await rest()
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def small(body: Any, **options: Any) -> Any:
    """An offer to a queue of one message."""
    return new_message(body, max_size=1, **options)


class Admitting:
    # --- bytes --------------------------------------------------------------------------------------------------------

    async def test_the_bytes_of_unsettled_bodies_are_bounded(self, setting: Setting) -> None:
        await send(setting.broker, "x" * 38, max_bytes=100)  # 40 bytes as JSON
        await send(setting.broker, "y" * 58, max_bytes=100)
        with pytest.raises(QueueFull, match=r"Limit is 100 bytes.*raise max_bytes") as refused:
            await send(setting.broker, "", max_bytes=100)
        assert refused.value.metadata["unit"] == "bytes"
        lease = await acquire(setting)
        running = await take_one(lease)
        with pytest.raises(QueueFull):
            await send(setting.broker, "", max_bytes=100)
        await settle(lease, running)
        await send(setting.broker, "z" * 38, max_bytes=100)

    @pytest.mark.parametrize("how", ["reopened", "crashed"])
    async def test_bytes_are_counted_across_restarts(self, setting: Setting, how: str) -> None:
        await send(setting.broker, "x" * 38, max_bytes=100)
        await (setting.reopen() if how == "reopened" else setting.crash())
        with pytest.raises(QueueFull):
            await send(setting.broker, "y" * 60, max_bytes=100)
        await send(setting.broker, "y" * 58, max_bytes=100)

    async def test_a_refused_call_gives_its_bytes_back(self, setting: Setting) -> None:
        with pytest.raises(QueueFull):
            await setting.broker.enqueue([new_message("x" * 58, max_bytes=100) for _ in range(2)])
        await send(setting.broker, "y" * 98, max_bytes=100)

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def test_a_sender_waits_until_there_is_room(self, setting: Setting) -> None:
        await setting.broker.enqueue([small("first")])
        offer = small("second")
        async with waiting(setting, offer) as (sender,):
            assert not sender.done()
            with pytest.raises(AgentqError):
                await status_of(setting.broker, offer.id)
            lease = await acquire(setting)
            await settle(lease, await take_one(lease))
            (accepted,) = await soon(sender)
            assert accepted.id == offer.id
            assert bodies(await take(lease)) == ["second"]

    async def test_senders_are_served_in_order(self, setting: Setting) -> None:
        await setting.broker.enqueue([small("first")])
        async with waiting(setting, *(small(number) for number in range(5))) as senders:
            lease = await acquire(setting)
            await settle(lease, await take_one(lease))
            for number, sender in enumerate(senders):
                await soon(sender)
                delivery = await take_one(lease)
                assert bodies([delivery]) == [number]
                assert [other.done() for other in senders] == [place <= number for place in range(5)]
                await settle(lease, delivery)

    async def test_nobody_is_served_before_those_who_wait(self, setting: Setting) -> None:
        await setting.broker.enqueue([new_message("first", max_bytes=100, max_size=10)])
        large = new_message("x" * 96, max_bytes=100, max_size=10)
        async with waiting(setting, large, new_message("s", max_bytes=100, max_size=10)) as senders:
            with pytest.raises(QueueFull):
                await send(setting.broker, "fits", max_bytes=100, max_size=10)
            assert [sender.done() for sender in senders] == [False, False]
            lease = await acquire(setting)
            await settle(lease, await take_one(lease))
            await soon(senders[0])
            await rest()
            assert not senders[1].done()
            await settle(lease, await take_one(lease))
            await soon(senders[1])

    async def test_a_sender_that_is_cancelled_is_left_out(self, setting: Setting) -> None:
        await setting.broker.enqueue([small("first")])
        async with waiting(setting, *(small(number) for number in range(4))) as senders:
            for number in (0, 2):
                senders[number].cancel()
            await rest()
            lease = await acquire(setting)
            await settle(lease, await take_one(lease))
            for number in (1, 3):
                await soon(senders[number])
                delivery = await take_one(lease)
                assert bodies([delivery]) == [number]
                await settle(lease, delivery)
            assert [sender.cancelled() for sender in senders] == [True, False, True, False]

    async def test_one_that_is_cancelled_when_its_turn_comes_keeps_nobody_waiting(self, setting: Setting) -> None:
        await setting.broker.enqueue([small("first")])
        async with waiting(setting, small(0), small(1)) as senders:
            lease = await acquire(setting)
            await settle(lease, await take_one(lease))
            senders[0].cancel()
            await asyncio.wait(senders[:1])
            seen = await drain(lease)
            await soon(senders[1])
            assert seen + await drain(lease) in ([1], [0, 1])

    async def test_a_sender_gives_up_when_its_time_is_over(self, setting: Setting) -> None:
        await setting.broker.enqueue([small("first")])
        async with (
            waiting(setting, small("late"), timeout=10.0) as (late,),
            waiting(setting, small("next")) as (after,),
        ):
            setting.clock.advance(9)
            await rest()
            assert not late.done()
            setting.clock.advance(1)
            with pytest.raises(QueueFull, match="within 10 s"):
                await soon(late)
            lease = await acquire(setting)
            await settle(lease, await take_one(lease))
            await soon(after)
            assert await drain(lease) == ["next"]

    async def test_every_way_to_leave_a_queue_makes_room(self, setting: Setting) -> None:
        lease = await acquire(setting)
        await lease.commit(Commit(state=b"{}"))

        async def cancel() -> None:
            await setting.broker.change(ACTOR, Cancel(first))

        async def purge() -> None:
            await setting.broker.change(ACTOR, Purge("tasks"))

        async def expire() -> None:
            setting.clock.advance(10)

        async def fail() -> None:
            await settle(lease, await take_one(lease), "failed", error={"message": "no"})

        async def destroy() -> None:
            await lease.commit(Commit(destroy=True))

        for leave in (cancel, purge, expire, fail, destroy):
            (accepted,) = await setting.broker.enqueue([small("first", ttl=10.0)])
            first = accepted.id
            async with waiting(setting, small("second")) as (sender,):
                assert not sender.done()
                await leave()
                await soon(sender)
            await setting.broker.change(ACTOR, Purge("tasks"))

    async def test_a_call_that_could_never_fit_does_not_wait(self, setting: Setting) -> None:
        for limits in ({"max_size": 2}, {"max_bytes": 2}):
            with pytest.raises(QueueFull):
                await soon(setting.broker.enqueue([new_message(n, **limits) for n in range(3)], None))
        assert await counts(setting.broker) == {}

    async def test_a_call_of_several_waits_until_all_have_room(self, setting: Setting) -> None:
        await setting.broker.enqueue([new_message(n, max_size=3) for n in range(3)])
        offers = [new_message(n, max_size=3) for n in (10, 11)]
        sender = asyncio.ensure_future(setting.broker.enqueue(offers, None))
        await rest()
        lease = await acquire(setting)
        await settle(lease, await take_one(lease))
        await rest()
        assert not sender.done()
        await settle(lease, await take_one(lease))
        await soon(sender)
        assert await drain(lease) == [2, 10, 11]

    async def test_a_call_waits_for_one_queue_after_the_other(self, setting: Setting) -> None:
        for actor in (ACTOR, OTHER):
            await setting.broker.enqueue([small("first", actor=actor)])
        sender = asyncio.ensure_future(
            setting.broker.enqueue([small("second", actor=actor) for actor in (ACTOR, OTHER)], None)
        )
        for actor in (ACTOR, OTHER):
            await rest()
            assert not sender.done()
            lease = await acquire(setting, actor)
            await settle(lease, await take_one(lease))
        await soon(sender)

    async def test_a_key_that_became_known_meanwhile_is_found(self, setting: Setting) -> None:
        await setting.broker.enqueue([small("first")])
        async with waiting(setting, small("x", idempotency_key="k"), small("x", idempotency_key="k")) as senders:
            lease = await acquire(setting)
            await settle(lease, await take_one(lease))
            # Both look up the key in the log before they wait, so either may be the first.
            served, waits = await soon(asyncio.wait(senders, return_when=asyncio.FIRST_COMPLETED))
            (first,) = served.pop().result()
            assert await drain(lease) == ["x"]  # whether or not the other waits: its turn comes now
            (second,) = await soon((served or waits).pop())
            assert second.id == first.id
            assert {first.repeated, second.repeated} == {False, True}  # both may be served by now, in either order

    async def test_a_repeated_send_does_not_wait(self, setting: Setting) -> None:
        offer = small("x", idempotency_key="k")
        await setting.broker.enqueue([offer])
        async with waiting(setting, small("waits")):
            assert (await soon(setting.broker.enqueue([offer], None)))[0].repeated

    # --- the end ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("how", ["reopened", "crashed"])
    async def test_what_waits_at_the_end_of_a_host_was_not_sent(self, setting: Setting, how: str) -> None:
        await setting.broker.enqueue([small("first")])
        async with waiting(setting, small("waits")) as (sender,):
            await (setting.reopen() if how == "reopened" else setting.crash())
            with pytest.raises(AgentqError) as ended:
                await soon(sender)
            assert ended.value.full_code == "host.unavailable"
        assert await drain(await acquire(setting)) == ["first"]
