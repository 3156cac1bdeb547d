"""What RivetKit 2.3.19 was seen to lose or to block on, and what happens here instead."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentq_nb import Actor, AgentqError, Queue, Retry, WaitWouldDeadlock, action
from tests.unit.runtime.world import World, breathe, queue_of, until, until_status

pytestmark = pytest.mark.anyio


def consumer(seen: list[tuple[int, int]], gate: asyncio.Event, *, completable: bool) -> type[Actor]:
    """Stops at message 2 until the gate opens."""

    class Consumer(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            async for message in self.queue.iter(completable=completable):
                seen.append((message.body, message.attempt))
                if message.body == 2:
                    await gate.wait()
                if completable:
                    await message.complete()

    return Consumer


@pytest.mark.parametrize("completable", [False, True])
async def test_a_kill_in_the_middle_of_message_2_repeats_it_and_loses_none(world: World, completable: bool) -> None:
    seen: list[tuple[int, int]] = []
    client = await world.start(consumer=consumer(seen, asyncio.Event(), completable=completable))
    handle = client.consumer.get_or_create("x")
    for number in range(1, 7):
        await handle.send("tasks", number)
    await until(lambda: len(seen) == 2)
    await breathe()  # a crash within the same millisecond would repeat message 1 as well
    again: list[tuple[int, int]] = []
    gate = asyncio.Event()
    gate.set()
    await world.crash(consumer=consumer(again, gate, completable=completable))
    await until(lambda: len(again) == 5)
    assert again == [(2, 2), (3, 1), (4, 1), (5, 1), (6, 1)]


async def test_after_a_crash_actors_with_queued_messages_start_untouched(world: World) -> None:
    seen: list[tuple[int, int]] = []

    class Later(Actor):
        tasks = Queue(int)

    client = await world.start(consumer=Later)
    await client.consumer.get_or_create("x").send("tasks", 1)
    await world.crash(consumer=consumer(seen, asyncio.Event(), completable=False))
    await until(lambda: seen == [(1, 1)])


async def test_a_sender_that_waited_at_the_crash_finds_the_result_by_its_message_id(world: World) -> None:
    class Idle(Actor):
        tasks = Queue(int)

    seen: list[tuple[int, int]] = []
    gate = asyncio.Event()
    gate.set()
    client = await world.start(consumer=Idle)
    waiting = asyncio.create_task(client.consumer.get_or_create("x").send("tasks", 1, wait=True))
    await breathe()
    client = await world.crash(consumer=consumer(seen, gate, completable=True))
    with pytest.raises(AgentqError) as caught:
        await waiting
    assert caught.value.full_code == "host.unavailable"
    message = (await world.registry.sql("select message_id from messages")).rows[0][0]
    assert (await client.receipt(message).result(5)).status == "completed"


@pytest.mark.parametrize("completable", [False, True])
async def test_a_poison_message_neither_blocks_the_others_nor_vanishes(slow_world: World, completable: bool) -> None:
    seen: list[tuple[str, int]] = []

    class Poisoned(Actor):
        tasks = Queue(str, retry=Retry(attempts=2, backoff=5))

        async def run(self) -> None:
            async for message in self.queue.iter(completable=completable):
                seen.append((message.body, message.attempt))
                if message.body == "poison":
                    raise ValueError("poison")
                if completable:
                    await message.complete()

    client = await slow_world.start(poisoned=Poisoned)
    handle = client.poisoned.get_or_create("x")
    poison = await handle.send("tasks", "poison")
    good = await handle.send("tasks", "good", wait=True)
    assert good.status == "completed"
    await slow_world.pass_by(5)
    assert (await poison.result(5)).status == "failed"
    assert (await handle.send("tasks", "more", wait=True)).status == "completed"
    assert (await queue_of(handle, "tasks")).dead == 1
    assert seen == [("poison", 1), ("good", 1), ("poison", 2), ("more", 1)]


async def test_a_loop_that_forgets_to_complete_is_started_again(world: World) -> None:
    seen: list[str] = []

    class Forgetful(Actor):
        tasks = Queue(str, retry=Retry(attempts=1))

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                seen.append(message.body)
                if message.body != "forget":
                    await message.complete()

    client = await world.start(forgetful=Forgetful)
    handle = client.forgetful.get_or_create("x")
    forgotten = await handle.send("tasks", "forget")
    assert (await handle.send("tasks", "next", wait=True, timeout=5)).status == "completed"
    assert (await forgotten.result(5)).error["code"] == "previous_message_not_completed"
    assert seen == ["forget", "next"]


async def test_the_completion_of_a_job_whose_sender_timed_out_is_kept(world: World) -> None:
    gate = asyncio.Event()

    class Slow(Actor):
        tasks = Queue(int, reply=str)

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                await gate.wait()
                await message.complete("late but kept")

    client = await world.start(slow=Slow)
    result = await client.slow.get_or_create("x").send("tasks", 1, wait=True, timeout=0.02)
    assert result.status == "timed_out"
    gate.set()
    assert (await client.receipt(result.message_id).result(5)).response == "late but kept"


async def test_plain_sends_of_one_handle_do_not_queue_behind_its_waiting_one(world: World) -> None:
    gate = asyncio.Event()
    seen: list[tuple[int, int]] = []
    client = await world.start(consumer=consumer(seen, gate, completable=True))
    handle = client.consumer.get_or_create("x")
    waiting = asyncio.create_task(handle.send("tasks", 2, wait=True))
    await until(lambda: seen)
    await asyncio.wait_for(handle.send("tasks", 3), 5)
    assert not waiting.done()
    gate.set()
    await waiting


async def test_two_completable_receivers_never_hold_the_same_message(world: World) -> None:
    gate, held = asyncio.Event(), asyncio.Event()

    class Both(Actor):
        tasks = Queue(str, reply=str)

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                held.set()
                await gate.wait()
                await message.complete("run")

        @action
        async def also(self) -> Any:
            message = await self.queue.next(timeout=0.05, completable=True)
            if message is not None:
                await message.complete("action")
            return message

    client = await world.start(both=Both)
    handle = client.both.get_or_create("x")
    receipt = await handle.send("tasks", "a")
    await held.wait()
    assert await handle.also() is None
    gate.set()
    assert (await receipt.result(5)).response == "run"


@pytest.mark.parametrize("timeout", [None, 1.0])
async def test_run_waiting_on_its_own_actor_is_told_at_once_instead_of_hanging(
    world: World, timeout: float | None
) -> None:
    told: list[str] = []

    class Selfish(Actor):
        tasks = Queue(int, reply=str)

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                try:
                    await self.queue.push("tasks", 2, wait=True, timeout=timeout)
                except WaitWouldDeadlock as error:
                    told.append(error.full_code)
                await message.complete("went on")

    client = await world.start(selfish=Selfish)
    result = await client.selfish.get_or_create("x").send("tasks", 1, wait=True, timeout=5)
    assert result.response == "went on"
    assert told == ["queue.wait_would_deadlock"]


async def test_keys_with_commas_and_parts_never_share_an_actor(world: World) -> None:
    class Who(Actor):
        @action
        async def me(self) -> str:
            return self.actor_id

    client = await world.start(who=Who)
    assert await client.who.get_or_create(["x,y"]).me() != await client.who.get_or_create(["x", "y"]).me()


async def test_a_send_to_an_undeclared_queue_is_never_dropped_in_silence(world: World) -> None:
    class Bare(Actor):
        pass

    client = await world.start(bare=Bare)
    for wait in (False, True):
        with pytest.raises(AgentqError) as caught:
            await client.bare.get_or_create("x").send("nowhere", 1, wait=wait)
        assert caught.value.full_code == "queue.unknown"


async def test_failures_stay_visible_in_the_log_with_their_traceback(world: World) -> None:
    class Failing(Actor):
        tasks = Queue(str, retry=Retry(attempts=1))

        async def run(self) -> None:
            async for _ in self.queue.iter():
                raise LookupError("where is it")

    client = await world.start(failing=Failing)
    receipt = await client.failing.get_or_create("x").send("tasks", "a")
    await until_status(receipt, "failed")
    rows = (await world.registry.sql("select error from messages where status = 'failed'")).rows
    assert "LookupError: where is it" in str(rows[0][0])
