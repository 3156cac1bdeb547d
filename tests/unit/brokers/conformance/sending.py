"""Putting messages into queues."""

from __future__ import annotations

import asyncio

import pytest

from agentq_nb._brokers.changes import Purge
from agentq_nb._brokers.messages import Enqueued
from agentq_nb._core.ids import mint_id
from agentq_nb.errors import IdempotencyConflict, QueueFull
from tests.unit.brokers.conformance.words import (
    ACTOR,
    OTHER,
    acquire,
    bodies,
    counts,
    drain,
    new_message,
    send,
    settle,
    status_of,
    take,
    take_one,
)
from tests.unit.brokers.settings import Setting


class Sending:
    async def test_an_offer_is_accepted_under_its_own_id_and_is_queued(self, setting: Setting) -> None:
        offer = new_message({"prompt": "é"})
        assert list(await setting.broker.enqueue([offer])) == [Enqueued(offer.id, repeated=False)]
        standing = await setting.broker.wait(offer.id, 0)
        assert (standing.status, standing.actor, standing.queue) == ("queued", ACTOR, "tasks")
        assert standing.attempts == 0

    async def test_a_body_comes_back_equal_with_the_time_of_its_sending(self, setting: Setting) -> None:
        body = {"text": 'a "quoted" \\ ünïcode 🎉\n', "list": [1, 2.5, None, True], "nested": {"": []}}
        await send(setting.broker, body)
        sent_at = setting.clock.time()
        setting.clock.advance(7)
        delivery = await take_one(await acquire(setting))
        assert bodies([delivery]) == [body]
        assert delivery.created_at == sent_at
        assert (delivery.queue, delivery.attempt, delivery.failures, delivery.crashes) == ("tasks", 1, 0, 0)

    async def test_nothing_is_offered_by_an_empty_list(self, setting: Setting) -> None:
        assert list(await setting.broker.enqueue([])) == []
        assert await counts(setting.broker) == {}

    async def test_many_offers_are_accepted_in_order(self, setting: Setting) -> None:
        offers = [new_message(number, actor=actor) for number in range(3) for actor in (ACTOR, OTHER)]
        accepted = await setting.broker.enqueue(offers)
        assert [one.id for one in accepted] == [offer.id for offer in offers]
        assert await drain(await acquire(setting)) == [0, 1, 2]
        assert await drain(await acquire(setting, OTHER)) == [0, 1, 2]

    async def test_an_offer_repeated_with_its_id_is_kept_once(self, setting: Setting) -> None:
        offer = new_message("once")
        await setting.broker.enqueue([offer])
        assert list(await setting.broker.enqueue([offer])) == [Enqueued(offer.id, repeated=True)]
        assert list(await setting.broker.enqueue([offer, offer])) == [Enqueued(offer.id, repeated=True)] * 2
        assert await drain(await acquire(setting)) == ["once"]

    async def test_an_offer_given_twice_in_one_call_is_kept_once(self, setting: Setting) -> None:
        offer = new_message("once")
        accepted = await setting.broker.enqueue([offer, offer])
        assert [one.repeated for one in accepted] == [False, True]
        assert await drain(await acquire(setting)) == ["once"]

    async def test_an_offer_repeated_while_it_runs_or_after_it_was_settled_is_not_handed_out_again(
        self, setting: Setting
    ) -> None:
        offer = new_message()
        await setting.broker.enqueue([offer])
        lease = await acquire(setting)
        delivery = await take_one(lease)
        assert (await setting.broker.enqueue([offer]))[0].repeated
        assert await take(lease) == []
        await settle(lease, delivery)
        assert (await setting.broker.enqueue([offer]))[0].repeated
        assert await take(lease) == []
        assert await status_of(setting.broker, offer.id) == "completed"

    # --- capacity -----------------------------------------------------------------------------------------------------

    async def test_a_full_queue_refuses_and_nothing_of_the_call_is_written(self, setting: Setting) -> None:
        for number in range(3):
            await send(setting.broker, number, max_size=4)
        with pytest.raises(QueueFull) as refused:
            await setting.broker.enqueue([new_message(number, max_size=4) for number in (3, 4)])
        assert refused.value.full_code == "queue.full"
        assert await drain(await acquire(setting)) == [0, 1, 2]

    async def test_what_is_refused_in_one_queue_is_not_written_in_another(self, setting: Setting) -> None:
        await send(setting.broker, "there", max_size=1)
        with pytest.raises(QueueFull):
            await setting.broker.enqueue([new_message("elsewhere", actor=OTHER), new_message("too much", max_size=1)])
        assert await counts(setting.broker) == {(ACTOR, "tasks"): {"ready": 1}}

    async def test_what_is_refused_takes_neither_room_nor_keys(self, setting: Setting) -> None:
        offers = [new_message(1, max_size=1, idempotency_key="k"), new_message(2, max_size=1)]
        with pytest.raises(QueueFull):
            await setting.broker.enqueue(offers)
        assert await send(setting.broker, "another", max_size=1, idempotency_key="k") not in [o.id for o in offers]
        assert await drain(await acquire(setting)) == ["another"]

    async def test_capacity_counts_running_and_delayed_messages_but_neither_settled_nor_dead_ones(
        self, setting: Setting
    ) -> None:
        lease = await acquire(setting)
        await send(setting.broker, "runs", max_size=2)
        await send(setting.broker, "later", max_size=2, delay=60)
        running = await take_one(lease)
        with pytest.raises(QueueFull):
            await send(setting.broker, max_size=2)
        await settle(lease, running, "dead", error={"message": "no"})
        await send(setting.broker, "fits", max_size=2)
        assert await counts(setting.broker) == {(ACTOR, "tasks"): {"ready": 1, "delayed": 1, "dead": 1}}

    async def test_a_repeated_offer_is_no_message_more(self, setting: Setting) -> None:
        offer = new_message(max_size=1, idempotency_key="k")
        await setting.broker.enqueue([offer])
        assert (await setting.broker.enqueue([offer]))[0].repeated
        assert (await setting.broker.enqueue([new_message(max_size=1, idempotency_key="k")]))[0].id == offer.id

    async def test_each_queue_of_each_actor_has_a_capacity_of_its_own(self, setting: Setting) -> None:
        for queue, actor in (("tasks", ACTOR), ("other", ACTOR), ("tasks", OTHER)):
            await send(setting.broker, queue=queue, actor=actor, max_size=1)
        assert len(await counts(setting.broker)) == 3

    # --- idempotency keys ---------------------------------------------------------------------------------------------

    async def test_a_key_names_its_message_while_it_is_queued_running_or_completed(self, setting: Setting) -> None:
        first = await send(setting.broker, {"a": 1, "b": 2}, idempotency_key="k")
        lease = await acquire(setting)

        async def repeated() -> Enqueued:
            return (await setting.broker.enqueue([new_message({"b": 2, "a": 1}, idempotency_key="k")]))[0]

        assert await repeated() == Enqueued(first, repeated=True)
        delivery = await take_one(lease)
        assert await repeated() == Enqueued(first, repeated=True)
        await settle(lease, delivery)
        assert await repeated() == Enqueued(first, repeated=True)
        assert await take(lease) == []

    @pytest.mark.parametrize("settled", [False, True])
    async def test_a_key_with_another_body_conflicts_and_nothing_is_written(
        self, setting: Setting, settled: bool
    ) -> None:
        first = await send(setting.broker, "one", idempotency_key="k")
        if settled:
            lease = await acquire(setting)
            await settle(lease, await take_one(lease))
            await lease.release()
        with pytest.raises(IdempotencyConflict) as refused:
            await setting.broker.enqueue([new_message("beside"), new_message("two", idempotency_key="k")])
        assert refused.value.metadata["message_id"] == first
        assert await drain(await acquire(setting)) == ([] if settled else ["one"])

    async def test_two_offers_of_one_call_with_one_key_are_one_message(self, setting: Setting) -> None:
        accepted = await setting.broker.enqueue([new_message("x", idempotency_key="k") for _ in range(2)])
        assert accepted[0].id == accepted[1].id
        assert [one.repeated for one in accepted] == [False, True]
        with pytest.raises(IdempotencyConflict):
            await setting.broker.enqueue([new_message(body, idempotency_key="l") for body in (1, 2)])
        assert await drain(await acquire(setting)) == ["x"]

    @pytest.mark.parametrize("outcome", ["failed", "dead", "cancelled"])
    async def test_a_message_that_failed_or_was_cancelled_frees_its_key(self, setting: Setting, outcome: str) -> None:
        first = await send(setting.broker, "one", idempotency_key="k")
        lease = await acquire(setting)
        if outcome == "cancelled":
            await setting.broker.change(ACTOR, Purge("tasks"))
        else:
            await settle(lease, await take_one(lease), outcome, error={"message": "no"})  # type: ignore[arg-type]
        second = await send(setting.broker, "two", idempotency_key="k")
        assert second != first
        assert await send(setting.broker, "two", idempotency_key="k") == second
        assert await drain(lease) == ["two"]

    async def test_a_key_belongs_to_one_queue_of_one_actor(self, setting: Setting) -> None:
        places = [("tasks", ACTOR), ("other", ACTOR), ("tasks", OTHER)]
        sent = [await send(setting.broker, n, *place, idempotency_key="k") for n, place in enumerate(places)]
        assert len(set(sent)) == 3

    async def test_an_attempt_that_comes_again_keeps_its_key(self, setting: Setting) -> None:
        first = await send(setting.broker, idempotency_key="k")
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), "again", delay=5.0)
        assert await send(setting.broker, idempotency_key="k") == first

    async def test_concurrent_offers_with_one_key_are_one_message(self, setting: Setting) -> None:
        sent = await asyncio.gather(*(send(setting.broker, "x", idempotency_key="k") for _ in range(10)))
        assert len(set(sent)) == 1
        assert await drain(await acquire(setting)) == ["x"]

    # --- order --------------------------------------------------------------------------------------------------------

    async def test_a_delayed_message_waits_until_it_is_due(self, setting: Setting) -> None:
        late = await send(setting.broker, "late", delay=10.0)
        await send(setting.broker, "now")
        lease = await acquire(setting)
        assert await status_of(setting.broker, late) == "delayed"
        assert await drain(lease) == ["now"]
        setting.clock.advance(9.5)
        assert await take(lease) == []
        setting.clock.advance(0.5)
        assert await status_of(setting.broker, late) == "queued"
        assert await drain(lease) == ["late"]

    async def test_a_message_that_falls_due_takes_the_place_of_its_sending(self, setting: Setting) -> None:
        await send(setting.broker, "first", delay=10.0)
        await send(setting.broker, "second")
        setting.clock.advance(10)
        assert await drain(await acquire(setting)) == ["first", "second"]

    async def test_higher_priority_comes_first_and_equal_priority_in_order_of_sending(self, setting: Setting) -> None:
        for body, priority in (("a", 0), ("b", 5), ("c", -1), ("d", 5), ("e", 0)):
            await send(setting.broker, body, priority=priority)
        assert await drain(await acquire(setting)) == ["b", "d", "a", "e", "c"]

    async def test_an_unknown_actor_is_no_obstacle(self, setting: Setting) -> None:
        """Work for a class that is not defined yet waits."""
        message = await send(setting.broker, actor="nobody/knows/me", id=mint_id())
        assert await status_of(setting.broker, message) == "queued"
