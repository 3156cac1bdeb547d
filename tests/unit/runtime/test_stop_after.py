"""``Queue(stop_after=...)``: which failures stop a queue, what it keeps, who says so, and how it goes on."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from agentq_nb import Actor, Queue, RateLimited, Retry, action
from agentq_nb._client.client import Client
from agentq_nb._display import document_of
from agentq_nb._display.document import as_text
from agentq_nb.errors import BatchStopped
from tests.unit.runtime.world import World, breathe, queue_of, until

pytestmark = pytest.mark.anyio

ONCE = Retry(attempts=1)


class AuthenticationError(Exception):
    status_code = 401


class Work:
    """What is begun, and how it ends: each failing body names its error."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.corrected = False

    def do(self, body: str) -> str:
        self.begun.append(body)
        if self.corrected:
            return body
        if body.startswith("key"):
            raise KeyError("tex")
        if body.startswith("other"):
            raise KeyError("tex")  # the same error, in another place
        if body.startswith("refused"):
            raise AuthenticationError("invalid x-api-key")
        if body.startswith("limited"):
            raise RateLimited("slow down", retry_after=0.01)
        return body


@pytest.fixture
def work() -> Work:
    return Work()


def handled(work: Work, **options: Any) -> type[Actor]:
    declared: Any = Queue(str, **{"stop_after": 3, "retry": ONCE, **options})

    class Handled(Actor):
        tasks = declared
        others = Queue(str)

        @declared.handler
        async def work(self, body: str) -> str:
            return work.do(body)

        @others.handler
        async def other(self, body: str) -> str:
            return body

    return Handled


def in_a_thread(work: Work) -> type[Actor]:
    declared: Any = Queue(str, stop_after=3, retry=ONCE)

    class InAThread(Actor):
        tasks = declared

        @declared.handler
        def work(self, body: str) -> str:
            return work.do(body)

    return InAThread


def iterating(work: Work, *, completable: bool) -> type[Actor]:
    class Iterating(Actor):
        tasks = Queue(str, stop_after=3, retry=ONCE)

        async def run(self) -> None:
            async for message in self.tasks.iter(completable=completable):
                reply = work.do(message.body)
                if completable:
                    await message.complete(reply)

    return Iterating


def failing(work: Work) -> type[Actor]:
    class Failing(Actor):
        tasks = Queue(str, stop_after=3, retry=ONCE)

        async def run(self) -> None:
            async for message in self.tasks.iter(completable=True):
                try:
                    await message.complete(work.do(message.body))
                except KeyError as error:
                    await message.fail(error)

    return Failing


def acting(work: Work) -> type[Actor]:
    class Acting(Actor):
        tasks = Queue(str, stop_after=3, retry=ONCE)

        @action
        async def take(self) -> None:
            while (message := await self.tasks.next(timeout=0)) is not None:
                work.do(message.body)

    return Acting


KINDS: dict[str, Any] = {
    "handler": handled,
    "thread": in_a_thread,
    "plain run": lambda work: iterating(work, completable=False),
    "completable run": lambda work: iterating(work, completable=True),
    "message.fail": failing,
}


async def send(client: Client, *bodies: str) -> tuple[Any, list[Any]]:
    handle = client.worker.get_or_create("main")
    return handle, [await handle.send("tasks", body) for body in bodies]


async def until_stopped(handle: Any) -> Any:
    async def stopped() -> bool:
        return (await queue_of(handle, "tasks")).stopped

    await until(stopped)
    return await queue_of(handle, "tasks")


@pytest.mark.parametrize("kind", KINDS)
async def test_different_messages_in_a_row_that_fail_alike_stop_the_queue_until_it_is_resumed(
    world: World, work: Work, kind: str
) -> None:
    client = await world.start(worker=KINDS[kind](work))
    handle, receipts = await send(client, "good", *(f"key {number}" for number in range(10)))
    queue = await until_stopped(handle)
    await breathe()
    assert sorted(set(work.begun)) == ["good", "key 0", "key 1", "key 2"]
    assert (queue.paused, queue.paused_until, queue.dead, queue.ready) == (True, None, 3, 7)
    assert "3 messages in a row failed with the same error: KeyError: 'tex', at " in queue.pause_reason
    assert f"{__file__}, line {Work.do.__code__.co_firstlineno + 5}" in queue.pause_reason
    work.corrected = True
    assert await handle.resume("tasks")
    assert [(await receipt.result(5)).status for receipt in receipts[4:]] == ["completed"] * 7
    queue = await queue_of(handle, "tasks")
    assert (queue.paused, queue.stopped, queue.pause_reason) == (False, False, None)


