"""``Queue(concurrency=n)``: up to n messages of a queue at once, in handlers and in receivers of one's own."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from agentq_nb import Actor, Queue, Retry, WaitWouldDeadlock
from tests.unit.runtime.world import World, queue_of, until

pytestmark = pytest.mark.anyio


class Hall:
    """Counts who is at work, and lets them go on when told."""

    def __init__(self) -> None:
        self.at_work: list[str] = []
        self.most = 0
        self.begun: list[str] = []
        self.gate = asyncio.Event()

    async def work(self, body: str) -> None:
        self.begun.append(body)
        self.at_work.append(body)
        self.most = max(self.most, len(self.at_work))
        try:
            await self.gate.wait()
        finally:
            self.at_work.remove(body)


def handling(hall: Hall, concurrency: int, **options: Any) -> type[Actor]:
    class Worker(Actor):
        tasks = Queue(str, concurrency=concurrency, **options)

        @tasks.handler
        async def work(self, body: str) -> None:
            await hall.work(body)

    return Worker


async def test_up_to_n_messages_are_handled_at_once_in_the_order_of_sending(world: World) -> None:
    hall = Hall()
    client = await world.start(worker=handling(hall, 3))
    handle = client.worker.get_or_create("x")
    receipts = [await handle.send("tasks", str(number)) for number in range(7)]
    await until(lambda: len(hall.at_work) == 3)
    assert hall.begun == ["0", "1", "2"]
    assert (await queue_of(handle, "tasks")).running == 3
    hall.gate.set()
    assert {(await receipt.result(5)).status for receipt in receipts} == {"completed"}
    assert hall.most == 3
    assert hall.begun == [str(number) for number in range(7)]


@pytest.mark.file_only
async def test_the_next_handlers_start_before_the_loop_writes_how_the_last_ones_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hall = Hall()
    client = await world.start(worker=handling(hall, 2))
    handle = client.worker.get_or_create("x")
    receipts = [await handle.send("tasks", str(number)) for number in range(4)]
    await until(lambda: len(hall.at_work) == 2)
    log = world.registry.lifecycle.log
    await until(log._writer.idle)
    begun_at_commits: list[int] = []
    commit = log._commits.commit

    def noted(batch: Any, *, on_loop: bool) -> Any:
        begun_at_commits.append(len(hall.begun))
        return commit(batch, on_loop=on_loop)

    monkeypatch.setattr(log._commits, "commit", noted)
    monkeypatch.setattr(log._writer._budget, "allows", lambda: True)  # however slow this disk is
    hall.gate.set()
    assert {(await receipt.result(5)).status for receipt in receipts} == {"completed"}
    assert begun_at_commits[0] > 2  # on a busy machine the time slice of the handlers may be over after one of them


async def test_plain_handlers_work_in_threads_of_their_own_at_once(world: World) -> None:
    together = threading.Barrier(3, timeout=5)

    class Worker(Actor):
        tasks = Queue(int, reply=str, concurrency=3)

        @tasks.handler
        def work(self, body: int) -> str:
            together.wait()
            return str(threading.get_ident())

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    receipts = [await handle.send("tasks", number) for number in range(6)]
    results = [await receipt.result(5) for receipt in receipts]
    assert [result.status for result in results] == ["completed"] * 6
    assert len({result.response for result in results}) >= 3


@pytest.mark.parametrize("named", [True, False])
async def test_n_receivers_of_ones_own_run_work_at_once(world: World, named: bool) -> None:
    hall = Hall()

    class Worker(Actor):
        tasks = Queue(str, concurrency=2)
        notes = Queue(str)

        async def run(self) -> None:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(3):
                    tasks.create_task(self.take())

        async def take(self) -> None:
            async for message in self.tasks.iter() if named else self.queue.iter():
                await hall.work(message.body)

        @notes.handler
        async def on_note(self, body: str) -> None:
            hall.gate.set()

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    for number in range(5):
        await handle.send("tasks", str(number))
    await until(lambda: len(hall.at_work) == 2)
    await asyncio.sleep(0.05)
    assert hall.at_work == ["0", "1"]
    await handle.send("notes", "go on")
    await until(lambda: len(hall.begun) == 5)
    assert hall.most == 2


async def test_a_queue_with_concurrency_works_beside_the_others_which_stay_one_at_a_time(world: World) -> None:
    many, one = Hall(), Hall()

    class Worker(Actor):
        many = Queue(str, concurrency=2)
        one = Queue(str)

        @many.handler
        async def on_many(self, body: str) -> None:
            await many.work(body)

        @one.handler
        async def on_one(self, body: str) -> None:
            await one.work(body)

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    for number in range(3):
        await handle.send("many", str(number))
        await handle.send("one", str(number))
    await until(lambda: len(many.at_work) == 2 and len(one.at_work) == 1)
    many.gate.set()
    one.gate.set()
    await until(lambda: len(many.begun) == len(one.begun) == 3)
    assert (many.most, one.most) == (2, 1)


async def test_other_concurrency_after_a_restart_redoes_nothing(world: World) -> None:
    hall = Hall()
    hall.gate.set()
    client = await world.start(worker=handling(hall, 3))
    handle = client.worker.get_or_create("x")
    for number in range(4):
        await handle.send("tasks", str(number), idempotency_key=str(number), wait=True, timeout=5)
    client = await world.restart(worker=handling(hall, 2))
    handle = client.worker.get_or_create("x")
    for number in range(5):
        await handle.send("tasks", str(number), idempotency_key=str(number), wait=True, timeout=5)
    assert sorted(hall.begun) == ["0", "1", "2", "3", "4"]


async def test_one_that_fails_disturbs_no_other(world: World) -> None:
    class Worker(Actor):
        tasks = Queue(int, reply=int, concurrency=3, retry=Retry(attempts=1))

        @tasks.handler
        async def work(self, body: int) -> int:
            await asyncio.sleep(0.01)
            if body == 1:
                raise ValueError("only this one")
            return body

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    receipts = [await handle.send("tasks", number) for number in range(3)]
    results = [await receipt.result(5) for receipt in receipts]
    assert [(result.status, result.response) for result in results] == [
        ("completed", 0),
        ("failed", None),
        ("completed", 2),
    ]


async def test_cancelling_one_message_leaves_the_others_at_work(world: World) -> None:
    hall = Hall()
    client = await world.start(worker=handling(hall, 2))
    handle = client.worker.get_or_create("x")
    first, second = await handle.send("tasks", "1"), await handle.send("tasks", "2")
    await until(lambda: len(hall.at_work) == 2)
    await first.cancel()
    assert (await first.result(5)).status == "cancelled"
    assert hall.at_work == ["2"]
    hall.gate.set()
    assert (await second.result(5)).status == "completed"


async def test_a_stop_puts_all_back_uncounted_and_first(slow_world: World) -> None:
    hall = Hall()
    client = await slow_world.start(worker=handling(hall, 2))
    handle = client.worker.get_or_create("x")
    for number in range(3):
        await handle.send("tasks", str(number))
    await until(lambda: len(hall.at_work) == 2)
    stopping = asyncio.create_task(slow_world.registry.stop())
    await slow_world.pass_by(10.1)
    await asyncio.wait_for(stopping, 5)
    again = Hall()
    again.gate.set()
    client = await slow_world.start(worker=handling(again, 2))
    await until(lambda: len(again.begun) == 3)
    assert again.begun == ["0", "1", "2"]
    assert list((await slow_world.registry.messages())["attempts"]) == [1, 1, 1]


async def test_a_wait_for_ones_own_queue_is_refused_only_when_every_place_waits(world: World) -> None:
    outcomes: list[str] = []
    both = asyncio.Event()

    class Worker(Actor):
        tasks = Queue(str, reply=str, concurrency=2)

        @tasks.handler
        async def work(self, body: str) -> str:
            if body == "leaf":
                return body
            if body == "pair":
                outcomes.append("begun")
                if len(outcomes) == 2:
                    both.set()
                await both.wait()
            try:
                result = await self.queue.push("tasks", "leaf", wait=True, timeout=5)
            except WaitWouldDeadlock:
                return "refused"
            return str(result.response)

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    assert (await handle.send("tasks", "alone", wait=True, timeout=5)).response == "leaf"
    pair = [await handle.send("tasks", "pair") for _ in range(2)]
    assert sorted([(await receipt.result(5)).response for receipt in pair]) == ["leaf", "refused"]
