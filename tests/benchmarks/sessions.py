"""Many sessions one after the other, and several VMs at once: what of the kernel's process stays behind."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from agentq_nb import agent_os, agents, create_client, setup
from agentq_nb.agent_os.agents import Agent
from agentq_nb.agent_os.sandbox.limits import _descendants
from tests.agents.fake_llm import FakeModel, serving
from tests.agents.real_agents import KEYS, configure
from tests.benchmarks.figures import Table

SESSIONS: tuple[tuple[str, int], ...] = (("function", 100), ("pi", 20), ("claude", 20))
VMS = 8
PROMPT = "@write hello.txt hello\n@say done"
_WARM_UP = 3  # sessions
_AT_ONCE = 2  # sessions of one VM
_SETTLING = 20.0  # seconds for threads that have nothing more to do


async def function(session: Any, prompt: str) -> str:
    """Writes a file and runs a command, as a coding agent does."""
    session.write("hello.txt", "hello")
    return (await session.exec("cat hello.txt")).stdout


@dataclass(frozen=True)
class Held:
    """What this process holds."""

    descriptors: int
    processes: int
    threads: int
    temporary_folders: int

    @staticmethod
    def now() -> Held:
        gc.collect()
        return Held(
            len(os.listdir("/proc/self/fd")),
            len(_descendants(os.getpid())),
            len(os.listdir("/proc/self/task")),
            len(os.listdir(tempfile.gettempdir())),
        )

    def beyond(self, other: Held) -> dict[str, int]:
        """How much more than before."""
        names = [field.name for field in fields(Held)]
        return {name: getattr(self, name) - getattr(other, name) for name in names}


@contextmanager
def own_temporary_folder(folder: Path) -> Iterator[None]:
    """One that nobody else uses."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    folder.mkdir()
    try:
        yield
    finally:
        tempfile.tempdir = before


async def use_sessions(vm: Any, name: str, count: int) -> None:
    """Open this many, a few at once, send each a prompt, and close it."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def use() -> None:
        async with slots:
            session = await vm.create_session(name, env=KEYS)
            await vm.send_prompt(session.session_id, PROMPT)
            await vm.close_session(session.session_id)

    await asyncio.gather(*(use() for _ in range(count)))


async def settled(before: Held | None = None) -> Held:
    """What is held once that no longer goes down, or is no more than before."""
    until = time.monotonic() + _SETTLING
    held = Held.now()
    while time.monotonic() < until and (before is None or any(more > 0 for more in held.beyond(before).values())):
        await asyncio.sleep(0.5)
        held = Held.now()
    return held


async def growth(agent: Agent, count: int, folder: Path, model: FakeModel) -> tuple[dict[str, int], float]:
    """What is held more after ``count`` sessions than after the first ones, and seconds for each session."""
    async with setup(use={"vm": agent_os(agents=[agent], hosts=[model.url])}, store=folder / f"{agent.name}.duckdb"):
        vm = create_client().vm.get_or_create("v")
        await configure(vm, model)
        await use_sessions(vm, agent.name, _WARM_UP)
        before = await settled()
        begun = time.perf_counter()
        await use_sessions(vm, agent.name, count)
        seconds = (time.perf_counter() - begun) / count
        return (await settled(before)).beyond(before), seconds


async def seconds_at_once(agent: Agent, vms: int, folder: Path, model: FakeModel) -> float:
    """Seconds for a session with a prompt in each of so many VMs, all begun at the same time."""
    async with setup(
        use={"vm": agent_os(agents=[agent], hosts=[model.url])}, store=folder / f"{agent.name}-{vms}.duckdb"
    ):
        machines = [create_client().vm.get_or_create(str(number)) for number in range(vms)]
        for vm in machines:
            await configure(vm, model)
        begun = time.perf_counter()
        await asyncio.gather(*(use_sessions(vm, agent.name, 1) for vm in machines))
        return time.perf_counter() - begun


def session_figures(table: Table, folder: Path) -> None:
    """Each agent that is installed; says which are not."""
    for name, count in SESSIONS:
        agent = agents.function(function) if name == "function" else getattr(agents, name)
        if not agent.check():
            print(f"{name} is not measured: {' '.join(agent.check().missing)}", file=sys.stderr, flush=True)
            continue
        print(f"{count} sessions of {name} …", file=sys.stderr, flush=True)
        with serving() as model, own_temporary_folder(folder / f"temporary-{name}"):
            more, seconds = asyncio.run(growth(agent, count, folder, model))
            one = asyncio.run(seconds_at_once(agent, 1, folder, model))
            many = asyncio.run(seconds_at_once(agent, VMS, folder, model))
        table.add(f"{count} sessions of {name}, {_AT_ONCE} at once: each", seconds * 1000, "ms")
        for what, number in more.items():
            row = table.add(f"  {what.replace('_', ' ')} after that", number, "more than before")
            table.aim(row, number, "more", at_most=0)
        row = table.add(f"{VMS} VMs at once, a session of {name} in each", many, "s")
        table.aim(row, many / one / VMS, "x one after the other", at_most=1)
