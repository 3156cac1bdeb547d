"""How attempts end: settlements, state and schedule in one commit, all or nothing."""

from __future__ import annotations

import asyncio
import json

import pytest

from agentq_nb._brokers.messages import Commit, Outcome, Settlement, Take
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
    until,
)
from tests.unit.brokers.settings import Setting


class Settling:
    async def test_a_completed_message_has_its_reply(self, setting: Setting) -> None:
        message = await send(setting.broker)
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), reply=b'{"summary":"fine"}')
        result = await setting.broker.wait(message, None)
        assert (result.status, result.attempts) == ("completed", 1)
        assert json.loads(result.reply or b"") == {"summary": "fine"}
        assert await counts(setting.broker) == {}

    @pytest.mark.parametrize("outcome", ["failed", "dead"])
    async def test_a_message_that_failed_for_good_is_a_dead_letter_with_its_error(
        self, setting: Setting, outcome: Outcome
    ) -> None:
        message = await send(setting.broker)
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), outcome, error={"message": "no", "group": "user"})
        result = await setting.broker.wait(message, None)
        assert (result.status, result.error) == ("failed", {"message": "no", "group": "user"})
        assert await counts(setting.broker) == {(ACTOR, "tasks"): {"dead": 1}}
        assert await take(lease) == []

    async def test_a_failed_attempt_comes_again_after_its_delay_with_the_next_number(self, setting: Setting) -> None:
        message = await send(setting.broker)
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), "again", error={"message": "no"}, delay=4.0, front=True)
        assert await status_of(setting.broker, message) == "delayed"
        assert await take(lease) == []
        setting.clock.advance(4)
        second = await take_one(lease)
        assert (second.id, second.attempt, second.failures) == (message, 2, 1)
        await settle(lease, second)
        assert (await setting.broker.wait(message, 0)).attempts == 2

    async def test_an_attempt_that_failed_is_overtaken_while_it_waits_and_comes_first_when_it_is_due(
        self, setting: Setting
    ) -> None:
        await setting.broker.enqueue([new_message(body) for body in ("fails", "b", "c")])
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), "again", delay=4.0, front=True)
        second = await take_one(lease)
        assert bodies([second]) == ["b"]
        await settle(lease, second)
        await send(setting.broker, "urgent", priority=9)
        setting.clock.advance(4)
        assert await drain(lease) == ["fails", "urgent", "c"]

    async def test_in_order_nothing_of_its_queue_overtakes_it(self, setting: Setting) -> None:
        await setting.broker.enqueue([new_message("fails"), new_message("b"), new_message("elsewhere", "other")])
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), "again", delay=4.0, front=True, in_order=True)
        await send(setting.broker, "urgent", priority=9)
        assert await drain(lease) == ["elsewhere"]
        setting.clock.advance(4)
        assert await drain(lease) == ["fails", "urgent", "b"]

    async def test_in_order_several_that_wait_hold_up_their_queue_until_the_last_is_due(self, setting: Setting) -> None:
        await setting.broker.enqueue([new_message(body) for body in ("a", "b", "c")])
        lease = await acquire(setting)
        first, second = await take(lease, 2)
        again = {"delay": 9.0, "front": True, "in_order": True}
        await settle(lease, second, "again", **again)
        await settle(lease, first, "again", **{**again, "delay": 2.0})
        setting.clock.advance(2)
        assert "c" not in bodies(await take(lease, 3))
        setting.clock.advance(7)
        assert bodies(await take(lease, 3))[-1:] == ["c"]

    async def test_a_released_message_comes_first_again_and_counts_no_attempt(self, setting: Setting) -> None:
        await setting.broker.enqueue([new_message("a"), new_message("b"), new_message("urgent", priority=9)])
        lease = await acquire(setting)
        await settle(lease, await take_one(lease))
        await settle(lease, await take_one(lease), "released", front=True)
        again = await take_one(lease)
        assert (bodies([again]), again.attempt) == (["a"], 1)

    async def test_settling_wakes_whoever_waits_for_what_it_puts_back(self, setting: Setting) -> None:
        await send(setting.broker, "back")
        lease = await acquire(setting)
        delivery = await take_one(lease)
        waiting = asyncio.ensure_future(lease.turn(None, Take(None)))
        await rest()
        await settle(lease, delivery, "released", front=True)
        assert bodies(await soon(waiting)) == ["back"]

    # --- all or nothing -----------------------------------------------------------------------------------------------

    async def test_state_and_settlements_are_written_together(self, setting: Setting) -> None:
        message = await send(setting.broker)
        lease = await acquire(setting)
        assert lease.state is None
        delivery = await take_one(lease)
        scheduled = new_message("call", "$schedule")
        await lease.commit(Commit([Settlement(delivery, "completed")], b'{"n":1}', [scheduled]))
        await lease.release()
        lease = await acquire(setting)
        assert json.loads(lease.state or b"") == {"n": 1}
        assert await status_of(setting.broker, message) == "completed"
        assert await drain(lease, ["$schedule"]) == ["call"]

    async def test_a_commit_without_state_leaves_the_state(self, setting: Setting) -> None:
        lease = await acquire(setting)
        await lease.commit(Commit(state=b'{"n":1}'))
        await lease.commit(Commit())
        await send(setting.broker)
        await settle(lease, await take_one(lease))
        await lease.release()
        assert json.loads((await acquire(setting)).state or b"") == {"n": 1}

    async def test_a_stale_settlement_loses_the_lease_and_nothing_of_its_commit_is_written(
        self, setting: Setting
    ) -> None:
        first, second = [await send(setting.broker, number) for number in (1, 2)]
        lease = await acquire(setting)
        stale, held = await take(lease, 2)
        await settle(lease, stale, "released", front=True)
        scheduled = new_message("call", "$schedule")
        commit = Commit([Settlement(held, "completed"), Settlement(stale, "completed")], b'{"n":1}', [scheduled])
        with pytest.raises(LeaseLost):
            await lease.commit(commit)
        await lease.release()
        lease = await acquire(setting)
        assert lease.state is None
        assert [await status_of(setting.broker, message) for message in (first, second)] == ["queued", "queued"]
        assert await take(lease, 1, ["$schedule"]) == []

    async def test_a_delivery_of_an_earlier_attempt_cannot_settle_a_later_one(self, setting: Setting) -> None:
        message = await send(setting.broker)
        lease = await acquire(setting)
        earlier = await take_one(lease)
        await settle(lease, earlier, "again")
        await take_one(lease)
        with pytest.raises(LeaseLost):
            await settle(lease, earlier)
        assert await status_of(setting.broker, message) in ("running", "queued")

    async def test_a_message_is_settled_once(self, setting: Setting) -> None:
        message = await send(setting.broker)
        lease = await acquire(setting)
        delivery = await take_one(lease)
        await settle(lease, delivery, reply=b"1")
        with pytest.raises(LeaseLost):
            await settle(lease, delivery, "failed", error={"message": "no"})
        result = await setting.broker.wait(message, 0)
        assert (result.status, result.reply) == ("completed", b"1")

    async def test_a_commit_made_soon_goes_out_before_any_later_one(self, setting: Setting) -> None:
        messages = [await send(setting.broker, number) for number in range(3)]
        lease = await acquire(setting)
        deliveries = await take(lease, 3)
        for number, delivery in enumerate(deliveries[:2]):
            lease.commit_soon(Commit([Settlement(delivery, "completed")], f'{{"n":{number}}}'.encode()))
        await settle(lease, deliveries[2])
        assert [await status_of(setting.broker, message) for message in messages] == ["completed"] * 3
        await lease.release()
        assert json.loads((await acquire(setting)).state or b"") == {"n": 1}

    async def test_a_stale_commit_made_soon_writes_nothing(self, setting: Setting) -> None:
        """Whether it is told at once or by the loss of the lease is the broker's choice."""
        await send(setting.broker)
        lease = await acquire(setting)
        delivery = await take_one(lease)
        await settle(lease, delivery)
        told = False
        try:
            lease.commit_soon(Commit([Settlement(delivery, "completed")], b'{"n":1}'))
        except LeaseLost:
            told = True
        await until(lambda: told or lease.lost.is_set())
        await lease.release()
        assert (await acquire(setting)).state is None

    async def test_offers_of_a_schedule_repeated_with_their_ids_are_kept_once(self, setting: Setting) -> None:
        lease = await acquire(setting)
        scheduled = new_message("call", "$schedule")
        await lease.commit(Commit(schedule=[scheduled]))
        await lease.commit(Commit(schedule=[scheduled]))
        assert await drain(lease, ["$schedule"]) == ["call"]

    # --- the end of an actor ------------------------------------------------------------------------------------------

    async def test_destroying_drops_state_and_messages(self, setting: Setting) -> None:
        lease = await acquire(setting)
        messages = [await send(setting.broker, n, delay=delay) for n, delay in ((1, None), (2, None), (3, 60.0))]
        await send(setting.broker, "call", "$schedule", delay=60.0)
        await lease.commit(Commit(state=b"{}"))
        await take_one(lease)
        assert await setting.broker.exists(ACTOR)
        await lease.commit(Commit(destroy=True))
        await lease.release()
        assert [await status_of(setting.broker, message) for message in messages] == ["cancelled"] * 3
        assert await counts(setting.broker) == {}
        assert not await setting.broker.exists(ACTOR)
        assert (await acquire(setting)).state is None

    async def test_an_actor_can_be_made_again_after_it_was_destroyed(self, setting: Setting) -> None:
        lease = await acquire(setting)
        await lease.commit(Commit(state=b'{"n":1}'))
        await lease.commit(Commit(destroy=True))
        await lease.release()
        await send(setting.broker, "new")
        lease = await acquire(setting)
        await lease.commit(Commit(state=b'{"n":2}'))
        assert await drain(lease) == ["new"]
        await lease.release()
        assert json.loads((await acquire(setting)).state or b"") == {"n": 2}
