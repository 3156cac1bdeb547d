"""Long jobs beside the traffic: what a prune of a long history and an export cost those who send meanwhile."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import duckdb

from agentq_nb import Actor, Queue, Registry, create_client, setup
from agentq_nb._client.client import Client
from agentq_nb._store import EventLog
from tests.benchmarks.bare import BODY
from tests.benchmarks.figures import Samples, Table
from tests.benchmarks.queues import TASK, Task

MESSAGES = 400_000
LARGE_BODIES = 6000
LARGE_BODY_BYTES = 50_000
QUIET_SECONDS = 5.0
LONGEST_MILLISECONDS = 50
"""What a send may take, p99, while a job runs."""

_SETTLED = """
insert into events
with m as (select range as n, printf('%010x', 700000000000 + range) || left(md5(range::varchar), 15) as id from range(?))
select row_number() over (order by n, step), timestamp '2026-01-01' + interval (n) millisecond,
    ['message.queued', 'message.started', 'message.completed'][step], 'runner/a', id, null,
    case step when 1 then '{"queue":"tasks","body":' || ? || '}' when 2 then '{"attempt":1}' else '{"reply":"done"}' end
from m, (select unnest([1, 2, 3]) as step)
order by n, step
"""

_LARGE = """
insert into events
select range + 1, timestamp '2026-01-01', 'note', null, null, null,
    '{"text":"' || array_to_string(list_transform(range(? // 32), lambda i: md5(concat(range, ' ', i))), '') || '"}'
from range(?)
"""


class Worker(Actor):
    """Replies to each message at once, and says when it got it."""

    tasks = Queue(Task, reply=float, max_size=10_000_000)

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            await message.complete(time.perf_counter())


def make(path: Path, statement: str, *parameters: object) -> None:
    """A store with what one statement inserts."""
    log = EventLog.open(path)
    log.close()
    path.with_name(path.name + ".guard").unlink()
    connection = duckdb.connect(str(path))
    connection.execute(statement, parameters)
    connection.execute("checkpoint")
    connection.close()
    EventLog.open(path).close()


class Traffic:
    """Messages that are due every few milliseconds. What each took is counted from when it was due."""

    def __init__(self, client: Client, samples: Samples, name: str) -> None:
        self._worker = client.worker.get_or_create("a")
        self._samples = samples
        self._name = name

    async def beside(self, job: Callable[[], Awaitable[object]], pause: float = 0.005) -> float:
        """Send until the job is done. The seconds that it took."""
        await self._worker.send("tasks", TASK, wait=True)
        gc.collect()
        begun = due = time.perf_counter()
        working = asyncio.ensure_future(job())
        number = 0
        async with asyncio.TaskGroup() as sending:
            while not working.done():
                due += pause
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                sending.create_task(self._send(due) if number % 2 else self._ask(due))
                number += 1
            await working
            return time.perf_counter() - begun

    async def _send(self, due: float) -> None:
        await self._worker.send("tasks", TASK)
        self._samples.add(f"{self._name}: send", time.perf_counter() - due)

    async def _ask(self, due: float) -> None:
        result = await self._worker.send("tasks", TASK, wait=True)
        assert isinstance(result.response, float), result
        self._samples.add(f"{self._name}: send → handler starts", result.response - due)
        self._samples.add(f"{self._name}: request/reply", time.perf_counter() - due)


async def _measure(path: Path, samples: Samples, name: str, job: Callable[[Registry], Awaitable[object]]) -> None:
    """The same file with nothing going on, and then beside the job."""
    async with setup(use={"worker": Worker}, store=path) as registry:
        client = create_client()
        await Traffic(client, samples, "nothing else").beside(lambda: asyncio.sleep(QUIET_SECONDS))
        samples.add(f"{name} seconds", await Traffic(client, samples, name).beside(lambda: job(registry)))


async def prune(path: Path, samples: Samples) -> None:
    """Drop all that is older than the traffic, and shrink the file."""

    async def job(registry: Registry) -> None:
        assert await registry.prune(1_780_000_000.0) == MESSAGES * 3

    before = path.stat().st_size
    await _measure(path, samples, "prune", job)
    samples.add("left", path.stat().st_size / before)


async def export(path: Path, samples: Samples) -> None:
    """Copy the file."""
    await _measure(path, samples, "export", lambda registry: registry.export(path.with_suffix(".copy")))
    samples.add("copied", path.with_suffix(".copy").stat().st_size)


def job_figures(table: Table, folder: Path) -> None:
    """What those who send notice of a prune and of an export."""
    samples = Samples()
    for number in range(table.rounds):
        print(f"round {number + 1} of {table.rounds} …", file=sys.stderr, flush=True)
        path = folder / f"pruned-{number}.duckdb"
        make(path, _SETTLED, MESSAGES, BODY)
        asyncio.run(prune(path, samples))
        path = folder / f"exported-{number}.duckdb"
        make(path, _LARGE, LARGE_BODY_BYTES, LARGE_BODIES)
        asyncio.run(export(path, samples))
    _add(table, samples)


def _add(table: Table, samples: Samples) -> None:
    rows = f"{MESSAGES * 3:,}"
    table.add(f"prune of {rows} rows, with its shrink", samples.median("prune seconds"), "s")
    table.add("  size of the file after it", samples.median("left") * 100, "%")
    table.add(f"export of {samples.median('copied') / 1e6:.0f} MB", samples.median("export seconds"), "s")
    for what in ("send", "send → handler starts", "request/reply"):
        for beside in ("nothing else", "prune", "export"):
            name = f"{beside}: {what}"
            table.add(f"{what} beside {beside}, p50", samples.median(name) * 1000, "ms")
            highest = samples.percentile(name, 99) * 1000
            row = table.add(f"{what} beside {beside}, p99", highest, "ms")
            if beside != "nothing else":
                table.aim(row, highest, "ms", at_most=LONGEST_MILLISECONDS)
            table.add(f"{what} beside {beside}, max", samples.highest(name) * 1000, "ms")
