"""Limited queues of each broker against a plain model, whatever is sent, received, settled, paused and restarted.

The model is a list of every start with its time, a set of those at work, and the pauses as the providers said them.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agentq_nb import ConcurrencyLimit, RateLimit
from agentq_nb._brokers.changes import Resume
from agentq_nb._brokers.messages import Commit, Delivery, LimitReached, NewMessage, Settlement, Take
from agentq_nb._core.ids import mint_id
from tests.unit.brokers.settings import LocalSetting, Setting

T = TypeVar("T")

# Two queues share both limits, and one has a limit of its own besides.
SHARED = [RateLimit(3, per=20, name="api"), ConcurrencyLimit(3, name="places")]
DECLARED = {"a": {"tasks": SHARED}, "b": {"tasks": [*SHARED, RateLimit(1, per=5)]}}
ACTORS = ["a/1", "a/2", "b/1"]
LATE = 0.1
"""Seconds by which a stored start may count too late."""

actors = st.sampled_from(ACTORS)


class LimitsMachine(RuleBasedStateMachine):
    """Over the local broker; ``test_postgres_machines`` has another one."""

    def open_setting(self, folder: Path) -> Coroutine[Any, Any, Setting]:
        return LocalSetting.open(folder)

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.real: Setting = self.run(self.open_setting(Path(self.folder.name)))
        self.starts: list[tuple[float, str]] = []
        self.paused: dict[str, float] = {}
        """When the known pauses end: of the name, or of one actor's queue."""
        self.attempts: dict[str, int] = {}
        self.waiting: dict[str, list[str]] = {actor: [] for actor in ACTORS}
        self.held: list[Delivery] = []
        self.holders: dict[str, str] = {}
        self.open()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    def open(self) -> None:
        for name, limits in DECLARED.items():
            self.run(self.real.broker.limits.declare(name, limits))
        self.leases: dict[str, Any] = {actor: self.run(self.real.broker.acquire(actor, "host")) for actor in ACTORS}

    @property
    def now(self) -> float:
        return self.real.clock.time()

    # --- the model ----------------------------------------------------------------------------------------------------

    def in_window(self, seconds: float, actor: str | None = None) -> int:
        return sum(1 for at, other in self.starts if self.now - at < seconds and actor in (None, other))

    def room(self, actor: str, *, late: float) -> int:
        """How many messages of the actor may start. ``late``: stored times may be later than the starts were."""
        if any(self.paused.get(key, 0.0) > self.now for key in ("api", actor)):
            return 0
        room = min(3 - self.in_window(20 + late), 3 - len(self.held))
        return max(0, room if actor != "b/1" else min(room, 1 - self.in_window(5 + late, actor)))

    # --- what happens -------------------------------------------------------------------------------------------------

    @rule(actor=actors, count=st.integers(1, 3))
    def send(self, actor: str, count: int) -> None:
        offers = [NewMessage(mint_id(), actor, "tasks", b"0") for _ in range(count)]
        self.run(self.real.broker.enqueue(offers))
        for offer in offers:
            self.waiting[actor].append(offer.id)
            self.attempts[offer.id] = 1

    @rule(actor=actors, limit=st.integers(1, 4))
    def receive(self, actor: str, limit: int) -> None:
        least, most = self.room(actor, late=LATE), self.room(actor, late=0.0)
        found = list(self.run(self.leases[actor].turn(None, Take(None, limit, 0))))
        ready = len(self.waiting[actor])
        assert min(limit, ready, least) <= len(found) <= min(limit, ready, most)
        assert [delivery.id for delivery in found] == self.waiting[actor][: len(found)]
        for delivery in found:
            assert delivery.attempt == self.attempts[delivery.id]
            self.waiting[actor].remove(delivery.id)
            self.held.append(delivery)
            self.holders[delivery.id] = actor
            self.starts.append((self.now, actor))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), outcome=st.sampled_from(["completed", "failed", "released", "again"]))
    def settle(self, data: st.DataObject, outcome: Any) -> None:
        delivery = self.end(data)
        self.commit(Settlement(delivery, outcome, front=True))
        if outcome in ("released", "again"):
            self.put_back(delivery)
            self.attempts[delivery.id] += outcome == "again"

    @precondition(lambda self: self.held)
    @rule(data=st.data(), limit=st.sampled_from(["api", None]), seconds=st.sampled_from([2.0, 30.0, 300.0]))
    def meet_a_limit(self, data: st.DataObject, limit: str | None, seconds: float) -> None:
        """The provider says until when; a queue paused for longer stays so."""
        delivery = self.end(data)
        key = limit or self.holders[delivery.id]
        until = self.now + seconds
        otherwise = Settlement(delivery, "again", front=True)
        self.commit(Settlement(delivery, "limited", limited=LimitReached(limit, until, "429", None, otherwise)))
        self.put_back(delivery)
        self.paused[key] = max(until, self.paused.get(key, 0.0))

    def end(self, data: st.DataObject) -> Delivery:
        delivery: Delivery = data.draw(st.sampled_from(self.held))
        self.held.remove(delivery)
        return delivery

    def commit(self, settlement: Settlement) -> None:
        self.run(self.leases[self.holders[settlement.delivery.id]].commit(Commit([settlement])))

    def put_back(self, delivery: Delivery) -> None:
        """Before the others that were not put back; among those by the order of sending, as ids are."""
        waiting = self.waiting[self.holders[delivery.id]]
        waiting.append(delivery.id)
        self.fronts.add(delivery.id)
        waiting.sort(key=lambda message: (message not in self.fronts, message))

    fronts: set[str]

    @initialize()
    def nothing_was_put_back(self) -> None:
        self.fronts = set()

    @precondition(lambda self: any(end > self.now for end in self.paused.values()))
    @rule(actor=actors)
    def resume(self, actor: str) -> None:
        keys = [key for key in ("api", actor) if self.paused.get(key, 0.0) > self.now]
        assert self.run(self.real.broker.change(actor, Resume("tasks"))) == bool(keys)
        for key in keys:
            del self.paused[key]

    @rule(seconds=st.sampled_from([0.5, 2.5, 5.5, 10.0, 21.0]))
    def pass_by(self, seconds: float) -> None:
        self.run(self.real.calm())
        self.real.clock.advance(seconds)

    @rule(dies=st.booleans())
    def restart(self, dies: bool) -> None:
        for delivery in self.held:
            self.put_back(delivery)
            self.attempts[delivery.id] += dies
        self.held.clear()
        self.run(self.real.crash() if dies else self.real.reopen())
        # Suspects would be handled one by one, which is another matter.
        self.real.forget_suspects()
        self.open()

    # --- what always holds --------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_exceeded(self) -> None:
        if not hasattr(self, "real"):
            return
        for at, _ in self.starts:
            assert sum(1 for other, _ in self.starts if at <= other < at + 20) <= 3
        own = [at for at, actor in self.starts if actor == "b/1"]
        assert all(later - earlier >= 5 for earlier, later in itertools.pairwise(own))
        assert len(self.held) <= 3

    @invariant()
    def status_says_what_holds(self) -> None:
        if not hasattr(self, "real"):
            return
        for status in self.run(self.real.broker.status()):
            expected = any(self.paused.get(key, 0.0) > self.now for key in ("api", status.actor))
            assert status.paused == expected
            assert (status.ready, status.running) == (
                len(self.waiting[status.actor]),
                sum(1 for delivery in self.held if self.holders[delivery.id] == status.actor),
            )

    def teardown(self) -> None:
        if hasattr(self, "real"):
            self.run(self.real.close())
            self.loop.close()
            self.folder.cleanup()


TestLimits = pytest.mark.timeout(600)(LimitsMachine.TestCase)
TestLimits.settings = settings(
    max_examples=10, stateful_step_count=30, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
