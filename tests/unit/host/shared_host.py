"""A host on queues that others share, in a process of its own: ``python -m tests.unit.host.shared_host ADDRESS``.

It sends notifications to a URL that follows the address. It prints its session once it runs, and stops in an orderly way at the end of its stdin.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from agentq_nb import Actor, Queue, Retry, UserError, action, setup
from tests.postgres_queues import ask, expire_sessions

_CHECKOUT = Path(__file__).resolve().parents[3]


class Total(BaseModel):
    value: int = 0
    notes: list[int] = []


class Where(BaseModel):
    process: int


class Worker(Actor, sleep_timeout=None, action_timeout=None):
    """Says where it runs, counts, and writes what it does into files."""

    state: Total = Total()
    tasks = Queue(str, reply=int)
    long = Queue(str)
    risky = Queue(str, reply=int, retry=Retry(attempts=1))

    @tasks.handler
    async def handle(self, task: str) -> int:
        self.broadcast("handled", task)
        return os.getpid()

    @long.handler
    async def handle_long(self, file: str) -> None:
        await self.slow(file)

    @risky.handler
    async def fail_if_told(self, task: str) -> int:
        if task == "fail":
            raise ValueError("it fails")
        return os.getpid()

    async def on_create(self, input: Any) -> None:
        if isinstance(input, int):
            self.state.value = input

    @action
    async def where(self) -> Where:
        return Where(process=os.getpid())

    @action
    async def add(self, number: int = 1) -> int:
        self.state.value += number
        self.broadcast("added", self.state.value)
        return self.state.value

    @action
    async def note(self, number: int) -> None:
        self.state.notes.append(number)

    @action
    async def notes(self) -> list[int]:
        return self.state.notes

    @action
    async def block(self, file: str, seconds: float) -> None:
        _write(Path(file), "begun")
        time.sleep(seconds)  # noqa: ASYNC251  # what a cell or a careless actor does

    @action
    async def slow(self, file: str, seconds: float = 3600) -> None:
        """Write a line when it begins and one when it ends."""
        path = Path(file)
        self.state.value += 1
        _write(path, "begun")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            _write(path, "cancelled")
            raise
        _write(path, "done")

    @action
    async def echo(self, value: Any) -> Any:
        return value

    @action
    async def size(self, value: bytes) -> int:
        return len(value)

    @action
    async def broadcast_many(self, count: int, size: int) -> None:
        for number in range(count):
            self.broadcast("numbered", {"number": number, "text": "x" * size})

    @action
    async def fail(self, kind: str) -> Any:
        if kind == "user":
            raise UserError("Not this one.", code="own", metadata={"number": 7})
        if kind == "unfit":
            self.state.value += 100
            return int
        raise ValueError("it fails")


class Caller(Actor, sleep_timeout=None):
    """Calls workers from an actor."""

    @action
    async def relay(self, key: str, file: str) -> None:
        await self.actors.worker.get_or_create(key).slow(file)

    @action
    async def give_up(self, key: str, file: str) -> str:
        try:
            async with asyncio.timeout(3):
                await self.actors.worker.get_or_create(key).slow(file)
        except TimeoutError:
            return "given up"
        return "done"

    @action
    async def say(self, text: str) -> None:
        self.broadcast("said", text)


def _write(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(f"{line}\n")


class SharedHost:
    """A host in another process, with a folder of its own."""

    def __init__(self, store: str, folder: Path, notify: str | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.store = store
        self._program = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.host.shared_host", store, *([] if notify is None else [notify])],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(_CHECKOUT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._program.stdout is not None
        self._session = self._program.stdout.readline().strip()
        self.process = self._program.pid

    def signal(self, number: int) -> None:
        self._program.send_signal(number)

    def kill(self) -> None:
        """As ``kill -9`` does. Others need not wait until its lease is over."""
        self._program.kill()
        self._program.wait(30)
        self.expire()

    def expire(self) -> None:
        """End its leases for others, as time does."""
        expire_sessions(self.store, self._session)

    def stop(self) -> None:
        """End in an orderly way."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.close()
        self._program.wait(30)
        self._program.stdout.close()


@asynccontextmanager
async def running_host(store: str, folder: Path) -> AsyncGenerator[SharedHost]:
    """Run one, also if a test stops it on the way, and end it in an orderly way."""
    host = await asyncio.to_thread(SharedHost, store, folder)
    yield host
    host.signal(signal.SIGCONT)
    await asyncio.to_thread(host.stop)


async def requests_gone(store: str) -> None:
    """Return once no host has anything left to answer to another program."""
    async with asyncio.timeout(10):
        while ask(store, "select id from agentq.requests"):  # noqa: ASYNC110  # the broker deletes what it has read
            await asyncio.sleep(0.02)


async def host(store: str, notify: str | None = None) -> None:
    from tests.unit.host import shared_host  # so that the class has the same module for all

    async with setup(use={"worker": shared_host.Worker}, store=store, notify=notify) as registry:
        broker = registry.lifecycle.shared_broker
        assert broker is not None
        print(broker.session, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(host(*sys.argv[1:]))