async def test_failures_of_messages_that_an_action_takes_count_too(world: World, work: Work) -> None:
    client = await world.start(worker=acting(work))
    handle, _ = await send(client, *(f"key {number}" for number in range(5)))
    for _ in range(3):
        with pytest.raises(Exception, match="tex"):
            await handle.take()
    await until_stopped(handle)
    await handle.take()
    assert len(work.begun) == 3


async def test_repeated_attempts_at_one_message_stop_nothing(world: World, work: Work) -> None:
    client = await world.start(worker=handled(work, retry=Retry(attempts=8, backoff=0)))
    handle, (key, good) = await send(client, "key", "good")
    assert [(await receipt.result(5)).status for receipt in (key, good)] == ["failed", "completed"]
    assert not (await queue_of(handle, "tasks")).paused


@pytest.mark.parametrize("between", ["good", "other"])
async def test_a_success_or_a_failure_of_another_kind_between_them_starts_the_count_again(
    world: World, work: Work, between: str
) -> None:
    client = await world.start(worker=handled(work))
    handle, receipts = await send(client, "key 0", "key 1", between, "key 2", "key 3")
    assert (await receipts[-1].result(5)).status == "failed"
    assert not (await queue_of(handle, "tasks")).paused
    await send(client, "key 4")
    await until_stopped(handle)


async def test_a_text_that_a_handler_gives_as_the_reason_counts_for_nothing(world: World) -> None:
    class Worker(Actor):
        tasks = Queue(str, stop_after=3)

        async def run(self) -> None:
            async for message in self.tasks.iter(completable=True):
                await message.fail("no such customer")

    handle, receipts = await send(await world.start(worker=Worker), *"abcdef")
    assert {(await receipt.result(5)).status for receipt in receipts} == {"failed"}
    assert not (await queue_of(handle, "tasks")).paused


async def test_a_limit_of_a_provider_neither_counts_nor_starts_the_count_again(world: World, work: Work) -> None:
    client = await world.start(worker=handled(work))
    handle, _ = await send(client, "key 0", "key 1")
    await until(lambda: len(work.begun) == 2)
    await send(client, "limited")
    await until(lambda: work.begun.count("limited") >= 4)
    assert not (await queue_of(handle, "tasks")).stopped
    await handle.purge("tasks")
    await send(client, "key 2")
    await until_stopped(handle)


async def test_a_refused_key_stops_the_queue_at_once(world: World, work: Work) -> None:
    client = await world.start(worker=handled(work))
    handle, _ = await send(client, "refused", "good")
    queue = await until_stopped(handle)
    await breathe()
    assert work.begun == ["refused"]
    assert "a message was refused, as every other one would be: AuthenticationError: invalid" in queue.pause_reason


async def test_nothing_stops_a_queue_without_the_option(world: World, work: Work) -> None:
    client = await world.start(worker=handled(work, stop_after=None))
    handle, receipts = await send(client, *(f"key {number}" for number in range(12)), "refused", "good")
    assert (await receipts[-1].result(5)).status == "completed"
    assert not (await queue_of(handle, "tasks")).paused


async def test_what_was_at_work_when_it_stopped_loses_no_attempt_to_the_same_error(world: World) -> None:
    gate, all_began, begun = asyncio.Event(), asyncio.Event(), list[int]()
    declared: Any = Queue(int, stop_after=2, concurrency=6, retry=ONCE)

    class Worker(Actor):
        tasks = declared

        @declared.handler
        async def work(self, number: int) -> int:
            begun.append(number)
            if gate.is_set():
                return number
            if len(begun) == 6:
                all_began.set()
            await all_began.wait()
            raise ValueError("another one") if number == 3 else KeyError("tex")

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("main")
    receipts = [await handle.send("tasks", number) for number in range(8)]
    queue = await until_stopped(handle)
    await breathe()
    assert (queue.dead, queue.ready) == (3, 5)
    gate.set()
    await handle.resume("tasks")
    results = [await receipt.result(5) for receipt in receipts]
    assert sorted(result.status for result in results) == ["completed"] * 5 + ["failed"] * 3
    assert results[3].status == "failed", "another error says something new"
    assert {result.attempts for result in results} == {1}


