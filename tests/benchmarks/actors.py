"""Many actors on one host: what waking, looking at, stopping and finding them again costs."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from agentq_nb import Actor, Queue, create_client, setup
from agentq_nb._host.registry import Registry
from agentq_nb._notebook.dashboard.depth_history import recorder_of
from agentq_nb._notebook.dashboard.snapshot import Snapshot
from tests.benchmarks.figures import Table, median

ACTORS = 10_000
_AT_ONCE = 500
_LOOKS = 5


class Worker(Actor):
    """Answers, and then waits for more."""

    tasks = Queue(str, reply=str)

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            await message.complete("done")


@dataclass
class Measured:
    """One run, in seconds; ``stall`` is the longest time for which the event loop got no turn meanwhile."""

    first_waking: float = 0.0
    """For one of the first actors, and beside all the others for one of the last."""
    last_waking: float = 0.0
    status: list[float] = field(default_factory=list[float])
    status_stall: list[float] = field(default_factory=list[float])
    snapshot: list[float] = field(default_factory=list[float])
    snapshot_stall: list[float] = field(default_factory=list[float])
    stop: float = 0.0
    open: float = 0.0


class LongestTurn:
    """A task that asks for every turn of the loop."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextlib.asynccontextmanager
    async def measured(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._count())
        await asyncio.sleep(0)
        try:
            yield
            await asyncio.sleep(0)
        finally:
            task.cancel()

    async def _count(self) -> None:
        before = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            self.seconds, before = max(self.seconds, now - before), now


async def _look(look: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Seconds that a look takes, and the longest turn in it."""
    turns = LongestTurn()
    async with turns.measured():
        begun = time.perf_counter()
        await look()
        taken = time.perf_counter() - begun
    return taken, turns.seconds


async def _wake(first: int, number: int) -> float:
    """Seconds for each actor that is created, woken and handles a message."""
    client = create_client()
    begun = time.perf_counter()
    for base in range(first, first + number, _AT_ONCE):
        names = [f"w{index}" for index in range(base, base + _AT_ONCE)]
        await asyncio.gather(*(client.worker.get_or_create(name).send("tasks", "x", wait=True) for name in names))
    return (time.perf_counter() - begun) / number


async def measure(store: Path, actors: int = ACTORS) -> Measured:
    """All of it, once."""
    measured = Measured()
    registry: Registry = setup(use={"worker": Worker}, store=store)
    await registry.start()
    measured.first_waking = await _wake(0, _AT_ONCE)
    await _wake(_AT_ONCE, actors - 2 * _AT_ONCE)
    measured.last_waking = await _wake(actors - _AT_ONCE, _AT_ONCE)
    snapshot = Snapshot(registry, recorder_of(registry.host))
    for _ in range(_LOOKS):
        taken, stall = await _look(registry.status)
        measured.status.append(taken)
        measured.status_stall.append(stall)
        taken, stall = await _look(lambda: registry.host.enter(snapshot.gather))
        measured.snapshot.append(taken)
        measured.snapshot_stall.append(stall)
    begun = time.perf_counter()
    await registry.stop()
    measured.stop = time.perf_counter() - begun
    begun = time.perf_counter()
    await registry.start()
    measured.open = time.perf_counter() - begun
    await registry.stop()
    return measured


def actor_figures(table: Table, folder: Path, rounds: int) -> None:
    """The rows of the table."""
    runs: list[Measured] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            runs.append(asyncio.run(measure(Path(place) / "actors.duckdb")))

    def of(what: Callable[[Measured], float]) -> float:
        return median([what(run) for run in runs])

    first, last = of(lambda run: run.first_waking), of(lambda run: run.last_waking)
    table.add("create, wake, one message: the first of 10,000 actors", first * 1000, "ms")
    row = table.add("create, wake, one message: the last of 10,000 actors", last * 1000, "ms")
    table.aim(row, last / first, "x the first", at_most=2)
    table.add("status() of 10,000 actors", of(lambda run: median(run.status)) * 1000, "ms")
    stall = of(lambda run: median(run.status_stall)) * 1000
    table.aim(table.add("  the longest turn of the loop meanwhile", stall, "ms"), stall, "ms", at_most=20)
    table.add("a snapshot for the dashboard", of(lambda run: median(run.snapshot)) * 1000, "ms")
    stall = of(lambda run: median(run.snapshot_stall)) * 1000
    table.aim(table.add("  the longest turn of the loop meanwhile", stall, "ms"), stall, "ms", at_most=20)
    stop = of(lambda run: run.stop)
    table.aim(table.add("stop of 10,000 actors", stop, "s"), stop, "s", at_most=2)
    opened = of(lambda run: run.open)
    table.aim(table.add("opening their file again", opened, "s"), opened, "s", at_most=1)
