"""The Broker and Lease protocols: the boundary between actors' hosts and the storage of their queues.

Everything above talks to :class:`Broker` and :class:`Lease` only. Above the boundary pure code decides (validation,
retry, backoff, dead letter, what a result says); the broker applies atomically, and owns order, uniqueness, capacity,
leases, the clock and notification. Nothing here assumes that the broker is in this process: ids are strings generated
by the sender, so that an enqueue whose reply got lost can be repeated; settling can fail; no sequence numbers exist.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from agentq_nb._actor.send_options import NO_OPTIONS, StoredOptions
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.message_status import MessageStatus

Outcome: TypeAlias = Literal["completed", "failed", "again", "dead", "released"]
"""How an attempt ended.

``completed``: done. ``failed``: final, decided by the handler. ``dead``: final, decided by policy (attempts used up,
too many crashes, body does not fit). ``again``: a failed attempt that counts, to be repeated. ``released``: put back
uncounted.
"""


class NewMessage(NamedTuple):
    """A message to enqueue. ``body`` is JSON; ``max_size`` is the queue's limit, in messages.

    A broker stores all ``options`` unchanged, also unknown ones, and applies those below.
    """

    id: MessageId
    actor: ActorId
    queue: str
    body: bytes
    options: StoredOptions = NO_OPTIONS
    max_size: int | None = None

    @property
    def idempotency_key(self) -> str | None:
        return self.options.get("idempotency_key")

    @property
    def priority(self) -> int:
        return self.options.get("priority", 0)

    @property
    def delay(self) -> float:
        """Seconds from now before which the message is not delivered."""
        return self.options.get("delay", 0.0)

    def delayed(self, seconds: float) -> NewMessage:
        """Return the same message with this delay."""
        return self._replace(options={**self.options, "delay": seconds})


class Enqueued(NamedTuple):
    """The durable message: ``id`` is an earlier message's if that has the same idempotency key (or id)."""

    id: MessageId
    repeated: bool = False


class Delivery(NamedTuple):
    """One attempt at a message. ``token`` is private to the broker. ``created_at`` is seconds since 1970, UTC."""

    id: MessageId
    queue: str
    body: bytes
    failures: int
    crashes: int
    created_at: float
    token: Any
    attempt: int
    """1 on first delivery; failed attempts and crashes raise it.

    ``crashes`` counts consecutive crashes of the host in which this message alone was in flight. Where several were,
    none is counted; each is a suspect until an attempt at it ends, and is delivered while nothing else is in flight.
    """


class Take(NamedTuple):
    """A receiver's request: up to ``limit`` due messages, in order, of ``queues``.

    ``queues`` None means all but those that start with ``$``. ``timeout`` is how many seconds to wait for the first
    message (0: not at all; None: no limit); only messages due at that moment are delivered.
    """

    queues: Collection[str] | None
    limit: int = 1
    timeout: float | None = None


class Settlement(NamedTuple):
    """The end of one delivery. ``error`` is a JSON object (see ``message.describe``); ``delay`` is in seconds.

    ``front`` puts the message before its queue's others once it is due; ``in_order`` keeps the others from overtaking
    it until then.
    """

    delivery: Delivery
    outcome: Outcome
    reply: bytes | None = None
    error: dict[str, Any] | None = None
    delay: float = 0.0
    front: bool = False
    in_order: bool = False


class Commit(NamedTuple):
    """A lease's atomic write, all or nothing. ``state`` is the actor's whole state as JSON; None leaves it unchanged.

    ``schedule`` are new messages to the leased actor itself; ``destroy`` deletes the actor: its state, its messages and
    the pauses of its queues.
    """

    settlements: Sequence[Settlement] = ()
    state: bytes | None = None
    schedule: Sequence[NewMessage] = ()
    destroy: bool = False


