"""Real agents against a model on loopback: what a VM adds to the bare agent, started by hand over the same SDK."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acp import PROTOCOL_VERSION, text_block
from acp.client.connection import ClientSideConnection
from acp.schema import ClientCapabilities

from agentq_nb import agent_os, agents, create_client, setup
from agentq_nb.agent_os.agents import AcpAgent
from agentq_nb.agent_os.network.availability import why_no_namespace
from agentq_nb.agent_os.network.vm_network import VmNetwork
from agentq_nb.agent_os.sandbox.workspace import Workspace
from tests.agents.fake_llm import FakeModel, serving
from tests.agents.real_agents import KEYS, configure
from tests.benchmarks.figures import Table, median

AGENTS = (agents.pi, agents.claude, agents.codex)
STUB = Path(__file__).parents[1] / "agents" / "stub_agent.py"
PROMPT = "@say done"
PROMPTS = 10


@dataclass
class Times:
    """Seconds, of every session and every prompt."""

    start: list[float] = field(default_factory=list[float])
    prompt: list[float] = field(default_factory=list[float])


class _Folder:
    """A plain folder in which the agents' settings are written as in a VM."""

    def __init__(self, root: Path) -> None:
        self._workspace = Workspace(root)

    async def write_file(self, name: str, data: str) -> None:
        self._workspace.write(name, data)


class _Listener:
    """The client of an agent that is started by hand; it takes what is said and keeps nothing."""

    async def session_update(self, **update: Any) -> None:
        pass


