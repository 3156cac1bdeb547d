"""What hosts cost a PostgreSQL server while nothing is to be done: its CPU, and their connections."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psycopg

from tests.benchmarks.figures import Samples, Table
from tests.benchmarks.postgres import DURABLE, Host
from tests.benchmarks.postgres_bodies import Task
from tests.benchmarks.postgres_systems import AGENTQ, agentq
from tests.benchmarks.process_time import cpu_seconds
from tests.postgres_server import HOW_TO_GET_IT, Server, programs, running_server

ACTORS = 1000
HOSTS = 3
PATIENCE = 300.0
"""Seconds in which all messages must be handled and all actors asleep."""
SETTLING = 75.0
"""Seconds until connections that were needed only for the work before are closed."""
IDLE = 60.0
"""Seconds over which the CPU is measured."""

_CONNECTIONS = "select count(*) from pg_stat_activity where application_name = 'agentq'"
_AWAKE = "select count(*) from agentq.actors where epoch is not null"


async def measure(server: Server, folder: Path, samples: Samples) -> None:
    """Let all actors handle one message each, wait until they sleep, and then watch."""
    hosts = await asyncio.gather(*(Host.start(AGENTQ, server.url, number, 1, folder) for number in range(HOSTS)))
    async with agentq(server.url, ACTORS) as sender:
        await asyncio.gather(*(sender.send(Task()) for _ in range(ACTORS)))
    async with await psycopg.AsyncConnection.connect(server.url, autocommit=True) as connection:

        async def count(query: str) -> int:
            row = await (await connection.execute(query.encode())).fetchone()
            return 0 if row is None else row[0]

        begun = time.perf_counter()
        while (unsettled := await count(AGENTQ.unsettled)) + (awake := await count(_AWAKE)):
            if time.perf_counter() - begun > PATIENCE:
                raise TimeoutError(f"{unsettled} messages are unsettled, and {awake} actors awake.")
            await asyncio.sleep(1.0)
        await asyncio.sleep(SETTLING)
        used, processes = cpu_seconds([server.process_id]), [host.process.pid for host in hosts]
        used_by_hosts, begun = cpu_seconds(processes), time.perf_counter()
        await asyncio.sleep(IDLE)
        taken = time.perf_counter() - begun
        samples.add("server", (cpu_seconds([server.process_id]) - used) / taken)
        samples.add("hosts", (cpu_seconds(processes) - used_by_hosts) / taken)
        samples.add("connections", await count(_CONNECTIONS) / HOSTS)
    for host in hosts:
        await host.stop()


def figures(table: Table, folder: Path) -> None:
    """One round, however many are asked for: it takes minutes, and CPU seconds hardly vary."""
    found = programs()
    if found is None:
        raise SystemExit(HOW_TO_GET_IT)
    samples = Samples()
    with running_server(found, DURABLE) as server:
        asyncio.run(measure(server, folder, samples))
    what = f"{ACTORS:,} sleeping actors, {HOSTS} hosts"
    server_share, connections = 100 * samples.median("server"), samples.median("connections")
    row = table.add(f"{what}: CPU of the server", server_share, "% of a core")
    table.aim(row, server_share, "% of a core", at_most=2)
    table.add(f"{what}: CPU of each host", 100 * samples.median("hosts") / HOSTS, "% of a core")
    row = table.add(f"{what}: connections of each host", connections, "")
    table.aim(row, connections, "connections", at_most=3)
