"""``Queue(concurrency=n)``: up to n messages of a queue at once, in handlers and in receivers of one's own; and the state."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, Message, Queue, Retry, WaitWouldDeadlock, action
from agentq_nb.errors import StateReadOnly
from tests.unit.runtime.world import World, queue_of, until, until_status

pytestmark = pytest.mark.anyio


class Book(BaseModel):
    done: int = 0
    names: list[str] = []
    by_name: dict[str, list[int]] = {}


@dataclasses.dataclass
class Plain:
    done: int = 0


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


async def test_n_receivers_of_ones_own_run_work_at_once(world: World) -> None:
    hall = Hall()

    class Worker(Actor):
        tasks = Queue(str, concurrency=2)

        async def run(self) -> None:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(3):
                    tasks.create_task(self.take())

        async def take(self) -> None:
            async for message in self.tasks.iter():
                await hall.work(message.body)

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    for number in range(5):
        await handle.send("tasks", str(number))
    await until(lambda: len(hall.at_work) == 2)
    await asyncio.sleep(0.05)
    assert hall.at_work == ["0", "1"]
    hall.gate.set()
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


# --- state ------------------------------------------------------------------------------------------------------------


class Counting(Actor):
    tasks = Queue(str, reply=int, concurrency=4, retry=Retry(attempts=1))
    state: Book

    @tasks.handler
    async def work(self, body: str, message: Message[str, int]) -> Any:
        if body in CHANGES:
            CHANGES[body](self)
            return 0
        before = self.state.done
        await asyncio.sleep(0.01)

        def count(book: Book) -> None:
            book.done += 1
            book.names.append(body)

        await message.complete(before, update=count)
        return None

    @action
    async def book(self) -> dict[str, Any]:
        return self.state.model_dump()

    @action
    async def add_slowly(self, number: int) -> None:
        self.state.done += number
        await asyncio.sleep(0.05)


def _assign(actor: Any) -> None:
    actor.state = Book(done=5)


def _assign_field(actor: Any) -> None:
    actor.state.done += 1


CHANGES: dict[str, Callable[[Any], Any]] = {
    "assign": _assign,
    "assign a field": _assign_field,
    "append": lambda actor: actor.state.names.append("x"),
    "set an item": lambda actor: actor.state.by_name.update(a=[]),
    "delete": lambda actor: delattr(actor.state, "done"),
}


async def test_changing_the_state_where_several_are_handled_raises_at_once_and_names_the_way_out(world: World) -> None:
    client = await world.start(counting=Counting)
    handle = client.counting.get_or_create("x")
    for body in CHANGES:
        result = await handle.send("tasks", body, wait=True, timeout=5)
        assert (result.status, result.error["code"]) == ("failed", StateReadOnly.code), body
        assert "await message.complete(reply, update=f)" in result.error["message"]
    assert await handle.book() == Book().model_dump()


async def test_updates_of_messages_at_work_together_add_up(world: World) -> None:
    client = await world.start(counting=Counting)
    handle = client.counting.get_or_create("x")
    receipts = [await handle.send("tasks", str(number)) for number in range(20)]
    results = [await receipt.result(5) for receipt in receipts]
    assert {result.status for result in results} == {"completed"}
    book = await handle.book()
    assert book["done"] == 20
    assert sorted(book["names"], key=int) == [str(number) for number in range(20)]
    client = await world.restart()
    assert (await client.counting.get_or_create("x").book())["done"] == 20


async def test_an_update_and_an_action_that_still_runs_both_count(world: World) -> None:
    client = await world.start(counting=Counting)
    handle = client.counting.get_or_create("x")
    await handle.book()
    adding = asyncio.create_task(handle.add_slowly(10))
    await asyncio.sleep(0.01)
    result = await handle.send("tasks", "one", wait=True, timeout=5)
    assert result.status == "completed"
    await adding
    assert (await handle.book())["done"] == 11
    client = await world.restart()
    assert (await client.counting.get_or_create("x").book())["done"] == 11


async def test_an_update_that_raises_settles_nothing(world: World) -> None:
    class Worker(Actor):
        tasks = Queue(str, concurrency=2, retry=Retry(attempts=1))
        state: Book

        @tasks.handler
        async def work(self, body: str, message: Message[str, Any]) -> None:
            def bad(book: Book) -> None:
                book.done = 7
                raise ValueError("no such thing")

            async def asynchronous(book: Book) -> None: ...

            def wrong(book: Book) -> Any:
                return "words"

            await message.complete(update={"bad": bad, "asynchronous": asynchronous, "wrong": wrong}[body])

        @action
        async def done(self) -> int:
            return self.state.done

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    for body, code in (("bad", "error"), ("asynchronous", "validation_error"), ("wrong", "validation_error")):
        result = await handle.send("tasks", body, wait=True, timeout=5)
        assert (result.status, result.error["code"]) == ("failed", code)
    assert await handle.done() == 0


async def test_an_update_may_return_another_state_and_works_with_one_at_a_time_too(world: World) -> None:
    class Worker(Actor):
        many = Queue(int, concurrency=2)
        one = Queue(int)
        state: Plain = Plain(done=1)

        @many.handler
        async def on_many(self, body: int, message: Message[int, Any]) -> None:
            await message.complete(update=lambda state: dataclasses.replace(state, done=state.done * body))

        @one.handler
        async def on_one(self, body: int, message: Message[int, Any]) -> None:
            self.state.done += body
            await message.complete(update=lambda state: dataclasses.replace(state, done=state.done * 10))

        @action
        async def done(self) -> int:
            return self.state.done

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    await handle.send("many", 3, wait=True, timeout=5)
    await handle.send("many", 5, wait=True, timeout=5)
    assert await handle.done() == 15
    await handle.send("one", 2, wait=True, timeout=5)
    assert await handle.done() == 170


async def test_receivers_of_ones_own_with_concurrency_read_the_state_and_update_it(world: World) -> None:
    class Worker(Actor):
        tasks = Queue(int, concurrency=2)
        state: Book

        async def run(self) -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.take())
                tasks.create_task(self.take())

        async def take(self) -> None:
            async for message in self.tasks.iter(completable=True):
                with pytest.raises(StateReadOnly):
                    self.state.done = 100
                await asyncio.sleep(0.005)
                await message.complete(update=self.count)

        def count(self, book: Book) -> None:
            book.done += 1

        @action
        async def done(self) -> int:
            return self.state.done

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    receipts = [await handle.send("tasks", number) for number in range(6)]
    for receipt in receipts:
        assert (await receipt.result(5)).status == "completed"
    assert await handle.done() == 6


async def test_what_is_read_only_keeps_its_types_and_serialises(world: World) -> None:
    class Worker(Actor):
        tasks = Queue(str, reply=dict, concurrency=2)
        state: Book = Book(names=["a"], by_name={"a": [1]})

        @tasks.handler
        def work(self, body: str) -> dict[str, Any]:
            state = self.state
            assert isinstance(state, Book)
            assert type(state).__name__ == "Book"
            assert isinstance(state.names, list)
            assert json.dumps(state.by_name) == '{"a": [1]}'
            copied = state.model_copy(deep=True)
            assert "Book(" in repr(copied)
            return state.model_dump()

    client = await world.start(worker=Worker)
    result = await client.worker.get_or_create("x").send("tasks", "a", wait=True, timeout=5)
    assert result.unwrap() == {"done": 0, "names": ["a"], "by_name": {"a": [1]}}


# --- threads that outlive their time ----------------------------------------------------------------------------------


class Thread:
    """A plain handler's work that does not end when it is told to."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.aborted: list[bool] = []
        self.ended: list[str] = []
        self.gate = threading.Event()

    def work(self, actor: Actor, body: str, attempt: int) -> str:
        self.begun.append((body, attempt))
        if body == "hangs":
            self.gate.wait(20)
            self.aborted.append(actor.aborted)
        self.ended.append(body)
        return "late"


