"""A backlog on handlers that never wait: everything else goes on beside it, and what they settle reaches the disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, Queue
from agentq_nb._core.time_slice import TimeSlices
from tests.unit.runtime.world import World, queue_of, until

pytestmark = pytest.mark.anyio

BACKLOG = 60


class Sum(BaseModel):
    total: int = 0


class Machine:
    """Seconds that pass only while handlers work, and how many messages were handled between two turns of the loop."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turn = 0
        self.handled: dict[int, int] = {}

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.handled[self.turn] = self.handled.get(self.turn, 0) + 1

    async def count_turns(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr("agentq_nb._host.host.TimeSlices", lambda: TimeSlices(lambda: machine.now))
    return machine


@pytest.fixture
async def turning(machine: Machine) -> AsyncIterator[None]:
    counting = asyncio.create_task(machine.count_turns())
    yield
    counting.cancel()


@pytest.mark.file_only
@pytest.mark.usefixtures("turning")
async def test_a_handler_that_never_waits_leaves_the_loop_to_others(
    world: World, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentq_nb._store.writer.LoopBudget.allows", lambda _: True)
    opened = asyncio.Event()
    durable_meanwhile: list[int] = []

    class Busy(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            await opened.wait()
            async for message in self.queue.iter():
                machine.work(0.001)
                durable_meanwhile.append(world.registry.lifecycle.log.last_seq)
                if message.body == BACKLOG - 1:
                    return

    client = await world.start(busy=Busy)
    handle = client.busy.get_or_create("a")
    await asyncio.gather(*(handle.send("tasks", number) for number in range(BACKLOG)))
    opened.set()
    await until(lambda: sum(machine.handled.values()) == BACKLOG)
    assert max(machine.handled.values()) <= 6
    assert len(set(durable_meanwhile)) >= BACKLOG / 6, "what was settled goes to the disk meanwhile"


@pytest.mark.usefixtures("turning")
async def test_many_actors_with_a_backlog_leave_the_loop_to_others_too(world: World, machine: Machine) -> None:
    opened = asyncio.Event()

    class Busy(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            await opened.wait()
            async for _ in self.queue.iter():
                machine.work(0.002)

    client = await world.start(busy=Busy)
    handles = [client.busy.get_or_create(str(number)) for number in range(5)]
    await asyncio.gather(*(handle.send("tasks", number) for handle in handles for number in range(12)))
    opened.set()
    await until(lambda: sum(machine.handled.values()) == 60)
    first, *later = machine.handled.values()
    assert first <= 3 + 5, "each takes one before it asks for the next"
    assert max(later) <= 4


@pytest.mark.usefixtures("turning")
async def test_dead_letters_by_the_thousand_leave_the_loop_to_others(
    world: World, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loose(Actor):
        tasks = Queue(str)

    class Strict(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            async for _ in self.queue.iter():
                pass

    client = await world.start(worker=Loose)
    handle = client.worker.get_or_create("a")
    await asyncio.gather(*(handle.send("tasks", f"not a number {number}") for number in range(BACKLOG)))
    load = Strict.tasks.body.load

    def slow(*args: object) -> object:
        machine.work(0.001)
        return load(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(Strict.tasks.body, "load", slow)
    await world.deploy(worker=Strict)

    async def all_dead() -> bool:
        return (await queue_of(handle, "tasks")).dead == BACKLOG

    await until(all_dead)
    assert max(machine.handled.values()) <= 6


async def test_who_is_asked_to_end_while_he_waits_for_his_slice_ends(world: World, machine: Machine) -> None:
    handled: list[int] = []

    class Busy(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            async for message in self.queue.iter():
                machine.work(1.0)
                handled.append(message.body)
                if message.body == 0:
                    self.sleep()

    client = await world.start(busy=Busy)
    handle = client.busy.get_or_create("a")
    receipts = [await handle.send("tasks", 0), *await asyncio.gather(*(handle.send("tasks", n) for n in (1, 2)))]
    assert [(await receipt.result(5)).status for receipt in receipts] == ["completed"] * 3
    assert handled == [0, 1, 2]


async def test_an_iterator_may_be_handed_on_to_another_task(world: World) -> None:
    """Each turn belongs to the task that asks: what it changes of the state settles with the message it was given."""

    class Counter(Actor):
        tasks = Queue(int)
        state: Sum

        async def run(self) -> None:
            messages = self.queue.iter()
            await self.add_one_of(messages)
            await asyncio.create_task(self.add_one_of(messages))
            await self.add_one_of(messages)
            await asyncio.Event().wait()

        async def add_one_of(self, messages: AsyncIterator[object]) -> None:
            message = await anext(messages)
            self.state.total += message.body  # type: ignore[attr-defined]

    client = await world.start(counter=Counter)
    handle = client.counter.get_or_create("a")
    receipts = [await handle.send("tasks", number) for number in (1, 10, 100)]
    assert [(await receipt.result(5)).status for receipt in receipts[:2]] == ["completed"] * 2
    client = await world.restart()
    states = await world.registry.host.broker.states("counter")
    assert states == {"counter/a": b'{"total":11}'}
