"""The queues of one actor in memory: live messages in order, pauses, and waiting receivers."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from agentq_nb._actor.send_options import StoredOptions
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._core.ids import ActorId, MessageId, actor_name
from agentq_nb._core.message_status import MessageStatus
from agentq_nb._core.rate import RateMeter
from agentq_nb._policies.retry import FailureRun
from agentq_nb.errors import AgentqError


class Holder(Protocol):
    """The lease of an actor, as far as its queues need it."""

    cancelling: Callable[[MessageId], None] | None

    def lose(self) -> None: ...


class Line(Protocol):
    """The senders that wait for room in a queue (see ``waiting_senders``)."""

    def __len__(self) -> int: ...
    def serves(self, message: MessageId) -> bool: ...
    def serve(self) -> None: ...
    def fail(self, error: Callable[[], AgentqError]) -> None: ...


Ready: TypeAlias = "tuple[bool, int, int, int, LiveMessage]"
"""A message's sort key and itself: repeated attempts first, then by priority, then in the order of sending."""

SettledBefore: TypeAlias = Mapping[tuple[ActorId, str, str], int]
"""By actor, queue and status ("completed", "expired"): how many messages were settled before the broker started."""

LARGEST_BODY = 64 << 10
"""Bytes of the largest body that is kept in memory. A larger one is read from the log at delivery."""

DIED = "The kernel died while it was handled."

# A message that was cancelled and put back has the order of its earlier entry, which may still be in the heap.
_serial = itertools.count()


@dataclass(slots=True, eq=False)
class LiveMessage:
    """One unsettled message. ``order`` is the order of sending; ``due`` is seconds since 1970, 0: at once."""

    id: MessageId
    actor: ActorId
    queue: str
    body: bytes
    """JSON; empty when it is large and only in the log."""
    size: int
    """Bytes of the body."""
    order: int
    created_at: float
    options: StoredOptions
    """All options of its send, as stored."""
    priority: int = 0
    due: float = 0.0
    expires: float = 0.0
    """Seconds since 1970 from which it is not started any more; 0: never, also once it was started."""
    front: bool = False
    key: str | None = None
    failures: int = 0
    crashes: int = 0
    """Crashes of the kernel since the last failure."""
    ended: int = 0
    """All attempts that failed or crashed."""
    running: bool = False
    reading: bool = False
    """Taken while its body is being read: not delivered yet."""
    gone: bool = False
    """Settled or cancelled; removed lazily from heaps."""
    cancelling: bool = False
    in_order: bool = False
    suspicion: int = 0
    """Crashes in which it was not alone in flight; 0: not a suspect."""
    started: int = 0
    """The log's sequence number of its last start before the file was opened."""
    digest: bytes | None = None
    """The digest of a large body, once it was compared with another (see ``idempotency``)."""
    first: int = 0
    """Its first row has no lower sequence number in the log."""
    starts: int = 0
    """How often it was delivered: distinguishes a late settlement from a current one."""
    problem: str | None = None
    """How the last attempt failed, in short."""
    released_because: str | None = None
    """The limit for which the last attempt was put back."""
    old: bool = False
    """Whether it existed when the file was opened."""
    batch: str | None = None
    """The name of the batch that it belongs to, as its row ``row``."""
    row: int = 0
    after: Sequence[MessageId] = ()
    """The messages that it was sent after."""
    unmet: set[MessageId] | None = None
    """Those of them that have not completed. It is not due while there are any (see ``dependents``)."""
    predecessors: Sequence[StoredResult] | None = None
    """Their results, while it is being delivered."""
    redelivered: bool = False
    """Put back by itself: its delay and its ttl do not count any more."""
    queue_state: QueueState = field(init=False)
    """The queue in which it is counted; set by ``LiveMessages.hold``."""

    def standing(self, now: float) -> StoredResult:
        """Return what is known of it. ``now`` is in seconds since 1970."""
        status: MessageStatus = "queued"
        if self.running:
            status = "running"
        elif self.unmet:
            status = "blocked"
        elif self.due > now:
            status = "delayed"
        return StoredResult(
            self.id,
            self.actor,
            self.queue,
            status,
            attempts=self.ended + (1 if self.running else 0),
            due=self.due if status == "delayed" else None,
            problem=self.problem,
            expires=self.expires or None,
            after=[message for message in self.after if message in self.unmet] if self.unmet else (),
        )


