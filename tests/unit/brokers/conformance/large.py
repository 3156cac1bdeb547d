"""Messages that are too large to be kept in memory are messages like any other."""

from __future__ import annotations

from typing import Any

import pytest

from agentq_nb._brokers.changes import Cancel, Purge, Redeliver
from agentq_nb._brokers.messages import Commit, Settlement, Take
from agentq_nb.errors import IdempotencyConflict
from tests.unit.brokers.conformance.restarting import restart, survives
from tests.unit.brokers.conformance.words import (
    ACTOR,
    acquire,
    bodies,
    counts,
    drain,
    new_message,
    send,
    settle,
    soon,
    status_of,
    take,
    take_one,
)
from tests.unit.brokers.settings import Setting


def large(name: Any) -> Any:
    """A body of some 100 kB that is told from others by its name."""
    return {"text": 'é "quoted" \\ 🎉\n' * 5000, "name": name, "numbers": [2**70, 0.1, -0.0, 1e22, 5e-324, None]}


def names(received: list[Any]) -> list[Any]:
    """What was received, by name, each large one being whole."""
    assert all(body == large(body["name"]) for body in received if isinstance(body, dict))
    return [body["name"] if isinstance(body, dict) else body for body in received]


class Large:
    async def test_large_messages_keep_their_places_among_small_ones(self, setting: Setting) -> None:
        for body, priority in (("a", 0), (large("b"), 0), (large("urgent"), 1), ("c", 0), (large("d"), 0)):
            await send(setting.broker, body, priority=priority)
        assert names(await drain(await acquire(setting))) == ["urgent", "a", "b", "c", "d"]

    async def test_large_and_small_messages_come_in_one_batch(self, setting: Setting) -> None:
        await setting.broker.enqueue([new_message(body) for body in (large(1), 2, large(3), 4)])
        lease = await acquire(setting)
        assert names(bodies(await take(lease, 3))) == [1, 2, 3]
        assert names(bodies(await take(lease, 3))) == [4]

    @survives
    async def test_large_messages_survive_with_their_order_and_delay(self, setting: Setting, how: str) -> None:
        await send(setting.broker, large("later"), delay=20.0)
        for body, priority in ((large("a"), 0), ("b", 0), (large("urgent"), 3), (large("c"), 0)):
            await send(setting.broker, body, priority=priority)
        await restart(setting, how)
        lease = await acquire(setting)
        assert names(await drain(lease)) == ["urgent", "a", "b", "c"]
        setting.clock.advance(20)
        assert names(await drain(lease)) == ["later"]

    @survives
    async def test_a_large_message_in_flight_comes_again_first(self, setting: Setting, how: str) -> None:
        await setting.broker.enqueue([new_message(large(1)), new_message(2), new_message(large(3))])
        await take_one(await acquire(setting))
        await restart(setting, how)
        delivery = await take_one(lease := await acquire(setting))
        assert names(bodies([delivery])) == [1]
        assert delivery.attempt == (2 if how == "crashed" else 1)
        await settle(lease, delivery)
        assert names(await drain(lease)) == [2, 3]

    @pytest.mark.parametrize("front", [False, True])
    async def test_a_large_message_is_tried_again_whole(self, setting: Setting, front: bool) -> None:
        await setting.broker.enqueue([new_message(large(1)), new_message(large(2))])
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), "again", delay=5.0, front=front)
        setting.clock.advance(5)
        delivery = await take_one(lease)
        assert (names(bodies([delivery])), delivery.attempt, delivery.failures) == ([1], 2, 1)
        await settle(lease, delivery, "released")
        assert names(await drain(lease)) == [1, 2]

    async def test_a_turn_settles_a_large_message_and_takes_the_next(self, setting: Setting) -> None:
        first, second = [await send(setting.broker, large(number)) for number in (1, 2)]
        lease = await acquire(setting)
        done = Commit([Settlement(await take_one(lease), "completed")])
        (delivery,) = await lease.turn(done, Take(None, timeout=0))
        assert (delivery.id, names(bodies([delivery]))) == (second, [2])
        assert (await soon(setting.broker.wait(first, None))).status == "completed"

    async def test_a_released_lease_puts_large_messages_back(self, setting: Setting) -> None:
        await setting.broker.enqueue([new_message(large(1)), new_message(large(2))])
        lease = await acquire(setting)
        await take_one(lease)
        await lease.release()
        assert names(await drain(await acquire(setting))) == [1, 2]

    @survives
    async def test_a_dead_letter_that_is_large_can_be_given_back(self, setting: Setting, how: str) -> None:
        message = await send(setting.broker, large("again"))
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), "dead", error={"message": "no"})
        assert await counts(setting.broker) == {(ACTOR, "tasks"): {"dead": 1}}
        assert await setting.broker.change(ACTOR, Redeliver(message)) == 1
        await restart(setting, how)
        assert names(await drain(await acquire(setting))) == ["again"]

    async def test_large_messages_are_cancelled_and_purged(self, setting: Setting) -> None:
        cancelled, purged = [await send(setting.broker, large(number)) for number in (1, 2)]
        assert await setting.broker.change(ACTOR, Cancel(cancelled)) == 1
        assert await setting.broker.change(ACTOR, Purge("tasks")) == 1
        assert [await status_of(setting.broker, message) for message in (cancelled, purged)] == ["cancelled"] * 2
        assert await drain(await acquire(setting)) == []

    @survives
    @pytest.mark.parametrize("state", ["waiting", "running", "completed"])
    async def test_a_key_tells_equal_large_bodies_from_others(self, setting: Setting, how: str, state: str) -> None:
        message = await send(setting.broker, large("same"), idempotency_key="k")
        if state != "waiting":
            lease = await acquire(setting)
            delivery = await take_one(lease)
            if state == "completed":
                await settle(lease, delivery)
        for _ in range(2):
            assert await send(setting.broker, large("same"), idempotency_key="k") == message
            with pytest.raises(IdempotencyConflict):
                await send(setting.broker, large("another"), idempotency_key="k")
            await restart(setting, how)
        assert names(await drain(await acquire(setting))) == ([] if state == "completed" else ["same"])