class StoredResult(NamedTuple):
    """The stored status and result of a message: ``reply`` is JSON, ``error`` a JSON object.

    Only for unsettled messages, and only if the broker knows them: ``due``, in seconds since 1970; ``problem``, how the
    last attempt failed, in short.
    """

    message: MessageId
    actor: ActorId
    queue: str
    status: MessageStatus
    attempts: int = 0
    reply: bytes | None = None
    error: dict[str, Any] | None = None
    due: float | None = None
    problem: str | None = None


class Cancel(NamedTuple):
    """Settle an unsettled message as cancelled; a running one is settled once its handler has stopped."""

    message: MessageId


class Redeliver(NamedTuple):
    """Put a dead letter, or a cancelled or expired message, back into its queue and reset its attempts."""

    message: MessageId


class DeadLetters(NamedTuple):
    """The dead letters that match every given condition; None matches all.

    Without ``queue``, queues that start with ``$`` are left out. ``name`` is the actors' registered name, ``since`` is
    in seconds since 1970. ``error`` is a part of the error's type and message as ``message.headline`` joins them, or of
    its ``group.code``, ignoring case.
    """

    actor: ActorId | None = None
    name: str | None = None
    queue: str | None = None
    since: float | None = None
    error: str | None = None


class Purge(NamedTuple):
    """Cancel every message of a queue that is not running."""

    queue: str


class Pause(NamedTuple):
    """Deliver nothing from a queue ``until`` a time (seconds since 1970; None: until it is resumed), across restarts.

    Running messages go on, and new ones are accepted. This replaces an earlier pause and its ``until``.
    """

    queue: str
    until: float | None = None


class Resume(NamedTuple):
    """End the pause of a queue."""

    queue: str


Change: TypeAlias = Pause | Resume | Cancel | Redeliver | Purge


class QueueStatus(NamedTuple):
    """The status of one queue: counts of messages, and the oldest ready one's age in seconds.

    Ready messages of a paused queue wait until ``paused_until`` (seconds since 1970; None: until resumed). ``handled``
    counts messages that completed or failed for good since the broker started; it may restart from 0. ``completed``
    counts all completed messages, except those pruned before the broker started; ``per_minute`` is the rate over the
    last five minutes.
    ``held_back``: the next message waits while messages that may have crashed the host are tried one at a time.
    """

    actor: ActorId
    queue: str
    ready: int = 0
    delayed: int = 0
    running: int = 0
    dead: int = 0
    oldest: float | None = None
    running_ids: Sequence[MessageId] = ()
    paused: bool = False
    paused_until: float | None = None
    handled: int = 0
    completed: int = 0
    per_minute: float = 0.0
    held_back: bool = False

    @property
    def done(self) -> int:
        """Messages that completed or are dead letters."""
        return self.completed + self.dead

    @property
    def total(self) -> int:
        """Messages that are done or live."""
        return self.done + self.live

    @property
    def time_left(self) -> float | None:
        """Seconds until all due messages are done, at the current rate. None: paused, nothing due, or no rate yet."""
        due = self.ready + self.running
        return None if self.paused or not due or not self.per_minute else 60 * due / self.per_minute

    @property
    def live(self) -> int:
        """Messages that are not settled, without dead letters."""
        return self.ready + self.delayed + self.running


class LostEvent(Protocol):
    """Set once when a lease is lost; an event of asyncio or anyio fits."""

    def is_set(self) -> bool: ...
    def wait(self) -> Awaitable[Any]: ...


