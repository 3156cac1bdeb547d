"""``map`` beside ``asyncio.gather`` with a semaphore: rows that take 10 ms each, 10 at a time."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from pathlib import Path

import agentq_nb
from agentq_nb import setup
from tests.benchmarks.figures import Samples, Table

ROWS = (500, 5_000)
AT_ONCE = 10
SECONDS_EACH = 0.010
TIMES = 3
"""How often a round measures both, one after the other."""


async def row_work(row: int) -> int:
    """What is done for each row."""
    await asyncio.sleep(SECONDS_EACH)
    return row


async def gathered(rows: int) -> float:
    """Seconds that ``asyncio.gather`` takes."""
    semaphore = asyncio.Semaphore(AT_ONCE)

    async def one(row: int) -> int:
        async with semaphore:
            return await row_work(row)

    gc.collect()
    begun = time.perf_counter()
    await asyncio.gather(*(one(row) for row in range(rows)))
    return time.perf_counter() - begun


async def mapped(rows: int, name: str) -> float:
    """Seconds that ``map`` takes until all replies are there, on a host that runs."""
    gc.collect()
    begun = time.perf_counter()
    batch = await agentq_nb.map(row_work, range(rows), name=name, concurrency=AT_ONCE)
    results = await batch.results()
    taken = time.perf_counter() - begun
    assert [result.unwrap() for result in results] == list(range(rows))
    return taken


async def measure_round(samples: Samples, folder: Path) -> None:
    """Measure both in turn, several times, in one host."""
    async with setup(store=folder / f"map-{time.time_ns()}.duckdb"):
        await mapped(100, "before")
        for rows in ROWS:
            for number in range(TIMES):
                gather = await gathered(rows)
                samples.add(f"gather {rows}", gather)
                samples.add(f"ratio {rows}", await mapped(rows, f"{rows} rows, {number}") / gather)


def figures(table: Table, folder: Path) -> None:
    """How much longer ``map`` takes."""
    samples = Samples()
    for number in range(table.rounds):
        print(f"round {number + 1} of {table.rounds} …", file=sys.stderr, flush=True)
        asyncio.run(measure_round(samples, folder))
    for rows in ROWS:
        gather, ratio = samples.median(f"gather {rows}"), samples.median(f"ratio {rows}")
        table.add(f"gather of {rows:,} rows of 10 ms, {AT_ONCE} at once", gather * 1000, "ms")
        row = table.add(f"map of {rows:,} rows of 10 ms, {AT_ONCE} at once", gather * ratio * 1000, "ms")
        table.aim(row, ratio, "x gather", at_most=1.15)
