"""Queues on PostgreSQL, beside procrastinate and DBOS: one durable server, the same body, all in turns.

Every host is a process. A full cycle is sent by 100 senders of one more process, handled, and settled; it is measured from
the first send until nothing is unsettled, while hosts work.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.benchmarks.figures import Figure, Samples, Table
from tests.benchmarks.peers import MissingPeers
from tests.benchmarks.postgres_bodies import Task
from tests.benchmarks.postgres_systems import AGENTQ, DBOS, PROCRASTINATE, SYSTEMS, Sender, System
from tests.benchmarks.process_time import cpu_seconds
from tests.postgres_server import HOW_TO_GET_IT, Server, programs, running_server

HOSTS = (1, 2, 4)
ACTORS = 10
"""Actors for each host while handlers are empty; of the others as many jobs at a time."""
WAITING_ACTORS = 3
"""The same while handlers wait: so few that waiting, and not the CPU, is what limits a host."""
WAIT = 0.020
"""Seconds that handlers wait in the measurement of how hosts add up."""
SENDERS = 100
PATIENCE = 120.0
DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
_ROOT = Path(__file__).parents[2]


class Host:
    """A process that handles messages of a system."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, system: System, url: str, number: int, concurrency: int, folder: Path) -> Host:
        place = folder / f"{system.name}-{time.time_ns()}-{number}"
        place.mkdir()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.benchmarks.postgres_host"),
            *(system.name, url, f"host-{number}", str(concurrency)),
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        host = cls(process)
        await host.says("ready")
        return host

    async def says(self, text: str) -> None:
        """Return when it has printed this line."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            if line.decode().strip() == text:
                return
        raise RuntimeError(f"A host ended before it said {text!r}.")

    async def stop(self) -> None:
        """End it in good order."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), 20)
        except TimeoutError:
            self.kill()
            await self.process.wait()

    def kill(self) -> None:
        """End it without a chance to say anything."""
        if self.process.returncode is None:
            self.process.kill()


class Bench:
    """One server and what is measured on it."""

    def __init__(self, server: Server, folder: Path, samples: Samples) -> None:
        self.server = server
        self.folder = folder
        self.samples = samples

    @asynccontextmanager
    async def running(
        self, system: System, hosts: int, concurrency: int = ACTORS
    ) -> AsyncIterator[tuple[Sender, list[Host]]]:
        """A sender, and hosts that have handled something."""
        url = self.server.address(system.name.lower())
        async with AsyncExitStack() as stack:
            sender = await stack.enter_async_context(system.sender(url, concurrency * hosts))
            started = await asyncio.gather(
                *(Host.start(system, url, number, concurrency, self.folder) for number in range(hosts))
            )
            for host in started:
                stack.push_async_callback(host.stop)
            await asyncio.gather(*(sender.send(Task()) for _ in range(5 * concurrency * hosts)))
            await self.settled(system)
            yield sender, started

    async def settled(self, system: System) -> None:
        """Return when no message is unsettled."""
        ends = time.monotonic() + PATIENCE
        async with await psycopg.AsyncConnection.connect(
            self.server.address(system.name.lower()), autocommit=True
        ) as connection:
            while time.monotonic() < ends:
                row = await (await connection.execute(system.unsettled.encode())).fetchone()
                if row == (0,):
                    return
                await asyncio.sleep(0.01)
        raise TimeoutError(f"{system.name} has not handled all that was sent.")

    # --- what is measured ---------------------------------------------------------------------------------------------

    async def sends(self, system: System, alone: int = 100, each: int = 5) -> None:
        """Sends a second: one after the other, and of 100 senders. Nothing handles them meanwhile."""
        async with system.sender(self.server.address(system.name.lower()), 1) as sender:
            await sender.send(Task(), "kept")
            begun = time.perf_counter()
            for _ in range(alone):
                await sender.send(Task(), "kept")
            self.samples.add(f"alone, {system.name}", alone / (time.perf_counter() - begun))
            begun = time.perf_counter()
            await asyncio.gather(*(self._send(sender, each, Task(), "kept") for _ in range(SENDERS)))
            self.samples.add(f"senders, {system.name}", SENDERS * each / (time.perf_counter() - begun))

    async def _send(self, sender: Sender, times: int, body: Task, queue: str = "tasks") -> None:
        for _ in range(times):
            await sender.send(body, queue)

    async def cycles(self, system: System, hosts: int) -> None:
        """Full cycles, of empty handlers and of those that wait; with one host also requests."""
        async with self.running(system, hosts) as (sender, started):
            await self._cycle(system, sender, started, "empty", Task(), 5)
            if hosts == 1:
                await self._requests(system, sender)
        async with self.running(system, hosts, WAITING_ACTORS) as (sender, started):
            await self._cycle(system, sender, started, "waiting", Task(wait=WAIT), 2 * hosts)

    async def _cycle(self, system: System, sender: Sender, hosts: list[Host], kind: str, body: Task, each: int) -> None:
        processes, name = [host.process.pid for host in hosts], f"{kind} {len(hosts)}, {system.name}"
        count, used, served = SENDERS * each, cpu_seconds(processes), cpu_seconds([self.server.process_id])
        begun = time.perf_counter()
        await asyncio.gather(*(self._send(sender, each, body) for _ in range(SENDERS)))
        await self.settled(system)
        self.samples.add(name, count / (time.perf_counter() - begun))
        self.samples.add(f"host CPU, {name}", (cpu_seconds(processes) - used) / count)
        self.samples.add(f"server CPU, {name}", (cpu_seconds([self.server.process_id]) - served) / count)

    async def _requests(self, system: System, sender: Sender, times: int = 100) -> None:
        for _ in range(times):
            begun = time.perf_counter()
            await sender.reply(await sender.send(Task()))
            self.samples.add(f"request, {system.name}", time.perf_counter() - begun)

    async def takeover(self, system: System) -> None:
        """Seconds from the death of a host until another one handles what it had in flight."""
        async with self.running(system, 2) as (sender, hosts):
            await sender.send(Task(hold=True))
            waits = {host: asyncio.ensure_future(host.says("held")) for host in hosts}
            await asyncio.wait(waits.values(), return_when=asyncio.FIRST_COMPLETED)
            dead, living = sorted(hosts, key=lambda host: not waits[host].done())
            dead.kill()
            begun = time.perf_counter()
            done, _ = await asyncio.wait([waits[living]], timeout=PATIENCE)
            waits[living].cancel()
            self.samples.add(f"takeover, {system.name}", time.perf_counter() - begun if done else float("inf"))
            living.kill()
        await self._forget(system)

    async def _forget(self, system: System) -> None:
        """Drop what is still in flight, since it never ends."""
        name = system.name.lower()
        async with await psycopg.AsyncConnection.connect(
            self.server.address("postgres"), autocommit=True
        ) as connection:
            await connection.execute(f"drop database {name} with (force)".encode())
            await connection.execute(f"create database {name}".encode())


