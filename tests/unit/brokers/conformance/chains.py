"""Messages sent after others: due when those have completed, cancelled when one cannot any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from agentq_nb._brokers.base import Lease
from agentq_nb._brokers.changes import Redeliver
from agentq_nb._brokers.messages import Delivery, Take
from agentq_nb._core.ids import MessageId, mint_id
from agentq_nb._core.message_status import LIVE
from agentq_nb.errors import (
    IdempotencyConflict,
    PredecessorUnknown,
    QueueFull,
)
from tests.unit.brokers.conformance.words import (
    ACTOR,
    OTHER,
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


async def fail(lease: Lease, queues: Sequence[str] | None = None) -> None:
    await settle(lease, await take_one(lease, queues), "dead", error={"message": "no", "type": "str"})


async def ended(setting: Setting, message: MessageId) -> str:
    """Its status once it is settled."""
    return (await soon(setting.broker.wait(message, None))).status


async def statuses(setting: Setting, *messages: MessageId) -> list[str]:
    await rest()
    return [await status_of(setting.broker, message) for message in messages]


class Chains:
    async def test_it_is_due_when_what_it_was_sent_after_has_completed(self, setting: Setting) -> None:
        first = await send(setting.broker, "first")
        second = await send(setting.broker, "second", after=[first], priority=9)
        assert await counts(setting.broker) == {(ACTOR, "tasks"): {"ready": 1, "blocked": 1}}
        lease = await acquire(setting)
        delivery = await take_one(lease)
        assert bodies([delivery]) == ["first"]
        assert await take(lease) == []
        await settle(lease, delivery, reply=b"7")
        await rest()
        (delivery,) = await take(lease)
        assert bodies([delivery]) == ["second"]
        assert [(one.message, one.status, one.reply) for one in delivery.after] == [(first, "completed", b"7")]
        assert await status_of(setting.broker, second) == "running"

    async def test_a_receiver_that_waits_gets_it(self, setting: Setting) -> None:
        first = await send(setting.broker, "first", queue="a", actor=OTHER)
        await send(setting.broker, "second", after=[first])
        lease, other = await acquire(setting), await acquire(setting, OTHER)
        waiting = asyncio.ensure_future(lease.turn(None, Take(None, 1, None)))
        await rest()
        assert not waiting.done()
        await settle(other, await take_one(other))
        assert bodies(await soon(waiting)) == ["second"]

    async def test_an_actor_that_nobody_runs_is_hinted_once_it_is_due(self, setting: Setting) -> None:
        first = await send(setting.broker, "first")
        await send(setting.broker, "second", actor=OTHER, after=[first])
        lease = await acquire(setting)
        hints = setting.broker.ready_actors({"worker": None})
        hint = asyncio.ensure_future(anext(hints))
        await rest()
        assert not hint.done()
        await settle(lease, await take_one(lease))
        assert await soon(hint) == OTHER

    async def test_it_says_what_it_waits_for_in_the_order_given(self, setting: Setting) -> None:
        first, second, third = [await send(setting.broker, n) for n in range(3)]
        last = await send(setting.broker, after=[third, first, second])
        standing = await setting.broker.wait(last, 0)
        assert (standing.status, list(standing.after), standing.due) == ("blocked", [third, first, second], None)
        lease = await acquire(setting)
        await settle(lease, await take_one(lease))
        await rest()
        assert list((await setting.broker.wait(last, 0)).after) == [third, second]

    async def test_the_results_come_in_the_order_given(self, setting: Setting) -> None:
        sent = [await send(setting.broker, n) for n in range(3)]
        given = [sent[2], sent[0], sent[1], sent[0]]
        await send(setting.broker, "last", after=given)
        lease = await acquire(setting)
        for _ in sent:
            delivery = await take_one(lease)
            await settle(lease, delivery, reply=delivery.body)
        await rest()
        delivery = await take_one(lease)
        assert [(one.message, one.reply) for one in delivery.after] == [
            (sent[2], b"2"),
            (sent[0], b"0"),
            (sent[1], b"1"),
            (sent[0], b"0"),
        ]

    async def test_large_replies_come_whole(self, setting: Setting) -> None:
        first = await send(setting.broker)
        await send(setting.broker, after=[first])
        lease = await acquire(setting)
        reply = json.dumps("r" * 200_000).encode()
        await settle(lease, await take_one(lease), reply=reply)
        await rest()
        for _ in range(2):
            delivery = await take_one(lease)
            assert [one.reply for one in delivery.after] == [reply]
            await settle(lease, delivery, "released")

    async def test_after_what_has_completed_it_is_due_at_once(self, setting: Setting) -> None:
        first = await send(setting.broker)
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), reply=b"1")
        await setting.reopen()
        await send(setting.broker, "second", after=[first])
        delivery = await take_one(await acquire(setting))
        assert [one.reply for one in delivery.after] == [b"1"]

    async def test_a_thousand_in_a_row(self, setting: Setting) -> None:
        last = await send(setting.broker, 0)
        for number in range(1, 1000):
            last = await send(setting.broker, number, after=[last])
        lease = await acquire(setting)
        seen: list[int] = []
        while len(seen) < 1000:
            (delivery,) = await soon(lease.turn(None, Take(None, 1, 5)))
            seen += bodies([delivery])
            await settle(lease, delivery)
        assert seen == list(range(1000))

    async def test_the_end_of_one_of_a_thousand_in_a_row_ends_those_behind_it(self, setting: Setting) -> None:
        chain = [await send(setting.broker, 0, queue="a")]
        for number in range(1, 1000):
            chain.append(await send(setting.broker, number, after=chain[-1:]))
        lease = await acquire(setting)
        await fail(lease)
        assert await ended(setting, chain[-1]) == "cancelled"
        assert await counts(setting.broker) == {(ACTOR, "a"): {"dead": 1}}
        assert await setting.broker.change(ACTOR, Redeliver(chain[0])) == 1
        assert await counts(setting.broker) == {(ACTOR, "a"): {"ready": 1}, (ACTOR, "tasks"): {"blocked": 999}}

    async def test_a_fan_and_what_joins_it(self, setting: Setting) -> None:
        root = await send(setting.broker, "root")
        fan = await setting.broker.enqueue([new_message(n, after=[root]) for n in range(30)])
        await send(setting.broker, "join", after=[one.id for one in fan])
        lease = await acquire(setting)
        taken: list[Delivery] = []
        while len(taken) < 32:
            taken += await soon(lease.turn(None, Take(None, 1, 5)))
            await settle(lease, taken[-1], reply=taken[-1].body)
        assert bodies(taken) == ["root", *range(30), "join"]
        assert [json.loads(one.reply or b"") for one in taken[-1].after] == list(range(30))

    # --- times --------------------------------------------------------------------------------------------------------

    async def test_its_delay_and_its_ttl_begin_when_the_others_have_completed(self, setting: Setting) -> None:
        first = await send(setting.broker, "first")
        second = await send(setting.broker, "second", after=[first], delay=60.0, ttl=10.0)
        setting.clock.advance(1000)
        assert await status_of(setting.broker, second) == "blocked"
        lease = await acquire(setting)
        await settle(lease, await take_one(lease))
        await rest()
        standing = await setting.broker.wait(second, 0)
        assert standing.status == "delayed"
        setting.clock.advance(69)
        assert await status_of(setting.broker, second) == "queued"
        setting.clock.advance(1)
        assert await ended(setting, second) == "expired"

    @survives
    async def test_the_time_in_which_no_host_runs_counts_once_they_have_completed(
        self, setting: Setting, how: str
    ) -> None:
        first = await send(setting.broker, "first")
        delayed = await send(setting.broker, "delayed", after=[first], delay=60.0)
        late = await send(setting.broker, "late", after=[first], ttl=10.0)
        lease = await acquire(setting)
        await settle(lease, await take_one(lease))
        await rest()
        setting.clock.jump(20)
        await restart(setting, how)
        assert await statuses(setting, delayed, late) == ["delayed", "expired"]
        setting.clock.advance(40)
        assert await status_of(setting.broker, delayed) == "queued"

    @survives
    async def test_no_time_counts_before(self, setting: Setting, how: str) -> None:
        first = await send(setting.broker, "first")
        late = await send(setting.broker, "late", after=[first], ttl=10.0)
        setting.clock.advance(1000)
        await restart(setting, how)
        assert await status_of(setting.broker, late) == "blocked"
        lease = await acquire(setting)
        await settle(lease, await take_one(lease))
        await rest()
        setting.clock.advance(9)
        assert await status_of(setting.broker, late) == "queued"
        setting.clock.advance(1)
        assert await ended(setting, late) == "expired"

    # --- room and keys ------------------------------------------------------------------------------------------------

    async def test_it_takes_room_while_it_waits(self, setting: Setting) -> None:
        first = await send(setting.broker, queue="a")
        await send(setting.broker, after=[first], max_size=1)
        with pytest.raises(QueueFull):
            await send(setting.broker, max_size=1)

    async def test_a_key_names_one_message_after_the_same_others(self, setting: Setting) -> None:
        first, other = await send(setting.broker, queue="a"), await send(setting.broker, queue="b")
        message = await send(setting.broker, after=[first], idempotency_key="k")
        assert await send(setting.broker, after=[first], idempotency_key="k") == message
        for after in ([other], [first, other], None):
            with pytest.raises(IdempotencyConflict):
                await send(setting.broker, after=after, idempotency_key="k")
        await drain(lease := await acquire(setting))
        await rest()
        await drain(lease)
        await setting.reopen()
        assert await send(setting.broker, after=[first], idempotency_key="k") == message
        with pytest.raises(IdempotencyConflict):
            await send(setting.broker, idempotency_key="k")

    # --- pruning ------------------------------------------------------------------------------------------------------

    @survives
    async def test_pruning_leaves_what_an_unsettled_one_needs(self, setting: Setting, how: str) -> None:
        done, still = await send(setting.broker), await send(setting.broker, queue="a")
        message = await send(setting.broker, "needs it", after=[done, still])
        lease = await acquire(setting)
        await settle(lease, await take_one(lease, ["tasks"]), reply=b"5")
        setting.clock.advance(10)
        await setting.prune()
        await restart(setting, how)
        lease = await acquire(setting)
        await settle(lease, await take_one(lease, ["a"]))
        await rest()
        delivery = await take_one(lease)
        assert [one.reply for one in delivery.after] == [b"5", None]
        await settle(lease, delivery)
        assert await ended(setting, message) == "completed"
        setting.clock.advance(10)
        await setting.prune()
        await setting.reopen()
        with pytest.raises(PredecessorUnknown):
            await send(setting.broker, after=[done])

    async def test_pruning_leaves_what_a_dead_letter_needs_when_it_is_redelivered(self, setting: Setting) -> None:
        first = await send(setting.broker)
        second = await send(setting.broker, after=[first])
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), reply=b"5")
        await rest()
        await fail(lease)
        setting.clock.advance(10)
        await setting.prune()
        await setting.reopen()
        assert await setting.broker.change(ACTOR, Redeliver(second)) == 1
        delivery = await take_one(await acquire(setting))
        assert [one.reply for one in delivery.after] == [b"5"]

    # --- restarts -----------------------------------------------------------------------------------------------------

    @survives
    async def test_a_restart_changes_nothing_for_those_that_wait(self, setting: Setting, how: str) -> None:
        first = await send(setting.broker, "first")
        second = await send(setting.broker, "second", after=[first])
        await send(setting.broker, "third", after=[second])
        await restart(setting, how)
        assert await counts(setting.broker) == {(ACTOR, "tasks"): {"ready": 1, "blocked": 2}}
        lease = await acquire(setting)
        delivery = await take_one(lease)
        await settle(lease, delivery, reply=b"1")
        await restart(setting, how)
        lease = await acquire(setting)
        delivery = await take_one(lease)
        assert bodies([delivery]) == ["second"]
        assert [one.reply for one in delivery.after] == [b"1"]
        await settle(lease, delivery, "dead", error={"message": "no", "type": "str"})
        await rest()
        await restart(setting, how)
        assert await counts(setting.broker) == {(ACTOR, "tasks"): {"dead": 1}}

    @survives
    async def test_a_cancellation_and_its_reason_are_kept(self, setting: Setting, how: str) -> None:
        first = await send(setting.broker)
        second = await send(setting.broker, after=[first])
        await fail(await acquire(setting))
        assert await ended(setting, second) == "cancelled"
        await restart(setting, how)
        result = await setting.broker.wait(second, 0)
        assert result.status == "cancelled"
        assert result.error is not None
        assert result.error["code"] == "predecessor_failed"
        await setting.broker.change(ACTOR, Redeliver(first))
        assert await statuses(setting, second) == ["blocked"]
        await restart(setting, how)
        assert await statuses(setting, second) == ["blocked"]

    async def test_what_unsettled_messages_wait_for_is_known(self, setting: Setting) -> None:
        first, other = await send(setting.broker, queue="a"), await send(setting.broker, queue="b", actor=OTHER)
        second = await send(setting.broker, after=[first])
        last = await send(setting.broker, after=[second, other])
        found = await setting.broker.unsettled_before([last])
        assert {(one.message, one.actor, one.queue) for one in found} == {
            (first, ACTOR, "a"),
            (other, OTHER, "b"),
            (second, ACTOR, "tasks"),
            (last, ACTOR, "tasks"),
        }
        assert {one.message for one in await setting.broker.unsettled_before([second, mint_id()])} == {first, second}
        assert await status_of(setting.broker, last) in LIVE
