"""How messages are received: names, order, batches, timeouts, and one at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentq_nb import Actor, AgentqError, Queue, Retry, WaitWouldDeadlock, action
from tests.unit.runtime.world import World, queue_of, until

pytestmark = pytest.mark.anyio


class Taker(Actor):
    """No run: its actions receive."""

    a = Queue(Any)
    b = Queue(Any)
    c = Queue(Any)

    @action
    async def take(self, count: int, names: list[str] | None = None, timeout: float | None = 0.05) -> list[Any]:
        return [(m.queue, m.body) for m in await self.queue.next_batch(count, names, timeout)]

    @action
    async def take_one(self, names: list[str] | None = None) -> Any:
        message = await self.queue.next(names, timeout=0.02)
        return None if message is None else message.body

    @action
    async def take_at_once(self, count: int) -> list[Any]:
        return [m.body for m in await self.queue.try_next_batch(count)]

    @action
    async def take_by_iterating(self, names: list[str] | None = None) -> Any:
        async for message in self.queue.iter(names):
            return message.body
        return None

    @action
    async def take_through_view(self) -> Any:
        message = await self.b.next(timeout=1)
        return None if message is None else message.body


async def test_a_body_comes_out_equal_and_with_its_queue(world: World) -> None:
    client = await world.start(taker=Taker)
    handle = client.taker.get_or_create("x")
    body = {"hello": "world", "n": [1, 2.5, None, True, "ünïcødé 🎈"]}
    await handle.send("a", body)
    assert await handle.take(1) == [("a", body)]


async def test_a_batch_over_two_queues_is_in_the_order_of_sending_and_leaves_the_third(world: World) -> None:
    client = await world.start(taker=Taker)
    handle = client.taker.get_or_create("x")
    for name, body in [("a", 1), ("c", 3), ("b", 2)]:
        await handle.send(name, body)
    assert await handle.take(2, ["b", "a"]) == [("a", 1), ("b", 2)]
    assert await handle.take(5) == [("c", 3)]


async def test_a_batch_without_names_takes_from_all_queues_in_the_order_of_sending(world: World) -> None:
    client = await world.start(taker=Taker)
    handle = client.taker.get_or_create("x")
    for name, body in [("c", 1), ("a", 2), ("b", 3)]:
        await handle.send(name, body)
    assert await handle.take(2) == [("c", 1), ("a", 2)]
    assert await handle.take(2, []) == [("b", 3)], "an empty list of names means all"


async def test_a_name_filter_takes_the_oldest_of_its_queue_and_leaves_the_rest_in_order(world: World) -> None:
    client = await world.start(taker=Taker)
    handle = client.taker.get_or_create("x")
    for name, body in [("b", 0), ("a", 1), ("a", 2), ("a", 3)]:
        await handle.send(name, body)
    assert await handle.take(2, ["a", "a"]) == [("a", 1), ("a", 2)]
    assert await handle.take(9) == [("b", 0), ("a", 3)]


async def test_a_count_below_one_is_taken_as_one(world: World) -> None:
    client = await world.start(taker=Taker)
    handle = client.taker.get_or_create("x")
    await handle.send("a", 1)
    await handle.send("a", 2)
    assert await handle.take(0) == [("a", 1)]


async def test_hundreds_of_long_queue_names_can_be_named_at_once(world: World) -> None:
    names = [f"queue_{index:04}_{'long' * 15}" for index in range(1100)]
    many: Any = type("Many", (Taker,), {name: Queue(Any) for name in names})
    client = await world.start(many=many)
    handle = client.many.get_or_create("x")
    await handle.send(names[-1], "found")
    assert await handle.take(1, names) == [(names[-1], "found")]


async def test_an_empty_queue_gives_nothing_after_the_timeout_and_no_error(world: World) -> None:
    client = await world.start(taker=Taker)
    handle = client.taker.get_or_create("x")
    assert await handle.take(2) == []
    assert await handle.take_one() is None


async def test_trying_never_waits(slow_world: World) -> None:
    client = await slow_world.start(taker=Taker)
    handle = client.taker.get_or_create("x")
    assert await handle.take_at_once(3) == [], "the clock stands still: a wait would never end"
    await handle.send("a", 1)
    assert await handle.take_at_once(3) == [1]


async def test_iterating_with_names_or_without_yields_and_may_be_left(world: World) -> None:
    client = await world.start(taker=Taker)
    handle = client.taker.get_or_create("x")
    await handle.send("b", "skip")
    await handle.send("a", "keep")
    assert await handle.take_by_iterating(["a"]) == "keep"
    assert await handle.take_by_iterating() == "skip"


async def test_a_declared_queue_read_on_the_instance_is_the_mailbox_through_that_queue(world: World) -> None:
    client = await world.start(taker=Taker)
    handle = client.taker.get_or_create("x")
    await handle.send("a", 1)
    await handle.send(Taker.b, 2)
    assert await handle.take_through_view() == 2


async def test_run_handles_messages_in_the_order_of_sending(world: World) -> None:
    seen: list[int] = []

    class Worker(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            async for message in self.queue.iter():
                seen.append(message.body)
                await asyncio.sleep(0)

        @action
        async def put_three(self) -> None:
            for number in (1, 2, 3):
                await self.queue.push("tasks", number)

    client = await world.start(worker=Worker)
    await client.worker.get_or_create("x").put_three()
    await until(lambda: seen == [1, 2, 3])


async def test_while_a_message_is_held_everybody_else_of_the_actor_waits(world: World) -> None:
    gate, started, order = asyncio.Event(), asyncio.Event(), []

    class Worker(Taker):
        async def run(self) -> None:
            async for message in self.queue.iter(["a"]):
                order.append(("run", message.body))
                started.set()
                await gate.wait()

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    await handle.send("a", 1)
    await started.wait()
    await handle.send("a", 2)
    assert await handle.take(1, ["a", "b"], 0.02) == []
    assert await handle.take_at_once(1) == []
    gate.set()
    await until(lambda: order == [("run", 1), ("run", 2)])


async def test_actors_run_side_by_side(world: World) -> None:
    inside: set[str] = set()
    together = asyncio.Event()

    class Worker(Actor):
        tasks = Queue(str)

        async def run(self) -> None:
            async for message in self.queue.iter():
                inside.add(message.body)
                if len(inside) == 2:
                    together.set()
                await together.wait()

    client = await world.start(worker=Worker)
    await client.worker.get_or_create("one").send("tasks", "one")
    await client.worker.get_or_create("two").send("tasks", "two")
    await asyncio.wait_for(together.wait(), 5)


async def test_receivers_of_disjoint_queues_hold_side_by_side(world: World) -> None:
    stopped: list[Any] = []

    class Prompter(Actor):
        prompt = Queue(str, reply=str)
        stop = Queue(str)

        async def run(self) -> None:
            async for message in self.queue.iter(["prompt"], completable=True):
                control = await self.queue.next(["stop"], timeout=5)
                stopped.append(control.body if control else None)
                await message.complete("stopped")

    client = await world.start(prompter=Prompter)
    handle = client.prompter.get_or_create("x")
    sent = asyncio.create_task(handle.send("prompt", "go", wait=True, timeout=5))
    await handle.send("stop", "now")
    assert (await sent).response == "stopped"
    assert stopped == ["now"]
    await until(lambda: _settled(handle, "stop"))


async def _settled(handle: Any, queue: str) -> bool:
    status = await queue_of(handle, queue)
    return status.live == 0 or status.running == 1


async def test_a_second_receiver_of_an_overlapping_queue_in_the_same_task_is_told_at_once(world: World) -> None:
    told: list[BaseException] = []

    class Worker(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            async for _ in self.queue.iter():
                assert await self.queue.try_next() is None
                try:
                    await self.queue.next()
                except WaitWouldDeadlock as error:
                    told.append(error)

    client = await world.start(worker=Worker)
    await client.worker.get_or_create("x").send("tasks", 1)
    await until(lambda: told)


async def test_one_who_waits_for_his_turn_in_vain_does_not_make_others_spin(world: World) -> None:
    gate, started = asyncio.Event(), asyncio.Event()
    turns = 0

    class Worker(Taker):
        async def run(self) -> None:
            async for _ in self.queue.iter(["a"]):
                started.set()
                await gate.wait()

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    await handle.send("a", 1)
    await started.wait()
    patient = asyncio.create_task(handle.take(1, ["a", "b"], 5))
    assert await handle.take(1, ["a"], 0.03) == []

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    turning = asyncio.create_task(turn())
    await until(lambda: turns > 20)
    assert not patient.done()
    turning.cancel()
    await handle.send("b", 2)
    gate.set()
    assert await patient == [("b", 2)]


async def test_asking_without_a_pause_leaves_the_loop_to_others(world: World) -> None:
    found: list[int] = []

    class Eager(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            while True:
                if (message := await self.queue.try_next()) is not None:
                    found.append(message.body)

    client = await world.start(eager=Eager)
    await client.eager.get_or_create("x").send("tasks", 7)
    await until(lambda: found == [7])


async def test_a_batch_is_one_delivery_settled_together(world: World) -> None:
    batches: list[list[int]] = []
    gate = asyncio.Event()

    class Worker(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            while True:
                batch = await self.queue.next_batch(3)
                batches.append([message.body for message in batch])
                await gate.wait()

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    receipts = [await handle.send("tasks", number) for number in range(3)]
    await until(lambda: batches)
    gate.set()
    await until(lambda: [body for batch in batches for body in batch] == [0, 1, 2])
    assert [(await receipt.result(5)).status for receipt in receipts] == ["completed"] * 3


async def test_a_failing_batch_fails_every_message_of_it(slow_world: World) -> None:
    attempts: list[list[int]] = []
    ready = asyncio.Event()

    class Worker(Actor):
        tasks = Queue(int, retry=Retry(attempts=2, backoff=5))

        async def run(self) -> None:
            await ready.wait()
            while True:
                batch = await self.queue.next_batch(5)
                attempts.append([message.attempt for message in batch])
                if batch[0].attempt == 1:
                    raise ValueError("once")

    client = await slow_world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    for number in range(3):
        await handle.send("tasks", number)
    ready.set()
    await until(lambda: attempts == [[1, 1, 1]])
    await slow_world.pass_by(5)
    await until(lambda: attempts == [[1, 1, 1], [2, 2, 2]])


async def test_an_unfit_body_in_the_way_does_not_hide_the_one_behind_it(world: World) -> None:
    class Old(Taker):
        pass

    class New(Taker):
        a = Queue(int)

    client = await world.start(taker=Old)
    handle = client.taker.get_or_create("x")
    unfit = await handle.send("a", "text")
    await handle.send("a", 2)
    await world.deploy(taker=New)
    assert await handle.take_at_once(1) == [2]
    assert (await unfit.result(5)).error["code"] == "validation_error"


async def test_receiving_outside_the_actors_own_calls_is_refused(world: World) -> None:
    leaked: list[Any] = []

    class Worker(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            leaked.append(self)
            await asyncio.Event().wait()

    client = await world.start(worker=Worker)
    await client.worker.get_or_create("x").send("tasks", 1)
    await until(lambda: leaked)
    with pytest.raises(AgentqError) as caught:
        await leaked[0].queue.next(timeout=0)
    assert caught.value.full_code == "actor.outside"


async def test_an_unknown_queue_name_is_refused_at_once(world: World) -> None:
    client = await world.start(taker=Taker)
    with pytest.raises(AgentqError) as caught:
        await client.taker.get_or_create("x").take(1, ["zzz"])
    assert caught.value.full_code == "queue.unknown"
    assert "a, b, c" in caught.value.message


async def test_many_queues_are_all_served_under_many_senders(world: World) -> None:
    names = [f"queue_{index}" for index in range(32)]
    seen: list[str] = []

    async def run(self: Any) -> None:
        async for message in self.queue.iter(names, completable=True):
            seen.append(message.queue)
            await message.complete({"ok": True, "index": message.body})

    many: Any = type("Many", (Actor,), {**{name: Queue(int, reply=dict[str, Any]) for name in names}, "run": run})

    class Parent(Actor):
        spawn = Queue(str, reply=str)

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                await self.actors.many.create(message.body)
                await message.complete(message.body)

        @action
        async def spawn_child(self, key: str) -> str:
            result = await self.queue.push("spawn", key, wait=True, timeout=5)
            return result.unwrap()

        @action
        async def make_child(self, key: str) -> str:
            await self.actors.many.create(key)
            return key

    client = await world.start(many=many, parent=Parent)
    parent = client.parent.get_or_create("p")
    for key in [await parent.make_child("by action"), await parent.spawn_child("by run")]:
        seen.clear()
        child = client.many.get(key)
        await asyncio.gather(*(child.send(names[index % 32], index) for index in range(128)))
        await until(lambda: len(seen) == 128)
        assert set(seen) == set(names)
        result = await child.send(names[0], 5, wait=True, timeout=5)
        assert (result.status, result.response) == ("completed", {"ok": True, "index": 5})
