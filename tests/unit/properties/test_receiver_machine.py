"""Real actors against a plain model: handlers that complete, fail, retry, raise or return early, as a script says.

Each handler writes into its working copy and then waits for the machine to let it go on, so actions can come between.
The model says who is handled next, when, at which attempt, what the state is, and what became of every message.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import BaseModel

from agentq_nb._actor.actor import Actor, action
from agentq_nb._actor.queue import Queue
from agentq_nb._policies.retry import Retry
from agentq_nb._store import EventLog
from tests.unit.brokers.settings import FakeSetting, Setting
from tests.unit.fake_clock import FakeClock, settle
from tests.unit.properties.hosts import hosting

T = TypeVar("T")
Step = Literal["complete", "fail", "retry", "raise", "return"]

ATTEMPTS = 3
AFTER = 5.0


def backoff(failures: int) -> float:
    return 2.0**failures


class Job(BaseModel):
    number: int
    steps: list[Step]
    """What each delivery does; the last one again and again."""


class Book(BaseModel):
    done: list[int] = []
    noted: list[int] = []


@dataclass
class Stage:
    """Where handler and machine meet."""

    trace: list[tuple[int, int, float]] = field(default_factory=list[tuple[int, int, float]])
    deliveries: dict[int, int] = field(default_factory=dict[int, int])
    gate: asyncio.Future[None] | None = None


def clerk(stage: Stage, clock: FakeClock, *, completable: bool, in_order: bool) -> type[Actor]:
    class Clerk(Actor, sleep_timeout=None):
        jobs = Queue(Job, retry=Retry(attempts=ATTEMPTS, backoff=backoff, in_order=in_order))
        state: Book

        async def run(self) -> None:
            async for message in self.jobs.iter(completable=completable):
                job = message.body
                delivery = stage.deliveries[job.number] = stage.deliveries.get(job.number, -1) + 1
                stage.trace.append((job.number, message.attempt, clock.time()))
                self.state.done.append(job.number)
                stage.gate = asyncio.get_running_loop().create_future()
                await stage.gate
                step = job.steps[min(delivery, len(job.steps) - 1)]
                if step == "raise":
                    raise ValueError("as the job says")
                if step == "return":
                    return
                if completable and step == "complete":
                    await message.complete()
                elif completable and step == "retry":
                    await message.retry(AFTER)
                elif completable:
                    await message.fail("as the job says")

        @action
        async def note(self, number: int) -> None:
            self.state.noted.append(number)

        @action
        async def clash(self, number: int) -> None:
            self.state.done.append(number)

        @action
        async def stumble(self, number: int) -> None:
            self.state.noted.append(number)
            raise ValueError("what it changed goes")

    return Clerk


@dataclass
class Modelled:
    """One message, as the model sees it."""

    job: Job
    order: int
    due: float = 0.0
    front: bool = False
    failures: int = 0
    deliveries: int = 0
    status: str = "queued"
    code: str | None = None


class ReceiverMachine(RuleBasedStateMachine):
    """Over the fake broker; ``test_postgres_machines`` has another one."""

    def open(self) -> Setting:
        return FakeSetting()

    @initialize(completable=st.booleans(), in_order=st.booleans())
    def begin(self, completable: bool, in_order: bool) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.setting = self.open()
        self.clock = self.setting.clock
        self.stage = Stage()
        self.completable, self.in_order = completable, in_order
        self.receipts: list[Any] = []
        self.modelled: list[Modelled] = []
        self.held: Modelled | None = None
        self.clashed = False
        self.progressed = False
        self.fruitless = 0
        self.restarts_at = 0.0
        self.trace: list[tuple[int, int, float]] = []
        self.book = Book()
        self.stack = AsyncExitStack()
        self.log = EventLog.open(Path(self.folder.name) / "host.duckdb")
        cls = clerk(self.stage, self.clock, completable=completable, in_order=in_order)
        client = self.run(self.stack.enter_async_context(hosting(self.setting.broker, self.log, self.clock, clerk=cls)))
        self.handle = client.clerk.get_or_create("main")

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        async def then_rest() -> T:
            result = await coroutine
            await self.setting.calm()
            return result

        return self.loop.run_until_complete(then_rest())

    # --- the model ----------------------------------------------------------------------------------------------------

    def take_next(self) -> None:
        """If nobody is at work, the next message that is due is handed out."""
        now = self.clock.time()
        if self.held is not None or now < self.restarts_at:
            return
        waiting = [one for one in self.modelled if one.status == "queued"]
        if self.in_order and any(one.due > now for one in waiting):
            return
        due = sorted((not one.front, one.order) for one in waiting if one.due <= now)
        if due:
            self.held = self.modelled[due[0][1]]
            self.clashed = False
            self.trace.append((self.held.job.number, self.held.failures + 1, now))

    def model_settles(self) -> None:
        held = self.held
        assert held is not None
        step = held.job.steps[min(held.deliveries, len(held.job.steps) - 1)]
        held.deliveries += 1
        self.held = None
        ends_the_run = step in ("return", "raise") or (step == "complete" and self.clashed and self.completable)
        if not self.completable and step in ("complete", "fail", "retry", "return"):
            step = "complete"  # asking for the next one, or returning, settles a plain message as done
        self.progressed = self.progressed or step != "return"
        if ends_the_run:
            self.run_ends()
        if step == "return":
            held.front, held.due = True, 0.0
        elif step == "fail":
            held.status = "failed"
        elif step == "complete" and not self.clashed:
            held.status = "completed"
            self.book.done.append(held.job.number)
        else:
            held.code = "state_conflict" if step == "complete" else "retry" if step == "retry" else "error"
            held.failures += 1
            delay = AFTER if step == "retry" else backoff(held.failures)
            held.front, held.due = True, self.clock.time() + delay
            held.status = "failed" if held.failures >= ATTEMPTS else "queued"

    def run_ends(self) -> None:
        """``run`` is started again: at once after it settled something, else after 1, 2, 4, … seconds."""
        self.fruitless = 0 if self.progressed else self.fruitless + 1
        pause = min(2.0 ** (self.fruitless - 1), 60.0) if self.fruitless else 0.0
        self.restarts_at = self.clock.time() + pause
        self.progressed = False

    # --- what happens -------------------------------------------------------------------------------------------------

    @precondition(lambda self: sum(one.status == "queued" for one in self.modelled) < 5)
    @rule(
        steps=st.lists(st.sampled_from(["retry", "raise", "return", "complete"]), max_size=3),
        last=st.sampled_from(["complete", "complete", "complete", "fail", "raise"]),
    )
    def send(self, steps: list[Step], last: Step) -> None:
        job = Job(number=len(self.modelled), steps=[*steps, last])
        self.receipts.append(self.run(self.handle.send("jobs", job)))
        self.modelled.append(Modelled(job, len(self.modelled)))
        self.take_next()

    @precondition(lambda self: self.held is not None)
    @rule()
    def let_go(self) -> None:
        assert self.stage.gate is not None
        self.stage.gate.set_result(None)
        self.run(settle())
        self.model_settles()
        self.take_next()

    @rule(kind=st.sampled_from(["note", "clash", "stumble"]), number=st.integers(1000, 1099))
    def act(self, kind: str, number: int) -> None:
        """An action on another field than the handler's stands beside it; on the same field it fails the attempt."""
        if kind == "stumble":
            with pytest.raises(Exception, match="what it changed goes"):
                self.run(self.handle.stumble(number))
        elif kind == "note":
            self.run(self.handle.note(number))
            self.book.noted.append(number)
        else:
            self.run(self.handle.clash(number))
            self.book.done.append(number)
            self.clashed = True

    @precondition(lambda self: any(one.status == "queued" for one in self.modelled))
    @rule(seconds=st.sampled_from([0.5, 2.0, 4.0, 5.0]))
    def pass_by(self, seconds: float) -> None:
        until = self.clock.time() + seconds
        dues = {one.due for one in self.modelled if one.status == "queued"} | {self.restarts_at}
        for due in sorted(due for due in dues if self.clock.time() < due <= until):
            self.run(self.clock.pass_by(due - self.clock.time()))
            self.take_next()
        self.run(self.clock.pass_by(until - self.clock.time()))

    # --- what must be so ----------------------------------------------------------------------------------------------

    @invariant()
    def handlers_ran_as_the_model_says(self) -> None:
        if hasattr(self, "stage"):
            assert self.stage.trace == self.trace

    @invariant()
    def the_state_on_disk_is_that_of_the_model(self) -> None:
        if not hasattr(self, "stage"):
            return
        states = self.loop.run_until_complete(self.setting.broker.states("clerk"))
        if (encoded := states.get("clerk/main")) is not None:
            assert Book.model_validate_json(encoded if encoded != b"null" else b"{}") == self.book

    @invariant()
    def messages_stand_as_the_model_says(self) -> None:
        if not hasattr(self, "stage"):
            return
        for receipt, one in zip(self.receipts, self.modelled, strict=True):
            result = self.loop.run_until_complete(receipt.result(0))
            assert result.status == ("timed_out" if one.status == "queued" else one.status)
            if one.status == "failed" and one.failures >= ATTEMPTS:
                assert result.error["code"] == one.code
            if one.status == "completed":
                assert result.attempts == one.failures + 1

    def teardown(self) -> None:
        if not hasattr(self, "stage"):
            return
        try:
            while self.held is not None and self.stage.gate is not None and not self.stage.gate.done():
                self.let_go()
            self.loop.run_until_complete(self._stop())
        finally:
            self.log.close()
            self.loop.close()
            self.folder.cleanup()

    async def _stop(self) -> None:
        async with self.clock.racing():
            await self.stack.aclose()
        await self.setting.close()


ReceiverMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestReceiverMachine = pytest.mark.timeout(250)(ReceiverMachine.TestCase)
