"""Plain handlers work in threads of their own, which cannot be stopped: those that outlive their attempt keep their place."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Actor, Message, Queue, Retry, action
from tests.unit.runtime.world import World, until, until_status

pytestmark = pytest.mark.anyio


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


HANGING = """
import asyncio, sys, threading
from agentq_nb import Actor, action, create_client, setup

class Worker(Actor, action_timeout=None):
    names = []

    @action(thread=True)
    def blocks(self):
        self.names.append((threading.current_thread().name, threading.current_thread().daemon))
        threading.Event().wait()

    @action
    async def blocks_in_thread(self):
        await self.in_thread(self.blocks)

async def main():
    async with setup(use={"worker": Worker}, store=sys.argv[1]):
        worker = create_client().worker.get_or_create("w")
        calls = [asyncio.ensure_future(call()) for call in (worker.blocks, worker.blocks_in_thread)]
        while len(Worker.names) < 2:
            await asyncio.sleep(0.01)
        for call in calls:
            call.cancel()
    print(Worker.names)

asyncio.run(main())
print("ended")
"""


def test_threads_of_actions_that_never_end_keep_neither_the_host_nor_the_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING, str(tmp_path / "hanging.duckdb")], capture_output=True, text=True, timeout=90
    )
    assert done.stdout.splitlines() == [str([("agentq handler", True)] * 2), "ended"], done.stderr


async def test_a_thread_of_an_action_may_raise_stop_iteration(world: World) -> None:
    class Worker(Actor):
        @action(thread=True)
        def ends(self) -> None:
            next(iter(()))

    client = await world.start(worker=Worker)
    with pytest.raises(Exception, match="StopIteration"):
        await asyncio.wait_for(client.worker.get_or_create("x").ends(), 10)
