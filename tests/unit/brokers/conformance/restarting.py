"""What survives: an orderly end, and a death with work in flight."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentq_nb._brokers.changes import Cancel, Redeliver
from agentq_nb._brokers.messages import Commit, Outcome
from agentq_nb.errors import IdempotencyConflict
from tests.unit.brokers.conformance.words import (
    ACTOR,
    OTHER,
    acquire,
    bodies,
    counts,
    drain,
    new_message,
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


class Restarting:
    @survives
    async def test_messages_keep_their_order_priority_and_due_time(self, setting: Setting, how: str) -> None:
        for body, options in (("a", {}), ("urgent", {"priority": 2}), ("later", {"delay": 20.0}), ("b", {})):
            await send(setting.broker, body, **options)
        setting.clock.advance(15)
        await restart(setting, how)
        lease = await acquire(setting)
        assert await drain(lease) == ["urgent", "a", "b"]
        setting.clock.advance(5)
        assert await drain(lease) == ["later"]

    @survives
    async def test_failed_attempts_keep_their_number_and_their_backoff(self, setting: Setting, how: str) -> None:
        await setting.broker.enqueue([new_message("fails"), new_message("b")])
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), "again", delay=10.0, front=True, in_order=True)
        await restart(setting, how)
        lease = await acquire(setting)
        assert await take(lease) == []
        setting.clock.advance(10)
        first = await take_one(lease)
        assert (bodies([first]), first.failures) == (["fails"], 1)

    @survives
    async def test_results_state_and_dead_letters_are_there(self, setting: Setting, how: str) -> None:
        done, dead = [await send(setting.broker, n) for n in (1, 2)]
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), reply=b'{"ok":true}')
        await settle(lease, await take_one(lease), "dead", error={"message": "no"})
        await lease.commit(Commit(state=b'{"n":7}'))
        await restart(setting, how)
        result = await setting.broker.wait(done, None)
        assert (result.status, json.loads(result.reply or b""), result.attempts) == ("completed", {"ok": True}, 1)
        failed = await setting.broker.wait(dead, 0)
        assert (failed.status, failed.error) == ("failed", {"message": "no"})
        assert await counts(setting.broker) == {(ACTOR, "tasks"): {"dead": 1}}
        lease = await acquire(setting)
        assert json.loads(lease.state or b"") == {"n": 7}
        assert await setting.broker.change(ACTOR, Redeliver(dead)) == 1
        assert await drain(lease) == [2]

    @survives
    @pytest.mark.parametrize("outcome", [None, "completed", "failed"])
    async def test_keys_name_what_they_named(self, setting: Setting, how: str, outcome: Outcome | None) -> None:
        message = await send(setting.broker, "x", idempotency_key="k")
        lease = await acquire(setting)
        if outcome is not None:
            await settle(lease, await take_one(lease), outcome, error={"message": "no"})
        await restart(setting, how)
        if outcome != "failed":
            with pytest.raises(IdempotencyConflict):
                await send(setting.broker, "y", idempotency_key="k")
        again = await send(setting.broker, "x", idempotency_key="k")
        assert (again == message) == (outcome != "failed")

    @survives
    async def test_an_offer_is_known_by_its_id(self, setting: Setting, how: str) -> None:
        waiting, settled = new_message("waits", "a"), new_message("settled", "b")
        await setting.broker.enqueue([waiting, settled])
        lease = await acquire(setting)
        await settle(lease, await take_one(lease, ["b"]))
        await restart(setting, how)
        assert [one.repeated for one in await setting.broker.enqueue([waiting, settled])] == [True, True]
        assert await drain(await acquire(setting)) == ["waits"]

    @survives
    async def test_actors_with_due_work_are_hinted(self, setting: Setting, how: str) -> None:
        await send(setting.broker)
        await restart(setting, how)
        assert await soon(anext(setting.broker.ready_actors({"worker": None}))) == ACTOR

    @survives
    async def test_what_was_destroyed_stays_so(self, setting: Setting, how: str) -> None:
        await send(setting.broker)
        lease = await acquire(setting)
        await lease.commit(Commit(state=b"{}"))
        await lease.commit(Commit(destroy=True))
        await restart(setting, how)
        assert not await setting.broker.exists(ACTOR)
        lease = await acquire(setting)
        assert lease.state is None
        assert await take(lease) == []

    @survives
    async def test_a_redelivered_message_keeps_its_new_place(self, setting: Setting, how: str) -> None:
        dead = await send(setting.broker, "dead")
        await setting.broker.change(ACTOR, Cancel(dead))
        await send(setting.broker, "a")
        await setting.broker.change(ACTOR, Redeliver(dead))
        await restart(setting, how)
        await send(setting.broker, "b")
        assert await drain(await acquire(setting)) == ["a", "dead", "b"]

    @survives
    async def test_what_was_to_be_cancelled_is(self, setting: Setting, how: str) -> None:
        message = await send(setting.broker)
        await take_one(await acquire(setting))
        await setting.broker.change(ACTOR, Cancel(message))
        await restart(setting, how)
        assert await status_of(setting.broker, message) == "cancelled"
        assert await take(await acquire(setting)) == []

    async def test_what_was_in_flight_at_an_orderly_end_comes_first_and_uncounted(self, setting: Setting) -> None:
        await setting.broker.enqueue([new_message(n) for n in range(3)])
        await take(await acquire(setting), 2)
        await setting.reopen()
        received = await take(await acquire(setting), 3)
        assert (bodies(received), {one.attempt for one in received}) == ([0, 1, 2], {1})

    async def test_what_was_in_flight_at_a_death_comes_first_and_counts_a_crash(self, setting: Setting) -> None:
        await setting.broker.enqueue([new_message(n) for n in range(3)])
        await take(await acquire(setting))
        await send(setting.broker, "urgent", priority=9)
        for crashes in (1, 2):
            await setting.crash()
            received = await take(await acquire(setting))
            assert bodies(received) == [0]
            assert {(one.crashes, one.attempt) for one in received} == {(crashes, crashes + 1)}

    async def test_of_several_in_flight_at_a_death_none_counts_a_crash_and_they_come_one_at_a_time(
        self, setting: Setting
    ) -> None:
        await setting.broker.enqueue([new_message(n) for n in range(3)])
        await take(await acquire(setting), 2)
        await send(setting.broker, "urgent", priority=9)
        await setting.crash()
        lease = await acquire(setting)
        seen: list[Any] = []
        while received := await take(lease, 9):
            assert await take(lease) == [], "nothing else is handed out meanwhile"
            seen += [(bodies([one])[0], one.crashes, one.attempt) for one in received]
            await settle(lease, received[0])
            if len(seen) == 2:
                break
        assert seen == [(0, 0, 2), (1, 0, 2)]
        assert bodies(await take(lease, 9)) == ["urgent", 2]

    async def test_a_suspect_that_kills_again_alone_counts_and_its_neighbour_does_not(self, setting: Setting) -> None:
        await send(setting.broker, "poison")
        await send(setting.broker, "neighbour", actor=OTHER)
        for actor in (ACTOR, OTHER):
            await take_one(await acquire(setting, actor))
        await setting.crash()
        lease, other = await acquire(setting), await acquire(setting, OTHER)
        assert await take(lease) == [], "the one that was started last goes first"
        await settle(other, await take_one(other), "again")
        for crashes in (0, 1, 2):
            poison = await take_one(lease)
            assert (poison.crashes, poison.attempt) == (crashes, crashes + 2)
            assert await take(other) == [], "nothing else is handed out while a suspect is handled"
            await setting.crash()
            lease, other = await acquire(setting), await acquire(setting, OTHER)
        await settle(lease, await take_one(lease), "dead", error={})
        neighbour = await take_one(other)
        assert (neighbour.crashes, neighbour.failures, neighbour.attempt) == (0, 1, 3)

    async def test_a_failure_after_a_crash_ends_the_row_of_crashes(self, setting: Setting) -> None:
        await send(setting.broker)
        await take_one(await acquire(setting))
        await setting.crash()
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), "again")
        delivery = await take_one(lease)
        assert (delivery.failures, delivery.crashes, delivery.attempt) == (1, 0, 3)
