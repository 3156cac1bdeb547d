"""``python -m tests.benchmarks``: one table, all figures of one run, targets as ratios within it.

Words after it choose parts, ``--rounds N`` how often all of it is measured. Files are made in the folder for temporary
ones: set TMPDIR to measure another disk (one in memory makes a sync free, and the ratios mean nothing).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks import (
    actors,
    agents,
    bare,
    batches,
    gateway,
    jobs,
    mapping,
    meter,
    opening,
    peers,
    postgres,
    postgres_idle,
    queues,
    redacting,
    sessions,
)
from tests.benchmarks.figures import Samples, Table, median

ROOT = Path(__file__).parents[2]


def import_seconds(statement: str, times: int = 5) -> float:
    """Seconds a fresh Python takes for the statement."""
    timing = f"import time; begun = time.perf_counter(); {statement}; print(time.perf_counter() - begun)"
    command = [sys.executable, "-c", timing]
    return median([float(subprocess.check_output(command, cwd=ROOT, text=True)) for _ in range(times)])


BUSY_MILLISECONDS = (0, 0.1, 1)


SLICES = 3


def measure_queues(folder: Path, rounds: int) -> Samples:
    """Each round measures everything, so that a machine that slows down slows all of it.

    What is set against each other is measured in short slices, one after the other, several times a round.
    """
    samples = Samples()
    for number in range(rounds):
        print(f"round {number + 1} of {rounds} …", file=sys.stderr, flush=True)
        for _ in range(SLICES):
            measure_slice(samples, folder)
        samples.add("beside", *asyncio.run(queues.send_seconds_beside_replies(folder)))
        for busy in BUSY_MILLISECONDS:
            samples.add(f"stall {busy}", *asyncio.run(queues.stalls(folder, busy / 1000)))
    return samples


def measure_slice(samples: Samples, folder: Path) -> None:
    """Rates and delays, ours between the others'."""
    samples.add("sync", *bare.fdatasync_seconds(folder))
    samples.add("insert", *bare.insert_seconds(folder))
    samples.add("sequential", asyncio.run(queues.sequential_rate(folder)))
    for peer in peers.PEERS:
        put, cycle = peer.rates(folder)
        samples.add(f"put, {peer.name}", put)
        samples.add(f"cycle, {peer.name}", cycle)
    samples.add("concurrent", asyncio.run(queues.concurrent_rate(folder)))
    samples.add("plain", asyncio.run(queues.cycle_rate(folder, "plain")))
    samples.add("completing", asyncio.run(queues.cycle_rate(folder, "completing")))
    samples.add("reply", *asyncio.run(queues.reply_seconds(folder)))
    samples.add("start", *asyncio.run(queues.idle_start_seconds(folder)))


def queue_figures(table: Table, folder: Path) -> None:
    """Everything durable, beside what the disk gives and what others make of it."""
    peers.check_installed()
    samples = measure_queues(folder, table.rounds)
    add_rates(table, samples)
    add_delays(table, samples)


def add_rates(table: Table, samples: Samples) -> None:
    """Messages a second."""
    sync = samples.median("sync")
    persist, lite = peers.PERSIST_QUEUE.name, peers.LITEQUEUE.name
    put, persist_cycle = samples.median(f"put, {persist}"), samples.median(f"cycle, {persist}")
    lite_cycle = samples.median(f"cycle, {lite}")
    table.add("append + fdatasync of 200 bytes", 1 / sync, "/s")
    table.add("one plain DuckDB insert + commit", 1 / samples.median("insert"), "/s")
    for peer in peers.PEERS:
        table.add(f"put: {peer.name}", samples.median(f"put, {peer.name}"), "/s")
    sends, concurrent = samples.median("sequential"), samples.median("concurrent")
    row = table.add("sequential await send", sends, "/s")
    table.aim(row, sends / put, "x persist-queue's put", at_least=1)
    table.aim(table.again(row), sends * sync, "x append + fdatasync", at_least=0.5)
    row = table.add("100 concurrent senders", concurrent, "/s")
    table.aim(row, concurrent / put, "x persist-queue's put", at_least=5)
    for peer in peers.PEERS:
        table.add(f"full cycle: {peer.name}", samples.median(f"cycle, {peer.name}"), "/s")
    plain, completing = samples.median("plain"), samples.median("completing")
    row = table.add("full cycle, plain", plain, "/s")
    table.aim(row, plain / persist_cycle, "x persist-queue's", at_least=12)
    table.aim(table.again(row), plain / lite_cycle, "x litequeue's", at_least=4)
    row = table.add("full cycle, awaited complete", completing, "/s")
    table.aim(row, completing / persist_cycle, "x persist-queue's")


