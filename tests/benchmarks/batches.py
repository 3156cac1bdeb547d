"""Batches: ``send_many`` beside one bulk append of the same rows to the store, and the memory that a row takes."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

from agentq_nb import current_registry
from agentq_nb._store import EventLog, Row, row
from tests.benchmarks.figures import Samples, Table
from tests.benchmarks.queues import TASK, hosting

ROWS = 10_000
MANY_ROWS = 100_000
TIMES = 5
"""How often a round measures both, one after the other, each with a file of its own."""

_WRITTEN = """
select kind, actor_id, message_id, data::varchar from events
where kind in ('batch.sent', 'message.queued') and data->>'$.batch' = 'measured'
order by seq
"""


def bodies(rows: int) -> list[dict[str, str]]:
    """Different bodies, each of 200 bytes as JSON."""
    return [{"prompt": f"{number:0187}"} for number in range(rows)]


async def send_seconds(folder: Path, rows: int = ROWS) -> tuple[float, list[Row]]:
    """Seconds of one ``send_many``, and the rows that it wrote."""
    async with hosting(folder) as client:
        registry = current_registry()
        assert registry is not None
        handle = client.sink.get_or_create("a")
        await handle.send_many("tasks", [TASK] * 100, name="before")
        sent = bodies(rows)
        gc.collect()
        begun = time.perf_counter()
        await handle.send_many("tasks", sent, name="measured")
        taken = time.perf_counter() - begun
        written = (await registry.sql(_WRITTEN)).rows
        return taken, [row(kind, actor, message, None, data) for kind, actor, message, data in written]


async def append_seconds(folder: Path, rows: Sequence[Row]) -> float:
    """Seconds of one durable append of rows that are made already."""
    log = await asyncio.to_thread(EventLog.open, folder / f"append-{time.time_ns()}.duckdb")
    log.append(rows[:100])
    await log.flushed()
    gc.collect()
    begun = time.perf_counter()
    log.append(rows)
    await log.flushed()
    taken = time.perf_counter() - begun
    await asyncio.to_thread(log.close)
    return taken


async def bytes_per_row(folder: Path, rows: int = MANY_ROWS) -> float:
    """Bytes of Python memory that one queued row of 200 bytes takes."""
    async with hosting(folder) as client:
        handle = client.sink.get_or_create("a")
        await handle.send_many("tasks", [TASK] * 100, name="before")
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        await handle.send_many("tasks", (body for body in bodies(rows)), name="measured")
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return (after - before) / rows


def figures(table: Table, folder: Path) -> None:
    """What ``send_many`` costs, in time and in memory."""
    samples = Samples()
    for number in range(table.rounds):
        print(f"round {number + 1} of {table.rounds} …", file=sys.stderr, flush=True)
        for _ in range(TIMES):
            seconds, rows = asyncio.run(send_seconds(folder))
            samples.add("send", seconds)
            samples.add("append", asyncio.run(append_seconds(folder, rows)))
        samples.add("memory", asyncio.run(bytes_per_row(folder)))
    add(table, samples)


def add(table: Table, samples: Samples) -> None:
    append, send, memory = samples.median("append"), samples.median("send"), samples.median("memory")
    table.add(f"one append of {ROWS:,} rows", append * 1000, "ms")
    table.aim(
        table.add(f"send_many of {ROWS:,} bodies of 200 bytes", send * 1000, "ms"),
        send / append,
        "x the append",
        at_most=3,
    )
    table.aim(table.add(f"memory per row of a batch of {MANY_ROWS:,}", memory, "bytes"), memory / 1000, "kB", at_most=2)
