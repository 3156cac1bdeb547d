"""The local broker against the plain model: whatever is done to both, both say the same.

The model is the fake broker's server, which looks through a list each time; the local broker runs on a real file, which
is closed and opened, or left behind by a death, in between.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from agentq_nb._brokers.changes import Cancel, Change, Pause, Purge, Redeliver, Resume
from agentq_nb._brokers.messages import Commit, Delivery, NewMessage, Settlement, Take
from agentq_nb._brokers.statuses import QueueStatus
from agentq_nb._core.ids import mint_id
from agentq_nb._core.message_status import REDELIVERABLE
from agentq_nb.errors import AgentqError
from tests.unit.brokers.conformance.words import counts
from tests.unit.brokers.settings import LocalSetting, Setting
from tests.unit.fake_server import Epoch, Server

T = TypeVar("T")

ACTORS = ["worker/a", "worker/b"]
QUEUES = ["x", "y", "$schedule"]

# Most of it happens in one queue, since what is rare in each of many is found in none of them.
actors = st.sampled_from([*ACTORS[:1] * 4, *ACTORS])
queues = st.sampled_from([*QUEUES[:1] * 4, *QUEUES])
delays = st.sampled_from([0.0, 0.0, 0.0, 2.5, 10.0])


class BrokerMachine(RuleBasedStateMachine):
    """Over the local broker; ``test_postgres_machines`` has another one."""

    held = Bundle("held")

    def open(self, folder: Path) -> Coroutine[Any, Any, Setting]:
        return LocalSetting.open(folder)

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.real: Setting = self.run(self.open(Path(self.folder.name)))
        self.model = Server(self.real.clock)
        self.leases: dict[str, tuple[Any, Epoch]] = {}
        self.of_this_life: list[Delivery] = []
        for actor in ACTORS:
            self.claim(actor)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    def tried(self, coroutine: Coroutine[Any, Any, T]) -> T | str:
        """What it returns, or the code of what it raises."""
        try:
            return self.run(coroutine)
        except AgentqError as error:
            return error.full_code

    def model_tried(self, apply: Any) -> Any:
        try:
            return apply()
        except AgentqError as error:
            return error.full_code

    # --- sending ------------------------------------------------------------------------------------------------------

    @rule(
        actor=actors,
        queue=queues,
        bodies=st.lists(st.integers(0, 2), min_size=1, max_size=4),
        priority=st.integers(-1, 1),
        delay=delays,
        ttl=st.sampled_from([None, None, 2.5, 10.0]),
        key=st.sampled_from([None, None, "k", "l"]),
        max_size=st.sampled_from([None, None, 4]),
        after=st.sampled_from([0, 0, 0, 1, 1, 2]),
        data=st.data(),
    )
    def offer(
        self,
        actor: str,
        queue: str,
        bodies: list[int],
        priority: int,
        delay: float,
        ttl: float | None,
        key: str | None,
        max_size: int | None,
        after: int,
        data: st.DataObject,
    ) -> None:
        self.run(self.real.calm())
        before = self.drawn_predecessors(data, after)
        key = None if before else key  # whose key it is when several come back at once is nobody's business
        options = {"priority": priority, "delay": delay, **({"idempotency_key": key} if key else {})}
        options |= {} if ttl is None else {"ttl": ttl}
        options |= {"after": before} if before else {}
        offers = [NewMessage(mint_id(), actor, queue, json.dumps(body).encode(), options, max_size) for body in bodies]
        expected = self.model_tried(lambda: self.model.enqueue(offers))
        assert self.tried(self.real.broker.enqueue(offers)) == expected

    def drawn_predecessors(self, data: st.DataObject, most: int) -> list[str]:
        """Mostly messages that can still complete."""
        if not most or not self.model.messages:
            return []
        known = [m for m in self.model.messages.values() if m.status in (None, "completed")] or [
            *self.model.messages.values()
        ]
        any_of_them = [*known, *known, *known, *self.model.messages.values()]
        return [data.draw(st.sampled_from(any_of_them)).id for _ in range(most)]

    def offer_again(self, data: st.DataObject) -> None:
        self.run(self.real.calm())
        message = data.draw(st.sampled_from(list(self.model.messages)))
        offer = self.model.messages[message].new_message
        assert list(self.run(self.real.broker.enqueue([offer]))) == self.model.enqueue([offer])

    # --- leases -------------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.leases) < len(ACTORS))
    @rule(actor=st.sampled_from(ACTORS))
    def claim(self, actor: str) -> None:
        if actor in self.leases:
            assert self.run(self.real.broker.acquire(actor, "another")) is None
            return
        lease = self.run(self.real.broker.acquire(actor, "host"))
        epoch = self.model.acquire(actor, "host", lambda: None, lambda _: None)
        assert lease is not None
        assert epoch is not None
        assert _loaded(lease.state) == _loaded(epoch.state)
        self.leases[actor] = (lease, epoch)

    def release(self, data: st.DataObject) -> None:
        lease, epoch = self.leases.pop(data.draw(st.sampled_from(sorted(self.leases))))
        self.run(lease.release())
        self.model.end(epoch)

    def takeable(self) -> list[str]:
        return [actor for actor in sorted(self.leases) if self.model.live(actor)]

    @precondition(takeable)
    @rule(
        target=held,
        data=st.data(),
        names=st.sampled_from([tuple(QUEUES), tuple(QUEUES), None, ("x",), ("y", "$schedule")]),
        count=st.integers(1, 3),
    )
    def receive(self, data: st.DataObject, names: tuple[str, ...] | None, count: int) -> Any:
        return self.handed_out(data.draw(st.sampled_from(self.takeable())), names, count)

    def handed_out(self, actor: str, names: tuple[str, ...] | None, count: int) -> Any:
        self.run(self.real.calm())
        lease, epoch = self.leases[actor]
        real: list[Delivery] = list(self.run(lease.turn(None, Take(names, count, 0))))
        model = self.model.take(epoch, names, count)
        assert [_visible(delivery) for delivery in real] == [_visible(delivery) for delivery in model]
        self.of_this_life += real
        return multiple(*zip(real, model, strict=True))

    @rule(
        pair=consumes(held),
        outcome=st.sampled_from(["completed", "completed", "failed", "dead", "again", "again", "released"]),
        delay=delays,
        front=st.booleans(),
        in_order=st.booleans(),
        state=st.sampled_from([None, b'{"n":1}', b'{"n":2}']),
        schedules=st.booleans(),
        soon=st.booleans(),
    )
    def settle(
        self,
        pair: tuple[Delivery, Delivery],
        outcome: Any,
        delay: float,
        front: bool,
        in_order: bool,
        state: bytes | None,
        schedules: bool,
        soon: bool,
    ) -> None:
        """A delivery that is held no more (cancelled, released) is stale for both. None outlives its process."""
        reply, error = (b'{"r":1}', None) if outcome == "completed" else (None, {"message": "no"})
        facts = (outcome, reply, error, delay, front or outcome == "released", in_order)
        self.settle_pair(pair, facts, state, schedules, soon)

    def settle_pair(
        self,
        pair: tuple[Delivery, Delivery],
        facts: Any,
        state: bytes | None = None,
        schedules: bool = False,
        soon: bool = False,
    ) -> None:
        real, model = pair
        actor = self.model.messages[real.id].new_message.actor
        if actor not in self.leases or not any(real is one for one in self.of_this_life):
            return
        lease, epoch = self.leases[actor]
        offers = [NewMessage(mint_id(), actor, "$schedule", b"0", {"delay": facts[3]})] if schedules else []
        expected = self.model_tried(
            lambda: self.model.commit(epoch, Commit([Settlement(model, *facts)], state, offers))
        )
        commit = Commit([Settlement(real, *facts)], state, offers)
        if soon and expected is None:
            self.loop.call_soon(lease.commit_soon, commit)
            self.run(self.real.calm())
        else:
            assert self.tried(lease.commit(commit)) == expected
            if lease.lost.is_set():  # a broker may take a stale settlement for the end of the lease
                self.run(self.real.calm())
                self.leases.pop(actor)
                self.model.end(epoch)

    def destroy(self, data: st.DataObject) -> None:
        lease, epoch = self.leases[data.draw(st.sampled_from(sorted(self.leases)))]
        self.run(lease.commit(Commit(destroy=True)))
        self.model.commit(epoch, Commit(destroy=True))

    # --- changing -----------------------------------------------------------------------------------------------------

    def change(self, actor: str, change: Change) -> None:
        self.run(self.real.calm())
        expected = self.model_tried(lambda: self.model.apply(actor, change))
        assert self.tried(self.real.broker.change(actor, change)) == expected

    def cancel(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(list(self.model.messages)))
        self.change(self.model.messages[message].new_message.actor, Cancel(message))

    def redeliverable(self) -> list[str]:
        return [m.id for m in self.model.messages.values() if m.status in REDELIVERABLE]

    def redeliver(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.redeliverable()))
        offer = self.model.messages[message].new_message
        place = (offer.actor, offer.queue, offer.idempotency_key)
        for other in self.model.messages.values():
            same = place == (other.new_message.actor, other.new_message.queue, other.new_message.idempotency_key)
            if offer.idempotency_key and same and other.id != message and other.status in (None, "completed"):
                return  # whose the key is then is nobody's business here
        self.change(offer.actor, Redeliver(message))

    def purge(self, data: st.DataObject) -> None:
        self.change(data.draw(actors), Purge(data.draw(queues)))

    @precondition(takeable)
    @rule(target=held, data=st.data(), seconds=st.sampled_from([None, 1.0, 1.0, 10.0, -1.0]), others=st.booleans())
    def pause_what_holds_messages_and_ask(self, data: st.DataObject, seconds: float | None, others: bool) -> Any:
        actor = data.draw(st.sampled_from(self.takeable()))
        queue = data.draw(st.sampled_from(sorted({m.new_message.queue for m in self.model.live(actor)})))
        self.change(actor, Pause(queue, None if seconds is None else self.real.clock.time() + seconds))
        return self.handed_out(actor, tuple(QUEUES) if others else (queue,), 3)

    @precondition(lambda self: bool(self.paused()))
    @rule(target=held, data=st.data())
    def resume_and_ask(self, data: st.DataObject) -> Any:
        actor, queue = data.draw(st.sampled_from(self.paused()))
        self.change(actor, Resume(queue))
        return self.handed_out(actor, (queue,), 2) if actor in self.leases else multiple()

    def resume_what_is_not_paused(self, data: st.DataObject) -> None:
        self.change(data.draw(actors), Resume(data.draw(queues)))

    def pause_again(self, data: st.DataObject) -> None:
        actor, queue = data.draw(st.sampled_from(self.paused()))
        self.change(actor, Pause(queue, self.real.clock.time() + data.draw(delays)))

    def paused(self) -> list[tuple[str, str]]:
        return [place for place in self.model.pauses if self.model.paused(*place)]

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5, 10.0]))
    def pass_by(self, seconds: float) -> None:
        self.run(self.real.calm())
        self.real.clock.advance(seconds)

    @rule(data=st.data())
    def something_seldom(self, data: st.DataObject) -> None:
        """In one rule, so that most of what happens is sending, handing out and settling."""
        possible = [self.purge, self.restart, self.resume_what_is_not_paused]
        possible += [self.die_with_several_in_flight]
        possible += [self.pause_again] if self.paused() else []
        possible += [self.offer_again, self.cancel] if self.model.messages else []
        possible += [self.release, self.destroy] if self.leases else []
        possible += [self.redeliver] * 3 if self.redeliverable() else []
        data.draw(st.sampled_from(possible))(data)

    # --- the end of a life --------------------------------------------------------------------------------------------

    def restart(self, data: st.DataObject) -> None:
        self.end_life(dies=data.draw(st.booleans()))

    def die_with_several_in_flight(self, data: st.DataObject) -> None:
        """Random steps seldom come to that, nor go on with what was in flight then."""
        for actor in ACTORS:
            self.claim_if_free(actor)
            offer = NewMessage(mint_id(), actor, data.draw(queues), b"0")
            assert list(self.run(self.real.broker.enqueue([offer]))) == self.model.enqueue([offer])
            self.handed_out(actor, tuple(QUEUES), 1)
        self.end_life(dies=True)
        for actor in ACTORS:
            self.claim_if_free(actor)
        for _ in range(4):
            held = self.handed_out(data.draw(st.sampled_from(ACTORS)), tuple(QUEUES), 2).values
            if held and data.draw(st.booleans()):
                self.settle_pair(
                    held[0], (data.draw(st.sampled_from(["completed", "again"])), None, None, 0.0, True, False)
                )

    def claim_if_free(self, actor: str) -> None:
        if actor not in self.leases:
            self.claim(actor)

    def end_life(self, *, dies: bool) -> None:
        self.run(self.real.crash() if dies else self.real.reopen())
        epochs = [epoch for _, epoch in self.leases.values()]
        if dies:
            self.model.crash(epochs)
        for epoch in epochs:
            self.model.end(epoch)
        self.model.begin(crashed=dies)
        self.leases.clear()
        self.of_this_life.clear()

    # --- what must be the same ----------------------------------------------------------------------------------------

    @rule(pair=consumes(held), in_order=st.booleans())
    def fail_an_attempt(self, pair: tuple[Delivery, Delivery], in_order: bool) -> None:
        """The most frequent of all settlements where order is at stake."""
        self.settle_pair(pair, ("again", None, {"message": "no"}, 2.5, True, in_order))

    def compare(self, message: str) -> None:
        real, model = self.run(self.real.broker.wait(message, 0)), self.model.standing(message)
        assert (real.actor, real.queue, real.status) == (model.actor, model.queue, model.status)
        assert (_loaded(real.reply), _error(real.error)) == (_loaded(model.reply), _error(model.error))

    @invariant()
    def queues_stand_alike(self) -> None:
        if not hasattr(self, "real"):
            return
        self.run(self.real.calm())
        assert self.run(counts(self.real.broker)) == self.run(counts(_Asked(self.model)))  # type: ignore[arg-type]
        assert _pauses(self.run(self.real.broker.status())) == _pauses(self.model.status(None))
        for actor in ACTORS:
            exists = actor in self.model.states or bool(self.model.live(actor))
            assert self.run(self.real.broker.exists(actor)) == exists

    def is_held_up(self, message: str) -> bool:
        """Whether it is in flight, or waits for one that is: the end of the host settles those that are being cancelled."""
        stored = self.model.messages[message]
        return stored.holder is not None or any(self.is_held_up(before) for before in stored.unmet)

    def teardown(self) -> None:
        if not hasattr(self, "real"):
            return
        try:
            for message in self.model.messages:
                self.compare(message)
            self.run(self.real.reopen())
            for message in self.model.messages:
                if not self.is_held_up(message):
                    self.compare(message)
        finally:
            self.run(self.real.close())
            self.loop.close()
            self.folder.cleanup()


class _Asked:
    def __init__(self, model: Server) -> None:
        self._model = model

    async def status(self, actor: str | None = None, *, totals: bool = True) -> Any:
        return self._model.status(actor)


def _pauses(standing: Sequence[QueueStatus]) -> dict[tuple[str, str], float | None]:
    return {(queue.actor, queue.queue): queue.paused_until for queue in standing if queue.paused}


def _visible(delivery: Delivery) -> tuple[Any, ...]:
    after = [(one.message, one.status, _loaded(one.reply)) for one in delivery.after]
    return (delivery.id, delivery.queue, _loaded(delivery.body), delivery.failures, delivery.crashes, after)


def _error(error: Mapping[str, Any] | None) -> Any:
    """What both say of an error: the text of an expiry is the broker's own."""
    return error if error is None or "code" not in error else error["code"]


def _loaded(encoded: bytes | None) -> Any:
    return None if encoded is None else json.loads(encoded)


BrokerMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestBrokerMachine = pytest.mark.timeout(250)(BrokerMachine.TestCase)
