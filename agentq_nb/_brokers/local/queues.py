"""How fast a queue goes, over the last minutes. No clock of its own."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from agentq_nb._actor.queue import StoredOptions
from agentq_nb._core.ids import ActorId, MessageId, actor_name

if TYPE_CHECKING:
    from agentq_nb._brokers.local.lease import LocalLease


WINDOW = 300.0
"""Seconds over which the pace is taken: slow work needs more than a minute to show one."""
_STEP = 5.0
_SHORTEST = 1.0
"""Seconds of work after which a pace is worth telling."""


class Pace:
    """Counts what was settled, in steps of a few seconds. ``now`` is always the monotonic clock."""

    __slots__ = ("_busy_since", "_steps")

    def __init__(self) -> None:
        self._busy_since: float | None = None
        self._steps: deque[list[float]] = deque()
        """Each when it began, and how many were settled in it."""

    def begin(self, now: float) -> None:
        """Work has come into a queue that had none: the time before does not count."""
        self._busy_since = now
        self._steps.clear()

    def note(self, now: float) -> None:
        """One more was settled."""
        steps = self._steps
        if steps and now - steps[-1][0] < _STEP:
            steps[-1][1] += 1
            return
        steps.append([now, 1])
        while now - steps[0][0] > WINDOW:
            steps.popleft()

    def per_minute(self, now: float) -> float:
        """How many a minute; 0 where it cannot be told yet."""
        worked = 0.0 if self._busy_since is None else min(WINDOW, now - self._busy_since)
        if worked < _SHORTEST:
            return 0.0
        return 60 * sum(count for began, count in self._steps if now - began <= WINDOW) / worked


Ready: TypeAlias = "tuple[bool, int, int, int, LiveMessage]"
"""A message in the order of handing out: what comes again first, then by priority, then in the order of sending."""

LARGEST_BODY = 64 << 10
"""Bytes of the largest body that is kept in memory. A larger one is read from the log when it is handed out."""

DIED = "The kernel died while it was handled."

# A message that was cancelled and put back has the order of its former self, which may still be in the heap.
_serial = itertools.count()


@dataclass(slots=True, eq=False)
class LiveMessage:
    """One message that is not settled. ``order`` is that of sending; ``due`` is seconds since 1970, 0: at once."""

    id: MessageId
    actor: ActorId
    queue: str
    body: bytes
    """JSON; empty: it is large, and in the log only."""
    size: int
    """Bytes of the body."""
    order: int
    created_at: float
    options: StoredOptions
    """All of its send, as they are stored."""
    priority: int = 0
    due: float = 0.0
    front: bool = False
    key: str | None = None
    failures: int = 0
    crashes: int = 0
    """Deaths of the kernel since the last failure."""
    ended: int = 0
    """Attempts that failed or crashed, all of them."""
    running: bool = False
    reading: bool = False
    """It was taken, and its body is being read: nobody handles it yet."""
    gone: bool = False
    """Settled or cancelled: heaps drop it when they come to it."""
    cancelling: bool = False
    in_order: bool = False
    suspicion: int = 0
    """Crashes in which it was not alone in flight; 0: it is no suspect."""
    started: int = 0
    """The place in the log of its last start before the file was opened."""
    digest: bytes | None = None
    """Of a large body, once it was compared with another (see ``keys``)."""
    first: int = 0
    """The place in the log before which it is not to be found."""
    starts: int = 0
    """How often it was handed out: tells a late settlement from a current one."""
    problem: str | None = None
    """How its last attempt failed, in short."""
    old: bool = False
    """It was there when the file was opened."""
    queue_state: QueueState = field(init=False)
    """Where it is counted; set when it is held (see ``LiveMessages.hold``)."""


@dataclass(slots=True, eq=False)
class Pausing:
    """A pause of one queue. ``due`` is when it ends by itself, in seconds since 1970; infinite: it does not."""

    actor: ActorId
    queue: str
    due: float
    order: int
    gone: bool = False
    """Another has taken its place, or it has ended."""
    ending: bool = False
    """The queue was resumed, and that is being written."""


@dataclass(slots=True, eq=False)
class QueueState:
    """One queue of one actor."""

    actor_queues: ActorQueues
    name: str
    ready: list[Ready] = field(default_factory=list[Ready])
    running: dict[MessageId, LiveMessage] = field(default_factory=dict[MessageId, LiveMessage])
    dead: dict[MessageId, int] = field(default_factory=dict[MessageId, int])
    """Dead letters, each with how many messages were settled when it became one (0: before the file was opened)."""
    delayed: dict[MessageId, LiveMessage] = field(default_factory=dict[MessageId, LiveMessage])
    blockers: set[LiveMessage] = field(default_factory=set["LiveMessage"])
    """Messages with ``in_order`` that wait for their next attempt: nothing overtakes them."""
    live: int = 0
    """Messages that are not settled, those being written included."""
    pause: Pausing | None = None
    stale: int = 0
    """How many of ``ready`` are gone, at most."""
    handled: int = 0
    """How many completed or failed for good since this memory began."""
    completed: int = 0
    """How many of them completed."""
    pace: Pace = field(default_factory=Pace)

    def add(self, entry: LiveMessage) -> None:
        """Make it ready to be handed out."""
        heapq.heappush(self.ready, (not entry.front, -entry.priority, entry.order, next(_serial), entry))

    def head(self) -> LiveMessage | None:
        """The message that is next, if one may be handed out now."""
        return self.first() if self.pause is None else None

    def first(self) -> LiveMessage | None:
        """The same, as if the queue were not paused."""
        if self.blockers:
            return None
        ready = self.ready
        while ready:
            entry = ready[0][-1]
            if not entry.gone:
                return entry
            heapq.heappop(ready)
        return None

    def take(self) -> LiveMessage:
        """The head, from now on being handled."""
        entry = heapq.heappop(self.ready)[-1]
        entry.running = True
        entry.starts += 1
        self.running[entry.id] = entry
        return entry

    def forget_one(self) -> None:
        """One that was ready is gone. When most are, none of them is kept with its body until its turn comes."""
        self.stale += 1
        if self.stale * 2 > len(self.ready):
            self.ready = [ready for ready in self.ready if not ready[-1].gone]
            heapq.heapify(self.ready)
            self.stale = 0

    def waiting(self) -> Iterator[LiveMessage]:
        """Every message that nobody handles, in no particular order."""
        yield from (entry for *_, entry in self.ready if not entry.gone)
        yield from list(self.delayed.values())

    def count_ready(self) -> int:
        return self.live - len(self.running) - len(self.delayed)

    def works_until(self, moment: float) -> bool:
        """Whether it has work in flight or due, or that falls due by then without anyone's help."""
        if self.running:
            return True
        if self.pause is not None and self.pause.due > moment:
            return False
        if not self.blockers and self.count_ready() > 0:
            return True
        return any(entry.due <= moment for entry in self.delayed.values())


