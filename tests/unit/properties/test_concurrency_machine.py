"""Several messages of a queue at once, over random sends, ends, stops and crashes: never more than declared, in order,
nothing lost.

Each handler enters a ledger outside of the actor and waits for the machine to let it go on. ``many`` has
``Queue(concurrency=n)``, with a handler or with more receivers of ``run`` than n; ``one`` and ``two`` are handled one by
one, together.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import BaseModel

from agentq_nb._actor.actor import Actor
from agentq_nb._actor.message import Message
from agentq_nb._actor.queue import Queue
from agentq_nb._client.client import Client
from agentq_nb._policies.retry import Retry
from agentq_nb._store import EventLog
from tests.unit.brokers.settings import FakeSetting, LocalSetting, Setting
from tests.unit.fake_clock import settle
from tests.unit.properties.hosts import hosting

T = TypeVar("T")

AFTER = 4.0
"""Seconds from a failed attempt to the next."""
PATIENCE = 60.0
"""Seconds for which suspects are handled alone."""


class Job(BaseModel):
    number: int
    failures: int
    """Attempts that fail before one completes."""


class Book(BaseModel):
    many: list[int] = []
    others: list[int] = []


@dataclass
class Entry:
    """One message as the machine knows it."""

    queue: str
    job: Job
    receipt: Any
    starts: int = 0
    failed: int = 0
    crashed: int = 0
    completed: bool = False


@dataclass
class Ledger:
    """Who is at work, and in which order messages were first begun."""

    at_work: dict[int, asyncio.Future[bool]] = field(default_factory=dict[int, "asyncio.Future[bool]"])
    firsts: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    starts: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    async def work(self, message: Message[Job, Any]) -> bool:
        """Return whether the attempt is to succeed."""
        number = message.body.number
        assert number not in self.at_work, "the same message twice at once"
        firsts = self.firsts.setdefault(message.queue, [])
        if number not in firsts:
            firsts.append(number)
        self.starts.append((number, message.attempt))
        self.at_work[number] = gate = asyncio.get_running_loop().create_future()
        try:
            return await gate
        finally:
            del self.at_work[number]


def working(ledger: Ledger, concurrency: int) -> type[Actor]:
    retry = Retry(attempts=100, backoff=AFTER, crashes=100)

    class Working(Actor, sleep_timeout=None):
        many = Queue(Job, concurrency=concurrency, retry=retry)
        one = Queue(Job, retry=retry)
        two = Queue(Job, retry=retry)
        state: Book

        @one.handler
        @two.handler
        async def one_by_one(self, job: Job, message: Message[Job, Any]) -> None:
            self.state.others.append(job.number)
            if not await ledger.work(message):
                raise ValueError("as the job says")

        def noting(self, job: Job) -> Any:
            def note(book: Book) -> None:
                book.many.append(job.number)

            return note

    return Working


def with_handler(ledger: Ledger, concurrency: int) -> type[Actor]:
    base: Any = working(ledger, concurrency)

    class Worker(base):
        @base.many.handler
        async def several(self, job: Job, message: Message[Job, Any]) -> None:
            if not await ledger.work(message):
                raise ValueError("as the job says")
            await message.complete(update=self.noting(job))

    return Worker


def with_receivers(ledger: Ledger, concurrency: int) -> type[Actor]:
    base: Any = working(ledger, concurrency)

    class Worker(base):
        async def run(self) -> None:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(concurrency + 1):
                    tasks.create_task(self.take())

        async def take(self) -> None:
            async for message in self.many.iter(completable=True):
                if await ledger.work(message):
                    await message.complete(update=self.noting(message.body))
                else:
                    await message.retry()

    return Worker


class ConcurrencyMachine(RuleBasedStateMachine):
    """Over the fake broker; below also over the local one and its files."""

    def open(self, folder: Path) -> Setting:
        return FakeSetting()

    @initialize(concurrency=st.integers(2, 3), handler=st.booleans())
    def begin(self, concurrency: int, handler: bool) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.setting = self.open(Path(self.folder.name))
        self.clock = self.setting.clock
        self.log = EventLog.open(Path(self.folder.name) / "host.duckdb")
        self.concurrency = concurrency
        self.ledger = Ledger()
        self.entries: list[Entry] = []
        self.suspects: set[int] = set()
        self.doubtful: set[int] = set()
        """In flight at a crash, alone or not: they may be suspects, since another start may not have reached the disk."""
        self.suspected_at = 0.0
        self.cls = (with_handler if handler else with_receivers)(self.ledger, concurrency)
        self.run(self.start())

    async def start(self) -> None:
        self.stack = AsyncExitStack()
        client: Client = await self.stack.enter_async_context(
            hosting(self.setting.broker, self.log, self.clock, worker=self.cls)
        )
        self.handle = client.worker.get_or_create("main")
        for entry in self.entries:
            entry.receipt = client.receipt(entry.receipt.id)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        async def then_rest() -> T:
            result = await coroutine
            await self.rest()
            return result

        return self.loop.run_until_complete(then_rest())

    async def rest(self) -> None:
        """Let everything that can run do so, and writes reach the disk."""
        for _ in range(3):
            await self.setting.calm()
            await settle()

    def at_work(self, *queues: str) -> list[int]:
        return [number for number in self.ledger.at_work if self.entries[number].queue in queues]

    @property
    def open_ones(self) -> list[Entry]:
        return [entry for entry in self.entries if not entry.completed]

    # --- what happens -------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.open_ones) < 8)
    @rule(queue=st.sampled_from(["many", "many", "one", "two"]), failures=st.sampled_from([0, 0, 0, 1, 2]))
    def send(self, queue: str, failures: int) -> None:
        job = Job(number=len(self.entries), failures=failures)
        entry = Entry(queue, job, None)
        self.entries.append(entry)
        entry.receipt = self.run(self.handle.send(queue, job))

    @precondition(lambda self: self.ledger.at_work)
    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.ledger.at_work)))
        entry = self.entries[number]
        fails = entry.failed < entry.job.failures
        self.ledger.at_work[number].set_result(not fails)
        self.run(settle())
        entry.failed += fails
        entry.completed = not fails
        self.suspects.discard(number)
        self.doubtful.discard(number)

    @rule(seconds=st.sampled_from([1.0, 4.0, 6.0]))
    def pass_by(self, seconds: float) -> None:
        self.run(self.clock.pass_by(seconds))

    @rule()
    def restart(self) -> None:
        """An orderly stop, which ends what is in flight after its grace: nothing is counted, and suspects are cleared."""
        self.suspects -= self.ledger.at_work.keys()
        self.doubtful -= self.ledger.at_work.keys()

        async def stop_and_start() -> None:
            async with self.clock.racing():
                await self.stack.aclose()
            await self.setting.reopen()
            await self.start()

        self.run(stop_and_start())

    @rule()
    def crash(self) -> None:
        """What was in flight comes again with a higher attempt; several of them, one at a time."""
        in_flight = set(self.ledger.at_work)
        for number in in_flight:
            self.entries[number].crashed += 1

        async def die_and_start() -> None:
            await self.setting.crash()
            async with self.clock.racing():
                await self.stack.aclose()
            await self.start()

        self.run(die_and_start())
        self.doubtful |= in_flight
        if len(in_flight) > 1:
            self.suspects |= in_flight
        self.suspected_at = self.clock.monotonic()

    # --- what must be so ----------------------------------------------------------------------------------------------

    @invariant()
    def never_more_than_declared_are_at_work(self) -> None:
        if hasattr(self, "ledger"):
            assert len(self.at_work("many")) <= self.concurrency
            assert len(self.at_work("one", "two")) <= 1

    @invariant()
    def messages_are_begun_in_the_order_of_sending(self) -> None:
        if hasattr(self, "ledger"):
            for firsts in self.ledger.firsts.values():
                assert firsts == sorted(firsts)

    @invariant()
    def suspects_are_alone(self) -> None:
        if hasattr(self, "suspects") and self.suspects.intersection(self.ledger.at_work):
            assert self.clock.monotonic() - self.suspected_at >= PATIENCE or len(self.ledger.at_work) == 1

    @invariant()
    def no_place_is_left_empty(self) -> None:
        """Where no suspect holds things up, all places are taken as long as messages are due."""
        if not hasattr(self, "doubtful") or self.doubtful:
            return
        for queues, room in ((("many",), self.concurrency), (("one", "two"), 1)):
            due = [one for one in self.open_ones if one.queue in queues and self.is_due(one)]
            assert len(self.at_work(*queues)) == min(room, len(due))

    def is_due(self, entry: Entry) -> bool:
        if entry.job.number in self.ledger.at_work:
            return True
        return self.loop.run_until_complete(entry.receipt.status()) == "queued"

    @invariant()
    def attempts_count_failures_and_crashes_only(self) -> None:
        if hasattr(self, "ledger"):
            for number in self.ledger.at_work:
                entry = self.entries[number]
                latest = [attempt for started, attempt in self.ledger.starts if started == number][-1]
                assert latest == 1 + entry.failed + entry.crashed

    def teardown(self) -> None:
        if not hasattr(self, "ledger"):
            return
        try:
            self.loop.run_until_complete(self.finish())
        finally:
            self.log.close()
            self.loop.close()
            self.folder.cleanup()

    async def finish(self) -> None:
        """Let everything end: each message has completed, and is in the state once."""
        for _ in range(1000):
            for number, gate in list(self.ledger.at_work.items()):
                if not gate.done():
                    entry = self.entries[number]
                    fails = entry.failed < entry.job.failures
                    entry.failed += fails
                    entry.completed = not fails
                    gate.set_result(not fails)
            await self.rest()
            if not self.open_ones:
                break
            await self.clock.pass_by(1.0)
        results = [await entry.receipt.result(0) for entry in self.entries]
        assert [result.status for result in results] == ["completed"] * len(results)
        states = await self.setting.broker.states("worker")
        if self.entries:
            book = Book.model_validate_json(states["worker/main"])
            assert sorted([*book.many, *book.others]) == list(range(len(self.entries)))
        async with self.clock.racing():
            await self.stack.aclose()


class LocalConcurrencyMachine(ConcurrencyMachine):
    def open(self, folder: Path) -> Setting:
        return self.loop.run_until_complete(LocalSetting.open(folder))


def settings_of(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


ConcurrencyMachine.TestCase.settings = settings_of(30)
LocalConcurrencyMachine.TestCase.settings = settings_of(8)
TestConcurrency = pytest.mark.timeout(250)(ConcurrencyMachine.TestCase)
TestLocalConcurrency = pytest.mark.timeout(250)(LocalConcurrencyMachine.TestCase)
