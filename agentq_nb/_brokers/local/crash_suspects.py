"""Find the message that crashes the kernel, by handling each suspect with nothing else in flight.

A message counts a crash only if it alone was in flight. When several were, none is counted: they become *suspects*, and
are delivered one at a time, the last one started first, for another may be waiting for it. A suspect waits until
nothing is in flight, and while one waits or runs nothing else is delivered. Any end of its attempt but another crash
clears it.

Nothing waits for suspects indefinitely, since a suspect may need a message that is held back:

* A message that an actor waits for is delivered at once, with everything before it in its actor's queues.
* A suspect that no receiver asks for (its class is unknown, its queue paused, or held by a limit) holds nothing back.
* After a minute without any progress all messages run side by side. A crash then is again not attributable, so the
  suspects stay suspects, and get twice the time alone in the next run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from agentq_nb._brokers.local.queues import ActorQueues, LiveMessage, QueueState, wanted
from agentq_nb._core.clock import Clock, Timer
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._policies.retry import backoff

_PATIENCE = 60.0
"""Seconds that everything else waits for a suspect; doubled by each further crash with others in flight."""
_LONGEST_PATIENCE = 3600.0
_LATER_ONES = 5.0
"""Seconds that a suspect waits for later-started ones to be asked for, as actors wake one by one."""


class Suspects:
    """The suspects of one broker. While there are any, this is a gate of every actor's queues."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._actors: dict[ActorId, ActorQueues] = {}
        self.entries: dict[MessageId, LiveMessage] = {}
        self._doubtful: list[LiveMessage] = []
        self._awaited: Counter[ActorId] = Counter()
        self._asked: float | None = None
        """Since when a suspect waits or is handled; None: none does."""
        self._patient_until = 0.0
        self._timer: Timer | None = None

    def fill(self, actors: dict[ActorId, ActorQueues], entries: Iterable[LiveMessage]) -> None:
        """Load the suspects from what the log held."""
        self.clear()
        self._actors = actors
        self._doubtful = [entry for entry in entries if entry.suspicion or entry.crashes]
        self.entries = {entry.id: entry for entry in self._doubtful if entry.suspicion}
        self._set_gate()

    def clear(self) -> None:
        """Forget all suspects."""
        self._stop_waiting()
        self.entries.clear()
        self._doubtful.clear()
        self._set_gate()

    def _set_gate(self) -> None:
        for actor_queues in self._actors.values():
            actor_queues.gate(self, bool(self.entries))

    @property
    def doubt(self) -> bool:
        """Whether a live message may crash the kernel: starts must then be durable before the handler runs."""
        if self._doubtful:
            self._doubtful = [one for one in self._doubtful if not one.gone and (one.suspicion or one.crashes)]
        return bool(self._doubtful)

    # --- the gate -----------------------------------------------------------------------------------------------------

    def permits(self, entry: LiveMessage) -> bool:
        """Whether the message may be delivered now; a refused receiver is woken when that may have changed."""
        if self._awaited[entry.actor]:
            return True
        if not entry.suspicion:
            return self._patience_is_over() or not (self._handled() or self._wanted())
        self._begin_waiting()
        if self._patience_is_over():
            return True
        return not self._anything_in_flight() and not self._later_one(entry)

    def hold_back(self, actor: ActorId) -> bool:
        """Whether ready messages of this actor are held back now. Has no side effects."""
        return self._asked is not None and not self._awaited[actor] and not self._patience_is_over()

    def taken(self, entry: LiveMessage) -> None:
        """Record that the message was delivered."""
        if entry.suspicion:
            self._stop_waiting()
            self._begin_waiting()

    def ended(self, entry: LiveMessage) -> None:
        """Record that the message's attempt ended without a crash, or that it left its queue unhandled."""
        if self.entries.pop(entry.id, None) is not None:
            entry.suspicion = 0
            self._stop_waiting()
            if not self.entries:
                self._set_gate()
            self._wake()
        elif self._asked is not None:
            self._wake()

    def put_back(self, entry: LiveMessage) -> None:
        """Record that a message was put back before it was handled: it keeps its state, but others may have waited."""
        if self._asked is not None:
            self._wake()

    def hints(self, queue_state: QueueState) -> bool:
        return True

    def shuts(self, queue_state: QueueState) -> bool:
        return False

    def _handled(self) -> bool:
        return any(entry.running for entry in self.entries.values())

    def _wanted(self) -> bool:
        """Whether a suspect could be delivered if nothing were in flight."""
        return any(self._is_asked_for(entry) for entry in self.entries.values())

    def _is_asked_for(self, entry: LiveMessage) -> bool:
        return self._is_head(entry) and any(
            wanted(entry.queue, waiter.queues) for waiter in self._actors[entry.actor].waiters
        )

    def _is_head(self, entry: LiveMessage) -> bool:
        actor_queues = self._actors[entry.actor]
        queue_state = actor_queues.queue_state(entry.queue)
        return queue_state.head() is entry and not any(gate.shuts(queue_state) for gate in actor_queues.gates)

    def _later_one(self, entry: LiveMessage) -> bool:
        """Whether a later-started suspect goes first. It gets some seconds to be asked for."""
        still_early = self._asked is not None and self._clock.monotonic() < self._asked + _LATER_ONES
        return any(
            other.started > entry.started and (self._is_head(other) if still_early else self._is_asked_for(other))
            for other in self.entries.values()
        )

    def _anything_in_flight(self) -> bool:
        return any(
            queue_state.running
            for actor_queues in self._actors.values()
            for queue_state in actor_queues.queues.values()
        )

    # --- awaited messages ---------------------------------------------------------------------------------------------

    @contextmanager
    def waited_for(self, actor: ActorId) -> Generator[None]:
        """Hold back nothing of ``actor`` while one of its messages is awaited: any of it may have to settle first."""
        self._awaited[actor] += 1
        if self._asked is not None:
            self._wake()
        try:
            yield
        finally:
            self._awaited[actor] -= 1
            if not self._awaited[actor]:
                del self._awaited[actor]

    # --- time ---------------------------------------------------------------------------------------------------------

    def _patience(self) -> float:
        most = max((entry.suspicion for entry in self.entries.values()), default=1)
        return backoff(most, first=_PATIENCE, longest=_LONGEST_PATIENCE)

    def _patience_is_over(self) -> bool:
        return self._asked is not None and self._clock.monotonic() >= self._patient_until

    def _begin_waiting(self) -> None:
        if self._asked is None:
            self._asked = self._clock.monotonic()
            self._patient_until = self._asked + self._patience()
            self._timer = self._clock.call_later(_LATER_ONES, self._ring)

    def _ring(self) -> None:
        """Wake receivers when the waiting time has ended."""
        if (left := self._patient_until - self._clock.monotonic()) > 0:
            self._timer = self._clock.call_later(left, self._ring)
        elif not self._handled() and not self._wanted():
            self._stop_waiting()
        self._wake()

    def _stop_waiting(self) -> None:
        self._asked = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        for actor_queues in self._actors.values():
            for waiter in actor_queues.waiters:
                waiter.wake()
