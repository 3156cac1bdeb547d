"""The limits that queues declare, with the users' changes and the stored starts; and which of them each queue has."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from agentq_nb._brokers.local import limit_rows
from agentq_nb._brokers.local.limit_rows import Change, StoredStarts, own_name
from agentq_nb._brokers.local.live_limits import GatedQueue, LiveLimit, PauseGroup
from agentq_nb._brokers.local.queues import ActorQueues, QueueState
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._policies.limits import Limit
from agentq_nb._policies.pause import PastPause, PauseHistory
from agentq_nb._policies.rate_limit import since_restart
from agentq_nb._store import Row


class LimitRegister:
    """The limits of one broker by name, and the groups of queues that a provider's limit pauses together."""

    def __init__(self, clock: Clock, write: Callable[[Sequence[Row]], None]) -> None:
        self._clock = clock
        self._write = write
        self._actors: dict[ActorId, ActorQueues] = {}
        self._declared: dict[str, Mapping[str, Sequence[Limit]]] = {}
        self._stored: Mapping[str, list[float]] = {}
        """Monotonic times of stored starts, by name, as they were at ``_read_at``."""
        self._read_at = -math.inf
        self._paused_actors: set[ActorId] = set()
        self._queues: dict[QueueState, GatedQueue] = {}
        self.calls: dict[ActorId, ActorQueues] = {}
        """By actor: the calls, such as prompts, that start under limits as the messages of a queue do."""
        self.limits: dict[str, LiveLimit] = {}
        self.groups: dict[str, PauseGroup] = {}
        self.changes: dict[str, Change] = {}
        self.resumed_at = -math.inf
        """When a user last ended a provider's pause, on the monotonic clock."""

    def declare(self, name: str, limits: Mapping[str, Sequence[Limit]], stored: StoredStarts) -> None:
        """Replace the limits of the queues of actors of this name."""
        self._declared[name] = {queue: some for queue, some in limits.items() if some}
        self._note_stored(stored)
        named = {limit.name: limit for limit in self.all_declared() if limit.name is not None}
        for known, limit in list(self.limits.items()):
            if limit.declared.name is not None and known not in named:
                self.limits.pop(known).stop()
        for known, limit in named.items():
            self._live_limit(known, limit, known)

    def declares(self, name: str) -> bool:
        """Whether queues of actors of this name have limits."""
        return bool(self._declared.get(name))

    def all_declared(self) -> Iterable[Limit]:
        return (limit for queues in self._declared.values() for limits in queues.values() for limit in limits)

    def _note_stored(self, stored: StoredStarts) -> None:
        now, moment = self._clock.monotonic(), self._clock.time()
        self._read_at = stored.read_at
        self._stored = {
            name: [since_restart(moment - time, now) for time in times] for name, times in stored.times.items()
        }

    def now(self) -> float:
        """Return the time in seconds since 1970."""
        return self._clock.time()

    def queues_of(self, name: str) -> list[str]:
        """Return the queues that declare the limit of this name, each with its actor's name: ``worker tasks``."""
        return [
            f"{actor} {queue}"
            for actor, queues in self._declared.items()
            for queue, limits in queues.items()
            if any(limit.name == name for limit in limits)
        ]

    def pauses_of(self, queue_state: QueueState) -> tuple[PastPause, ...]:
        """Return the latest pauses of a queue because of a provider's limit, oldest first."""
        if not self.groups:
            return ()
        actor_queues = queue_state.actor_queues
        declared = self._declared.get(actor_queues.name, {}).get(queue_state.name, ())
        shared = [self.groups[limit.name] for limit in declared if limit.name in self.groups]
        own = self.groups.get(own_name(actor_queues.actor, queue_state.name))
        now = self._clock.time()
        alone = [] if own is None else own.history.pauses(now)
        return PauseHistory.joined(alone, *(group.history.pauses(now, group.name) for group in shared))

    def longest(self, limits: Iterable[Limit]) -> float:
        """Return the seconds of the longest window among these limits and the changed ones; 0 if there is none."""
        periods = [getattr(limit, "per", None) for limit in limits] + [change.per for change in self.changes.values()]
        return max((per for per in periods if per is not None), default=0.0)

    def change(self, limit: LiveLimit, change: Change | None, stored: StoredStarts) -> None:
        """Apply a user's change of a limit, or undo it (None)."""
        self._note_stored(stored)
        if change is None:
            self.changes.pop(limit.name, None)
        else:
            self.changes[limit.name] = change
        self._live_limit(limit.name, limit.declared, limit.counted_as)

    def _live_limit(self, name: str, declared: Limit, counted_as: str) -> LiveLimit:
        """Return the limit of this name, up to date. A change made under another declaration ends.

        ``counted_as`` is the name by which its starts are stored.
        """
        live = self.limits.get(name)
        if live is None or type(live.declared) is not type(declared):
            live = self.limits[name] = LiveLimit(name, declared, counted_as)
        change = self.changes.get(name)
        if change is not None and change.declared != str(declared):
            del self.changes[name]
            self._write([limit_rows.reset(name)])
            change = None
        live.apply(declared, change, self._stored.get(counted_as, ()), self._read_at)
        return live

    def gates(self, actor_queues: ActorQueues) -> bool:
        """Whether the actor needs this gate."""
        return bool(self._declared.get(actor_queues.name)) or actor_queues.actor in self._paused_actors

    def calls_at_work(self) -> set[MessageId]:
        """Return the ids of the calls that have started and not ended."""
        states = (queue_state for line in self.calls.values() for queue_state in line.queues.values())
        return {call for queue_state in states for call in queue_state.running}

    def group(self, name: str) -> PauseGroup:
        group = self.groups.get(name)
        if group is None:
            group = self.groups[name] = PauseGroup(name)
        return group

    def of(self, queue_state: QueueState) -> GatedQueue:
        """Return the queue with its limits."""
        gated = self._queues.get(queue_state)
        if gated is None:
            actor_queues = queue_state.actor_queues
            own = own_name(actor_queues.actor, queue_state.name)
            limits: dict[str, LiveLimit] = {}
            for limit in self._declared.get(actor_queues.name, {}).get(queue_state.name, ()):
                name = limit.name or next(name for name in _numbered(own) if name not in limits)
                limits[name] = self.limits[name] if limit.name else self._live_limit(name, limit, own)
            groups: list[PauseGroup] = []
            if actor_queues is not self.calls.get(actor_queues.actor):  # calls are refused while they are paused
                groups = [
                    self.group(own),
                    *(self.group(limit.name) for limit in limits.values() if limit.declared.name),
                ]
            gated = self._queues[queue_state] = GatedQueue(queue_state, tuple(limits.values()), tuple(groups))
        return gated


def _numbered(name: str) -> Iterator[str]:
    """Yield names for the limits of one queue: ``worker/main tasks``, ``worker/main tasks #2`` and so on."""
    yield name
    yield from (f"{name} #{number}" for number in itertools.count(2))
