"""Pausing queues: what stands still, what goes on, and what ends a pause."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentq_nb._brokers.changes import Cancel, Pause, Purge, Redeliver, Resume
from agentq_nb._brokers.messages import Commit, Take
from agentq_nb._brokers.statuses import QueueStatus
from tests.unit.brokers.conformance.restarting import restart, survives
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


async def pause(setting: Setting, queue: str = "tasks", *, seconds: float | None = None) -> int:
    until = None if seconds is None else setting.clock.time() + seconds
    return await setting.broker.change(ACTOR, Pause(queue, until))


async def resume(setting: Setting, queue: str = "tasks") -> int:
    return await setting.broker.change(ACTOR, Resume(queue))


async def queue(setting: Setting, name: str = "tasks") -> QueueStatus:
    (found,) = [status for status in await setting.broker.status(ACTOR) if status.queue == name]
    return found


class Pausing:
    async def test_a_paused_queue_hands_out_nothing_until_it_is_resumed(self, setting: Setting) -> None:
        await send(setting.broker, "before")
        lease = await acquire(setting)
        assert await pause(setting) == 1
        await send(setting.broker, "meanwhile")
        assert await take(lease, 5) == []
        assert await counts(setting.broker) == {(ACTOR, "tasks"): {"ready": 2}}
        assert await resume(setting) == 1
        assert await drain(lease) == ["before", "meanwhile"]

    async def test_only_this_queue_of_this_actor_stands_still(self, setting: Setting) -> None:
        await pause(setting)
        for where in ({}, {"queue": "control"}, {"actor": OTHER}):
            await send(setting.broker, "body", **where)
        lease = await acquire(setting)
        assert [delivery.queue for delivery in await take(lease, 5)] == ["control"]
        assert await drain(await acquire(setting, OTHER)) == ["body"]

    async def test_what_is_being_handled_goes_on_and_settles(self, setting: Setting) -> None:
        message = await send(setting.broker)
        lease = await acquire(setting)
        delivery = await take_one(lease)
        await pause(setting)
        await settle(lease, delivery, reply=b"1")
        assert await status_of(setting.broker, message) == "completed"

    async def test_what_is_put_back_or_falls_due_waits_for_the_end_of_the_pause(self, setting: Setting) -> None:
        await setting.broker.enqueue([new_message("fails"), new_message("released"), new_message("late", delay=5.0)])
        lease = await acquire(setting)
        fails, released = await take(lease, 2)
        await pause(setting)
        await settle(lease, fails, "again", delay=2.0, front=True)
        await settle(lease, released, "released", front=True)
        setting.clock.advance(5)
        assert await take(lease, 5) == []
        await resume(setting)
        assert await drain(lease) == ["fails", "released", "late"]

    async def test_what_waits_in_order_is_not_overtaken_because_of_a_pause(self, setting: Setting) -> None:
        await setting.broker.enqueue([new_message("fails"), new_message("next")])
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), "again", delay=10.0, front=True, in_order=True)
        await pause(setting, seconds=3.0)
        setting.clock.advance(4)
        assert await take(lease, 5) == []
        setting.clock.advance(6)
        assert await drain(lease) == ["fails", "next"]

    # --- who waits meanwhile ------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("end", ["resumed", "its time"])
    @pytest.mark.parametrize("takes", [True, False])
    async def test_who_waits_gets_nothing_before_the_end(self, setting: Setting, end: str, takes: bool) -> None:
        await pause(setting, seconds=30.0)
        lease = await acquire(setting)
        waiting = asyncio.ensure_future(lease.turn(None, Take(None)) if takes else lease.until_due(None, None))
        await send(setting.broker, "body")
        await rest()
        assert not waiting.done()
        if end == "resumed":
            await resume(setting)
        else:
            setting.clock.advance(30)
        assert bodies(await soon(waiting) or []) == (["body"] if takes else [])

    async def test_a_pause_reaches_a_receiver_that_waits_already(self, setting: Setting) -> None:
        lease = await acquire(setting)
        waiting = asyncio.ensure_future(lease.turn(None, Take(None)))
        await rest()
        await pause(setting)
        await send(setting.broker, "held")
        await rest()
        assert not waiting.done()
        await send(setting.broker, "other", "control")
        assert bodies(await soon(waiting)) == ["other"]

    async def test_a_wait_for_a_paused_queue_ends_at_its_timeout(self, setting: Setting) -> None:
        await pause(setting)
        await send(setting.broker)
        lease = await acquire(setting)
        waiting = asyncio.ensure_future(lease.turn(None, Take(None, 1, 4.0)))
        await rest()
        setting.clock.advance(4)
        assert list(await soon(waiting)) == []

    async def test_receivers_of_other_queues_go_on_beside_a_paused_one(self, setting: Setting) -> None:
        lease = await acquire(setting)
        prompt = asyncio.ensure_future(lease.turn(None, Take(["prompt"])))
        stop = asyncio.ensure_future(lease.turn(None, Take(["stop"])))
        await pause(setting, "prompt")
        await send(setting.broker, "held", "prompt")
        await send(setting.broker, "now", "stop")
        assert bodies(await soon(stop)) == ["now"]
        assert not prompt.done()
        await resume(setting, "prompt")
        assert bodies(await soon(prompt)) == ["held"]

    @pytest.mark.parametrize("end", ["resumed", "its time"])
    async def test_nobody_is_woken_for_paused_work_before_the_end(self, setting: Setting, end: str) -> None:
        await send(setting.broker)
        await pause(setting, seconds=30.0)
        hints = setting.broker.ready_actors({"worker": None}).__aiter__()
        hint: asyncio.Future[Any] = asyncio.ensure_future(hints.__anext__())
        await send(setting.broker, "more")
        await send(setting.broker, "later", delay=2.0)
        lease = await acquire(setting)
        await lease.release()
        setting.clock.advance(2)
        await rest()
        assert not hint.done()
        if end == "resumed":
            await resume(setting)
        else:
            setting.clock.advance(28)
        assert await soon(hint) == ACTOR

    async def test_work_in_another_queue_wakes_an_actor_with_a_paused_one(self, setting: Setting) -> None:
        await pause(setting)
        await send(setting.broker)
        await send(setting.broker, queue="control")
        assert await soon(setting.broker.ready_actors({"worker": None}).__aiter__().__anext__()) == ACTOR

    # --- its time -----------------------------------------------------------------------------------------------------

    async def test_a_pause_ends_by_itself_at_its_time(self, setting: Setting) -> None:
        await send(setting.broker, "body")
        await pause(setting, seconds=10.0)
        lease = await acquire(setting)
        setting.clock.advance(9.5)
        assert await take(lease) == []
        setting.clock.advance(0.5)
        assert bodies([await take_one(lease)]) == ["body"]
        assert await resume(setting) == 0

    @pytest.mark.parametrize(("first", "second"), [(10.0, 30.0), (30.0, 10.0), (10.0, None), (None, 10.0)])
    async def test_pausing_again_replaces_the_time(
        self, setting: Setting, first: float | None, second: float | None
    ) -> None:
        await send(setting.broker)
        await pause(setting, seconds=first)
        assert await pause(setting, seconds=second) == 1
        lease = await acquire(setting)
        setting.clock.advance(10)
        assert len(await take(lease)) == (second == 10.0)
        setting.clock.advance(20)
        assert (await queue(setting)).paused == (second is None)

    async def test_a_time_that_is_past_is_the_end_of_the_pause(self, setting: Setting) -> None:
        await send(setting.broker)
        await pause(setting)
        await pause(setting, seconds=-1.0)
        assert len(await take(await acquire(setting))) == 1
        assert await resume(setting) == 0

    # --- resuming -----------------------------------------------------------------------------------------------------

    async def test_resuming_what_is_not_paused_does_nothing(self, setting: Setting) -> None:
        assert await resume(setting) == 0
        assert await setting.broker.status() == []
        await pause(setting)
        assert [await resume(setting), await resume(setting)] == [1, 0]

    async def test_of_many_who_resume_at_once_one_has_done_it(self, setting: Setting) -> None:
        await pause(setting)
        assert sorted(await asyncio.gather(*(resume(setting) for _ in range(3)))) == [0, 0, 1]

    async def test_pausing_and_resuming_at_once_have_one_order(self, setting: Setting) -> None:
        await pause(setting)
        await asyncio.gather(resume(setting), pause(setting))
        await send(setting.broker)
        paused = (await queue(setting)).paused
        assert len(await take(await acquire(setting))) == (not paused)

    # --- other changes meanwhile --------------------------------------------------------------------------------------

    async def test_messages_of_a_paused_queue_can_be_cancelled_redelivered_and_purged(self, setting: Setting) -> None:
        await pause(setting)
        first, second = [await send(setting.broker, body) for body in (1, 2)]
        assert await setting.broker.change(ACTOR, Cancel(first)) == 1
        assert await setting.broker.change(ACTOR, Purge("tasks")) == 1
        assert await setting.broker.change(ACTOR, Redeliver(second)) == 1
        lease = await acquire(setting)
        assert await take(lease) == []
        await resume(setting)
        assert await drain(lease) == [2]

    async def test_destroying_the_actor_ends_its_pauses(self, setting: Setting) -> None:
        await pause(setting)
        await setting.broker.change(OTHER, Pause("tasks"))
        lease = await acquire(setting)
        await lease.commit(Commit(destroy=True))
        await lease.release()
        assert await resume(setting) == 0
        await restart(setting, "reopened")
        await send(setting.broker, "anew")
        assert await drain(await acquire(setting)) == ["anew"]
        assert await setting.broker.change(OTHER, Resume("tasks")) == 1

    # --- how it stands ------------------------------------------------------------------------------------------------

    async def test_status_shows_a_pause_also_of_a_queue_without_messages(self, setting: Setting) -> None:
        await pause(setting, seconds=60.0)
        shown = await queue(setting)
        assert (shown.paused, shown.paused_until) == (True, setting.clock.time() + 60.0)
        await pause(setting)
        shown = await queue(setting)
        assert (shown.paused, shown.paused_until, shown.live) == (True, None, 0)
        assert not await setting.broker.exists(ACTOR)
        await send(setting.broker)
        setting.clock.advance(3)
        assert (await queue(setting)).oldest == 3.0
        await resume(setting)
        shown = await queue(setting)
        assert (shown.paused, shown.paused_until) == (False, None)

    # --- restarts -----------------------------------------------------------------------------------------------------

    @survives
    @pytest.mark.parametrize("seconds", [None, 100.0])
    async def test_a_pause_is_there_after_a_restart(self, setting: Setting, how: str, seconds: float | None) -> None:
        await send(setting.broker, "body")
        await pause(setting, seconds=seconds)
        before = await queue(setting)
        await restart(setting, how)
        assert await queue(setting) == before
        lease = await acquire(setting)
        assert await take(lease) == []
        setting.clock.advance(100)
        if seconds is None:
            await resume(setting)
        assert await drain(lease) == ["body"]

    @survives
    async def test_a_resumption_is_there_after_a_restart(self, setting: Setting, how: str) -> None:
        await send(setting.broker, "body")
        await pause(setting)
        await resume(setting)
        await restart(setting, how)
        assert await drain(await acquire(setting)) == ["body"]

    @survives
    async def test_of_several_pauses_the_last_is_there_after_a_restart(self, setting: Setting, how: str) -> None:
        await pause(setting)
        await resume(setting)
        await pause(setting, seconds=50.0)
        await pause(setting, seconds=5.0)
        await restart(setting, how)
        assert (await queue(setting)).paused_until == setting.clock.time() + 5.0

    async def test_a_pause_whose_time_came_while_nobody_kept_the_queues_is_over(self, setting: Setting) -> None:
        await send(setting.broker, "body")
        await pause(setting, seconds=10.0)
        await setting.broker.close()
        setting.clock.advance(10)
        await restart(setting, "reopened")
        assert not (await queue(setting)).paused
        assert await drain(await acquire(setting)) == ["body"]

    async def test_what_was_in_flight_at_a_crash_waits_for_the_end_of_the_pause(self, setting: Setting) -> None:
        await setting.broker.enqueue([new_message("in flight"), new_message("next")])
        await take_one(await acquire(setting))
        await pause(setting)
        await restart(setting, "crashed")
        lease = await acquire(setting)
        assert await take(lease) == []
        await resume(setting)
        assert [delivery.attempt for delivery in await take(lease, 2)] == [2, 1]
