"""The state of an actor where several messages are handled at once: read-only, and changed by ``complete(update=f)``."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, Message, Queue, Retry, action
from agentq_nb.errors import StateReadOnly
from tests.unit.runtime.world import World

pytestmark = pytest.mark.anyio


class Book(BaseModel):
    done: int = 0
    names: list[str] = []
    by_name: dict[str, list[int]] = {}


@dataclasses.dataclass
class Plain:
    done: int = 0


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


async def test_a_plain_handler_settles_from_its_thread(world: World) -> None:
    class Worker(Actor):
        tasks = Queue(str, reply=int, concurrency=4, retry=Retry(attempts=2, backoff=0))
        state: Book

        @tasks.handler
        def work(self, body: str, message: Message[str, int]) -> Any:
            def count(book: Book) -> None:
                book.done += 1

            if body == "fail":
                asyncio.run(message.fail("not this one"))
            elif body == "retry" and message.attempt == 1:
                asyncio.run(message.retry())
            else:
                asyncio.run(message.complete(message.attempt, update=count))

        @action
        async def done(self) -> int:
            return self.state.done

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    receipts = [await handle.send("tasks", body) for body in ("a", "b", "fail", "retry", "c", "d")]
    results = [await receipt.result(5) for receipt in receipts]
    assert [result.response for result in results] == [1, 1, None, 2, 1, 1]
    assert results[2].status == "failed"
    assert await handle.done() == 5


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


@pytest.mark.parametrize("concurrency", [1, 2], ids=["one at a time", "several"])
async def test_a_receiver_sees_with_each_message_what_was_changed_since_its_last_one(
    world: World, concurrency: int
) -> None:
    class Reader(Actor):
        tasks = Queue(str, reply=int, concurrency=concurrency)
        state: Book

        async def run(self) -> None:
            async for message in self.tasks.iter(completable=True):
                await message.complete(self.state.done)

        @action
        async def set(self, done: int) -> None:
            self.state.done = done

    client = await world.start(reader=Reader)
    reader = client.reader.get_or_create("x")
    seen: list[Any] = []
    for done in (1, 2, 3):
        await reader.set(done)
        seen.append((await reader.send("tasks", "read", wait=True, timeout=5)).response)
    assert seen == [1, 2, 3]


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
