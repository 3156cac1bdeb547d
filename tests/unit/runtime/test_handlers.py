"""Handlers: a method per queue, called for each message; what it returns is the reply, what it raises fails the attempt."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, Message, Queue, Retry, WaitWouldDeadlock, action
from agentq_nb.errors import QueueHasHandler, ReplyTooLarge
from tests.unit.runtime.world import World, queue_of, until, until_state, until_status

pytestmark = pytest.mark.anyio


class Issue(BaseModel):
    title: str


@dataclass
class Verdict:
    label: str


class Book(BaseModel):
    done: list[str] = []


class Triage(Actor, sleep_timeout=0.05):
    issues = Queue(Issue, reply=Verdict)
    plain = Queue(str, reply=str)
    state: Book

    @issues.handler
    async def triage(self, issue: Issue) -> Verdict:
        self.state.done.append(issue.title)
        return Verdict(label=issue.title.upper())

    @plain.handler
    def in_a_thread(self, body: str, message: Message[str, str]) -> str:
        self.state.done.append(body)
        return f"{body} {message.attempt} {threading.current_thread() is threading.main_thread()}"

    @action
    async def done(self) -> list[str]:
        return self.state.done


async def test_what_a_handler_returns_is_the_typed_reply_and_its_state_is_saved(world: World) -> None:
    client = await world.start(triage=Triage)
    handle = client.actor(Triage).get_or_create("x")
    result = await handle.send(Triage.issues, Issue(title="bug"), wait=True, timeout=5)
    assert (result.status, result.response) == ("completed", Verdict(label="BUG"))
    assert (await handle.send("plain", "hello", wait=True, timeout=5)).response == "hello 1 False"
    assert await handle.done() == ["bug", "hello"]


async def test_a_class_with_handlers_sleeps_and_is_woken_by_a_message(world: World) -> None:
    client = await world.start(triage=Triage)
    handle = client.triage.get_or_create("x")
    await handle.send("issues", {"title": "a"}, wait=True, timeout=5)
    await until_state(handle, "asleep")
    assert (await handle.send("issues", {"title": "b"}, wait=True, timeout=5)).status == "completed"
    assert await handle.done() == ["a", "b"]


async def test_messages_sent_before_a_restart_are_handled_after_it(world: World) -> None:
    client = await world.start(triage=Triage)
    handle = client.triage.get_or_create("x")
    await handle.pause("issues")
    receipt = await handle.send("issues", {"title": "a"})
    client = await world.restart()
    await client.triage.get_or_create("x").resume("issues")
    assert (await client.receipt(receipt.id).result(5)).status == "completed"


async def test_what_a_handler_raises_fails_the_attempt_with_its_traceback(world: World) -> None:
    seen: list[int] = []

    class Worker(Actor):
        tasks = Queue(str, retry=Retry(attempts=2, backoff=0))
        state: Book

        @tasks.handler
        async def work(self, body: str, message: Message[str, Any]) -> None:
            seen.append(message.attempt)
            self.state.done.append(body)
            raise ValueError("no such row")

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    result = await handle.send("tasks", "a", wait=True, timeout=5)
    assert result.status == "failed"
    assert seen == [1, 2]
    assert "no such row" in result.error["message"]
    status = await handle.status()
    assert "no such row" in status.last_error["traceback"]
    assert (await queue_of(handle, "tasks")).dead == 1


async def test_a_reply_that_does_not_fit_fails_the_attempt_and_one_too_large_is_final(world: World) -> None:
    tried: list[str] = []

    class Worker(Actor):
        tasks = Queue(str, reply=int, retry=Retry(attempts=2, backoff=0), max_reply_bytes=10)

        @tasks.handler
        async def work(self, body: str) -> Any:
            tried.append(body)
            return {"wrong": "words", "none": None, "large": 10**20}[body]

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    for body, code in (("wrong", "validation_error"), ("none", "validation_error"), ("large", ReplyTooLarge.code)):
        result = await handle.send("tasks", body, wait=True, timeout=5)
        assert (result.status, result.error["code"]) == ("failed", code)
    assert tried == ["wrong", "wrong", "none", "none", "large"]


async def test_a_handler_may_settle_its_message_itself(world: World) -> None:
    class Worker(Actor):
        tasks = Queue(str, reply=str, retry=Retry(attempts=3, backoff=0))

        @tasks.handler
        async def work(self, body: str, message: Message[str, str]) -> Any:
            if message.attempt == 2:
                return "second time"
            if body == "complete":
                await message.complete("by itself")
            elif body == "fail":
                await message.fail("for good")
            else:
                await message.retry(after=0)
            return None

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    results = [await handle.send("tasks", body, wait=True, timeout=5) for body in ("complete", "fail", "retry")]
    assert [(result.status, result.response) for result in results] == [
        ("completed", "by itself"),
        ("failed", None),
        ("completed", "second time"),
    ]


async def test_all_handlers_with_concurrency_1_are_one_receiver(world: World) -> None:
    at_work: list[str] = []
    most: list[int] = []

    class Worker(Actor):
        a = Queue(str)
        b = Queue(str)

        @a.handler
        async def on_a(self, body: str) -> None:
            await self.work(body)

        @b.handler
        async def on_b(self, body: str, message: Message[str, Any]) -> None:
            await message.complete()  # what follows still is its turn
            await self.work(body)

        async def work(self, body: str) -> None:
            at_work.append(body)
            most.append(len(at_work))
            await asyncio.sleep(0.01)
            at_work.remove(body)

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    for number in range(5):
        await handle.send("a", f"a{number}")
        await handle.send("b", f"b{number}")
    await until(lambda: len(most) == 10)
    assert set(most) == {1}


async def test_run_and_handlers_take_different_queues_one_message_at_a_time(world: World) -> None:
    at_work: list[str] = []
    done: list[tuple[str, str, int]] = []

    class Worker(Actor):
        jobs = Queue(str)
        notes = Queue(str)

        async def run(self) -> None:
            async for message in self.queue.iter():
                await self.work("run", message.body)

        @notes.handler
        async def on_note(self, body: str) -> None:
            await self.work("handler", body)

        async def work(self, by: str, body: str) -> None:
            at_work.append(body)
            await asyncio.sleep(0.005)
            done.append((by, body, len(at_work)))
            at_work.remove(body)

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    for number in range(4):
        await handle.send("jobs", f"job {number}")
        await handle.send("notes", f"note {number}")
    await until(lambda: len(done) == 8)
    assert sorted(done) == [("handler", f"note {n}", 1) for n in range(4)] + [("run", f"job {n}", 1) for n in range(4)]


async def test_a_run_that_names_its_queues_works_beside_the_handlers(world: World) -> None:
    stop = asyncio.Event()

    class Worker(Actor):
        jobs = Queue(str)
        stops = Queue(str)

        async def run(self) -> None:
            async for _ in self.jobs.iter():
                await stop.wait()

        @stops.handler
        async def on_stop(self, body: str) -> None:
            stop.set()

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    job = await handle.send("jobs", "long")
    await until_status(job, "running")
    await handle.send("stops", "now")
    assert (await job.result(5)).status in ("completed", "timed_out")
    await until(stop.is_set)


async def test_naming_a_queue_that_has_a_handler_is_an_error(world: World) -> None:
    class Worker(Actor):
        jobs = Queue(str)
        notes = Queue(str)

        @notes.handler
        async def on_note(self, body: str) -> None: ...

        @action
        async def ask(self, how: str) -> Any:
            ways: dict[str, Any] = {
                "iter": lambda: self.queue.iter("notes"),
                "both": lambda: self.queue.iter(["jobs", "notes"]),
                "bound": lambda: self.notes.iter(),
                "next": lambda: self.queue.try_next("notes"),
            }
            given = ways[how]()
            if asyncio.iscoroutine(given):
                await given

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    for how in ("iter", "both", "bound", "next"):
        with pytest.raises(QueueHasHandler) as caught:
            await handle.ask(how)
        assert "'notes'" in str(caught.value)
        assert "on_note" in str(caught.value)


async def test_where_all_queues_have_handlers_iter_without_names_is_an_error(world: World) -> None:
    class Worker(Triage):
        @action
        async def ask(self) -> None:
            await self.queue.try_next(completable=True)

    client = await world.start(worker=Worker)
    with pytest.raises(QueueHasHandler):
        await client.worker.get_or_create("x").ask()


async def test_cancelling_a_message_cancels_its_handler_and_the_next_one_follows(world: World) -> None:
    ended: list[str] = []

    class Worker(Actor):
        tasks = Queue(str)

        @tasks.handler
        async def work(self, body: str) -> None:
            try:
                await asyncio.sleep(60 if body == "long" else 0)
            finally:
                ended.append(body)

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    long, short = await handle.send("tasks", "long"), await handle.send("tasks", "short")
    await until_status(long, "running")
    await long.cancel()
    assert (await long.result(5)).status == "cancelled"
    assert (await short.result(5)).status == "completed"
    assert ended == ["long", "short"]


async def test_an_async_handler_that_takes_too_long_is_cancelled_and_fails_the_attempt(world: World) -> None:
    class Worker(Actor):
        tasks = Queue(str, handler_timeout=0.05, retry=Retry(attempts=1))

        @tasks.handler
        async def work(self, body: str) -> None:
            await asyncio.sleep(60)

    client = await world.start(worker=Worker)
    result = await client.worker.get_or_create("x").send("tasks", "a", wait=True, timeout=5)
    assert (result.status, result.error["code"]) == ("failed", "handler_timed_out")


async def test_redefining_the_class_deploys_new_handlers_after_the_message_at_work(world: World) -> None:
    gate, seen = asyncio.Event(), list[str]()

    class Old(Actor):
        tasks = Queue(str)

        @tasks.handler
        async def work(self, body: str) -> None:
            seen.append(f"old {body}")
            await gate.wait()

    class New(Actor):
        tasks = Queue(str)

        @tasks.handler
        def work(self, body: str) -> None:
            seen.append(f"new {body}")

    client = await world.start(worker=Old)
    handle = client.worker.get_or_create("x")
    await handle.send("tasks", "1")
    await until(lambda: seen)
    second = await handle.send("tasks", "2")
    await world.deploy(worker=New)
    gate.set()
    assert (await second.result(5)).status == "completed"
    assert seen == ["old 1", "new 2"]


async def test_waiting_for_a_message_of_ones_own_queue_is_refused(world: World) -> None:
    class Worker(Actor):
        tasks = Queue(str)
        others = Queue(str)

        @tasks.handler
        async def work(self, body: str, message: Message[str, Any]) -> str:
            if body == "late":
                await message.complete("settled")
            try:
                await self.queue.push("others", "b", wait=True, timeout=2)
            except WaitWouldDeadlock:
                refused.append(body)
            return "refused"

        @others.handler
        async def other(self, body: str) -> None: ...

    refused: list[str] = []
    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    assert (await handle.send("tasks", "early", wait=True, timeout=5)).response == "refused"
    assert (await handle.send("tasks", "late", wait=True, timeout=5)).response == "settled"
    await until(lambda: refused == ["early", "late"])


async def test_an_error_after_the_message_was_settled_is_not_silent(world: World) -> None:
    class Worker(Actor):
        tasks = Queue(str)

        @tasks.handler
        async def work(self, body: str, message: Message[str, Any]) -> str | None:
            await message.complete(body)
            if body == "raises":
                raise ValueError("too late")
            return "dropped"

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    for body, said in (("raises", "too late"), ("returns", "dropped")):
        assert (await handle.send("tasks", body, wait=True, timeout=5)).response == body

        async def is_told(said: str = said) -> bool:
            return said in str((await handle.status()).last_error)

        await until(is_told)


async def test_a_stored_body_that_no_longer_fits_becomes_a_dead_letter(world: World) -> None:
    class Old(Actor):
        tasks = Queue(str)

    class New(Actor):
        tasks = Queue(int, reply=int)

        @tasks.handler
        async def work(self, body: int) -> int:
            return body + 1

    client = await world.start(worker=Old)
    old = await client.worker.get_or_create("x").send("tasks", "words")
    client = await world.deploy(worker=New)
    assert (await old.result(5)).error["code"] == "validation_error"
    assert (await client.worker.get_or_create("x").send("tasks", 1, wait=True, timeout=5)).response == 2


async def test_a_crash_repeats_what_was_in_flight_and_nothing_else(world: World) -> None:
    seen: list[tuple[str, int]] = []
    gates = [asyncio.Event(), asyncio.Event()]

    class Worker(Actor):
        tasks = Queue(str)

        @tasks.handler
        async def work(self, body: str, message: Message[str, Any]) -> None:
            seen.append((body, message.attempt))
            if body == "second":
                await gates[world.lives].wait()

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    await handle.send("tasks", "first")
    second = await handle.send("tasks", "second")
    await until(lambda: seen == [("first", 1), ("second", 1)])
    await handle.send("tasks", "third")
    gates[1].set()
    client = await world.crash()
    assert (await client.receipt(second.id).result(5)).status == "completed"
    await until(lambda: seen[2:] == [("second", 2), ("third", 1)])
