"""The queues: everything durable, a typed body of 200 bytes, validation on."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from agentq_nb import Actor, Queue, create_client, setup


class Task(BaseModel):
    prompt: str


TASK = {"prompt": "x" * 187}

LARGEST_REPLY = 16 * 1024 * 1024


class Sink(Actor):
    """Takes no messages: what is sent stays."""

    tasks = Queue(Task, max_size=10_000_000)


class Plain(Actor):
    tasks = Queue(Task, max_size=10_000_000)

    async def run(self) -> None:
        async for message in self.queue.iter():
            handlers.began(message)


class Completing(Actor):
    tasks = Queue(Task, reply=str, max_size=10_000_000)

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            handlers.began(message)
            await message.complete("done")


class Busy(Actor):
    """Handlers that never wait: they hold the loop for a time."""

    tasks = Queue(Task, max_size=10_000_000)

    async def run(self) -> None:
        await handlers.gate.wait()
        async for message in self.queue.iter():
            until = time.perf_counter() + handlers.busy_seconds
            while time.perf_counter() < until:
                pass
            handlers.began(message)


class Large(Actor):
    """Replies as large as they are asked for, in bytes of JSON."""

    sizes = Queue(int, reply=str, max_reply_bytes=LARGEST_REPLY)

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            await message.complete("x" * (message.body - 2))


class Handlers:
    """What the handlers tell the measurement: how many began, and when the last one did."""

    def __init__(self) -> None:
        self.count = 0
        self.last_at = 0.0
        self.gate = asyncio.Event()
        self.busy_seconds = 0.0
        self._awaited = 0
        self._reached = asyncio.Event()

    def expect(self, count: int) -> asyncio.Event:
        """Start counting again; the event is set when ``count`` have begun."""
        self.count, self._awaited, self._reached = 0, count, asyncio.Event()
        return self._reached

    def began(self, _: Any) -> None:
        self.count += 1
        if self.count == self._awaited:
            self.last_at = time.perf_counter()
            self._reached.set()


handlers = Handlers()


@asynccontextmanager
async def hosting(folder: Path) -> AsyncIterator[Any]:
    store = folder / f"queues-{time.time_ns()}.duckdb"
    classes = {"sink": Sink, "plain": Plain, "completing": Completing, "busy": Busy, "large": Large}
    async with setup(use=classes, store=store):
        yield create_client()


async def sequential_rate(folder: Path, times: int = 300) -> float:
    """Sends a second, one after the other."""
    async with hosting(folder) as client:
        handle = client.sink.get_or_create("a")
        await handle.send("tasks", TASK)
        begun = time.perf_counter()
        for _ in range(times):
            await handle.send("tasks", TASK)
        return times / (time.perf_counter() - begun)


async def _send_many(handle: Any, times: int) -> None:
    for _ in range(times):
        await handle.send("tasks", TASK)


async def concurrent_rate(folder: Path, senders: int = 100, each: int = 100) -> float:
    """Sends a second of 100 tasks at once."""
    async with hosting(folder) as client:
        handle = client.sink.get_or_create("a")
        await handle.send("tasks", TASK)
        begun = time.perf_counter()
        await asyncio.gather(*(_send_many(handle, each) for _ in range(senders)))
        return senders * each / (time.perf_counter() - begun)


async def cycle_rate(folder: Path, name: str, senders: int = 100, each: int = 100) -> float:
    """Messages a second from send to settled, all durable: 100 senders, one serial consumer."""
    async with hosting(folder) as client:
        handle = getattr(client, name).get_or_create("a")
        await handle.send("tasks", TASK)
        await asyncio.sleep(0.05)
        all_begun = handlers.expect(senders * each)
        begun = time.perf_counter()
        await asyncio.gather(*(_send_many(handle, each) for _ in range(senders)))
        await all_begun.wait()
        return senders * each / (time.perf_counter() - begun)


async def reply_seconds(folder: Path, times: int = 200) -> list[float]:
    """Seconds from send to reply, of each request."""
    taken: list[float] = []
    async with hosting(folder) as client:
        handle = client.completing.get_or_create("a")
        await handle.send("tasks", TASK, wait=True)
        for _ in range(times):
            begun = time.perf_counter()
            result = await handle.send("tasks", TASK, wait=True)
            taken.append(time.perf_counter() - begun)
            assert result.response == "done"
    return taken


async def idle_start_seconds(folder: Path, times: int = 100) -> list[float]:
    """Seconds from send until the handler of an idle actor begins."""
    taken: list[float] = []
    async with hosting(folder) as client:
        handle = client.plain.get_or_create("a")
        await handle.send("tasks", TASK)
        await asyncio.sleep(0.05)
        for _ in range(times):
            one_begun = handlers.expect(1)
            begun = time.perf_counter()
            await handle.send("tasks", TASK)
            await one_begun.wait()
            taken.append(handlers.last_at - begun)
            await asyncio.sleep(0.003)
    return taken


async def stalls(folder: Path, busy_seconds: float, messages: int = 20_000) -> list[float]:
    """Seconds by which the loop was late, each millisecond while a backlog is handled by handlers that never wait."""
    late: list[float] = []

    async def tick(pause: float = 0.001) -> None:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(pause)
            late.append(max(0.0, time.perf_counter() - begun - pause))

    handlers.gate, handlers.busy_seconds = asyncio.Event(), busy_seconds
    async with hosting(folder) as client:
        handle = client.busy.get_or_create("a")
        await asyncio.gather(*(_send_many(handle, messages // 100) for _ in range(100)))
        # What is left of the sending must not be counted, nor what the sending left to be collected.
        await asyncio.sleep(0.5)
        gc.collect()
        all_begun = handlers.expect(messages)
        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0.01)
        handlers.gate.set()
        await all_begun.wait()
        await asyncio.sleep(0.01)
        ticking.cancel()
    return late


async def send_seconds_beside_replies(folder: Path, replies: int = 20, pause: float = 0.005) -> list[float]:
    """Seconds of sends that are due every 5 ms while another actor gives replies as large as can be.

    Each is counted from when it was due: while the loop is held up, the sends that come late are late too.
    """
    taken: list[float] = []
    async with hosting(folder) as client:
        sink, large = client.sink.get_or_create("a"), client.large.get_or_create("a")
        await sink.send("tasks", TASK)

        async def ask() -> None:
            for _ in range(replies):
                result = await large.send("sizes", LARGEST_REPLY, wait=True)
                assert result.response is not None, result
                assert len(result.response) == LARGEST_REPLY - 2

        async def send(due: float) -> None:
            await sink.send("tasks", TASK)
            taken.append(time.perf_counter() - due)

        asking = asyncio.create_task(ask())
        due = time.perf_counter()
        async with asyncio.TaskGroup() as sending:
            while not asking.done():
                due += pause
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                sending.create_task(send(due))
        await asking
    return taken


async def bytes_per_message(folder: Path, messages: int = 5000) -> float:
    """Bytes of Python memory that one queued message of 200 bytes takes."""
    async with hosting(folder) as client:
        handle = client.sink.get_or_create("a")
        await asyncio.gather(*(_send_many(handle, 1) for _ in range(100)))
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(messages // 100):
            await asyncio.gather(*(_send_many(handle, 1) for _ in range(100)))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return (after - before) / messages
