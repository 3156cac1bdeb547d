"""All live messages in memory: their queues, due times, idempotency keys, and notification of receivers.

No I/O: writing, and what may be visible before it is durable, is up to ``commit``.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from agentq_nb._brokers.local.crash_suspects import Suspects
from agentq_nb._brokers.local.dependents import Dependents
from agentq_nb._brokers.local.event_rows import Memory
from agentq_nb._brokers.local.expirations import Expirations, expires_at
from agentq_nb._brokers.local.idempotency import IdempotencyKeys
from agentq_nb._brokers.local.limits import Limits
from agentq_nb._brokers.local.queue_pauses import QueuePauses
from agentq_nb._brokers.local.queues import LARGEST_BODY, ActorQueues, LiveMessage, QueueState, SettledBefore
from agentq_nb._brokers.local.ready_actors import ReadyActors, Timers
from agentq_nb._brokers.local.waiting_senders import check_room, end_waits
from agentq_nb._brokers.messages import NewMessage
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.message_status import HANDLED, FinalStatus
from agentq_nb._policies.admission import exceeded
from agentq_nb._store import Row


class LiveMessages:
    """The live messages of every actor."""

    def __init__(self, clock: Clock, write: Callable[[Sequence[Row]], None]) -> None:
        self._clock = clock
        self.actors: dict[ActorId, ActorQueues] = {}
        self.entries: dict[MessageId, LiveMessage] = {}
        self.keys = IdempotencyKeys()
        self.suspects = Suspects(clock)
        self.expirations = Expirations(clock)
        self.dependents = Dependents(self._release)
        self.limits = Limits(clock, write, self.announce)
        self.settled = 0
        """How many messages were settled since the broker started."""
        self.settled_before: SettledBefore | None = None
        """None until loaded."""
        self._order = 0
        self.withheld: set[MessageId] = set()
        """Messages that are not delivered for now, since a thread that cannot be stopped still works on them."""
        self._timers = Timers[LiveMessage](clock, self._fall_due)
        self.pauses = QueuePauses(clock, self)
        self._subscriptions: list[weakref.ref[ReadyActors]] = []

    def fill(self, memory: Memory, order: int) -> None:
        """Load what the log held; nothing is ready before :meth:`arrive`. ``order`` is the last one assigned."""
        self._forget_times()
        self.actors, self.entries, self._order = memory.actors, memory.entries, order
        self.keys = IdempotencyKeys()
        self.settled_before = None
        for entry in memory.entries.values():
            if entry.after:
                self.dependents.add(entry, entry.unmet)
            entry.queue_state = self.queue_state(entry.actor, entry.queue)
            entry.queue_state.pace.begin(self._clock.monotonic())
        for (actor, queue, key), message in memory.keys.items():
            self.keys.name((actor, queue, key), message)
        self.limits.fill(self.actors, memory.limits)
        for actor, queue, until, reason in memory.pauses:
            if until is None or until > self._clock.time():
                self.pauses.expect_end(self.pauses.begin(actor, queue, until, reason))

    def actor_queues(self, actor: ActorId) -> ActorQueues:
        actor_queues = self.actors.get(actor)
        if actor_queues is None:
            actor_queues = self.actors[actor] = ActorQueues(actor)
            gates = ((self.suspects, self.suspects.entries), (self.limits, self.limits.gates(actor_queues)))
            actor_queues.gates = tuple(gate for gate, on in gates if on)
        return actor_queues

    def queue_state(self, actor: ActorId, queue: str) -> QueueState:
        actor_queues = self.actors.get(actor)
        queue_state = None if actor_queues is None else actor_queues.queues.get(queue)
        return self.actor_queues(actor).queue_state(queue) if queue_state is None else queue_state

    def next_order(self) -> int:
        self._order += 1
        return self._order

    # --- adding -------------------------------------------------------------------------------------------------------

    def enter(self, new_message: NewMessage) -> LiveMessage:
        """Add a new message; it is delivered only after :meth:`arrive`. Raises QueueFull."""
        message, actor, queue, body, options, max_size, max_bytes = new_message
        queue_state = self.queue_state(actor, queue)
        size = len(body)
        unit = exceeded(queue_state.live, queue_state.bytes, 1, size, max_size, max_bytes)
        if unit is not None or queue_state.line is not None:
            check_room(queue_state, new_message, unit)
        now = self._clock.time()
        self._order += 1
        entry = LiveMessage(message, actor, queue, body, size, self._order, now, options)
        if options:
            entry.priority, entry.key = new_message.priority, new_message.idempotency_key
            if after := new_message.after:
                entry.after = after
                self.dependents.add(entry, {message for message in after if message in self.entries})
            if not entry.unmet:
                self._begin_times(entry, now)
        self.hold(entry, queue_state)
        if entry.key is not None:
            self.keys.name((actor, queue, entry.key), message)
        return entry

    def _begin_times(self, entry: LiveMessage, now: float) -> None:
        """Let the delay and the ttl of a message begin."""
        delay, ttl = entry.options.get("delay", 0.0), entry.options.get("ttl")
        entry.due = now + delay if delay else 0.0
        if ttl is not None:
            entry.expires = expires_at(entry.due or now, ttl)
            self.expirations.add(entry)

    def hold(self, entry: LiveMessage, queue_state: QueueState) -> None:
        """Count a message as live in its queue."""
        self.entries[entry.id] = entry
        entry.queue_state = queue_state
        if not queue_state.live:
            queue_state.pace.begin(self._clock.monotonic())
        queue_state.live += 1
        queue_state.bytes += entry.size

    def withdraw(self, entries: Iterable[LiveMessage]) -> None:
        """Remove messages that were just entered, since their call is refused."""
        for entry in entries:
            del self.entries[entry.id]
            entry.queue_state.live -= 1
            entry.queue_state.bytes -= entry.size
            self.expirations.forget(entry)
            if entry.after:
                self.dependents.forget(entry)
            if entry.key is not None:
                self.keys.free((entry.actor, entry.queue, entry.key), entry.id)

    def reclaim_key(self, entry: LiveMessage) -> None:
        """Give a redelivered message its key back, unless another may have it: it lost the key when it failed."""
        if entry.key is None:
            return
        name = (entry.actor, entry.queue, entry.key)
        if self.keys.find(name) is None and not self.keys.clues(name):
            self.keys.name(name, entry.id)
        else:
            entry.key = None

    def arrive(self, entries: Iterable[LiveMessage]) -> None:
        """Make durable messages deliverable, if they are still live."""
        for entry in entries:
            if not entry.gone:
                self.place(entry)

    def place(self, entry: LiveMessage) -> None:
        """Make a durable message ready, or delayed until it is due. A large body is dropped from memory."""
        queue_state = entry.queue_state
        if entry.size > LARGEST_BODY:
            entry.body = b""
        if entry.unmet:
            queue_state.blocked[entry.id] = entry
            self.dependents.arrived(entry)
            return
        if entry.id in self.withheld:
            queue_state.delayed[entry.id] = entry
            return
        if entry.due and entry.due > self._clock.time():
            queue_state.delayed[entry.id] = entry
            if entry.in_order:
                queue_state.blockers.add(entry)
            self._timers.add(entry)
            return
        queue_state.add(entry)
        if queue_state.actor_queues.lease is None:
            self.announce(queue_state)

    def _release(self, entry: LiveMessage) -> None:
        """Make a message due, or delayed: all that it waited for has completed."""
        if not entry.redelivered:
            self._begin_times(entry, self._clock.time())
        if entry.queue_state.blocked.pop(entry.id, None) is not None:
            self.place(entry)

    def _fall_due(self, entry: LiveMessage) -> None:
        queue_state = entry.queue_state
        if entry.id in self.withheld:
            return
        if queue_state.delayed.pop(entry.id, None) is None:
            return
        queue_state.blockers.discard(entry)
        queue_state.add(entry)
        self.announce(queue_state)

    def withhold(self, message: MessageId) -> Callable[[], None]:
        """Withhold a message, running or not, among its queue's ``delayed`` ones. Call what is returned to end that."""
        self.withheld.add(message)
        entry = self.entries.get(message)
        if entry is not None and not entry.running:
            entry.queue_state.discard(entry)
            entry.queue_state.delayed[message] = entry
        return lambda: self._allow(message)

    def _allow(self, message: MessageId) -> None:
        self.withheld.discard(message)
        entry = self.entries.get(message)
        if entry is not None and entry.queue_state.delayed.pop(message, None) is not None:
            self.place(entry)

    # --- removing -----------------------------------------------------------------------------------------------------

    def take_back(self, entry: LiveMessage) -> None:
        """Mark a message as no longer running."""
        entry.queue_state.running.pop(entry.id, None)
        entry.running = False
        for gate in entry.queue_state.actor_queues.gates:
            gate.ended(entry)

    def put_back(self, entry: LiveMessage, until: float = 0.0) -> None:
        """Put back a message taken but not delivered. ``until``: its queue delivers nothing before then."""
        queue_state = entry.queue_state
        queue_state.running.pop(entry.id, None)
        entry.running = entry.reading = False
        if until:
            entry.due = until
            queue_state.blockers.add(entry)
        if entry.expires:
            self.expirations.put_back(entry)
        self.place(entry)
        for gate in queue_state.actor_queues.gates:
            gate.put_back(entry)

    def remove(self, entry: LiveMessage, status: FinalStatus) -> None:
        """Remove a settled message. One that did not complete frees its idempotency key."""
        entry.gone = True
        del self.entries[entry.id]
        self.settled += 1
        queue_state = entry.queue_state
        queue_state.live -= 1
        queue_state.bytes -= entry.size
        if entry.expires:
            self.expirations.forget(entry)
        if status in HANDLED:
            queue_state.handled += 1
            queue_state.completed += status == "completed"
            queue_state.pace.note(self._clock.monotonic())
        elif status == "expired":
            queue_state.expired += 1
        if entry.running:
            del queue_state.running[entry.id]
            entry.running = False
        elif entry.unmet:
            queue_state.blocked.pop(entry.id, None)
        elif queue_state.delayed.pop(entry.id, None) is None:
            queue_state.forget_one()
        else:
            self._timers.forget_one()
            if entry in queue_state.blockers:
                queue_state.blockers.remove(entry)
                self.announce(queue_state)
        if entry.after:
            self.dependents.forget(entry)
        if status == "failed":
            queue_state.dead[entry.id] = self.settled
        if entry.key is not None:
            name = (entry.actor, entry.queue, entry.key)
            if status == "completed":
                self.keys.completed(name, entry.id, entry.first)
            else:
                self.keys.free(name, entry.id)
        for gate in queue_state.actor_queues.gates:
            gate.ended(entry)
        if queue_state.line is not None:
            queue_state.line.serve()

    def running(self) -> list[LiveMessage]:
        """Return the messages that were delivered."""
        return [entry for entry in self.entries.values() if entry.running and not entry.reading]

    # --- notification -------------------------------------------------------------------------------------------------

    def announce(self, queue_state: QueueState) -> None:
        """Notify the actor's receivers that a message may be due; without a lease, notify the subscriptions."""
        actor_queues = queue_state.actor_queues
        if actor_queues.lease is not None:
            if actor_queues.waiters:
                actor_queues.wake(queue_state.name)
            return
        for reference in self._subscriptions:
            if (subscription := reference()) is not None:
                subscription.look_at(queue_state)

    def subscribe(self, wanted: Mapping[str, Collection[str] | None]) -> ReadyActors:
        subscription = ReadyActors(wanted)
        self._subscriptions = [reference for reference in self._subscriptions if reference() is not None]
        self._subscriptions.append(weakref.ref(subscription))
        for actor_queues in self.actors.values():
            if actor_queues.lease is None:
                for queue_state in actor_queues.queues.values():
                    subscription.look_at(queue_state)
        return subscription

    def lose_leases(self) -> None:
        """End all leases and timers, and the waits of senders."""
        self._forget_times()
        end_waits(self.actors.values())
        for actor_queues in self.actors.values():
            if actor_queues.lease is not None:
                actor_queues.lease.lose()

    def _forget_times(self) -> None:
        self._timers.clear()
        self.pauses.clear()
        self.expirations.clear()
        self.dependents.clear()
        self.suspects.clear()
        self.limits.stop()

    def close(self) -> None:
        self.lose_leases()
        for reference in self._subscriptions:
            if (subscription := reference()) is not None:
                subscription.close()