@dataclass(slots=True, eq=False)
class Pausing:
    """A pause of one queue, by hand or for a ``reason``. ``due`` is in seconds since 1970; infinite: until it is resumed."""

    actor: ActorId
    queue: str
    due: float
    order: int
    reason: str | None = None
    gone: bool = False
    """Replaced by another pause, or ended."""
    ending: bool = False
    """The queue was resumed, and that is being written."""


@dataclass(slots=True, eq=False)
class QueueState:
    """The state of one queue of one actor."""

    actor_queues: ActorQueues
    name: str
    ready: list[Ready] = field(default_factory=list[Ready])
    running: dict[MessageId, LiveMessage] = field(default_factory=dict[MessageId, LiveMessage])
    dead: dict[MessageId, int] = field(default_factory=dict[MessageId, int])
    """Dead letters, each with how many messages were settled when it became one (0: before the file was opened)."""
    delayed: dict[MessageId, LiveMessage] = field(default_factory=dict[MessageId, LiveMessage])
    blocked: dict[MessageId, LiveMessage] = field(default_factory=dict[MessageId, LiveMessage])
    """Messages that wait for others to complete."""
    blockers: set[LiveMessage] = field(default_factory=set["LiveMessage"])
    """Messages with ``in_order`` that wait for their next attempt: no other may overtake them."""
    live: int = 0
    bytes: int = 0
    """How many messages are not settled, including those still being written, and the bytes of their bodies."""
    line: Line | None = None
    """The senders that wait for room; None while there are none."""
    pause: Pausing | None = None
    failures: FailureRun | None = None
    stale: int = 0
    """An upper bound of the number of gone messages in ``ready``."""
    handled: int = 0
    completed: int = 0
    """How many have completed since the broker started; ``handled`` counts those that finally failed, too."""
    expired: int = 0
    """How many expired since the broker started, without those put back since: it may be negative."""
    pace: RateMeter = field(default_factory=RateMeter)

    def add(self, entry: LiveMessage) -> None:
        """Make the message ready for delivery, and wake the receivers that wait for it."""
        heapq.heappush(self.ready, (not entry.front, -entry.priority, entry.order, next(_serial), entry))
        if self.actor_queues.waiters:
            self.actor_queues.wake(self.name)

    def head(self) -> LiveMessage | None:
        """Return the next message, if it may be delivered now."""
        return self.first() if self.pause is None else None

    def first(self) -> LiveMessage | None:
        """Return the next message, as if the queue were not paused."""
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
        """Take the head, and mark it as running."""
        entry = heapq.heappop(self.ready)[-1]
        entry.running = True
        entry.starts += 1
        self.running[entry.id] = entry
        return entry

    def discard(self, entry: LiveMessage) -> None:
        """Take one message out of those that are ready."""
        self.ready = [ready for ready in self.ready if ready[-1] is not entry]
        heapq.heapify(self.ready)

    def forget_one(self) -> None:
        """Count a ready message as gone. When most are, remove all of those, so that their bodies are not kept."""
        self.stale += 1
        if self.stale * 2 > len(self.ready):
            self.ready = [ready for ready in self.ready if not ready[-1].gone]
            heapq.heapify(self.ready)
            self.stale = 0

    def waiting(self) -> Iterator[LiveMessage]:
        """Yield every message that is not running, in no particular order."""
        yield from (entry for *_, entry in self.ready if not entry.gone)
        yield from list(self.delayed.values())
        yield from list(self.blocked.values())

    def count_ready(self) -> int:
        return self.live - len(self.running) - len(self.delayed) - len(self.blocked)

    def works_until(self, moment: float) -> bool:
        """Whether the queue has messages in flight, due now, or due by ``moment``."""
        if self.running:
            return True
        if self.pause is not None and self.pause.due > moment:
            return False
        ready = not self.blockers and self.count_ready() > 0
        return ready or any(entry.due <= moment for entry in self.delayed.values())


