"""Handing messages out."""

from __future__ import annotations

import asyncio

import pytest

from agentq_nb._brokers.messages import Commit, Settlement, Take
from agentq_nb.errors import LeaseLost
from tests.unit.brokers.conformance.words import (
    ACTOR,
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


class Receiving:
    async def test_messages_come_in_the_order_of_their_sending_across_queues(self, setting: Setting) -> None:
        for number, queue in enumerate(["b", "a", "c", "a", "b"]):
            await send(setting.broker, number, queue)
        assert await drain(await acquire(setting)) == [0, 1, 2, 3, 4]

    async def test_only_the_named_queues_are_looked_at(self, setting: Setting) -> None:
        for number, queue in enumerate(["a", "b", "c"]):
            await send(setting.broker, number, queue)
        lease = await acquire(setting)
        assert await drain(lease, ["c", "b"]) == [1, 2]
        assert await take(lease, 1, ["nowhere"]) == []
        assert await drain(lease, ["a"]) == [0]

    async def test_reserved_queues_come_only_when_they_are_named(self, setting: Setting) -> None:
        await send(setting.broker, "reserved", "$schedule")
        lease = await acquire(setting)
        assert await take(lease) == []
        assert await drain(lease, ["$schedule"]) == ["reserved"]

    async def test_up_to_count_messages_come_at_once_in_order(self, setting: Setting) -> None:
        await setting.broker.enqueue([new_message(number) for number in range(5)])
        lease = await acquire(setting)
        assert bodies(await take(lease, 3)) == [0, 1, 2]
        assert bodies(await take(lease, 3)) == [3, 4]
        assert await counts(setting.broker) == {(ACTOR, "tasks"): {"running": 5}}

    async def test_what_was_handed_out_is_not_handed_out_again(self, setting: Setting) -> None:
        message = await send(setting.broker)
        lease = await acquire(setting)
        delivery = await take_one(lease)
        assert delivery.id == message
        assert await take(lease) == []
        assert await status_of(setting.broker, message) == "running"
        await lease.started([delivery])

    async def test_receive_waits_for_the_first_message_only(self, setting: Setting) -> None:
        lease = await acquire(setting)
        waiting = asyncio.ensure_future(lease.turn(None, Take(None, 10, None)))
        await rest()
        assert not waiting.done()
        await send(setting.broker, "one")
        assert bodies(await soon(waiting)) == ["one"]

    async def test_receive_is_empty_after_its_timeout(self, setting: Setting) -> None:
        lease = await acquire(setting)
        waiting = asyncio.ensure_future(lease.turn(None, Take(None, 1, 5.0)))
        await rest()
        setting.clock.advance(4.9)
        await rest()
        assert not waiting.done()
        setting.clock.advance(0.1)
        assert list(await soon(waiting)) == []

    async def test_a_message_that_falls_due_ends_the_wait_for_it(self, setting: Setting) -> None:
        lease = await acquire(setting)
        await send(setting.broker, "later", delay=3.0)
        waiting = asyncio.ensure_future(lease.turn(None, Take(None)))
        await rest()
        assert not waiting.done()
        setting.clock.advance(3)
        assert bodies(await soon(waiting)) == ["later"]

    async def test_a_message_of_another_queue_does_not_end_the_wait(self, setting: Setting) -> None:
        lease = await acquire(setting)
        waiting = asyncio.ensure_future(lease.turn(None, Take(["a"])))
        await send(setting.broker, "b", "b")
        await rest()
        assert not waiting.done()
        await send(setting.broker, "a", "a")
        assert bodies(await soon(waiting)) == ["a"]

    async def test_one_can_wait_until_something_is_due_and_take_nothing(self, setting: Setting) -> None:
        lease = await acquire(setting)
        waiting = asyncio.ensure_future(lease.until_due(["tasks"], None))
        await rest()
        assert not waiting.done()
        await send(setting.broker, "there")
        await soon(waiting)
        await soon(lease.until_due(["tasks"], None))
        assert await drain(lease) == ["there"]

    async def test_the_wait_until_something_is_due_ends_at_its_timeout(self, setting: Setting) -> None:
        lease = await acquire(setting)
        await send(setting.broker, queue="other")
        waiting = asyncio.ensure_future(lease.until_due(["tasks"], 5.0))
        await rest()
        assert not waiting.done()
        setting.clock.advance(5)
        await soon(waiting)

    async def test_a_turn_settles_what_it_is_given_and_takes_the_next(self, setting: Setting) -> None:
        first, second = [await send(setting.broker, number) for number in (1, 2)]
        lease = await acquire(setting)
        done = Commit([Settlement(await take_one(lease), "completed")])
        (delivery,) = await lease.turn(done, Take(None, timeout=0))
        assert delivery.id == second
        assert (await soon(setting.broker.wait(first, None))).status == "completed"

    async def test_a_turn_may_be_given_back_what_it_settles(self, setting: Setting) -> None:
        await send(setting.broker, "again")
        lease = await acquire(setting)
        back = Commit([Settlement(await take_one(lease), "again", front=True)])
        (delivery,) = await lease.turn(back, Take(None, timeout=0))
        assert (bodies([delivery]), delivery.attempt) == (["again"], 2)

    async def test_a_turn_that_is_cancelled_has_settled_and_taken_nothing(self, setting: Setting) -> None:
        message = await send(setting.broker, "settled")
        lease = await acquire(setting)
        done = Commit([Settlement(await take_one(lease), "completed")])
        turn = asyncio.ensure_future(lease.turn(done, Take(None)))
        await asyncio.sleep(0)
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        await send(setting.broker, "next")
        assert (await soon(setting.broker.wait(message, None))).status == "completed"
        assert await drain(lease) == ["next"]

    async def test_a_turn_with_a_stale_settlement_loses_the_lease(self, setting: Setting) -> None:
        await setting.broker.enqueue([new_message(1), new_message(2)])
        lease = await acquire(setting)
        delivery = await take_one(lease)
        await settle(lease, delivery)
        with pytest.raises(LeaseLost):
            await lease.turn(Commit([Settlement(delivery, "completed")]), Take(None, timeout=0))
        await lease.release()
        assert await drain(await acquire(setting)) == [2]

    async def test_a_cancelled_receive_has_taken_nothing(self, setting: Setting) -> None:
        lease = await acquire(setting)
        waiting = asyncio.ensure_future(lease.turn(None, Take(None)))
        await rest()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await send(setting.broker, "kept")
        assert await drain(lease) == ["kept"]

    @pytest.mark.parametrize("turns", range(6))
    async def test_a_receive_cancelled_at_any_moment_loses_nothing(self, setting: Setting, turns: int) -> None:
        """Cancelled while a message comes in: either it was handed out, or it still waits."""
        lease = await acquire(setting)
        waiting = asyncio.ensure_future(lease.turn(None, Take(None)))
        await rest()
        sending = asyncio.ensure_future(send(setting.broker, "kept"))
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        await sending
        try:
            received = bodies(await waiting)
        except asyncio.CancelledError:
            received = []
        await rest()
        assert received + await drain(lease) == ["kept"]

    async def test_several_may_wait_and_each_message_goes_to_one_of_them(self, setting: Setting) -> None:
        lease = await acquire(setting)
        waiting = [asyncio.ensure_future(lease.turn(None, Take(None, 1, 60.0))) for _ in range(3)]
        await rest()
        await setting.broker.enqueue([new_message(number) for number in range(3)])
        received = [bodies(await soon(one)) for one in waiting]
        assert sorted(received) == [[0], [1], [2]]

    async def test_what_is_scheduled_by_a_commit_is_a_message_like_any_other(self, setting: Setting) -> None:
        lease = await acquire(setting)
        scheduled = new_message("call", "$schedule", delay=30.0)
        await lease.commit(Commit(schedule=[scheduled]))
        assert await status_of(setting.broker, scheduled.id) == "delayed"
        waiting = asyncio.ensure_future(lease.turn(None, Take(["$schedule"])))
        await rest()
        setting.clock.advance(30)
        assert [delivery.id for delivery in await soon(waiting)] == [scheduled.id]

    async def test_handing_out_again_after_settling_goes_on_in_order(self, setting: Setting) -> None:
        await setting.broker.enqueue([new_message(number) for number in range(4)])
        lease = await acquire(setting)
        first = await take_one(lease)
        await settle(lease, first)
        await send(setting.broker, 4)
        assert await drain(lease) == [1, 2, 3, 4]

    @pytest.mark.parametrize("jump", [-3600, 3600])
    async def test_a_receiver_waits_as_long_however_the_wall_clock_is_set(self, setting: Setting, jump: int) -> None:
        lease = await acquire(setting)
        waits = [lease.turn(None, Take(None, 1, 5.0)), lease.until_due(None, 5.0)]
        waiting = asyncio.ensure_future(asyncio.gather(*waits))
        await rest()
        setting.clock.jump(jump)
        setting.clock.advance(4.9)
        await rest()
        assert not waiting.done()
        setting.clock.advance(0.1)
        assert not (await soon(waiting))[0]

    async def test_a_delayed_message_follows_the_wall_clock_forward(self, setting: Setting) -> None:
        await send(setting.broker, "later", delay=3600.0)
        lease = await acquire(setting)
        waiting = asyncio.ensure_future(lease.turn(None, Take(None)))
        await rest()
        setting.clock.jump(3600)
        setting.clock.advance(0.1)
        assert bodies(await soon(waiting)) == ["later"]

    async def test_a_delayed_message_waits_for_a_wall_clock_that_was_set_back(self, setting: Setting) -> None:
        await send(setting.broker, "later", delay=60.0)
        lease = await acquire(setting)
        setting.clock.jump(-3600)
        setting.clock.advance(3600.0)
        await rest()
        assert await take(lease) == []
        setting.clock.advance(60.0)
        await rest()
        assert bodies(await take(lease)) == ["later"]
