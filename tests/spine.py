"""The way of one message through the package: ``python -m tests.spine``.

Sends a message to an actor that is awake, waits for the answer, and prints each file that was entered, in order. A *switch*
is a call, or the resumption of a coroutine, in another file than the one before. With ``--asleep`` the actor sleeps first.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import agentq_nb
from agentq_nb import Actor, Queue, setup

PACKAGE = str(Path(agentq_nb.__file__).parent) + "/"


class Echo(Actor):
    """Replies with what it was sent."""

    tasks = Queue(int, reply=int)

    async def run(self) -> None:
        """Answer each message."""
        async for message in self.queue.iter(completable=True):
            await message.complete(message.body)


class Trace:
    """The files of the package in the order in which their code was entered, in all threads."""

    def __init__(self) -> None:
        self.entered: list[str] = []

    def note(self, frame: FrameType, event: str, argument: Any) -> None:
        """Called by the interpreter when a function is entered, and when a coroutine goes on."""
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(PACKAGE):
            name = path.removeprefix(PACKAGE)
            if not self.entered or self.entered[-1] != name:
                self.entered.append(name)

    def start(self) -> None:
        """Trace this thread and those that begin later."""
        threading.setprofile_all_threads(self.note) if sys.version_info >= (3, 12) else threading.setprofile(self.note)
        sys.setprofile(self.note)

    def stop(self) -> None:
        """Trace no longer."""
        sys.setprofile(None)
        threading.setprofile(None)


async def trace_one(folder: Path, asleep: bool) -> Trace:
    """The trace of one message that is sent and answered."""
    registry = setup(use={"echo": Echo}, store=folder / "spine.duckdb")
    await registry.start()
    try:
        echo = registry.host.client.echo.get_or_create("main")
        if asleep:
            await echo.status()
        else:
            await echo.send("tasks", 0, wait=True)
            await asyncio.sleep(0.5)
        trace = Trace()
        trace.start()
        result = await echo.send("tasks", 1, wait=True)
        trace.stop()
        assert result.response == 1, result
        return trace
    finally:
        await registry.stop()


def main() -> None:
    """Print the way of a message, and how many files and switches it takes."""
    with tempfile.TemporaryDirectory() as folder:
        trace = asyncio.run(trace_one(Path(folder), "--asleep" in sys.argv[1:]))
    print(*trace.entered, sep="\n")
    print(f"{len(set(trace.entered))} files, {len(trace.entered) - 1} switches between files")


if __name__ == "__main__":
    main()