def add_delays(table: Table, samples: Samples) -> None:
    """Milliseconds."""
    sync = samples.median("sync")
    table.add("append + fdatasync of 200 bytes, p50", sync * 1000, "ms")
    table.add("request/reply p99", samples.percentile("reply", 99) * 1000, "ms")
    row = table.add("request/reply p50", samples.median("reply") * 1000, "ms")
    table.aim(row, samples.median("reply") / sync, "x append + fdatasync", at_most=6)
    row = table.add("idle queue, send → handler starts, p50", samples.median("start") * 1000, "ms")
    table.aim(row, samples.median("start") / sync, "x append + fdatasync", at_most=5)
    size = queues.LARGEST_REPLY // 1024 // 1024
    table.add(f"send beside replies of {size} MiB, p50", samples.median("beside") * 1000, "ms")
    table.add(f"send beside replies of {size} MiB, p99", samples.percentile("beside", 99) * 1000, "ms")
    for busy in BUSY_MILLISECONDS:
        name = f"stall {busy}"
        table.add(f"backlog of 20,000, handlers of {busy:g} ms: stall p99", samples.percentile(name, 99) * 1000, "ms")
        longest = samples.highest(name) * 1000
        table.aim(
            table.add(f"backlog of 20,000, handlers of {busy:g} ms: stall max", longest, "ms"),
            longest,
            "ms",
            at_most=20,
        )


def history_figures(table: Table, folder: Path) -> None:
    for messages in (100_000, 1_000_000):
        print(f"opening {messages:,} messages …", file=sys.stderr, flush=True)
        path = folder / f"history-{messages}.duckdb"
        events = opening.make(path, messages)
        opened = [asyncio.run(opening.open_seconds(path)) for _ in range(table.rounds)]
        seconds = median([taken for taken, _ in opened])
        row = table.add(f"opening {messages:,} messages ({events:,} events), {opened[0][1]:,} live", seconds, "s")
        if messages == 1_000_000:
            table.aim(row, seconds, "s", at_most=0.5)
    path = folder / "history-view.duckdb"
    events = opening.make(path, 335_000)
    seconds = median([asyncio.run(opening.view_seconds(path)) for _ in range(table.rounds)])
    table.aim(table.add(f"messages view at {events:,} events", seconds, "s"), seconds, "s", at_most=1)


def memory_figures(table: Table, folder: Path) -> None:
    memory = asyncio.run(queues.bytes_per_message(folder))
    table.aim(table.add("memory per queued 200-byte message", memory, "bytes"), memory / 1000, "kB", at_most=2)


def import_figures(table: Table, folder: Path) -> None:
    base, ours = import_seconds("import pydantic, duckdb"), import_seconds("import agentq_nb")
    table.aim(table.add("import agentq_nb", ours, "s"), ours - base, "s more than pydantic, duckdb", at_most=0.3)


def agents_figures(table: Table, folder: Path) -> None:
    protocol = import_seconds("import agentq_nb, agentq_nb.agent_os.agents.acp.conversation")
    more = protocol - import_seconds("import agentq_nb")
    table.add("first session of a kernel: loading the protocol's library, once", more, "s")
    agents.agent_figures(table, folder, table.rounds)


def actors_figures(table: Table, folder: Path) -> None:
    actors.actor_figures(table, folder, table.rounds)


PARTS: dict[str, Sequence[Callable[[Table, Path], None]]] = {
    "queues": (queue_figures, history_figures, memory_figures, import_figures),
    "actors": (actors_figures,),
    "agents": (agents_figures,),
    "batches": (batches.figures,),
    "gateway": (gateway.figures,),
    "jobs": (jobs.job_figures,),
    "map": (mapping.figures,),
    "meter": (meter.figures,),
    "postgres": (postgres.figures,),
    "postgres_idle": (postgres_idle.figures,),
    "redacting": (redacting.figures,),
    "sessions": (sessions.session_figures,),
}
"""By name, what adds figures to the table; each is given an empty folder. ``table.rounds`` says how often to measure."""


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Which parts, in how many rounds."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all, when none is named")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="measure everything so often (3)")
    given = parser.parse_args(words)
    unknown = [part for part in given.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if given.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return given


def main(words: Sequence[str]) -> None:
    given = arguments(words)
    table = Table(given.rounds)
    for measure in [measure for part in given.parts or PARTS for measure in PARTS[part]]:
        folder = Path(tempfile.mkdtemp(prefix="agentq-benchmarks-"))
        try:
            measure(table, folder)
        except peers.MissingPeers as error:
            raise SystemExit(str(error)) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    rounds = f"medians of {table.rounds} round{'' if table.rounds == 1 else 's'}"
    print(f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores; {rounds}")
    print(table.render())


if __name__ == "__main__":
    main(sys.argv[1:])