@asynccontextmanager
async def _by_hand(agent: AcpAgent, root: Path) -> AsyncIterator[ClientSideConnection]:
    programs, _, command = agent.prepared()
    path = os.pathsep.join([*programs, os.environ["PATH"]])
    process = await asyncio.create_subprocess_exec(
        *command,
        *agent.isolated,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=root,
        env={"HOME": str(root), "PATH": path, "TERM": "dumb", **agent.environment, **KEYS},
        start_new_session=True,
        limit=1 << 24,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    connection = ClientSideConnection(_Listener(), process.stdin, process.stdout)  # type: ignore[arg-type]
    try:
        yield connection
    finally:
        with suppress(Exception):
            await connection.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()


async def measure_by_hand(agent: AcpAgent, root: Path, times: Times) -> None:
    """One session: from nothing to a session that takes prompts, and then each prompt."""
    begun = time.perf_counter()
    async with _by_hand(agent, root) as connection:
        await connection.initialize(PROTOCOL_VERSION, client_capabilities=ClientCapabilities())
        session = (await connection.new_session(cwd=str(root), mcp_servers=[])).session_id
        if agent.mode:
            await connection.set_session_mode(session_id=session, mode_id=agent.mode)
        times.start.append(time.perf_counter() - begun)
        for _ in range(PROMPTS):
            begun = time.perf_counter()
            await connection.prompt(session_id=session, prompt=[text_block(PROMPT)])
            times.prompt.append(time.perf_counter() - begun)


async def measure_in_a_vm(agent: AcpAgent, vm: Any, times: Times) -> None:
    """The same through the VM's actions."""
    begun = time.perf_counter()
    session = await vm.create_session(agent.name, env=KEYS)
    times.start.append(time.perf_counter() - begun)
    for _ in range(PROMPTS):
        begun = time.perf_counter()
        await vm.send_prompt(session.session_id, PROMPT)
        times.prompt.append(time.perf_counter() - begun)
    await vm.close_session(session.session_id)


async def times_of(agent: AcpAgent, model: FakeModel, folder: Path, rounds: int) -> tuple[Times, Times, Times, str]:
    """By hand, in a VM on the machine's network, in one with its own, and their isolation. The first round warms up."""
    by_hand, in_vm, in_own = Times(), Times(), Times()
    store = folder / f"agents-{time.time_ns()}.duckdb"
    root = folder / f"{agent.name}-by-hand"
    root.mkdir()
    await configure(_Folder(root), model)
    use = {"vm": agent_os(agents=[agent], network="open"), "own": agent_os(agents=[agent], hosts=[model.url])}
    async with setup(use=use, store=store):
        client = create_client()
        vm, own = client.vm.get_or_create("v"), client.own.get_or_create("v")
        for machine in (vm, own):
            await configure(machine, model)
        told = await own.isolation()
        for number in range(rounds + 1):
            counted = (by_hand, in_vm, in_own) if number else (Times(), Times(), Times())
            await measure_by_hand(agent, root, counted[0])
            await measure_in_a_vm(agent, vm, counted[1])
            await measure_in_a_vm(agent, own, counted[2])
    return by_hand, in_vm, in_own, f"{told.kind}, network={told.network}"


async def opening_a_network(times: int = 15) -> float:
    """Seconds that the first command of a VM waits for a network of its own."""
    taken: list[float] = []
    for _ in range(times):
        network = VmNetwork("web", ())
        begun = time.perf_counter()
        (await network.connect({})).close()
        taken.append(time.perf_counter() - begun)
        await network.aclose()
    return median(taken)


async def bytes_per_session(folder: Path, sessions: int = 20) -> float:
    """Resident memory of this process that one more session with a prompt takes."""
    stub = agents.acp("stub", [sys.executable, str(STUB)], readable=[STUB.parent])
    async with setup(use={"vm": agent_os(agents=[stub])}, store=folder / f"agents-{time.time_ns()}.duckdb"):
        vm = create_client().vm.get_or_create("v")

        async def begin(count: int) -> int:
            for _ in range(count):
                session = await vm.create_session("stub", env=KEYS)
                await vm.send_prompt(session.session_id, "count 50")
            gc.collect()
            return _resident()

        before = await begin(3)
        return (await begin(sessions) - before) / sessions


def _resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def agent_figures(table: Table, folder: Path, rounds: int) -> None:
    """Each agent that is installed, beside itself; says which are not."""
    for agent in AGENTS:
        if not agent.check():
            print(f"{agent.name} is not measured: {' '.join(agent.check().missing)}", file=sys.stderr, flush=True)
            continue
        print(f"agent {agent.name} …", file=sys.stderr, flush=True)
        with serving() as model:
            by_hand, in_vm, in_own, kind = asyncio.run(times_of(agent, model, folder, rounds))
        bare, start = median(by_hand.start), median(in_vm.start)
        table.add(f"{agent.name} by hand: session start", bare * 1000, "ms")
        row = table.add(f"{agent.name} in a VM: session start", start * 1000, "ms")
        table.aim(row, (start - bare) * 1000, "ms more", at_most=round(max(50, bare * 100)))
        row = table.add(f"{agent.name} in a VM ({kind}): session start", median(in_own.start) * 1000, "ms")
        table.aim(row, (median(in_own.start) - start) * 1000, "ms more than open", at_most=50)
        bare, prompt = median(by_hand.prompt), median(in_vm.prompt)
        table.add(f"{agent.name} by hand: prompt round trip", bare * 1000, "ms")
        row = table.add(f"{agent.name} in a VM: prompt round trip", prompt * 1000, "ms")
        table.aim(row, (prompt - bare) * 1000, "ms more", at_most=20)
        row = table.add(f"{agent.name} in a VM ({kind}): prompt round trip", median(in_own.prompt) * 1000, "ms")
        table.aim(row, (median(in_own.prompt) - prompt) * 1000, "ms more than open", at_most=5)
    if not asyncio.run(why_no_namespace()):
        opening = asyncio.run(opening_a_network())
        row = table.add("a VM's own network, until its first command may start", opening * 1000, "ms")
        table.aim(row, opening * 1000, "ms", at_most=50)
    memory = asyncio.run(bytes_per_session(folder))
    row = table.add("memory of the kernel per agent session", memory / 1e6, "MB")
    table.aim(row, memory / 1e6, "MB", at_most=5)
