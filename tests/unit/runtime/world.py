"""A host over a real file in a folder of the test's own: started, stopped, started again, and crashed."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentq_nb import Actor, Registry, create_client, current_registry, setup
from agentq_nb._brokers.statuses import QueueStatus
from agentq_nb._client.client import Client
from agentq_nb._client.status import ActorStatus
from agentq_nb._core import threads
from agentq_nb._host.host import Host
from tests.unit.brokers.postgres_setting import is_busy
from tests.unit.fake_clock import FakeClock, settle


class World:
    """The registry under test. ``clock`` is None where the test runs on the machine's time.

    ``background``: whether the host gets a thread of its own; then nothing of asyncio's may be shared with its actors.
    """

    def __init__(self, folder: Path, clock: FakeClock | None = None, *, background: bool = False) -> None:
        self.folder = folder
        self.clock = clock
        self.background = background
        self.retention: float | None = None
        self.store = folder / "first.agentq.duckdb"
        self.lives = 0
        self._used: list[Registry] = []

    async def start(self, **use: type[Actor]) -> Client:
        """A host of these classes, over what is in the file."""
        self.registry = setup(use=use, store=self.store, background=self.background, retention=self.retention)
        self._used.append(self.registry)
        await self.registry.start()
        return create_client()

    async def deploy(self, **use: type[Actor]) -> Client:
        return await self.start(**use)

    async def restart(self, **use: type[Actor]) -> Client:
        """Stop in an orderly way and start again."""
        await self.registry.stop()
        return await self.start(**(use or dict(self.registry.classes)))

    async def crash(self, **use: type[Actor]) -> Client:
        """Go on from the bytes that a killed kernel would leave: a copy of the files as they are just now."""
        use = use or dict(self.registry.classes)
        self.lives += 1
        copied = self.folder / f"life{self.lives}.agentq.duckdb"
        # The guard first: it may lag behind the log and never lead. The loop stands still meanwhile.
        for file in sorted(self.folder.glob(f"{self.store.name}*"), key=lambda file: file.suffix != ".guard"):
            target = str(copied) + file.name.removeprefix(self.store.name)
            subprocess.run(["cp", str(file), target], check=True)  # noqa: ASYNC221
        abandoned = self.registry
        self.store = copied
        client = await self.start(**use)
        await _abandon(abandoned)
        return client

    async def starts(self) -> list[float]:
        """When the messages were started, as it is stored, in seconds since 1970."""
        query = "select epoch(time) from events where kind = 'message.started' order by seq"
        return [row[0] for row in (await self.registry.sql(query)).rows]

    async def pass_by(self, seconds: float) -> None:
        """Move the fake clock, giving what is woken on the way the time it needs for the disk."""
        assert self.clock is not None
        until_time = self.clock.monotonic() + seconds
        await breathe()
        while (due := self.clock.next_due()) is not None and due <= until_time:
            self.clock.advance(max(0.0, due - self.clock.monotonic()))
            await breathe()
        self.clock.advance(max(0.0, until_time - self.clock.monotonic()))
        await breathe()

    async def close(self) -> None:
        for registry in self._used:
            await _abandon(registry)


async def breathe(patience: float = 5.0) -> None:
    """Let tasks run and writes reach the disk until nothing is under way, several times in a row, on a busy machine too.

    :param patience: seconds without progress after which a write that the test holds up is left.
    """
    quiet, progress, since = 0, _progress(), time.monotonic()
    while quiet < 3 and time.monotonic() - since < patience:
        await settle(10)
        await asyncio.sleep(0.004)
        quiet = 0 if _busy() else quiet + 1
        if (now := _progress()) != progress:
            progress, since = now, time.monotonic()


def _progress() -> tuple[int, int]:
    """The last row that was written, and how many transactions there were."""
    registry = current_registry()
    if registry is None or not registry.lifecycle.running:
        return (0, 0)
    shared = registry.lifecycle.shared_broker
    asked = 0 if shared is None else shared.database._pool.get_stats().get("requests_num", 0)
    return registry.lifecycle.log.last_seq, asked


def _busy() -> bool:
    """Whether a write, a transaction, or a short read in another thread is under way."""
    registry = current_registry()
    if registry is None or not registry.lifecycle.running:
        return False
    shared = registry.lifecycle.shared_broker
    reading = threads._short._waiting or any(not job.done() for job in list(threads._short._threads.values()))
    return bool(reading) or not registry.lifecycle.log._writer.idle() or (shared is not None and is_busy(shared))


async def _abandon(registry: Registry) -> None:
    """End a host without its grace, however its actors behave."""
    host = registry.lifecycle._host
    if host is None:
        return
    registry.lifecycle._host = None
    registry.lifecycle.forget()
    await (host.portal.enter(_end, host) if host.portal.open else host.close_broker())


async def _end(host: Host) -> None:
    if host._main is not None:
        host._main.cancel()
        await asyncio.wait([host._main], timeout=2)
    await host.close_broker()
    host.portal.close()


async def until(condition: Callable[[], Any], seconds: float = 6.0) -> Any:
    """Return once ``condition()`` (or what it awaits) is true; fails the test after ``seconds`` of real time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        met = condition()
        if inspect.isawaitable(met):
            met = await met
        if met:
            return met
        if loop.time() > deadline:
            raise AssertionError(f"did not come true within {seconds} s: {inspect.getsource(condition).strip()}")
        await asyncio.sleep(0.002)


async def queue_of(handle: Any, name: str) -> QueueStatus:
    """How one queue of an actor stands."""
    status: ActorStatus = await handle.status()
    for queue in status.queues:
        if queue.queue == name:
            return queue
    return QueueStatus(handle.actor_id, name)


def state_of(handle: Any) -> Callable[[], Any]:
    """Its ``state`` as ``status()`` tells it, to be waited for."""

    async def ask() -> str:
        return (await handle.status()).state

    return ask


async def until_state(handle: Any, *states: str) -> None:
    async def reached() -> bool:
        return (await handle.status()).state in states

    await until(reached)


async def until_status(receipt: Any, *statuses: str) -> None:
    async def reached() -> bool:
        return await receipt.status() in statuses

    await until(reached)