def hanging(thread: Thread, **options: Any) -> type[Actor]:
    class Worker(Actor):
        tasks = Queue(str, reply=str, handler_timeout=0.05, **options)

        @tasks.handler
        def work(self, body: str, message: Message[str, str]) -> str:
            return thread.work(self, body, message.attempt)

    return Worker


async def test_a_thread_that_outlives_its_time_fails_the_attempt_at_once_and_what_it_returns_is_dropped(
    world: World,
) -> None:
    thread = Thread()
    client = await world.start(worker=hanging(thread, retry=Retry(attempts=1)))
    handle = client.worker.get_or_create("x")
    result = await handle.send("tasks", "hangs", wait=True, timeout=5)
    assert (result.status, result.error["code"]) == ("failed", "handler_timed_out")
    assert thread.ended == []
    thread.gate.set()
    await until(lambda: thread.ended)
    assert thread.aborted == [True]
    assert (await client.receipt(result.message_id).result(5)).status == "failed"


async def test_its_place_stays_taken_and_the_next_attempt_waits_for_its_end(world: World) -> None:
    thread = Thread()
    client = await world.start(worker=hanging(thread, retry=Retry(attempts=2, backoff=0)))
    handle = client.worker.get_or_create("x")
    hangs = await handle.send("tasks", "hangs")
    await handle.send("tasks", "next")
    await until_status(hangs, "running")
    await until_status(hangs, "queued", "delayed")
    await asyncio.sleep(0.2)
    assert thread.begun == [("hangs", 1)]
    assert (await handle.status()).overdue == [hangs.id]
    thread.gate.set()
    assert (await hangs.result(5)).response == "late"
    await until(lambda: thread.begun == [("hangs", 1), ("hangs", 2), ("next", 1)])
    assert (await handle.status()).overdue == []