class Lease(Protocol):
    """The exclusive right of one host to run one actor. Ends by ``release``, or when the broker sets ``lost``.

    A lease is also lost when one of its calls raised Unavailable: what was done is unknown, so its holder ends and
    restarts from what is stored. Messages in flight are then delivered again, uncounted.
    """

    actor: ActorId
    cancelling: Callable[[MessageId], None] | None
    """Called when a message that is running under this lease is cancelled; set by the lease's holder."""

    @property
    def state(self) -> bytes | None:
        """The actor's state when the lease was acquired; None: the actor was never created."""
        ...

    @property
    def lost(self) -> LostEvent: ...

    async def turn(self, settle: Commit | None, take: Take) -> Sequence[Delivery]:
        """Settle the last message, as ``commit_soon`` does, and return the next ones; none after the timeout.

        Receivers use it to go from message to message. It does not wait for the disk. A broker in this process does not
        suspend it when something is due, unless the start must be durable before the message is handled. A cancelled
        turn has settled, but delivers nothing. Raises LeaseLost or Unavailable; then nothing was delivered.
        """
        ...

    async def until_due(self, queues: Collection[str] | None, timeout: float | None) -> None:
        """Return when a message of these queues is due, or after ``timeout`` seconds; deliver nothing.

        ``queues`` and ``timeout`` are as in :class:`Take`. Raises LeaseLost, Unavailable.
        """
        ...

    async def started(self, deliveries: Sequence[Delivery]) -> None:
        """Return when the starts of these deliveries are durable. Raises LeaseLost, Unavailable."""
        ...

    async def commit(self, commit: Commit) -> None:
        """Apply all of it, durable on return, or nothing. Raises LeaseLost (nothing written), Unavailable (unknown).

        All earlier commits of this lease are then durable too: an empty commit waits for just that.
        """
        ...

    def commit_soon(self, commit: Commit) -> None:
        """Commit without waiting, before any later commit. A failure shows in ``lost``."""
        ...

    async def release(self) -> None:
        """Give up the lease. Messages in flight go back uncounted, first in their queues; any host may acquire it."""
        ...


class Broker(Protocol):
    """Stores the queues and state of actors, and delivers their messages."""

    async def enqueue(self, new_messages: Sequence[NewMessage]) -> Sequence[Enqueued]:
        """Add messages to queues: all or none, durable on return.

        Raises QueueFull, IdempotencyConflict (nothing written); Unavailable (unknown: repeat with the same ids).
        """
        ...

    async def acquire(self, actor: ActorId, host: str) -> Lease | None:
        """Become the one host that runs the actor. None: another host runs it.

        Raises Unavailable (unknown: repeat with the same host; its earlier lease is lost then).
        """
        ...

    async def exists(self, actor: ActorId) -> bool:
        """Whether the actor was created and not destroyed, or has unsettled messages."""
        ...

    async def states(self, name: str) -> Mapping[ActorId, bytes]:
        """Return the state, as JSON, of every created actor of this name, on any host. Raises Unavailable."""
        ...

    def ready_actors(self, queues: Mapping[str, Collection[str] | None]) -> AsyncIterator[ActorId]:
        """Yield actors with due messages and no lease, as they appear. These are hints: they may repeat.

        ``queues`` maps actors' registered names to the queues that count (None: all). Messages in a paused queue are
        not due. An actor whose ``acquire`` raised Unavailable is hinted again. Raises Unavailable: subscribe again.
        """
        ...

    async def wait(self, message: MessageId, timeout: float | None, waiter: ActorId | None = None) -> StoredResult:
        """Return the message's result once settled, or its status after ``timeout`` seconds (0: now; None: no limit).

        ``waiter`` is the actor whose code waits, if any: messages it waits for are not held back because of a suspect.
        Raises MessageUnknown, Unavailable.
        """
        ...

    async def change(self, actor: ActorId, change: Change) -> int:
        """Apply the change, durable on return. Raises MessageUnknown.

        Returns the number of messages it settled or moved; for a pause 1, for a resumption 1 if the queue was paused.
        """
        ...

    async def redeliver(self, which: DeadLetters) -> int:
        """Put these dead letters back, as ``change`` does with one; durable on return. Returns their number.

        They go back a few at a time, in the order they were sent, alongside other traffic: when this ends early (when
        cancelled too), some are back. Raises Unavailable.
        """
        ...

    async def status(self, actor: ActorId | None = None, *, totals: bool = True) -> Sequence[QueueStatus]:
        """Return the status of every queue that has messages or dead letters or is paused, of one actor or of all.

        Without ``totals`` nothing is read from the disk: ``completed`` may then count only since the broker started.
        """
        ...

    async def close(self) -> None:
        """Stop: pending waits end with Unavailable. Acknowledged messages stay stored."""
        ...
