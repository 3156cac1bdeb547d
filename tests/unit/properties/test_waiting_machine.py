"""Senders that wait for room at the local broker against a plain model: a list of what is queued, and one of who waits.

Whatever is sent, cancelled, handed out, settled, expires or times out, and whenever the host ends: messages are stored
in the order their senders came, within the queue's limits, and none that was acknowledged is lost.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agentq_nb._brokers.messages import Delivery, Take
from agentq_nb.errors import AgentqError, QueueFull
from tests.unit.brokers.conformance.words import ACTOR, HOST, new_message, settle
from tests.unit.brokers.settings import LocalSetting, Setting

T = TypeVar("T")

MOST = 3
MOST_BYTES = 40


@dataclass(eq=False)
class Sent:
    """One send: its number, when its sender gives up, and when its message expires."""

    number: int
    size: int
    task: Any
    gives_up: float | None
    ttl: float | None
    expires: float | None = None


class WaitingMachine(RuleBasedStateMachine):
    """Over the local broker; ``test_postgres_machines`` has another one."""

    def open(self, folder: Path) -> Coroutine[Any, Any, Setting]:
        return LocalSetting.open(folder)

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.real: Setting = self.run(self.open(Path(self.folder.name)))
        self.lease: Any = self.run(self.real.broker.acquire(ACTOR, HOST))
        self.queued: list[Sent] = []
        self.running: list[tuple[Sent, Delivery]] = []
        self.line: list[Sent] = []
        self.came = 0

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    async def calm(self) -> None:
        """Let everything that can go on do so, and reach the disk."""
        for _ in range(3):
            for _ in range(20):
                await asyncio.sleep(0)
            await self.real.calm()

    @property
    def now(self) -> float:
        return self.real.clock.time()

    def fits(self, size: int) -> bool:
        held = [*self.queued, *(sent for sent, _ in self.running)]
        return len(held) < MOST and sum(sent.size for sent in held) + size <= MOST_BYTES

    def let_in(self) -> None:
        """What the model does after every step."""
        while self.line and self.fits(self.line[0].size):
            self.accept(self.line.pop(0))
        self.run(self.calm())

    def accept(self, sent: Sent) -> None:
        sent.expires = None if sent.ttl is None else self.now + sent.ttl
        self.queued.append(sent)

    # --- sending ------------------------------------------------------------------------------------------------------

    @rule(
        length=st.integers(0, 25),
        patience=st.sampled_from([0.0, 5.0, None, None]),
        ttl=st.sampled_from([None, None, 4]),
    )
    def send(self, length: int, patience: float | None, ttl: float | None) -> None:
        self.came += 1
        options = {} if ttl is None else {"ttl": float(ttl)}
        offer = new_message([self.came, "x" * length], max_size=MOST, max_bytes=MOST_BYTES, **options)
        gives_up = None if patience is None else self.real.clock.monotonic() + patience
        sent = Sent(self.came, len(offer.body), None, gives_up, ttl)

        async def enqueue() -> Any:
            return await self.real.broker.enqueue([offer], patience)

        sent.task = self.loop.create_task(enqueue())
        if not self.line and self.fits(sent.size):
            self.accept(sent)
        elif patience != 0:
            self.line.append(sent)
        else:
            self.run(self.calm())
            assert isinstance(sent.task.exception(), QueueFull)
        self.let_in()

    @precondition(lambda self: bool(self.line))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        sent = self.line.pop(data.draw(st.integers(0, len(self.line) - 1)))
        sent.task.cancel()
        self.let_in()
        assert sent.task.cancelled()

    @rule(seconds=st.sampled_from([1.0, 2.0, 5.0]))
    def pass_by(self, seconds: float) -> None:
        """Second by second, since what happens at one moment may be in any order."""
        for _ in range(int(seconds)):
            self.real.clock.advance(1.0)
            late = [s for s in self.line if s.gives_up is not None and s.gives_up <= self.real.clock.monotonic()]
            self.line = [sent for sent in self.line if sent not in late]
            self.queued = [sent for sent in self.queued if sent.expires is None or sent.expires > self.now]
            self.let_in()
            for sent in late:
                assert isinstance(sent.task.exception(), QueueFull)

    # --- handing out --------------------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 2))
    def receive(self, count: int) -> None:
        received = self.run(self.lease.turn(None, Take(None, count, 0)))
        expected, self.queued = self.queued[:count], self.queued[count:]
        assert [json.loads(delivery.body)[0] for delivery in received] == [sent.number for sent in expected]
        self.running += zip(expected, received, strict=True)
        self.let_in()

    @precondition(lambda self: bool(self.running))
    @rule(data=st.data(), outcome=st.sampled_from(["completed", "completed", "dead"]))
    def settle(self, data: st.DataObject, outcome: Any) -> None:
        _, delivery = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.run(settle(self.lease, delivery, outcome))
        self.let_in()

    # --- the end of a life --------------------------------------------------------------------------------------------

    @rule(ends=st.sampled_from([False, False, False, False, True]), dies=st.booleans())
    def restart(self, ends: bool, dies: bool) -> None:
        """What waits was not sent; what was acknowledged is there, that which was running first.

        Seldom, for it takes by far the longest. No death with several in flight: they would be suspects.
        """
        if not ends:
            return
        dies = dies and len(self.running) < 2
        self.run(self.real.crash() if dies else self.real.reopen())
        self.run(self.calm())
        for sent in self.line:
            assert isinstance(sent.task.exception(), AgentqError)
        self.line.clear()
        self.queued = sorted([sent for sent, _ in self.running], key=lambda sent: sent.number) + self.queued
        for sent, _ in self.running:
            sent.expires = None
        self.running.clear()
        self.lease = self.run(self.real.broker.acquire(ACTOR, HOST))

    @invariant()
    def both_hold_and_keep_waiting_the_same(self) -> None:
        if not hasattr(self, "real"):
            return
        status = self.run(self.real.broker.status(ACTOR, totals=False))
        ready = sum(queue.ready for queue in status)
        assert (ready, sum(queue.running for queue in status)) == (len(self.queued), len(self.running))
        assert sum(queue.waiting_senders for queue in status) == len(self.line)
        assert [sent.number for sent in self.line if sent.task.done()] == []
        assert all(sent.task.done() for sent in self.queued)

    def teardown(self) -> None:
        if not hasattr(self, "real"):
            return
        for sent in self.line:
            sent.task.cancel()
        self.run(self.calm())
        self.run(self.real.close())
        self.loop.close()
        self.folder.cleanup()


WaitingMachine.TestCase.settings = settings(
    max_examples=20,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestWaitingMachine = pytest.mark.timeout(250)(WaitingMachine.TestCase)
