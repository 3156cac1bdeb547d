"""Timers for due messages and ends of pauses, and the subscription to actors that have due messages."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Collection, Mapping
from typing import Generic, Protocol, TypeVar

from agentq_nb._brokers.local.queues import QueueState, wanted
from agentq_nb._core.clock import Clock, Timer
from agentq_nb._core.ids import ActorId


class Timed(Protocol):
    """An entry with a time: ``due`` is seconds since 1970; ``order`` breaks ties."""

    due: float
    order: int
    gone: bool


T = TypeVar("T", bound=Timed)


class Timers(Generic[T]):
    """Calls ``ring(entry)`` once an entry is due, unless it is gone or its time was changed. Uses one timer for all."""

    def __init__(self, clock: Clock, ring: Callable[[T], None]) -> None:
        self._clock = clock
        self._call = ring
        self._due: list[tuple[float, int, T]] = []
        self._stale = 0
        self._timer: Timer | None = None
        self._timer_at = float("inf")

    def add(self, entry: T) -> None:
        """Call ``ring`` when the entry is due."""
        heapq.heappush(self._due, (entry.due, entry.order, entry))
        self._arm()

    def forget_one(self) -> None:
        """Count an entry as gone. When most are, remove all of those instead of keeping them until they are due."""
        self._stale += 1
        if self._stale * 2 > len(self._due):
            self._due = [item for item in self._due if not item[2].gone and item[2].due == item[0]]
            heapq.heapify(self._due)
            self._stale = 0

    def clear(self) -> None:
        """Forget all entries."""
        self._due.clear()
        self._stale = 0
        self._disarm()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, float("inf")

    def _arm(self) -> None:
        while self._due and (self._due[0][2].gone or self._due[0][2].due != self._due[0][0]):
            heapq.heappop(self._due)
        if self._due and self._due[0][0] < self._timer_at:
            self._disarm()
            self._timer_at = self._due[0][0]
            self._timer = self._clock.call_at(self._timer_at, self._ring)

    def _ring(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        now = self._clock.time()
        try:
            while self._due and self._due[0][0] <= now:
                due, _, entry = heapq.heappop(self._due)
                if not entry.gone and entry.due == due:
                    self._call(entry)
        finally:
            self._arm()


class ReadyActors:
    """One subscription: an async iterator of actor ids, each yielded once however often it is hinted before it is read.

    :param queues: by registered name, the queues whose due messages count; None: all.
    """

    def __init__(self, queues: Mapping[str, Collection[str] | None]) -> None:
        self._queues = dict(queues)
        self._hints: dict[ActorId, None] = {}
        self._news = asyncio.Event()
        self._closed = False

    def look_at(self, queue_state: QueueState) -> None:
        """Hint the actor if a message is due in this queue. Call it for actors without a lease."""
        queues = self._queues.get(queue_state.actor_queues.name, ())
        if (queues is None or wanted(queue_state.name, queues)) and queue_state.head() is not None:
            if not all(gate.hints(queue_state) for gate in queue_state.actor_queues.gates):
                return
            self._hints[queue_state.actor_queues.actor] = None
            self._news.set()

    def close(self) -> None:
        """End the iteration."""
        self._closed = True
        self._news.set()

    def __aiter__(self) -> ReadyActors:
        return self

    async def __anext__(self) -> ActorId:
        while not self._hints:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        actor = next(iter(self._hints))
        del self._hints[actor]
        return actor
