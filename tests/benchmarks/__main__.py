"""``python -m tests.benchmarks``: one table, all figures of one run, targets as ratios within it.

A word after it chooses a part: ``queues`` or ``agents``.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks import agents, bare, opening, queues
from tests.benchmarks.figures import Table, median, percentile

ROUNDS = 3
ROOT = Path(__file__).parents[2]


def import_seconds(statement: str, times: int = 5) -> float:
    """Seconds a fresh Python takes for the statement."""
    timing = f"import time; begun = time.perf_counter(); {statement}; print(time.perf_counter() - begun)"
    command = [sys.executable, "-c", timing]
    return median([float(subprocess.check_output(command, cwd=ROOT, text=True)) for _ in range(times)])


def queue_figures(table: Table, folder: Path) -> None:
    """Rounds interleave all measurements, so that a machine that slows down slows them all."""
    syncs: list[float] = []
    inserts: list[float] = []
    sequential: list[float] = []
    concurrent: list[float] = []
    plain: list[float] = []
    completing: list[float] = []
    replies: list[float] = []
    starts: list[float] = []
    for number in range(ROUNDS):
        print(f"round {number + 1} of {ROUNDS} …", file=sys.stderr, flush=True)
        syncs += bare.fdatasync_seconds(folder)
        inserts += bare.insert_seconds(folder)
        sequential.append(asyncio.run(queues.sequential_rate(folder)))
        concurrent.append(asyncio.run(queues.concurrent_rate(folder)))
        plain.append(asyncio.run(queues.cycle_rate(folder, "plain")))
        completing.append(asyncio.run(queues.cycle_rate(folder, "completing")))
        replies += asyncio.run(queues.reply_seconds(folder))
        starts += asyncio.run(queues.idle_start_seconds(folder))
    insert, sends = median(inserts), median(sequential)
    table.add("fdatasync of 300 bytes", median(syncs) * 1000, "ms")
    table.add("one plain DuckDB insert + commit", insert * 1000, "ms")
    row = table.add("sequential await send", sends, "/s")
    table.aim(row, sends * insert, "x insert + commit", at_least=0.8)
    row = table.add("100 concurrent senders", median(concurrent), "/s")
    table.aim(row, median(concurrent) / sends, "x sequential", at_least=25)
    row = table.add("full cycle, plain", median(plain), "/s")
    table.aim(row, median(plain) / sends, "x sequential", at_least=18)
    row = table.add("full cycle, awaited complete", median(completing), "/s")
    row.ratio = f"{median(completing) / sends:.2f} x sequential"
    row = table.add("request/reply p50", median(replies) * 1000, "ms")
    table.aim(row, median(replies) / insert, "x insert + commit", at_most=3.2)
    table.add("request/reply p99", percentile(replies, 99) * 1000, "ms")
    row = table.add("idle queue, send → handler starts, p50", median(starts) * 1000, "ms")
    table.aim(row, median(starts) / insert, "x insert + commit", at_most=2)


def history_figures(table: Table, folder: Path) -> None:
    for messages in (100_000, 1_000_000):
        print(f"opening {messages:,} messages …", file=sys.stderr, flush=True)
        path = folder / f"history-{messages}.duckdb"
        events = opening.make(path, messages)
        opened = [asyncio.run(opening.open_seconds(path)) for _ in range(ROUNDS)]
        seconds = median([taken for taken, _ in opened])
        row = table.add(f"opening {messages:,} messages ({events:,} events), {opened[0][1]:,} live", seconds, "s")
        if messages == 1_000_000:
            table.aim(row, seconds, "s", at_most=0.5)
    path = folder / "history-view.duckdb"
    events = opening.make(path, 335_000)
    seconds = median([asyncio.run(opening.view_seconds(path)) for _ in range(ROUNDS)])
    table.aim(table.add(f"messages view at {events:,} events", seconds, "s"), seconds, "s", at_most=1)


def memory_figures(table: Table, folder: Path) -> None:
    memory = asyncio.run(queues.bytes_per_message(folder))
    table.aim(table.add("memory per queued 200-byte message", memory, "bytes"), memory / 1000, "kB", at_most=2)


def import_figures(table: Table, folder: Path) -> None:
    base, ours = import_seconds("import pydantic, duckdb"), import_seconds("import agentq_nb")
    table.aim(table.add("import agentq_nb", ours, "s"), ours - base, "s more than pydantic, duckdb", at_most=0.3)


def agents_figures(table: Table, folder: Path) -> None:
    protocol = import_seconds("import agentq_nb, agentq_nb.agent_os.agents.acp_conversation")
    more = protocol - import_seconds("import agentq_nb")
    table.add("first session of a kernel: loading the protocol's library, once", more, "s")
    agents.agent_figures(table, folder, ROUNDS)


PARTS: dict[str, Sequence[Callable[[Table, Path], None]]] = {
    "queues": (queue_figures, history_figures, memory_figures, import_figures),
    "agents": (agents_figures,),
}


def main(words: Sequence[str]) -> None:
    table = Table()
    chosen = words or list(PARTS)
    for measure in [measure for part in chosen for measure in PARTS[part]]:
        folder = Path(tempfile.mkdtemp(prefix="agentq-benchmarks-"))
        try:
            measure(table, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    print(
        f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores; medians of {ROUNDS} rounds"
    )
    print(table.render())


if __name__ == "__main__":
    main(sys.argv[1:])