async def test_bodies_that_a_changed_class_does_not_accept_stop_it(world: World, work: Work) -> None:
    class Numbers(Actor):
        tasks = Queue(int, stop_after=3)

        async def run(self) -> None:
            async for _ in self.tasks.iter():
                pass

    client = await world.start(worker=handled(work))
    handle = client.worker.get_or_create("main")
    await handle.pause("tasks")
    receipts = [await handle.send("tasks", f"good {number}") for number in range(9)]
    await world.registry.deploy("worker", Numbers)
    await handle.resume("tasks")
    assert (await until_stopped(handle)).dead == 3
    await world.registry.deploy("worker", handled(work))
    await handle.resume("tasks")
    assert [(await receipt.result(5)).status for receipt in receipts[3:]] == ["completed"] * 6


async def test_the_count_goes_on_while_the_actor_sleeps(slow_world: World, work: Work) -> None:
    client = await slow_world.start(worker=handled(work))
    handle, _ = await send(client, "key 0")
    for number in (1, 2):
        await slow_world.pass_by(120)
        assert (await handle.status()).state == "asleep"
        await send(client, f"key {number}")
        await slow_world.pass_by(1)
    await until_stopped(handle)


@pytest.mark.parametrize("end", ["restart", "crash"])
async def test_it_stays_stopped_for_the_same_reason_after_a_restart_and_a_crash(
    world: World, work: Work, end: str
) -> None:
    client = await world.start(worker=handled(work))
    handle, _ = await send(client, *(f"key {number}" for number in range(6)))
    reason = (await until_stopped(handle)).pause_reason
    await breathe()
    client = await getattr(world, end)()
    handle = client.worker.get_or_create("main")
    queue = await queue_of(handle, "tasks")
    assert (queue.stopped, queue.pause_reason, queue.ready) == (True, reason, 3)
    await (await handle.send("others", "goes on")).result(5)
    assert len(work.begun) == 3
    work.corrected = True
    await handle.resume("tasks")
    await until(lambda: len(work.begun) == 6)
    await breathe()
    client = await getattr(world, end)()
    assert not (await queue_of(client.worker.get_or_create("main"), "tasks")).paused


async def test_after_resuming_as_many_failures_stop_it_again(world: World, work: Work) -> None:
    client = await world.start(worker=handled(work))
    handle, _ = await send(client, *(f"key {number}" for number in range(9)))
    await until_stopped(handle)
    await handle.resume("tasks")
    await until(lambda: len(work.begun) == 6)
    await until_stopped(handle)
    assert len(work.begun) == 6


async def test_status_log_and_results_say_why_it_stopped_and_what_to_type(
    world: World, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    client = await world.start(worker=handled(work))
    with caplog.at_level(logging.WARNING, "agentq"):
        handle, receipts = await send(client, *(f"key {number}" for number in range(5)))
        await until_stopped(handle)
        await until(lambda: any("has stopped" in message for message in caplog.messages))
    (said,) = [message for message in caplog.messages if "has stopped" in message]
    assert said.startswith("Queue 'tasks' of 'worker/main' has stopped: 3 messages in a row failed")
    assert "%agentq resume worker/main tasks" in said
    reason = str((await receipts[-1].result(0)).reason)
    assert "has stopped: 3 messages in a row failed with the same error: KeyError: 'tex'" in reason
    assert "%agentq resume worker/main tasks" in reason
    shown = as_text(document_of(await world.registry.status()))  # type: ignore[arg-type]  # a status has one
    assert "stopped: 3 messages in a row failed with the same error" in shown


async def test_a_batch_of_a_stopped_queue_stops_and_goes_on_with_it(world: World, work: Work) -> None:
    client = await world.start(worker=handled(work))
    handle = client.worker.get_or_create("main")
    batch = await handle.send_many("tasks", [f"key {number}" for number in range(9)], name="nine")
    with pytest.raises(BatchStopped, match="3 messages in a row"):
        await batch
    assert batch.progress().stopped is not None
    work.corrected = True
    assert await batch.resume()
    await batch
    assert (batch.progress().done, batch.progress().failed, batch.progress().stopped) == (6, 3, None)
    assert not await batch.resume()


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "10", True])
def test_stop_after_is_a_number_of_messages(wrong: Any) -> None:
    with pytest.raises(ValueError, match="stop_after"):
        Queue(str, stop_after=wrong)
