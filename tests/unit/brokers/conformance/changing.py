"""Cancelling, redelivering, purging; and how queues stand."""

from __future__ import annotations

import asyncio

import pytest

from agentq_nb._brokers.changes import Cancel, DeadLetters, Purge, Redeliver
from agentq_nb._brokers.messages import Commit, Outcome, Settlement, Take
from agentq_nb._core.ids import mint_id
from agentq_nb.errors import MessageUnknown
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
    until,
)
from tests.unit.brokers.settings import Setting
from tests.unit.fake_clock import START


class Changing:
    @pytest.mark.parametrize("delay", [None, 60.0])
    async def test_a_message_that_waits_is_cancelled_at_once(self, setting: Setting, delay: float | None) -> None:
        message = await send(setting.broker, delay=delay)
        assert await setting.broker.change(ACTOR, Cancel(message)) == 1
        assert await status_of(setting.broker, message) == "cancelled"
        assert await setting.broker.change(ACTOR, Cancel(message)) == 0
        setting.clock.advance(60)
        assert await take(await acquire(setting)) == []
        assert await counts(setting.broker) == {}

    async def test_cancelling_what_is_settled_does_nothing(self, setting: Setting) -> None:
        message = await send(setting.broker)
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), reply=b"1")
        assert await setting.broker.change(ACTOR, Cancel(message)) == 0
        assert await status_of(setting.broker, message) == "completed"

    async def test_changes_of_an_unknown_message_say_so(self, setting: Setting) -> None:
        for change in (Cancel(mint_id()), Redeliver(mint_id())):
            with pytest.raises(MessageUnknown):
                await setting.broker.change(ACTOR, change)

    @pytest.mark.parametrize("outcome", ["released", "again"])
    async def test_a_running_message_is_cancelled_once_its_handler_was_stopped(
        self, setting: Setting, outcome: Outcome
    ) -> None:
        message = await send(setting.broker)
        lease = await acquire(setting)
        told: list[str] = []
        lease.cancelling = told.append
        delivery = await take_one(lease)
        assert await setting.broker.change(ACTOR, Cancel(message)) == 1
        await until(lambda: bool(told))
        assert told[0] == message
        assert await status_of(setting.broker, message) == "running"
        await settle(lease, delivery, outcome, error={"message": "stopped"}, front=True)
        assert await status_of(setting.broker, message) == "cancelled"
        assert await take(lease) == []

    async def test_a_handler_that_completes_before_it_is_stopped_has_completed(self, setting: Setting) -> None:
        message = await send(setting.broker)
        lease = await acquire(setting)
        delivery = await take_one(lease)
        await setting.broker.change(ACTOR, Cancel(message))
        await settle(lease, delivery, reply=b"1")
        assert await status_of(setting.broker, message) == "completed"

    async def test_releasing_the_actor_settles_what_was_to_be_cancelled(self, setting: Setting) -> None:
        message = await send(setting.broker)
        lease = await acquire(setting)
        await take_one(lease)
        await setting.broker.change(ACTOR, Cancel(message))
        await lease.release()
        assert (await soon(setting.broker.wait(message, None))).status == "cancelled"
        assert await take(await acquire(setting)) == []

    async def test_cancelling_what_waits_in_order_lets_the_others_go(self, setting: Setting) -> None:
        first, _ = [await send(setting.broker, body) for body in ("fails", "next")]
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), "again", delay=60.0, front=True, in_order=True)
        waiting = asyncio.ensure_future(lease.turn(None, Take(None)))
        await rest()
        assert not waiting.done()
        await setting.broker.change(ACTOR, Cancel(first))
        assert bodies(await soon(waiting)) == ["next"]

    # --- redelivering -------------------------------------------------------------------------------------------------

    async def test_a_dead_letter_is_redelivered_with_its_attempts_counted_anew(self, setting: Setting) -> None:
        message = await send(setting.broker, "body", priority=3)
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), "again")
        await settle(lease, await take_one(lease), "dead", error={"message": "no"})
        assert await setting.broker.change(ACTOR, Redeliver(message)) == 1
        assert await counts(setting.broker) == {(ACTOR, "tasks"): {"ready": 1}}
        standing = await setting.broker.wait(message, 0)
        assert (standing.status, standing.error, standing.attempts) == ("queued", None, 0)
        again = await take_one(lease)
        assert (again.id, bodies([again]), again.attempt) == (message, ["body"], 1)
        await settle(lease, again, reply=b"1")
        result = await setting.broker.wait(message, 0)
        assert (result.status, result.reply, result.error) == ("completed", b"1", None)

    async def test_a_cancelled_message_is_redelivered(self, setting: Setting) -> None:
        message = await send(setting.broker, "body")
        await setting.broker.change(ACTOR, Cancel(message))
        assert await setting.broker.change(ACTOR, Redeliver(message)) == 1
        assert await drain(await acquire(setting)) == ["body"]

    async def test_a_message_cancelled_while_it_ran_is_not_cancelled_again_when_it_is_redelivered(
        self, setting: Setting
    ) -> None:
        message = await send(setting.broker, "body")
        lease = await acquire(setting)
        delivery = await take_one(lease)
        await setting.broker.change(ACTOR, Cancel(message))
        await settle(lease, delivery, "released", front=True)
        await setting.broker.change(ACTOR, Redeliver(message))
        await settle(lease, await take_one(lease), "released", front=True)
        assert await drain(lease) == ["body"]

    async def test_what_is_live_or_completed_is_not_redelivered(self, setting: Setting) -> None:
        message = await send(setting.broker)
        assert await setting.broker.change(ACTOR, Redeliver(message)) == 0
        lease = await acquire(setting)
        delivery = await take_one(lease)
        assert await setting.broker.change(ACTOR, Redeliver(message)) == 0
        await settle(lease, delivery)
        assert await setting.broker.change(ACTOR, Redeliver(message)) == 0
        assert await take(lease) == []

    async def test_a_redelivered_message_goes_behind_what_was_sent_before(self, setting: Setting) -> None:
        dead = await send(setting.broker, "dead")
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), "dead", error={"message": "no"})
        await setting.broker.enqueue([new_message("a"), new_message("b")])
        await setting.broker.change(ACTOR, Redeliver(dead))
        await send(setting.broker, "c")
        assert await drain(lease) == ["a", "b", "dead", "c"]

    async def test_a_redelivered_message_has_its_key_again(self, setting: Setting) -> None:
        message = await send(setting.broker, "x", idempotency_key="k")
        await setting.broker.change(ACTOR, Cancel(message))
        await setting.broker.change(ACTOR, Redeliver(message))
        assert await send(setting.broker, "x", idempotency_key="k") == message

    async def test_redelivering_twice_at_once_is_redelivering_once(self, setting: Setting) -> None:
        message = await send(setting.broker, "body")
        await setting.broker.change(ACTOR, Cancel(message))
        change = setting.broker.change
        moved = await asyncio.gather(*(change(ACTOR, Redeliver(message)) for _ in range(3)))
        assert sorted(moved) == [0, 0, 1]
        assert await counts(setting.broker) == {(ACTOR, "tasks"): {"ready": 1}}
        assert await drain(await acquire(setting)) == ["body"]

    # --- redelivering many --------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("which", "again"),
        [
            (DeadLetters(), ["a", "b", "c", "d"]),
            (DeadLetters(actor=ACTOR), ["a", "b", "c"]),
            (DeadLetters(name="worker"), ["a", "b", "c", "d"]),
            (DeadLetters(name="other"), []),
            (DeadLetters(actor=ACTOR, queue="tasks"), ["a", "b"]),
            (DeadLetters(queue="$schedule"), ["internal"]),
            (DeadLetters(error="VALUEERROR: no R"), ["b"]),
            (DeadLetters(error="user.odd"), ["c", "d"]),
            (DeadLetters(error="no 'quoted' _ % \\"), []),
            (DeadLetters(error="no"), ["a", "b"]),
            (DeadLetters(since=START + 15), ["c", "d"]),
            (DeadLetters(actor=ACTOR, queue="others", since=START + 15, error="odd"), ["c"]),
        ],
    )
    async def test_dead_letters_to_which_all_of_it_applies_are_redelivered(
        self, setting: Setting, which: DeadLetters, again: list[str]
    ) -> None:
        plain, value = {"type": "str", "message": "no"}, {"type": "ValueError", "message": "no room"}
        odd = {"type": "Odd", "message": "hm", "group": "user", "code": "odd"}
        for body, actor, queue, error in (
            ("internal", ACTOR, "$schedule", plain),
            ("a", ACTOR, "tasks", plain),
            ("b", ACTOR, "tasks", value),
            ("c", ACTOR, "others", odd),
            ("d", OTHER, "tasks", odd),
        ):
            if body == "c":
                setting.clock.advance(20)
            await send(setting.broker, body, queue, actor)
            lease = await acquire(setting, actor)
            await settle(lease, await take_one(lease, [queue]), "dead", error=error)
            await lease.release()
        assert await setting.broker.redeliver(which) == len(again)
        every = ["tasks", "others", "$schedule"]
        seen = [one for actor in (ACTOR, OTHER) for one in await drain(await acquire(setting, actor), every)]
        assert seen == again
        assert await setting.broker.redeliver(which) == 0

    async def test_of_many_only_dead_letters_are_redelivered_with_their_attempts_counted_anew(
        self, setting: Setting
    ) -> None:
        lease = await acquire(setting)
        for outcome in ("completed", "dead", "failed"):
            await send(setting.broker, outcome)
            await settle(lease, await take_one(lease), "again")
            await settle(lease, await take_one(lease), outcome, error={"message": "no"})
        cancelled = await send(setting.broker, "cancelled")
        await setting.broker.change(ACTOR, Cancel(cancelled))
        await send(setting.broker, "waiting")
        assert await setting.broker.redeliver(DeadLetters()) == 2
        assert await counts(setting.broker) == {(ACTOR, "tasks"): {"ready": 3}}
        delivered = await take(lease, 9)
        assert bodies(delivered) == ["waiting", "dead", "failed"]
        assert [delivery.attempt for delivery in delivered] == [1, 1, 1]

    async def test_many_at_once_are_redelivered_in_the_order_of_their_sending_and_once(self, setting: Setting) -> None:
        numbers = list(range(250))
        lease = await acquire(setting)
        await setting.broker.enqueue([new_message(number) for number in numbers])
        await lease.commit(
            Commit([Settlement(one, "dead", error={"message": "no"}) for one in reversed(await take(lease, 250))])
        )
        assert sum(await asyncio.gather(*(setting.broker.redeliver(DeadLetters()) for _ in range(3)))) == 250
        assert await drain(lease) == numbers

    # --- purging ------------------------------------------------------------------------------------------------------

    async def test_a_purge_cancels_what_nobody_handles(self, setting: Setting) -> None:
        lease = await acquire(setting)
        running = await send(setting.broker, "runs")
        delivery = await take_one(lease)
        purged = [await send(setting.broker, n, delay=delay) for n, delay in ((1, None), (2, 60.0))]
        kept = [await send(setting.broker, queue="other"), await send(setting.broker, actor=OTHER)]
        assert await setting.broker.change(ACTOR, Purge("tasks")) == 2
        assert [await status_of(setting.broker, message) for message in purged] == ["cancelled"] * 2
        assert [await status_of(setting.broker, message) for message in kept] == ["queued"] * 2
        await settle(lease, delivery)
        assert await status_of(setting.broker, running) == "completed"
        assert await setting.broker.change(ACTOR, Purge("tasks")) == 0
        assert await setting.broker.change("nobody/here", Purge("tasks")) == 0

    # --- status -------------------------------------------------------------------------------------------------------

    async def test_status_counts_every_queue_of_one_actor_or_of_all(self, setting: Setting) -> None:
        lease = await acquire(setting)
        for body in ("runs", "dies"):
            await send(setting.broker, body)
        running, dying = await take(lease, 2)
        await settle(lease, dying, "dead", error={"message": "no"})
        await send(setting.broker, "later", delay=9.0)
        await send(setting.broker, "ready")
        await send(setting.broker, "elsewhere", "other")
        await send(setting.broker, "theirs", actor=OTHER)
        mine = {
            (ACTOR, "tasks"): {"ready": 1, "delayed": 1, "running": 1, "dead": 1},
            (ACTOR, "other"): {"ready": 1},
        }
        assert await counts(setting.broker, ACTOR) == mine
        assert await counts(setting.broker) == {**mine, (OTHER, "tasks"): {"ready": 1}}
        assert await counts(setting.broker, "nobody/here") == {}
        (tasks,) = [status for status in await setting.broker.status(ACTOR) if status.queue == "tasks"]
        assert tuple(tasks.running_ids) == (running.id,)

    async def test_status_tells_the_age_of_the_oldest_ready_message(self, setting: Setting) -> None:
        await send(setting.broker, "first")
        setting.clock.advance(3)
        await send(setting.broker, "second")
        setting.clock.advance(4)
        (status,) = await setting.broker.status(ACTOR)
        assert status.oldest == 7.0
        await take(await acquire(setting), 2)
        (status,) = await setting.broker.status(ACTOR)
        assert status.oldest is None

    async def test_the_states_of_all_actors_of_a_name_can_be_looked_at(self, setting: Setting) -> None:
        for actor, state in (
            ("worker/a", b'{"n":1}'),
            ("worker/b", b'{"n":2}'),
            ("work/c", b"{}"),
            ("worker/d", b"null"),
        ):
            lease = await acquire(setting, actor)
            await lease.commit(Commit(state=state))
            await lease.release()
        lease = await acquire(setting, "worker/b")
        await lease.commit(Commit(state=b'{"n":3}'))
        await setting.broker.enqueue([new_message(1, actor="worker/e")])
        assert await setting.broker.states("worker") == {
            "worker/a": b'{"n":1}',
            "worker/b": b'{"n":3}',
            "worker/d": b"null",
        }
        await lease.commit(Commit(destroy=True))
        assert await setting.broker.states("worker") == {"worker/a": b'{"n":1}', "worker/d": b"null"}

    async def test_an_actor_exists_once_it_was_created_or_while_it_has_messages(self, setting: Setting) -> None:
        assert not await setting.broker.exists(ACTOR)
        message = await send(setting.broker)
        assert await setting.broker.exists(ACTOR)
        await setting.broker.change(ACTOR, Cancel(message))
        assert not await setting.broker.exists(ACTOR)
        lease = await acquire(setting)
        await lease.commit(Commit(state=b"null"))
        await lease.release()
        assert await setting.broker.exists(ACTOR)
