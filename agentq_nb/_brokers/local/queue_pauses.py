"""Pauses of single queues, by users or because failures repeat, and the timer that ends them."""

from __future__ import annotations

import math
from typing import Protocol

from agentq_nb._brokers.local.queues import ActorQueues, Pausing, QueueState
from agentq_nb._brokers.local.ready_actors import Timers
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId


class Pausable(Protocol):
    """The queues, and a way to wake the receivers of one."""

    actors: dict[ActorId, ActorQueues]

    def queue_state(self, actor: ActorId, queue: str) -> QueueState: ...
    def next_order(self) -> int: ...
    def announce(self, queue_state: QueueState) -> None: ...


class QueuePauses:
    """Begins and ends pauses in memory; writing them is up to the caller."""

    def __init__(self, clock: Clock, queues: Pausable) -> None:
        self._queues = queues
        self._ends = Timers[Pausing](clock, self.end)

    def begin(self, actor: ActorId, queue: str, until: float | None, reason: str | None = None) -> Pausing:
        """Pause a queue from now on; the pause ends by itself only after :meth:`expect_end`."""
        queue_state = self._queues.queue_state(actor, queue)
        if queue_state.pause is not None:
            queue_state.pause.gone = True
            self._ends.forget_one()
        due = math.inf if until is None else until
        queue_state.pause = Pausing(actor, queue, due, self._queues.next_order(), reason)
        return queue_state.pause

    def of(self, actor: ActorId, queue: str) -> Pausing | None:
        """Return the queue's current pause."""
        actor_queues = self._queues.actors.get(actor)
        queue_state = None if actor_queues is None else actor_queues.queues.get(queue)
        return None if queue_state is None else queue_state.pause

    def expect_end(self, pause: Pausing) -> None:
        """Schedule the end of a pause that is durable."""
        if not pause.gone and pause.due < math.inf:
            self._ends.add(pause)

    def end(self, pause: Pausing) -> None:
        """End a pause, unless another has replaced it."""
        if pause.gone:
            return
        pause.gone = True
        queue_state = self._queues.queue_state(pause.actor, pause.queue)
        queue_state.pause = queue_state.failures = None
        self._queues.announce(queue_state)

    def clear(self) -> None:
        """Forget the times at which pauses end."""
        self._ends.clear()
