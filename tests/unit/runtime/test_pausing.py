"""Pausing queues: what stands still, what goes on, what ends it; across restarts and crashes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from agentq_nb import Actor, AgentqError, Queue, Retry
from tests.unit.runtime.world import World, breathe, queue_of, until, until_state, until_status

pytestmark = pytest.mark.anyio


class Worker(Actor, sleep_timeout=30):
    """Writes down what it begins; "held" waits for the gate, "fails" fails."""

    tasks = Queue(str, retry=Retry(attempts=3, backoff=10, in_order=True))
    other = Queue(str)
    begun: list[Any]
    gate: asyncio.Event

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            self.begun.append(message.body)
            if message.body == "held":
                await self.gate.wait()
            if message.body == "fails" and message.attempt == 1:
                raise ValueError("no")
            await message.complete()


@pytest.fixture
def worker() -> type[Worker]:
    made: type[Worker] = type("Worker", (Worker,), {})
    made.begun, made.gate = [], asyncio.Event()
    return made


async def test_a_paused_queue_stands_still_until_it_is_resumed(world: World, worker: type[Worker]) -> None:
    client = await world.start(worker=worker)
    handle = client.worker.get_or_create("x")
    await handle.pause("tasks")
    waits = await handle.send("tasks", "waits")
    await (await handle.send("other", "goes on")).result(5)
    await breathe()
    assert worker.begun == ["goes on"]
    assert await waits.status() == "queued"
    assert await handle.resume(Worker.tasks)
    assert (await waits.result(5)).status == "completed"
    assert not await handle.resume("tasks")


async def test_what_is_being_handled_when_the_pause_comes_is_finished_and_no_other_begun(
    world: World, worker: type[Worker]
) -> None:
    client = await world.start(worker=worker)
    handle = client.worker.get_or_create("x")
    held, after = [await handle.send("tasks", body) for body in ("held", "after")]
    await until(lambda: worker.begun)
    await handle.pause("tasks")
    worker.gate.set()
    assert (await held.result(5)).status == "completed"
    await breathe()
    assert worker.begun == ["held"]
    await handle.resume("tasks")
    assert (await after.result(5)).status == "completed"


async def test_status_says_so_also_where_there_are_no_messages(slow_world: World, worker: type[Worker]) -> None:
    client = await slow_world.start(worker=worker)
    handle = client.worker.get_or_create("x")
    assert slow_world.clock is not None
    end = slow_world.clock.time() + 600
    await handle.pause("tasks", until=datetime.fromtimestamp(end, UTC))
    queue = await queue_of(handle, "tasks")
    assert (queue.paused, queue.paused_until, queue.live) == (True, end, 0)
    await handle.pause("tasks")
    assert ((await queue_of(handle, "tasks")).paused_until) is None
    assert [q.queue for q in (await slow_world.registry.status()).queues if q.paused] == ["tasks"]
    await handle.resume("tasks")
    assert not (await queue_of(handle, "tasks")).paused


# --- its time ---------------------------------------------------------------------------------------------------------


async def test_a_pause_ends_at_its_time_and_wakes_the_actor_only_then(slow_world: World, worker: type[Worker]) -> None:
    client = await slow_world.start(worker=worker)
    handle = client.worker.get_or_create("x")
    await (await handle.send("tasks", "first")).result(5)
    assert slow_world.clock is not None
    await handle.pause("tasks", until=slow_world.clock.time() + 600)
    waits = await handle.send("tasks", "second")
    await slow_world.pass_by(40)
    await until_state(handle, "asleep")
    await handle.send("tasks", "third")
    await slow_world.pass_by(550)
    assert (await handle.status()).state == "asleep", "paused work wakes nobody"
    assert await waits.status() == "queued"
    await slow_world.pass_by(10)
    assert (await waits.result(5)).status == "completed"
    await until(lambda: worker.begun == ["first", "second", "third"])


async def test_a_sleeping_actor_is_woken_when_its_queue_is_resumed(slow_world: World, worker: type[Worker]) -> None:
    client = await slow_world.start(worker=worker)
    handle = client.worker.get_or_create("x")
    await handle.pause("tasks")
    waits = await handle.send("tasks", "waits")
    await slow_world.pass_by(5)
    assert (await handle.status()).state == "asleep"
    await handle.resume("tasks")
    assert (await waits.result(5)).status == "completed"


@pytest.mark.parametrize(
    "until_time",
    [0, -1, 600, float("nan"), float("inf"), 1e300, True, "tomorrow", datetime(2001, 1, 1), object()],
)
async def test_what_is_no_time_to_come_is_refused_and_nothing_is_paused(
    world: World, worker: type[Worker], until_time: Any
) -> None:
    client = await world.start(worker=worker)
    handle = client.worker.get_or_create("x")
    with pytest.raises(AgentqError) as caught:
        await handle.pause("tasks", until=until_time)
    assert caught.value.full_code == "actor.validation_error"
    assert not (await queue_of(handle, "tasks")).paused


# --- restarts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["restart", "crash"])
async def test_it_stays_paused_after_a_restart_and_a_crash(world: World, worker: type[Worker], how: str) -> None:
    client = await world.start(worker=worker)
    handle = client.worker.get_or_create("x")
    await handle.send("tasks", "held")
    await until(lambda: worker.begun)
    waits = await handle.send("tasks", "waits")
    await handle.pause("tasks")
    if how == "restart":
        worker.gate.set()
    client = await getattr(world, how)()
    handle = client.worker.get_or_create("x")
    await breathe()
    assert worker.begun == ["held"]
    assert (await queue_of(handle, "tasks")).paused
    worker.gate.set()
    await handle.resume("tasks")
    assert (await client.receipt(waits.id).result(5)).status == "completed"
    client = await getattr(world, how)()
    assert not (await queue_of(client.worker.get_or_create("x"), "tasks")).paused


async def test_a_pause_whose_time_came_while_the_host_was_down_is_over_at_the_start(
    slow_world: World, worker: type[Worker]
) -> None:
    client = await slow_world.start(worker=worker)
    handle = client.worker.get_or_create("x")
    assert slow_world.clock is not None
    await handle.pause("tasks", until=slow_world.clock.time() + 60)
    waits = await handle.send("tasks", "waits")
    stopping = asyncio.ensure_future(slow_world.registry.stop())
    await slow_world.pass_by(30)
    await stopping
    slow_world.clock.advance(60)
    client = await slow_world.start(worker=worker)
    assert (await client.receipt(waits.id).result(5)).status == "completed"


@pytest.mark.file_only
async def test_pruning_drops_old_pauses_and_keeps_the_present_ones(world: World, worker: type[Worker]) -> None:
    client = await world.start(worker=worker)
    handle = client.worker.get_or_create("x")
    for queue in ("tasks", "other"):
        await handle.pause(queue)
    await handle.resume("other")
    await handle.pause("tasks")
    assert await world.registry.prune(datetime.now(UTC)) == 2
    client = await world.restart()
    handle = client.worker.get_or_create("x")
    assert [(await queue_of(handle, queue)).paused for queue in ("tasks", "other")] == [True, False]


# --- beside other things ----------------------------------------------------------------------------------------------


async def test_an_attempt_that_fails_during_a_pause_is_repeated_first_after_it(
    slow_world: World, worker: type[Worker]
) -> None:
    client = await slow_world.start(worker=worker)
    handle = client.worker.get_or_create("x")
    fails, after = [await handle.send("tasks", body) for body in ("fails", "after")]
    await until_status(fails, "delayed")
    await handle.pause("tasks")
    await slow_world.pass_by(60)
    assert worker.begun == ["fails"]
    await handle.resume("tasks")
    assert (await after.result(5)).status == "completed"
    assert worker.begun == ["fails", "fails", "after"]


async def test_the_end_of_a_pause_does_not_shorten_a_backoff_in_order(slow_world: World, worker: type[Worker]) -> None:
    client = await slow_world.start(worker=worker)
    handle = client.worker.get_or_create("x")
    fails, after = [await handle.send("tasks", body) for body in ("fails", "after")]
    await until_status(fails, "delayed")
    await handle.pause("tasks")
    await handle.resume("tasks")
    await slow_world.pass_by(5)
    assert worker.begun == ["fails"]
    await slow_world.pass_by(6)
    await after.result(5)
    assert worker.begun == ["fails", "fails", "after"]


async def test_a_receiver_of_another_queue_is_served_beside_a_paused_one(world: World) -> None:
    seen: list[str] = []

    class Controlled(Actor):
        prompt = Queue(str)
        stop = Queue(str)

        async def run(self) -> None:
            async for message in self.queue.iter(["prompt"]):
                seen.append(message.body)
                stop = await self.queue.next(["stop"])
                assert stop is not None
                seen.append(stop.body)

    client = await world.start(controlled=Controlled)
    handle = client.controlled.get_or_create("x")
    await handle.pause("stop")
    await handle.send("stop", "stop 1")
    await handle.send("prompt", "prompt 1")
    await until(lambda: seen == ["prompt 1"])
    await handle.pause("prompt")
    second = await handle.send("prompt", "prompt 2")
    await handle.resume("stop")
    await until(lambda: seen == ["prompt 1", "stop 1"])
    await breathe()
    assert await second.status() == "queued"
    await handle.resume("prompt")
    await until(lambda: seen == ["prompt 1", "stop 1", "prompt 2"])


async def test_sends_that_race_with_pauses_are_all_handled_once_and_in_order(
    world: World, worker: type[Worker]
) -> None:
    client = await world.start(worker=worker)
    handle = client.worker.get_or_create("x")

    async def send() -> list[Any]:
        return [await handle.send("tasks", str(number)) for number in range(60)]

    async def toggle() -> None:
        for _ in range(30):
            await handle.pause("tasks")
            await asyncio.sleep(0)
            begun = list(worker.begun)
            await breathe()
            assert len(worker.begun) <= len(begun) + 1, "only what was handed out before the pause may still begin"
            await handle.resume("tasks")

    receipts, _ = await asyncio.gather(send(), toggle())
    await receipts[-1].result(5)
    assert worker.begun == [str(number) for number in range(60)]


# --- which queues -----------------------------------------------------------------------------------------------------


async def test_unknown_queues_are_refused_and_nothing_is_written(world: World, worker: type[Worker]) -> None:
    client = await world.start(worker=worker)
    handle = client.worker.get_or_create("x")
    for name in ("taks", "$schedule", ""):
        for change in (handle.pause, handle.resume):
            with pytest.raises(AgentqError) as caught:
                await change(name)
            assert caught.value.full_code == "queue.unknown"
    with pytest.raises(AgentqError) as caught:
        await client.nobody.get_or_create("x").pause("tasks")
    assert caught.value.full_code == "actor.unknown"
    assert not (await world.registry.sql("select * from events where kind like 'queue.%'")).rows


async def test_a_queue_that_is_declared_no_more_can_be_paused_and_resumed_while_it_holds_messages(
    world: World, worker: type[Worker]
) -> None:
    client = await world.start(worker=worker)
    handle = client.worker.get_or_create("x")
    await handle.pause("tasks")
    await handle.send("tasks", "orphan")

    class Fewer(Actor):
        other = Queue(str)

    client = await world.restart(worker=Fewer)
    handle = client.worker.get_or_create("x")
    assert await handle.resume("tasks")
    await handle.pause("tasks")
    await handle.purge("tasks")
    assert await handle.resume("tasks"), "it is empty, but it is paused"
    with pytest.raises(AgentqError) as caught:
        await handle.pause("tasks")
    assert caught.value.full_code == "queue.unknown"


async def test_messages_of_an_actor_without_its_class_can_be_held_back_before_it_is_defined(
    world: World, worker: type[Worker]
) -> None:
    client = await world.start(worker=worker)
    handle = client.worker.get_or_create("x")
    await handle.pause("tasks")
    waits = await handle.send("tasks", "waits")
    client = await world.restart(other=type("Other", (Worker,), {"begun": [], "gate": asyncio.Event()}))
    handle = client.worker.get_or_create("x")
    await handle.resume("tasks")
    await handle.pause("tasks")
    client = await world.restart(worker=worker)
    await breathe()
    assert worker.begun == []
    await client.worker.get_or_create("x").resume("tasks")
    assert (await client.receipt(waits.id).result(5)).status == "completed"
