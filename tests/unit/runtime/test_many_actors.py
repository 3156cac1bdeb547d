"""Many actors on one host: the work that looking at them and ending them takes, counted rather than timed."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import pytest

from agentq_nb import Actor, Queue
from agentq_nb._brokers.local import queue_status
from agentq_nb._brokers.local.queues import QueueState
from agentq_nb._brokers.statuses import QueueStatus
from agentq_nb._core.rate import RateMeter
from agentq_nb._notebook.dashboard import snapshot
from agentq_nb._notebook.dashboard.depth_history import recorder_of
from agentq_nb._notebook.dashboard.snapshot import Snapshot
from agentq_nb._runtime.activation import Activation
from agentq_nb._runtime.call_task import CallTask
from tests.unit.runtime.world import World, queue_of, until

pytestmark = pytest.mark.anyio


class Worker(Actor):
    tasks = Queue(str, reply=str)
    slow = Queue(str)

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            if message.queue == "slow":
                await asyncio.sleep(60)
            await message.complete("done")


async def wake(world: World, number: int) -> None:
    client = await world.start(worker=Worker)
    await asyncio.gather(
        *(client.worker.get_or_create(f"w{index}").send("tasks", "x", wait=True) for index in range(number))
    )


class Ticking:
    """A counter of seconds that moves on by a millisecond each time it is read."""

    def __init__(self) -> None:
        self._ticks = itertools.count()

    def __call__(self) -> float:
        return next(self._ticks) / 1000


async def turns_during(look: Any) -> int:
    """How often another task gets its turn meanwhile."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.ensure_future(count())
    await look()
    counting.cancel()
    return turns


async def test_looking_at_many_actors_gives_the_loop_its_turn_after_5_ms(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wake(world, 100)
    picture = Snapshot(world.registry, recorder_of(world.registry.host))
    await picture.gather()
    monkeypatch.setattr(time, "perf_counter", Ticking())
    # Each actor is come to three times: its boxes, its queues, and itself; each time takes a millisecond here.
    assert await turns_during(world.registry.status) >= 100 * 3 // 6
    assert await turns_during(picture.gather) >= 100 * 3 // 6


async def test_the_slices_give_what_one_look_would(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await wake(world, 30)
    await world.registry.host.client.worker.get_or_create("w7").pause("tasks")
    monkeypatch.setattr(RateMeter, "per_minute", lambda *_: 0.0)  # it changes with the clock, from one look to the next
    at_once = await world.registry.status()
    monkeypatch.setattr(time, "perf_counter", itertools.count().__next__)  # a turn after each actor
    sliced = await world.registry.status()
    assert sliced.actors == at_once.actors
    assert len(sliced.queues) == len(at_once.queues) == 30


@pytest.mark.file_only
async def test_the_status_of_one_actor_looks_at_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await wake(world, 30)
    looked: list[str] = []
    real = queue_status.status_of

    def recorded(queue: QueueState, *arguments: Any, **keywords: Any) -> QueueStatus:
        looked.append(queue.actor_queues.actor)
        return real(queue, *arguments, **keywords)

    monkeypatch.setattr(queue_status, "status_of", recorded)
    await queue_of(world.registry.host.client.worker.get_or_create("w3"), "tasks")
    assert set(looked) == {"worker/w3"}


async def test_the_dashboard_makes_rows_of_what_it_shows_and_counts_the_rest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wake(world, 30)
    busy = world.registry.host.client.worker.get_or_create("w29")
    await busy.pause("tasks")
    await busy.send("tasks", "x")
    monkeypatch.setattr(snapshot, "MOST_QUEUES", 10)
    picture = Snapshot(world.registry, recorder_of(world.registry.host))
    seen = await picture.gather()
    assert len(seen["queues"]) == 10
    assert next(iter(seen["queues"])) == "worker/w29 tasks"
    host = seen["host"]["it"]
    assert (host["actors"], host["awake"], host["left_out"]) == (30, 30, 20)
    assert len(recorder_of(world.registry.host).histories()) == 10


async def test_actors_end_in_groups_and_those_at_work_are_told_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentq_nb._host.awake_actors._AT_ONCE", 8)
    await wake(world, 40)
    host = world.registry.host
    await host.client.worker.get_or_create("w39").send("slow", "x")
    await until(lambda: host.activations.find("worker/w39").in_flight.receivers)
    told: list[str] = []
    ending: set[Activation] = set()
    most = 0
    real = Activation.close

    def close(activation: Activation, reason: Any) -> None:
        nonlocal most
        told.append(activation.actor_id)
        ending.add(activation)
        most = max(most, sum(not one.ended.is_set() for one in ending))
        real(activation, reason)
        if activation.actor_id == "worker/w39":
            for call_task in list(activation.call_tasks.values()):
                call_task.stop()

    monkeypatch.setattr(Activation, "close", close)
    await world.registry.stop()
    assert told[0] == "worker/w39"
    assert len(set(told)) == 40
    assert most <= 8


async def test_hooks_that_a_class_leaves_as_they_are_need_no_task(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    real = CallTask.__init__

    def init(call_task: CallTask, call: Any, *rest: Any) -> None:
        begun.append(call.name)
        real(call_task, call, *rest)

    class Hooked(Worker):
        async def on_sleep(self) -> None:
            begun.append("on_sleep was called")

    monkeypatch.setattr(CallTask, "__init__", init)
    client = await world.start(worker=Worker, hooked=Hooked)
    await client.worker.get_or_create("a").send("tasks", "x", wait=True)
    await client.hooked.get_or_create("a").send("tasks", "x", wait=True)
    await world.registry.stop()
    assert begun == ["run", "run", "on_sleep", "on_sleep was called"]