@dataclass(slots=True, eq=False)
class Waiter:
    """A receiver waiting for a message of these queues (None: all but reserved ones)."""

    queues: Collection[str] | None
    woken: asyncio.Future[None]

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


def wanted(queue: str, queues: Collection[str] | None) -> bool:
    """Whether a queue is asked for. Names that start with ``$`` are reserved and must be asked for explicitly."""
    return queue[:1] != "$" if queues is None else queue in queues


class Gate(Protocol):
    """Holds messages back (see ``crash_suspects`` and ``limits``)."""

    def permits(self, entry: LiveMessage) -> bool: ...
    def taken(self, entry: LiveMessage) -> None: ...
    def ended(self, entry: LiveMessage) -> None: ...
    def put_back(self, entry: LiveMessage) -> None: ...

    def shuts(self, queue_state: QueueState) -> bool:
        """Whether nothing of this queue may be delivered now, whatever other gates say. Has no side effects."""
        ...

    def hints(self, queue_state: QueueState) -> bool:
        """Whether the actor, which has no lease, may be woken for the head of this queue."""
        ...


@dataclass(slots=True, eq=False)
class ActorQueues:
    """One actor's queues, state and lease. ``name`` is the name that its class is registered under."""

    actor: ActorId
    name: str = field(init=False)
    queues: dict[str, QueueState] = field(default_factory=dict[str, QueueState])
    state: bytes | None = None
    lease: Holder | None = None
    waiters: list[Waiter] = field(default_factory=list[Waiter])
    gates: tuple[Gate, ...] = ()
    """What may hold its messages back; mostly nothing."""
    scheduled: dict[str, LiveMessage] = field(default_factory=dict[str, LiveMessage])
    """The latest message of each schedule, live or gone."""

    def __post_init__(self) -> None:
        self.name = actor_name(self.actor)

    def queue_state(self, queue: str) -> QueueState:
        if (queue_state := self.queues.get(queue)) is None:
            queue_state = self.queues[queue] = QueueState(self, queue)
        return queue_state

    def gate(self, gate: Gate, on: bool) -> None:
        """Put up a gate, or take it down."""
        others = tuple(other for other in self.gates if other is not gate)
        self.gates = (*others, gate) if on else others

    def next_queue(self, queues: Collection[str] | None) -> QueueState | None:
        """Return the wanted queue whose head comes first."""
        if self.gates:
            return self._next_permitted(queues)
        best: QueueState | None = None
        for name, queue_state in self.queues.items():
            if not queue_state.ready or not wanted(name, queues) or queue_state.head() is None:
                continue
            if best is None or queue_state.ready[0] < best.ready[0]:
                best = queue_state
        return best

    def _next_permitted(self, queues: Collection[str] | None) -> QueueState | None:
        heads = [state for state in self.queues.values() if wanted(state.name, queues) and state.head() is not None]
        for queue_state in sorted(heads, key=lambda queue_state: queue_state.ready[0]):
            entry = queue_state.head()
            if entry is not None and all(gate.permits(entry) for gate in self.gates):
                return queue_state
        return None

    def take(self, queues: Collection[str] | None, limit: int) -> list[LiveMessage]:
        """Take up to ``limit`` due messages in order, marked as running."""
        taken: list[LiveMessage] = []
        while len(taken) < limit and (queue_state := self.next_queue(queues)) is not None:
            entry = queue_state.take()
            for gate in self.gates:
                gate.taken(entry)
            taken.append(entry)
        return taken

    def wake(self, queue: str) -> None:
        """Wake all receivers that wait for this queue: the first to ask gets the message."""
        for waiter in self.waiters:
            if wanted(queue, waiter.queues):
                waiter.wake()