async def test_with_concurrency_only_its_own_place_is_taken(world: World) -> None:
    thread = Thread()
    client = await world.start(worker=hanging(thread, concurrency=2, retry=Retry(attempts=2, backoff=0)))
    handle = client.worker.get_or_create("x")
    hangs = await handle.send("tasks", "hangs")
    await until_status(hangs, "running")
    await until_status(hangs, "queued", "delayed")
    others = [await handle.send("tasks", str(number)) for number in range(3)]
    for other in others:
        assert (await other.result(5)).status == "completed"
    assert thread.begun == [("hangs", 1), ("0", 1), ("1", 1), ("2", 1)]
    thread.gate.set()
    assert (await hangs.result(5)).response == "late"
    assert thread.begun[-1] == ("hangs", 2)


async def test_a_stop_does_not_hang_on_a_thread_and_a_new_host_waits_for_it(slow_world: World) -> None:
    thread = Thread()

    class Worker(Actor):
        tasks = Queue(str, reply=str, concurrency=2)

        @tasks.handler
        def work(self, body: str, message: Message[str, str]) -> str:
            return thread.work(self, body, message.attempt)

    client = await slow_world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    hangs = await handle.send("tasks", "hangs")
    await until(lambda: thread.begun)
    stopping = asyncio.create_task(slow_world.registry.stop())
    await slow_world.pass_by(10.1)
    await asyncio.wait_for(stopping, 5)
    client = await slow_world.start()
    handle = client.worker.get_or_create("x")
    assert (await handle.send("tasks", "other", wait=True, timeout=None)).status == "completed"
    assert thread.begun == [("hangs", 1), ("other", 1)]
    thread.gate.set()
    assert (await client.receipt(hangs.id).result()).response == "late"
    assert thread.begun == [("hangs", 1), ("other", 1), ("hangs", 1)]


async def test_threads_of_handlers_are_daemons_of_a_pool_of_their_own(world: World) -> None:
    class Worker(Actor):
        tasks = Queue(str, reply=list)

        @tasks.handler
        def work(self, body: str) -> list[Any]:
            thread = threading.current_thread()
            return [thread.daemon, thread.name]

    client = await world.start(worker=Worker)
    result = await client.worker.get_or_create("x").send("tasks", "a", wait=True, timeout=5)
    assert result.response == [True, "agentq handler"]


async def test_a_handler_in_a_thread_does_not_block_the_loop(world: World) -> None:
    class Worker(Actor):
        tasks = Queue(str)

        @tasks.handler
        def work(self, body: str) -> None:
            time.sleep(0.3)

    client = await world.start(worker=Worker)
    receipt = await client.worker.get_or_create("x").send("tasks", "a")
    await until_status(receipt, "running")
    turns = 0
    while await receipt.status() == "running":
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 20
