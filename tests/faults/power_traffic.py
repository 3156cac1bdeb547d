"""The program that is recorded: one life of a host with real traffic, and a mark after each thing that was acknowledged.

``python -m tests.faults.power_traffic FOLDER MARKS LIFE``. Regions and checkpoints are small, so that a short run has many.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from agentq_nb import Actor, Queue, action, create_client, setup
from agentq_nb._store import checkpoint, group_commit, journal

STORE = "work.agentq.duckdb"

LIVES = ("stop", "kill", "prune", "kill", "export", "stop")
"""How each life of the recorded run ends, or what is special in it."""

_MESSAGES = 40


class Count(BaseModel):
    number: int = 0


class Counted(Actor, sleep_timeout=None):
    """Settles messages, and counts what it was told in its state."""

    jobs = Queue(dict[str, Any])
    state: Count

    @action
    async def count(self, number: int) -> int:
        self.state.number = number
        return number

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            mark(completing=message.id)
            await message.complete(None)
            mark(completed=message.id)


_marks = -1


def mark(**said: Any) -> None:
    """Write down what was acknowledged by now."""
    os.write(_marks, json.dumps(said).encode() + b"\n")


def make_everything_small() -> None:
    """Change regions, drain and make checkpoints all the time."""
    journal.REGION_BYTES = 32 << 10
    group_commit._LARGE_CHARACTERS = 8 << 10
    checkpoint.COMMITS = 2


async def live(folder: Path, life: int) -> None:
    registry = setup(use={"counted": Counted}, store=folder / STORE)
    await registry.start()
    mark(opened=life)
    actor = create_client().counted.get_or_create(["main"])

    async def send(number: int) -> None:
        receipt = await actor.send("jobs", {"number": number, "padding": "x" * (number * 37 % 400)})
        mark(sent=receipt.id)

    async def in_bursts() -> None:
        for start in range(0, _MESSAGES, 8):
            await asyncio.gather(*(send(number) for number in range(start, start + 8)))
            await asyncio.sleep(0.02)

    async def one_by_one() -> None:
        for number in range(_MESSAGES // 2):
            await send(number)

    async def in_state() -> None:
        for number in range(10):
            value = life * 100 + number + 1
            await actor.count(value)
            mark(state=value)
            await asyncio.sleep(0.02)

    async def special() -> None:
        await asyncio.sleep(0.1)
        if LIVES[life] == "prune":
            mark(pruning=True)
            await registry.prune(timedelta(0))
        elif LIVES[life] == "export":
            await registry.export(folder / f"copy-{life}.duckdb")
            mark(exported=f"copy-{life}.duckdb")

    await asyncio.gather(in_bursts(), one_by_one(), in_state(), special())
    if LIVES[life] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    await registry.stop()
    mark(stopped=life)


def main(folder: str, marks: str, life: str) -> None:
    global _marks
    _marks = os.open(marks, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    make_everything_small()
    asyncio.run(live(Path(folder), int(life)))


if __name__ == "__main__":
    main(*sys.argv[1:])