async def measure(bench: Bench, rounds: int, systems: tuple[System, ...] = SYSTEMS) -> None:
    """All systems in turns, so that a machine that slows down slows all of them."""
    for number in range(rounds):
        print(f"postgres: round {number + 1} of {rounds} …", file=sys.stderr, flush=True)
        for system in systems:
            await bench.sends(system)
        for hosts in HOSTS:
            for system in systems:
                await bench.cycles(system, hosts)
    for system in systems:
        if system is not DBOS:  # without its paid Conductor, only a process of the same name recovers them
            await bench.takeover(system)


def check_installed() -> None:
    """Raise MissingPeers unless all can be imported."""
    missing = [name for name in ("procrastinate", "dbos") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPeers(missing)


def figures(table: Table, folder: Path) -> None:
    """Everything on one server with fsync, in a folder for temporary files."""
    check_installed()
    found = programs()
    if found is None:
        raise SystemExit(HOW_TO_GET_IT)
    samples = Samples()
    with running_server(found, DURABLE) as server:
        with psycopg.connect(server.address("postgres"), autocommit=True) as connection:
            for system in SYSTEMS:
                connection.execute(f"create database {system.name.lower()}".encode())
        asyncio.run(measure(Bench(server, folder, samples), table.rounds))
    add_rates(table, samples)
    add_delays(table, samples)


def compared(table: Table, samples: Samples, name: str, what: str, unit: str, *, scale: float = 1.0) -> None:
    """A row for each system; ours also has its ratio to each of the others. Rates should be higher, times lower."""
    values = {system.name: samples.median(f"{name}, {system.name}") * scale for system in SYSTEMS}
    for peer in (PROCRASTINATE, DBOS):
        table.add(f"{what}: {peer.name}", values[peer.name], unit)
    row: Figure = table.add(f"{what}: agentq", values[AGENTQ.name], unit)
    for peer in (PROCRASTINATE, DBOS):
        ratio = values[AGENTQ.name] / values[peer.name]
        limits: dict[str, Any] = {"at_least": 1} if unit == "/s" else {"at_most": 1}
        table.aim(row, ratio, f"x {peer.name}'s", **limits)
        if peer is PROCRASTINATE:
            row = table.again(row)


def add_rates(table: Table, samples: Samples) -> None:
    """Messages a second, and the CPU of each."""
    compared(table, samples, "alone", "one send after the other", "/s")
    compared(table, samples, "senders", f"{SENDERS} senders", "/s")
    for kind, what in (("empty", "empty handlers"), ("waiting", f"handlers of {WAIT * 1000:g} ms")):
        for hosts in HOSTS:
            compared(table, samples, f"{kind} {hosts}", f"full cycle, {what}, {hosts} hosts", "/s")
    one, two = (samples.median(f"waiting {hosts}, agentq") for hosts in (1, 2))
    row = table.add(f"full cycle, handlers of {WAIT * 1000:g} ms, agentq, 1 → 2 hosts", two, "/s")
    table.aim(row, two / one, "x one host's", at_least=1.8)
    for who in ("host", "server"):
        for system in SYSTEMS:
            used = samples.median(f"{who} CPU, empty 1, {system.name}")
            table.add(f"CPU of the {who} for each message: {system.name}", used * 1000, "ms")


def add_delays(table: Table, samples: Samples) -> None:
    """Milliseconds of requests, and seconds of a takeover."""
    for percent in (50, 99):
        for system in SYSTEMS:
            value = samples.percentile(f"request, {system.name}", percent)
            samples.add(f"request p{percent}, {system.name}", value)
        compared(table, samples, f"request p{percent}", f"request and reply, p{percent}", "ms", scale=1000)
    ours, theirs = (samples.median(f"takeover, {system.name}") for system in (AGENTQ, PROCRASTINATE))
    table.add("takeover after kill -9: procrastinate", theirs, "s")
    table.add("takeover after kill -9: DBOS (without Conductor: none)", float("inf"), "s")
    table.aim(table.add("takeover after kill -9: agentq", ours, "s"), ours / theirs, "x procrastinate's", at_most=1)
