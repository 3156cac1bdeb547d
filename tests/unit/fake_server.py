"""What a second broker's database server would be: it outlives the hosts, and every method is one transaction.

As plain as can be: a dict of messages, looked through from the beginning each time. It shares no code with the local
broker, so the two can be held against each other. ``fake_broker`` is a host's connection to it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentq_nb._actor.message import headline
from agentq_nb._brokers.changes import Cancel, Change, DeadLetters, Pause, Purge, Resume
from agentq_nb._brokers.messages import (
    Commit,
    Delivery,
    Enqueued,
    NewMessage,
    Place,
    Settlement,
    StoredResult,
    Unsettled,
)
from agentq_nb._brokers.statuses import QueueStatus
from agentq_nb._core.ids import ActorId, MessageId, actor_name
from agentq_nb._core.message_status import FinalStatus, MessageStatus
from agentq_nb._policies.retry import Failure, FailureRun
from agentq_nb.errors import (
    IdempotencyConflict,
    LeaseLost,
    MessageUnknown,
    PredecessorFailed,
    PredecessorUnknown,
    QueueFull,
    ValidationFailed,
)
from tests.unit.fake_clock import FakeClock


@dataclass(eq=False)
class Stored:
    """One message, from sending to ever after."""

    new_message: NewMessage
    order: int
    created_at: float
    due: float
    status: FinalStatus | None = None
    holder: Epoch | None = None
    front: bool = False
    in_order: bool = False
    cancelling: bool = False
    failures: int = 0
    crashes: int = 0
    ended: int = 0
    suspicion: int = 0
    started: int = 0
    starts: int = 0
    attempts: int = 0
    reply: bytes | None = None
    error: dict[str, Any] | None = None
    ended_at: float = 0.0
    redelivered: bool = False
    released_because: str | None = None
    unmet: set[MessageId] = field(default_factory=set[MessageId])
    """What it was sent after and has not completed."""
    freed_at: float = 0.0
    """When the last of that completed; what it was sent after may have completed before."""
    because: MessageId | None = None
    """It was cancelled because of this one."""
    batch: tuple[Rows, int] | None = None
    """The batch that it belongs to, and the number of its row there."""
    began_at: float = 0.0
    seconds: float | None = None
    """How long the last attempt took that has ended."""

    @property
    def id(self) -> MessageId:
        return self.new_message.id

    @property
    def live(self) -> bool:
        return self.status is None

    @property
    def expires(self) -> float:
        """When it expires unless it was started or redelivered before; never: infinite."""
        ttl = self.new_message.ttl
        if ttl is None or self.starts or self.redelivered or self.unmet:
            return math.inf
        return (self.due or self.freed_at or self.created_at) + ttl

    @property
    def rank(self) -> tuple[bool, int, int]:
        return (not self.front, -self.new_message.priority, self.order)


@dataclass(eq=False)
class Rows:
    """One batch. ``ids`` has the message of each row; None: it was pruned. ``view`` is what the batch consists of."""

    name: str
    actor: ActorId
    queue: str
    created_at: float
    ids: list[MessageId | None] = field(default_factory=list[MessageId | None])
    view: list[int] = field(default_factory=list[int])
    replaced: set[int] = field(default_factory=set[int])
    order: list[int] = field(default_factory=list[int])
    """Rows in the order in which they were settled."""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(eq=False)
class Epoch:
    """One claim of one actor: what a lease stands for at the server."""

    actor: ActorId
    host: str
    state: bytes | None
    on_lost: Callable[[], None]
    on_cancel: Callable[[MessageId], None]


class Server:
    """Everything that is kept."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.messages: dict[MessageId, Stored] = {}
        self.states: dict[ActorId, bytes] = {}
        self.epochs: dict[ActorId, Epoch] = {}
        self.pauses: dict[tuple[ActorId, str], float | None] = {}
        self.batches: dict[str, Rows] = {}
        self.runs: dict[tuple[ActorId, str], FailureRun] = {}
        self.stops: dict[tuple[ActorId, str], str] = {}
        """Why failures have stopped a queue. It is then also paused."""
        self.withheld: set[MessageId] = set()
        self.lines: dict[tuple[ActorId, str], list[object]] = {}
        """The senders that wait for room, by queue."""
        self._orders = itertools.count(1)
        self._started = itertools.count(1)
        self.began, self.after_a_crash = 0, False
        """The order that the present host began at, and whether it followed on a crash."""
        self.asked: float | None = None
        """Since when a suspect waits or is handled."""
        self._watchers: set[asyncio.Future[None]] = set()
        self.version = 0
        """Grows with every change."""

    # --- notification -------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        self.version += 1
        watchers, self._watchers = self._watchers, set()
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    async def change(self, version: int, until: float | None = None) -> None:
        """Return once something changed since ``version``, a message fell due, or the monotonic clock shows ``until``."""
        if self.version != version:
            return
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.add(watcher)
        now = self.clock.time()
        moments = [m.due for m in self.messages.values() if m.live and m.due > now]
        moments += [m.expires for m in self.messages.values() if m.live and now < m.expires < math.inf]
        moments += [end for end in self.pauses.values() if end is not None and end > now]
        lengths = [self.asked + 5, self.asked + self.patience()] if self.asked is not None else []
        lengths += [] if until is None else [until]
        timers = [self.clock.call_at(min(moments), self.changed)] if moments else []
        timers += [self.clock.call_later(min(lengths) - self.clock.monotonic(), self.changed)] if lengths else []
        try:
            await watcher
        finally:
            self._watchers.discard(watcher)
            for timer in timers:
                timer.cancel()

    # --- sending ------------------------------------------------------------------------------------------------------

    def enqueue(self, new_messages: Sequence[NewMessage], sender: object = None) -> list[Enqueued]:
        """``sender`` is the call that waits where there is no room: it keeps its place in the line of that queue."""
        self.expire()
        fresh: dict[MessageId, NewMessage] = {}
        accepted: list[Enqueued] = []
        for new_message in new_messages:
            if new_message.id in self.messages or new_message.id in fresh:
                accepted.append(Enqueued(new_message.id, repeated=True))
            elif (namesake := self._namesake(new_message, fresh)) is not None:
                same = list(namesake.after) == list(new_message.after)
                if not same or json.loads(namesake.body) != json.loads(new_message.body):
                    raise IdempotencyConflict(new_message.idempotency_key or "", namesake.id)
                accepted.append(Enqueued(namesake.id, repeated=True))
            else:
                self._check_after(new_message.after, [other.id for other in new_messages])
                beside = [f for f in fresh.values() if (f.actor, f.queue) == (new_message.actor, new_message.queue)]
                self._check_room(new_message, beside, sender)
                fresh[new_message.id] = new_message
                accepted.append(Enqueued(new_message.id))
        for new_message in fresh.values():
            self._store(new_message)
        self.changed()
        return accepted

    def _check_after(self, after: Sequence[MessageId], own: Collection[MessageId]) -> None:
        for message in after:
            if message in own:
                raise ValidationFailed(f"Message {message} is sent with what waits for it.")
            if message not in self.messages:
                raise PredecessorUnknown(message)
            if self.messages[message].status not in (None, "completed"):
                raise PredecessorFailed(message, "failed")

    def _check_room(self, new_message: NewMessage, beside: Sequence[NewMessage], sender: object) -> None:
        place = (new_message.actor, new_message.queue)
        held = [*(m.new_message for m in self.live(*place)), *beside, new_message]
        size, line = sum(len(m.body) for m in held), self.lines.setdefault(place, [])
        limit, unit = None, "messages"
        if new_message.max_size is not None and (len(held) > new_message.max_size or (line and line[0] is not sender)):
            limit = new_message.max_size
        elif new_message.max_bytes is not None and size > new_message.max_bytes:
            limit, unit = new_message.max_bytes, "bytes"
        if limit is not None:
            if sender is not None and sender not in line:
                line.append(sender)
            raise QueueFull(*place, limit, unit)

    def leave(self, sender: object) -> None:
        """A sender waits no more."""
        for line in self.lines.values():
            if sender in line:
                line.remove(sender)
        self.changed()

    def _namesake(self, new_message: NewMessage, fresh: dict[MessageId, NewMessage]) -> NewMessage | None:
        """The message that has the offer's key while it is live or completed."""
        named = [m.new_message for m in self.messages.values() if m.live or m.status == "completed"]
        for other in [*named, *fresh.values()]:
            same = (other.actor, other.queue, other.idempotency_key)
            if new_message.idempotency_key is not None and same == (
                new_message.actor,
                new_message.queue,
                new_message.idempotency_key,
            ):
                return other
        return None

    def _store(self, new_message: NewMessage) -> None:
        now = self.clock.time()
        stored = self.messages[new_message.id] = Stored(new_message, next(self._orders), now, 0.0)
        stored.unmet = {message for message in new_message.after if self.messages[message].live}
        if not stored.unmet and new_message.delay:
            stored.due = now + new_message.delay

    def expire(self) -> None:
        """Settle what was not started in time. Whoever looks at messages begins with it."""
        now = self.clock.time()
        for message in self.messages.values():
            if message.live and now >= message.expires:
                message.error = {"group": "queue", "code": "expired"}
                self._finish(message, "expired", handled=False)

    def live(self, actor: ActorId, queue: str | None = None) -> list[Stored]:
        self.expire()
        everything = self.messages.values()
        return [
            m for m in everything if m.live and m.new_message.actor == actor and queue in (None, m.new_message.queue)
        ]

    # --- handing out --------------------------------------------------------------------------------------------------

    def ready(self, actor: ActorId, queues: Collection[str] | None) -> list[Stored]:
        """What may be handed out now, in order."""
        return [m for m in self.due(actor, queues) if not self.paused(actor, m.new_message.queue)]

    def paused(self, actor: ActorId, queue: str) -> bool:
        until = self.pauses.get((actor, queue), 0.0)
        return until is None or until > self.clock.time()

    def due(self, actor: ActorId, queues: Collection[str] | None) -> list[Stored]:
        """The same, as if no queue were paused."""
        now = self.clock.time()
        waiting = [m for m in self.live(actor) if m.holder is None and not m.unmet and m.id not in self.withheld]
        blocked = {m.new_message.queue for m in waiting if m.in_order and m.due > now}
        due = [m for m in waiting if m.due <= now and m.new_message.queue not in blocked]
        return sorted((m for m in due if _wanted(m.new_message.queue, queues)), key=lambda m: m.rank)

    def take(self, epoch: Epoch, queues: Collection[str] | None, count: int) -> list[Delivery]:
        self.check(epoch)
        taken: list[Stored] = []
        while len(taken) < count and (permitted := self.permitted(epoch.actor, queues)):
            message = permitted[0]
            taken.append(message)
            message.holder = epoch
            message.starts += 1
            message.started = next(self._started)
            message.began_at = self.clock.time()
            if message.suspicion:
                self.asked = self.clock.monotonic()
        return [
            Delivery(
                m.id,
                m.new_message.queue,
                m.new_message.body,
                m.failures,
                m.crashes,
                m.created_at,
                m.starts,
                1 + m.ended,
                m.new_message.origin,
                [self.standing(message) for message in m.new_message.after],
                None if m.batch is None else m.batch[0].name,
                m.released_because,
            )
            for m in taken
        ]

    def permitted(self, actor: ActorId, queues: Collection[str] | None) -> list[Stored]:
        """The head of one queue, or nothing: suspects are alone, as long as that takes no longer than the patience."""
        ready = self.ready(actor, queues)
        heads = [
            m for m in ready if m is next(other for other in ready if other.new_message.queue == m.new_message.queue)
        ]
        return next(([m] for m in heads if self._permits(m)), [])

    def _permits(self, message: Stored) -> bool:
        held = [m for m in self.messages.values() if m.live and m.holder is not None]
        handled = any(m.suspicion for m in held)
        over = self.asked is not None and self.clock.monotonic() >= self.asked + self.patience()
        if over and not handled:
            self.asked, over = None, False
        if not message.suspicion:
            return over or not handled
        if self.asked is None:
            self.asked = self.clock.monotonic()
        return over or not (held or (self.clock.monotonic() < self.asked + 5 and self._later_ones(message)))

    def _later_ones(self, message: Stored) -> bool:
        """Whether a suspect that was started later is the head of its queue."""
        suspects = [m for m in self.messages.values() if m.live and m.suspicion and m.started > message.started]
        return any(m in self.ready(m.new_message.actor, {m.new_message.queue})[:1] for m in suspects)

    def patience(self) -> float:
        return min(60.0 * 2 ** (max((m.suspicion for m in self.messages.values()), default=1) - 1), 3600.0)

    def cleared(self, message: Stored) -> None:
        """An attempt at it has ended, or it is settled."""
        if message.suspicion:
            message.suspicion, self.asked = 0, None

    def give_back(self, epoch: Epoch, deliveries: Sequence[Delivery]) -> None:
        """Whoever asked did not live to get them: as if they had not been taken."""
        for delivery in deliveries:
            message = self.messages[delivery.id]
            if message.holder is epoch and message.starts == delivery.token:
                message.holder = None
        self.changed()

    def ready_actors(self, queues: Mapping[str, Collection[str] | None]) -> list[ActorId]:
        self.expire()
        actors = {m.new_message.actor: None for m in self.messages.values() if m.live and m.holder is None}
        idle = [actor for actor in actors if actor not in self.epochs and actor_name(actor) in queues]
        return [actor for actor in idle if self._has_work(actor, queues[actor_name(actor)])]

    def _has_work(self, actor: ActorId, queues: Collection[str] | None) -> bool:
        return bool(self.ready(actor, {m.new_message.queue for m in self.live(actor)} if queues is None else queues))

    # --- leases -------------------------------------------------------------------------------------------------------

    def acquire(
        self, actor: ActorId, host: str, on_lost: Callable[[], None], on_cancel: Callable[[MessageId], None]
    ) -> Epoch | None:
        """A host that claims again has lost its old lease: the answer to its first claim may not have reached it."""
        before = self.epochs.get(actor)
        if before is not None and before.host != host:
            return None
        if before is not None:
            self.end(before, lost=True)
        epoch = self.epochs[actor] = Epoch(actor, host, self.states.get(actor), on_lost, on_cancel)
        return epoch

    def check(self, epoch: Epoch) -> None:
        if self.epochs.get(epoch.actor) is not epoch:
            raise LeaseLost(f"Actor '{epoch.actor}' is not run here any more: nothing was written.")

    def crash(self, epochs: Sequence[Epoch]) -> None:
        """A host died. What alone was in flight, as far as its log could tell, has crashed; several are suspects."""
        self.expire()
        held = [m for m in self.messages.values() if m.live and m.holder in epochs]
        for message in held:
            alone = len(held) == 1 and (message.crashes or message.suspicion or not self._others_ready(message))
            message.crashes += bool(alone)
            message.suspicion += not alone
        for epoch in epochs:
            self.end(epoch, lost=True, crashed=True)
        self.asked = None

    def begin(self, *, crashed: bool) -> None:
        """Another host takes over."""
        self.began, self.after_a_crash, self.asked = next(self._orders), crashed, None

    def _others_ready(self, message: Stored) -> bool:
        place, now = (message.new_message.actor, message.new_message.queue), self.clock.time()
        others = [m for m in self.messages.values() if m.live and (m.new_message.actor, m.new_message.queue) != place]
        return any(not m.unmet and m.due <= now and (m.order > self.began or not self.after_a_crash) for m in others)

    def end(self, epoch: Epoch, *, lost: bool = False, crashed: bool = False) -> None:
        """Released, taken away, or its host died: what it held goes back, first."""
        if self.epochs.get(epoch.actor) is not epoch:
            return
        del self.epochs[epoch.actor]
        for message in self.live(epoch.actor):
            if message.holder is epoch:
                message.holder, message.front, message.due = None, True, 0.0
                message.ended += crashed
                if not crashed:
                    self.cleared(message)
                if message.cancelling:
                    self._finish(message, "cancelled", handled=False)
        if lost:
            epoch.on_lost()
        self.changed()

    def commit(self, epoch: Epoch, commit: Commit) -> None:
        self.check(epoch)
        for settlement in commit.settlements:
            message = self.messages[settlement.delivery.id]
            if not message.live or message.holder is not epoch or message.starts != settlement.delivery.token:
                raise LeaseLost(f"Message {message.id} is not held here any more: nothing was written.")
        stopped_before = set(self.stops)
        for settlement in commit.settlements:
            if settlement.failure is not None:
                first = commit.settlements[0].delivery.id
                settlement = self._judge(settlement, settlement.failure, first, stopped_before)
            self._settle(self.messages[settlement.delivery.id], settlement)
        if commit.state is not None:
            self.states[epoch.actor] = epoch.state = commit.state
        for new_message in commit.schedule:
            if new_message.id not in self.messages:
                self._replace(epoch.actor, new_message)
                self._store(new_message)
        if commit.successor is not None and self._succeeds(epoch.actor, commit, commit.successor):
            self._store(commit.successor)
        if commit.destroy:
            self._cancel_all(self.live(epoch.actor))
            self.states.pop(epoch.actor, None)
            epoch.state = None
            self.pauses = {place: until for place, until in self.pauses.items() if place[0] != epoch.actor}
            self.stops = {place: reason for place, reason in self.stops.items() if place[0] != epoch.actor}
        self.changed()

    def _latest(self, actor: ActorId, schedule: str | None) -> Stored | None:
        """The message of this schedule that was stored last, settled or not."""
        known = [
            m for m in self.messages.values() if m.new_message.actor == actor and m.new_message.schedule == schedule
        ]
        return known[-1] if known and schedule is not None else None

    def _replace(self, actor: ActorId, new_message: NewMessage) -> None:
        latest = self._latest(actor, new_message.schedule)
        if latest is not None and latest.live and latest.holder is None:
            self._finish(latest, "cancelled", handled=False)

    def _succeeds(self, actor: ActorId, commit: Commit, successor: NewMessage) -> bool:
        latest = self._latest(actor, successor.schedule)
        settled = {settlement.delivery.id for settlement in commit.settlements}
        return latest is not None and not latest.cancelling and latest.id in settled

    def unsettled(self, actor: ActorId, queue: str) -> list[Unsettled]:
        return [
            Unsettled(m.id, m.new_message.body, m.new_message.options, m.due, m.holder is not None, m.cancelling)
            for m in sorted(self.live(actor, queue), key=lambda m: m.order)
        ]

    def unsettled_of_all(self, name: str, queue: str) -> dict[ActorId, list[Unsettled]]:
        actors = {m.new_message.actor for m in self.messages.values() if actor_name(m.new_message.actor) == name}
        return {actor: found for actor in sorted(actors) if (found := self.unsettled(actor, queue))}

    def _judge(
        self, settlement: Settlement, failure: Failure, counted: MessageId, stopped_before: Collection[object]
    ) -> Settlement:
        """Count a failed attempt, which may stop its queue; how it then settles."""
        new_message = self.messages[settlement.delivery.id].new_message
        place = (new_message.actor, new_message.queue)
        run = self.runs.setdefault(place, FailureRun())
        if place in stopped_before and settlement.outcome != "failed" and run.tells_nothing_new(failure):
            return settlement._replace(outcome="released")
        done = [m.new_message for m in self.messages.values() if m.status == "completed"]
        completed = sum((other.actor, other.queue) == place for other in done)
        if place not in self.stops and (reason := run.failed(counted, failure, completed)) is not None:
            self.stops[place], self.pauses[place] = reason, None
        return settlement

    def _settle(self, message: Stored, settlement: Settlement) -> None:
        message.holder = None
        message.seconds = self.clock.time() - message.began_at
        self.cleared(message)
        outcome = settlement.outcome
        if outcome in ("completed", "failed", "dead"):
            message.reply, message.error = settlement.reply, settlement.error
            self._finish(message, "completed" if outcome == "completed" else "failed", handled=True)
        elif message.cancelling:
            self._finish(message, "cancelled", handled=True)
        elif outcome == "again":
            message.failures, message.crashes = message.failures + 1, 0
            message.ended += 1
            message.due = self.clock.time() + settlement.delay if settlement.delay > 0 else 0.0
            message.front, message.in_order = settlement.front, settlement.in_order
            message.released_because = None
        else:
            message.front, message.due = True, 0.0
            if settlement.limited is not None:
                message.released_because = settlement.limited.reason

    def _finish(self, message: Stored, status: FinalStatus, *, handled: bool) -> None:
        self._end(message, status, handled)
        self._follow([message])

    def _cancel_all(self, messages: Sequence[Stored]) -> None:
        for message in messages:
            self._end(message, "cancelled", handled=False)
        self._follow(messages)

    def _follow(self, messages: Sequence[Stored]) -> None:
        """Release or cancel what waits for messages that were settled."""
        ended = list(messages)
        while ended:
            before = ended.pop()
            for dependent in [m for m in self.messages.values() if m.live and before.id in m.unmet]:
                if before.status == "completed":
                    self._meet(dependent, before.id)
                else:
                    dependent.because = before.id
                    dependent.error = {"group": "queue", "code": "predecessor_failed"}
                    self._end(dependent, "cancelled", handled=False)
                    ended.append(dependent)

    def _end(self, message: Stored, status: FinalStatus, handled: bool) -> None:
        message.holder = None
        self.cleared(message)
        message.status = status
        message.attempts = message.ended + handled
        message.ended_at = self.clock.time()
        if message.batch is not None:
            batch, row = message.batch
            batch.order.append(row)

    def _meet(self, dependent: Stored, message: MessageId) -> None:
        dependent.unmet.discard(message)
        if not dependent.unmet and not dependent.redelivered:
            dependent.freed_at = self.clock.time()
            delay = dependent.new_message.delay
            dependent.due = dependent.freed_at + delay if delay else 0.0

    def prune(self, before: float) -> None:
        """Drop what was settled before, except dead letters and the rows of batches that are not wholly settled."""
        staying = [m for m in self.messages.values() if m.status != "completed" and not _is_old(m, before)]
        needed = {message for m in staying for message in m.new_message.after}
        live = {m.batch[0].name for m in self.messages.values() if m.live and m.batch is not None}
        for message in list(self.messages.values()):
            if (
                _is_old(message, before)
                and message.id not in needed
                and (message.batch is None or message.batch[0].name not in live)
            ):
                del self.messages[message.id]
                if message.batch is not None:
                    batch, row = message.batch
                    batch.ids[row] = None

    # --- asking and changing ------------------------------------------------------------------------------------------

    def standing(self, message: MessageId) -> StoredResult:
        self.expire()
        stored = self.messages.get(message)
        if stored is None:
            raise MessageUnknown(message)
        actor, queue = stored.new_message.actor, stored.new_message.queue
        batch = None if stored.batch is None else stored.batch[0].name
        if stored.status is not None:
            return StoredResult(
                message, actor, queue, stored.status, stored.attempts, stored.reply, stored.error, batch=batch
            )
        status: MessageStatus = "delayed" if stored.due > self.clock.time() else "queued"
        if stored.unmet:
            status = "blocked"
        if stored.holder is not None:
            status = "running"
        after = [one for one in stored.new_message.after if one in stored.unmet]
        attempts = stored.ended + (status == "running")
        return StoredResult(message, actor, queue, status, attempts, batch=batch, after=after)

    def unsettled_before(self, messages: Sequence[MessageId]) -> list[Place]:
        self.expire()
        found: dict[MessageId, Place] = {}
        pending = list(messages)
        while pending:
            stored = self.messages.get(pending.pop())
            if stored is not None and stored.live and stored.id not in found:
                found[stored.id] = Place(stored.id, stored.new_message.actor, stored.new_message.queue)
                pending += stored.unmet
        return list(found.values())

    def states_of(self, name: str) -> dict[ActorId, bytes]:
        return {actor: state for actor, state in self.states.items() if actor_name(actor) == name}

    def apply(self, actor: ActorId, change: Change) -> int:
        self.expire()
        if isinstance(change, Purge):
            found = [message for message in self.live(actor, change.queue) if message.holder is None]
            self._cancel_all(found)
            self.changed()
            return len(found)
        if isinstance(change, (Pause, Resume)):
            moved = isinstance(change, Pause) or self.paused(actor, change.queue)
            for kept in (self.pauses, self.stops, self.runs):
                kept.pop((actor, change.queue), None)
            if isinstance(change, Pause):
                self.pauses[actor, change.queue] = change.until
            self.changed()
            return int(moved)
        stored = self.messages.get(change.message)
        if stored is None:
            raise MessageUnknown(change.message)
        moved = self._cancel(stored) if isinstance(change, Cancel) else self.put_back(stored)
        self.changed()
        return int(moved)

    def _cancel(self, message: Stored) -> bool:
        if not message.live:
            return False
        if message.holder is None:
            self._finish(message, "cancelled", handled=False)
        else:
            message.cancelling = True
            message.holder.on_cancel(message.id)
        return True

    def put_back(self, message: Stored) -> bool:
        if message.status not in ("failed", "cancelled", "expired"):
            return False
        if message.status == "cancelled" and not message.starts:
            for one in message.new_message.after:
                if (before := self.messages.get(one)) is None or before.status not in (None, "completed"):
                    raise PredecessorFailed(one, "failed")
        self._revive(message)
        message.redelivered = True
        self._bring_back(message)
        return True

    def _bring_back(self, message: Stored) -> None:
        """Put back those that were cancelled because of it, as far as nothing else is in their way."""
        pending = [message.id]
        while pending:
            back = pending.pop(0)
            for other in list(self.messages.values()):
                if other.because is None or other.status != "cancelled" or back not in other.new_message.after:
                    continue
                before = [self.messages[one] for one in other.new_message.after if one in self.messages]
                if len(before) == len(other.new_message.after) and all(m.status in (None, "completed") for m in before):
                    self._revive(other)
                    other.redelivered = False
                    pending.append(other.id)

    def _revive(self, message: Stored) -> None:
        message.unmet = {one for one in message.new_message.after if one in self.messages and self.messages[one].live}
        message.because, message.freed_at = None, 0.0
        message.status = message.reply = message.error = None
        message.failures = message.crashes = message.ended = message.attempts = 0
        message.front = message.in_order = message.cancelling = False
        message.released_because = None
        message.due, message.order = 0.0, next(self._orders)

    def redeliver(self, which: DeadLetters) -> int:
        dead = [message for message in self.messages.values() if message.status == "failed" and _fits(message, which)]
        moved = sum(map(self.put_back, dead))
        self.changed()
        return moved

    def status(self, actor: ActorId | None) -> list[QueueStatus]:
        places = {(m.new_message.actor, m.new_message.queue): None for m in self.messages.values()}
        places |= {place: None for place in self.pauses if self.paused(*place)}
        return [self._status(*place) for place in places if actor in (None, place[0])]

    def _status(self, actor: ActorId, queue: str) -> QueueStatus:
        now, live = self.clock.time(), self.live(actor, queue)
        running = [m.id for m in live if m.holder is not None]
        delayed = [m for m in live if m.holder is None and m.due > now]
        blocked = [m for m in live if m.unmet]
        due, paused = self.due(actor, {queue}), self.paused(actor, queue)
        dead = [m for m in self.messages.values() if m.status == "failed"]
        return QueueStatus(
            actor=actor,
            queue=queue,
            ready=len(live) - len(running) - len(delayed) - len(blocked),
            delayed=len(delayed),
            running=len(running),
            dead=sum((m.new_message.actor, m.new_message.queue) == (actor, queue) for m in dead),
            oldest=max(0.0, now - due[0].created_at) if due else None,
            running_ids=tuple(running),
            paused=paused,
            paused_until=self.pauses[actor, queue] if paused else None,
            waiting_senders=len(self.lines.get((actor, queue), ())),
            pause_reason=self.stops.get((actor, queue)),
            stopped=(actor, queue) in self.stops,
            blocked=len(blocked),
            expired=sum(
                (m.new_message.actor, m.new_message.queue) == (actor, queue)
                for m in self.messages.values()
                if m.status == "expired"
            ),
        )


def _is_old(message: Stored, before: float) -> bool:
    return message.status not in (None, "failed") and message.ended_at < before


def _wanted(queue: str, queues: Collection[str] | None) -> bool:
    return not queue.startswith("$") if queues is None else queue in queues


def _fits(message: Stored, which: DeadLetters) -> bool:
    new_message, error = message.new_message, message.error or {}
    said = f"{headline(error)} {error.get('group')}.{error.get('code')}"
    return (
        which.actor in (None, new_message.actor)
        and which.name in (None, actor_name(new_message.actor))
        and (new_message.queue[:1] != "$" if which.queue is None else new_message.queue == which.queue)
        and (which.since is None or message.ended_at >= which.since)
        and (which.error is None or which.error.lower() in said.lower())
    )