@dataclass(slots=True, eq=False)
class Waiter:
    """Somebody who waits for a message of these queues (None: all but the reserved ones)."""

    queues: Collection[str] | None
    woken: asyncio.Future[None]

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


def wanted(queue: str, queues: Collection[str] | None) -> bool:
    """Names that start with ``$`` are reserved and come only when asked for."""
    return queue[:1] != "$" if queues is None else queue in queues


class Gate(Protocol):
    """Holds messages back for the sake of others (see ``suspects``)."""

    def permits(self, entry: LiveMessage) -> bool: ...
    def taken(self, entry: LiveMessage) -> None: ...


@dataclass(slots=True, eq=False)
class ActorQueues:
    """One actor's queues, its state, and who runs it. ``name`` is the one its class is registered under."""

    actor: ActorId
    name: str = field(init=False)
    shelves: dict[str, QueueState] = field(default_factory=dict[str, QueueState])
    state: bytes | None = None
    lease: LocalLease | None = None
    waiters: list[Waiter] = field(default_factory=list[Waiter])
    gate: Gate | None = None

    def __post_init__(self) -> None:
        self.name = actor_name(self.actor)

    def queue_state(self, queue: str) -> QueueState:
        queue_state = self.shelves.get(queue)
        if queue_state is None:
            queue_state = self.shelves[queue] = QueueState(self, queue)
        return queue_state

    def next_queue(self, queues: Collection[str] | None) -> QueueState | None:
        """The shelf whose head is the first of all that are wanted."""
        if self.gate is not None:
            return self._next_permitted(self.gate, queues)
        best: QueueState | None = None
        for name, queue_state in self.shelves.items():
            if not queue_state.ready or not wanted(name, queues) or queue_state.head() is None:
                continue
            if best is None or queue_state.ready[0] < best.ready[0]:
                best = queue_state
        return best

    def _next_permitted(self, gate: Gate, queues: Collection[str] | None) -> QueueState | None:
        heads = [
            queue_state
            for queue_state in self.shelves.values()
            if wanted(queue_state.name, queues) and queue_state.head() is not None
        ]
        for queue_state in sorted(heads, key=lambda queue_state: queue_state.ready[0]):
            if (entry := queue_state.head()) is not None and gate.permits(entry):
                return queue_state
        return None

    def take(self, queues: Collection[str] | None, limit: int) -> list[LiveMessage]:
        """Up to ``limit`` due messages in order, marked as running."""
        taken: list[LiveMessage] = []
        while len(taken) < limit and (queue_state := self.next_queue(queues)) is not None:
            entry = queue_state.take()
            if self.gate is not None:
                self.gate.taken(entry)
            taken.append(entry)
        return taken

    def wake(self, queue: str) -> None:
        """Let all who wait for this queue have a look: the first to ask takes it."""
        for waiter in self.waiters:
            if wanted(queue, waiter.queues):
                waiter.wake()
