"""Messages sent after others that cannot complete: they are cancelled, and come back with them."""

from __future__ import annotations

import asyncio

import pytest

from agentq_nb._brokers.changes import Cancel, Change, DeadLetters, Pause, Purge, Redeliver, Resume
from agentq_nb._brokers.messages import Commit
from agentq_nb._core.ids import mint_id
from agentq_nb.errors import PredecessorFailed, PredecessorUnknown, ValidationFailed
from tests.unit.brokers.conformance.chains import ended, fail, statuses
from tests.unit.brokers.conformance.words import (
    ACTOR,
    OTHER,
    acquire,
    counts,
    drain,
    new_message,
    rest,
    send,
    settle,
    soon,
    status_of,
    take_one,
)
from tests.unit.brokers.settings import Setting


class ChainEnds:
    async def test_it_is_cancelled_with_the_reason_when_one_fails(self, setting: Setting) -> None:
        first, other = await send(setting.broker, "first"), await send(setting.broker, "other", queue="b")
        second = await send(setting.broker, after=[other, first])
        third = await send(setting.broker, after=[second])
        await fail(await acquire(setting), ["tasks"])
        for message in (second, third):
            result = await soon(setting.broker.wait(message, None))
            assert result.status == "cancelled"
            assert result.error is not None
            assert (result.error["group"], result.error["code"]) == ("queue", "predecessor_failed")
        assert await counts(setting.broker) == {(ACTOR, "tasks"): {"dead": 1}, (ACTOR, "b"): {"ready": 1}}

    async def test_it_is_cancelled_once_when_several_end_at_the_same_time(self, setting: Setting) -> None:
        before = [await send(setting.broker, number, queue="a") for number in range(3)]
        dependents = [await send(setting.broker, actor=OTHER, after=before) for _ in range(2)]
        assert await setting.broker.change(ACTOR, Purge("a")) == 3
        for message in dependents:
            assert (await soon(setting.broker.wait(message, None))).status == "cancelled"
        assert await send(setting.broker, "next", actor=OTHER)
        assert await drain(await acquire(setting, OTHER)) == ["next"]

    async def test_an_attempt_that_is_repeated_cancels_nothing(self, setting: Setting) -> None:
        first = await send(setting.broker, "first")
        second = await send(setting.broker, "second", after=[first])
        lease = await acquire(setting)
        for outcome in ("again", "released"):
            await settle(lease, await take_one(lease), outcome, error={"message": "no"})
            assert await statuses(setting, second) == ["blocked"]
        await settle(lease, await take_one(lease))
        await rest()
        assert await drain(lease) == ["second"]

    @pytest.mark.parametrize("change", [Cancel, lambda _: Purge("a")])
    async def test_it_is_cancelled_when_one_is_cancelled_or_purged(
        self, setting: Setting, change: type[Cancel]
    ) -> None:
        first = await send(setting.broker, queue="a")
        second = await send(setting.broker, actor=OTHER, after=[first])
        done: Change = change(first)
        assert await setting.broker.change(ACTOR, done) == 1
        assert await ended(setting, second) == "cancelled"

    async def test_it_is_cancelled_when_one_expires(self, setting: Setting) -> None:
        first = await send(setting.broker, ttl=10.0)
        second = await send(setting.broker, after=[first])
        setting.clock.advance(10)
        assert await ended(setting, second) == "cancelled"

    async def test_it_is_cancelled_when_the_actor_of_one_is_destroyed(self, setting: Setting) -> None:
        first = await send(setting.broker)
        second = await send(setting.broker, actor=OTHER, after=[first])
        lease = await acquire(setting)
        await lease.commit(Commit(state=b"{}"))
        await lease.commit(Commit(destroy=True))
        assert await ended(setting, second) == "cancelled"

    async def test_after_what_has_failed_nothing_is_sent(self, setting: Setting) -> None:
        first = await send(setting.broker)
        await fail(await acquire(setting))
        await setting.reopen()
        with pytest.raises(PredecessorFailed):
            await setting.broker.enqueue([new_message(), new_message(after=[first])])
        assert await counts(setting.broker) == {(ACTOR, "tasks"): {"dead": 1}}

    async def test_after_what_is_not_known_nothing_is_sent(self, setting: Setting) -> None:
        with pytest.raises(PredecessorUnknown):
            await send(setting.broker, after=[mint_id()])
        assert await counts(setting.broker) == {}

    async def test_messages_of_one_send_cannot_wait_for_each_other(self, setting: Setting) -> None:
        one, two = new_message(), new_message()
        for after in (one, two):
            with pytest.raises(ValidationFailed):
                await setting.broker.enqueue([one, two._replace(options={"after": [after.id]})])
        assert await counts(setting.broker) == {}

    async def test_a_repeated_send_finds_its_message_whatever_has_become_of_the_others(self, setting: Setting) -> None:
        first = await send(setting.broker)
        second = new_message(after=[first])
        await setting.broker.enqueue([second])
        await fail(await acquire(setting))
        await rest()
        (repeated,) = await setting.broker.enqueue([second])
        assert repeated == (second.id, True)
        await setting.reopen()
        (repeated,) = await setting.broker.enqueue([second])
        assert repeated == (second.id, True)

    # --- changes ------------------------------------------------------------------------------------------------------

    async def test_a_message_that_waits_for_others_is_cancelled_and_purged(self, setting: Setting) -> None:
        first = await send(setting.broker, "first", queue="a")
        cancelled, purged = [await send(setting.broker, after=[first]) for _ in range(2)]
        assert await setting.broker.change(ACTOR, Cancel(cancelled)) == 1
        assert await setting.broker.change(ACTOR, Purge("tasks")) == 1
        assert await statuses(setting, first, cancelled, purged) == ["queued", "cancelled", "cancelled"]
        assert await drain(await acquire(setting)) == ["first"]
        assert await counts(setting.broker) == {}

    async def test_redelivering_the_first_brings_the_others_back(self, setting: Setting) -> None:
        first = await send(setting.broker, "first")
        second = await send(setting.broker, "second", after=[first], delay=60.0)
        third = await send(setting.broker, "third", after=[second])
        by_hand = await send(setting.broker, "by hand", after=[first])
        await setting.broker.change(ACTOR, Cancel(by_hand))
        lease = await acquire(setting)
        await fail(lease)
        assert await ended(setting, third) == "cancelled"
        assert await setting.broker.change(ACTOR, Redeliver(first)) == 1
        assert await statuses(setting, first, second, third, by_hand) == ["queued", "blocked", "blocked", "cancelled"]
        assert await drain(lease) == ["first"]
        assert await statuses(setting, second, third) == ["delayed", "blocked"]
        setting.clock.advance(60)
        await settle(lease, await take_one(lease))
        await rest()
        assert await drain(lease) == ["third"]

    async def test_redelivering_many_brings_back_what_waits_for_all_of_them(self, setting: Setting) -> None:
        first, second = [await send(setting.broker, n, queue="a") for n in range(2)]
        last = await send(setting.broker, after=[first, second])
        lease = await acquire(setting)
        await fail(lease)
        await fail(lease)
        assert await ended(setting, last) == "cancelled"
        assert await setting.broker.change(ACTOR, Redeliver(second)) == 1
        assert await statuses(setting, last) == ["cancelled"]  # the first one has still failed
        await fail(lease)
        assert await setting.broker.redeliver(DeadLetters(ACTOR)) == 2
        assert await statuses(setting, last) == ["blocked"]
        await drain(lease, ["a"])
        assert await statuses(setting, last) == ["queued"]

    async def test_several_redeliveries_at_once_bring_everything_back_once(self, setting: Setting) -> None:
        first = await send(setting.broker, "first")
        second = await send(setting.broker, "second", after=[first])
        await fail(lease := await acquire(setting))
        assert await ended(setting, second) == "cancelled"
        moved = await asyncio.gather(*(setting.broker.change(ACTOR, Redeliver(first)) for _ in range(3)))
        assert sorted(moved) == [0, 0, 1]
        assert await statuses(setting, first, second) == ["queued", "blocked"]
        done = await drain(lease)
        await rest()
        assert [*done, *await drain(lease)] == ["first", "second"]

    async def test_redelivering_what_has_expired_counts_it_no_more(self, setting: Setting) -> None:
        first = await send(setting.broker, ttl=10.0)
        second = await send(setting.broker, after=[first])
        setting.clock.advance(10)
        assert await ended(setting, second) == "cancelled"
        (before,) = await setting.broker.status(ACTOR)
        assert await setting.broker.change(ACTOR, Redeliver(first)) == 1
        (after,) = await setting.broker.status(ACTOR)
        assert (before.expired, after.expired, after.live) == (1, 0, 2)

    async def test_it_cannot_be_redelivered_while_another_has_failed(self, setting: Setting) -> None:
        first = await send(setting.broker)
        second = await send(setting.broker, after=[first])
        await fail(await acquire(setting))
        assert await ended(setting, second) == "cancelled"
        with pytest.raises(PredecessorFailed):
            await setting.broker.change(ACTOR, Redeliver(second))
        assert await counts(setting.broker) == {(ACTOR, "tasks"): {"dead": 1}}

    async def test_one_that_was_cancelled_by_hand_waits_again_once_redelivered(self, setting: Setting) -> None:
        first = await send(setting.broker, "first")
        second = await send(setting.broker, "second", after=[first], delay=60.0)
        await setting.broker.change(ACTOR, Cancel(second))
        assert await setting.broker.change(ACTOR, Redeliver(second)) == 1
        assert await status_of(setting.broker, second) == "blocked"
        lease = await acquire(setting)
        await settle(lease, await take_one(lease))
        await rest()
        assert await drain(lease) == ["second"]  # redelivering ends a delay

    async def test_a_pause_holds_what_is_due_back(self, setting: Setting) -> None:
        first = await send(setting.broker, "first", queue="a")
        await send(setting.broker, "second", after=[first])
        await setting.broker.change(ACTOR, Pause("tasks"))
        lease = await acquire(setting)
        assert await drain(lease) == ["first"]
        await rest()
        assert await drain(lease) == []
        await setting.broker.change(ACTOR, Resume("tasks"))
        assert await drain(lease) == ["second"]
