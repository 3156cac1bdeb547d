"""The seam between the programs and whoever keeps their queues.

Everything above talks to :class:`Broker` and :class:`Lease` only. Above the seam pure code decides (validation,
retry, backoff, dead letter, what a result says); the keeper applies atomically, and owns order, uniqueness, capacity,
leases, the clock and notification. Nothing here assumes that the keeper is in this process: ids are strings minted by
the sender, so that an offer whose answer got lost can be repeated; settling can fail; there are no sequence numbers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from agentq_nb._actor.queue import NO_OPTIONS, StoredOptions
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.message_status import MessageStatus

Outcome: TypeAlias = Literal["completed", "failed", "again", "dead", "released"]
"""How an attempt ended.

``completed``: done. ``failed``: final, said by the handler. ``dead``: final, said by policy (attempts used up, too many
crashes, body does not fit). ``again``: a failed attempt that counts, to be repeated. ``released``: put back uncounted.
"""


class NewMessage(NamedTuple):
    """A message on its way into a queue. ``body`` is JSON; ``max_size`` is the queue's limit, in messages.

    A broker keeps ``options`` as they are, those it does not know too, and obeys those below.
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
        """Seconds from now before which it is not handed out."""
        return self.options.get("delay", 0.0)

    def delayed(self, seconds: float) -> NewMessage:
        """The same message with this delay."""
        return self._replace(options={**self.options, "delay": seconds})


class Enqueued(NamedTuple):
    """The durable message: ``id`` is another's than the offer's when the idempotency key (or the id) was known."""

    id: MessageId
    repeated: bool = False


class Delivery(NamedTuple):
    """One attempt at a message. ``token`` belongs to the keeper. ``created_at`` is seconds since 1970, UTC."""

    id: MessageId
    queue: str
    body: bytes
    failures: int
    crashes: int
    created_at: float
    token: Any
    attempt: int
    """1 on first delivery; failed attempts and crashes raise it.

    ``crashes`` counts deaths of the host in a row in which this message alone was in flight. Where several were, none is
    counted; each of them is a suspect until an attempt at it ends, and is handed out while nothing else is in flight.
    """


class Take(NamedTuple):
    """What a receiver asks for: up to ``limit`` due messages, in order, of ``queues``.

    ``queues`` None means all but those that start with ``$``. ``timeout`` is how many seconds to wait for the first
    message (0: not at all; None: without end); what is due then is all that is taken.
    """

    queues: Collection[str] | None
    limit: int = 1
    timeout: float | None = None


class Settlement(NamedTuple):
    """How one delivery ended. ``error`` is a JSON object (see ``messages.describe``); ``delay`` is in seconds.

    ``front`` puts the message before its queue's others once it is due; ``in_order`` keeps the queue's others from
    overtaking it until then.
    """

    delivery: Delivery
    outcome: Outcome
    reply: bytes | None = None
    error: dict[str, Any] | None = None
    delay: float = 0.0
    front: bool = False
    in_order: bool = False


class Commit(NamedTuple):
    """What one lease writes at once, all or nothing. ``state`` is the actor's whole state as JSON; None leaves it.

    ``schedule`` are offers to the leased actor itself; ``destroy`` ends it for good: its state, its messages and the
    pauses of its queues are dropped.
    """

    settlements: Sequence[Settlement] = ()
    state: bytes | None = None
    schedule: Sequence[NewMessage] = ()
    destroy: bool = False


class StoredResult(NamedTuple):
    """What is known of a message: ``reply`` is JSON, ``error`` a JSON object.

    Of one that is not settled, and left out by a keeper that does not know it: ``due``, in seconds since 1970;
    ``problem``, how its last attempt failed, in short.
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
    """Settle a message that is not settled; one being handled is settled once its handler was stopped."""

    message: MessageId


class Redeliver(NamedTuple):
    """Put a dead letter, or a cancelled or expired message, back into its queue with its attempts counted anew."""

    message: MessageId


class DeadLetters(NamedTuple):
    """Those messages that failed for good to which all of it applies; None applies to every one.

    Without ``queue``, those that start with ``$`` are left out. ``name`` is what actors are registered under, ``since`` in
    seconds since 1970. ``error`` is a part of the error's type and message as ``messages.headline`` joins them, or of its
    ``group.code``, in upper or lower case.
    """

    actor: ActorId | None = None
    name: str | None = None
    queue: str | None = None
    since: float | None = None
    error: str | None = None


class Purge(NamedTuple):
    """Cancel every message of a queue that nobody handles just now."""

    queue: str


class Pause(NamedTuple):
    """Hand out nothing of a queue ``until`` a time (seconds since 1970; None: until it is resumed), across restarts.

    What is being handled goes on, and messages are accepted. It replaces an earlier pause and its ``until``.
    """

    queue: str
    until: float | None = None


class Resume(NamedTuple):
    """End the pause of a queue."""

    queue: str


Change: TypeAlias = Pause | Resume | Cancel | Redeliver | Purge


class QueueStatus(NamedTuple):
    """One queue as it stands: counts of messages, and the oldest ready one's age in seconds.

    Ready messages of a paused queue wait until it goes on, at ``paused_until`` (seconds since 1970; None: when resumed).
    ``handled`` counts those that completed or failed for good since the keeper began; it may begin again from 0.
    ``completed`` counts all that completed, as far as they were not pruned before the keeper began; ``per_minute`` is how
    fast they go, over the last five minutes.
    ``held_back``: its next message waits while messages that may have killed the host are tried one at a time.
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
        """Messages that completed, and those that failed and are kept as dead letters."""
        return self.completed + self.dead

    @property
    def total(self) -> int:
        """Those that are done, and those still to come."""
        return self.done + self.live

    @property
    def time_left(self) -> float | None:
        """Seconds until what is due now is done, at the present pace. None: it is paused, or has no pace yet."""
        due = self.ready + self.running
        return None if self.paused or not due or not self.per_minute else 60 * due / self.per_minute

    @property
    def live(self) -> int:
        """Messages that are not settled, dead letters aside."""
        return self.ready + self.delayed + self.running


class LostEvent(Protocol):
    """Set once when a lease is lost; any of the event classes of asyncio and anyio does."""

    def is_set(self) -> bool: ...
    def wait(self) -> Awaitable[Any]: ...


class Lease(Protocol):
    """One actor running on one host. Ends by ``release``, or when the keeper says it is ``lost``.

    A lease one of whose calls raised Unavailable is lost too: nobody knows what was done, so its holder ends, and
    begins again from what is kept. What was in flight then comes again, uncounted.
    """

    actor: ActorId
    cancelling: Callable[[MessageId], None] | None
    """Called when somebody cancels a message that is being handled under this lease; set by its holder."""

    @property
    def state(self) -> bytes | None:
        """The actor's state when it was claimed; None: it has never been created."""
        ...

    @property
    def lost(self) -> LostEvent: ...

    async def turn(self, settle: Commit | None, take: Take) -> Sequence[Delivery]:
        """Settle the last message, as ``commit_soon`` does, and take the next ones. Empty after the timeout.

        This is how a receiver goes on from message to message. It does not wait for the disk. A keeper in this process
        does not suspend it when something is due, unless its start has to be durable before anybody handles it.
        A cancelled turn has settled, and taken nothing. Raises LeaseLost, Unavailable: it has taken nothing.
        """
        ...

    async def until_due(self, queues: Collection[str] | None, timeout: float | None) -> None:
        """Return when a message of these queues is due, or after ``timeout`` seconds; take nothing.

        ``queues`` and ``timeout`` as in :class:`Take`. Raises LeaseLost, Unavailable.
        """
        ...

    async def started(self, deliveries: Sequence[Delivery]) -> None:
        """Return when the starts of these deliveries are durable. Raises LeaseLost, Unavailable."""
        ...

    async def commit(self, commit: Commit) -> None:
        """Apply all of it, durable on return, or nothing. Raises LeaseLost (nothing written), Unavailable (unknown).

        All that this lease committed before is durable then too: an empty commit waits for just that.
        """
        ...

    def commit_soon(self, commit: Commit) -> None:
        """The same without being waited for: it goes out before any later commit. Failure shows in ``lost``."""
        ...

    async def release(self) -> None:
        """Sleep: what is in flight goes back uncounted, first in its queue, and another host may claim the actor."""
        ...


class Broker(Protocol):
    """Who keeps the queues."""

    async def enqueue(self, new_messages: Sequence[NewMessage]) -> Sequence[Enqueued]:
        """Put messages into queues: all or none, durable on return.

        Raises QueueFull, IdempotencyConflict (nothing written); Unavailable (unknown: repeat with the same ids).
        """
        ...

    async def acquire(self, actor: ActorId, host: str) -> Lease | None:
        """Become the one host that runs the actor. None: another host runs it.

        Raises Unavailable (unknown: repeat with the same host, whose earlier claim is lost then).
        """
        ...

    async def exists(self, actor: ActorId) -> bool:
        """Whether the actor was created and not destroyed, or has messages that are not settled."""
        ...

    async def states(self, name: str) -> Mapping[ActorId, bytes]:
        """The state, as JSON, of every actor of this name that was created, whoever runs it. Raises Unavailable."""
        ...

    def ready_actors(self, queues: Mapping[str, Collection[str] | None]) -> AsyncIterator[ActorId]:
        """Actors with due work and no lease, as they turn up. Hints: they may repeat.

        ``queues`` names the actors by what they are registered under, and those of their queues that count (None: all).
        What a paused queue holds is not due. One whose claim raised Unavailable is hinted again. Raises Unavailable: ask anew.
        """
        ...

    async def wait(self, message: MessageId, timeout: float | None, waiter: ActorId | None = None) -> StoredResult:
        """The message's result once it is settled, or how it stands after ``timeout`` seconds (0: now; None: never).

        ``waiter`` is the actor whose code waits, if any: what it waits for is not held back for the sake of a suspect.
        Raises MessageUnknown, Unavailable.
        """
        ...

    async def change(self, actor: ActorId, change: Change) -> int:
        """Apply the change, durable on return. Raises MessageUnknown.

        Returns the number of messages it settled or moved; of a pause 1, of a resumption whether there was a pause.
        """
        ...

    async def redeliver(self, which: DeadLetters) -> int:
        """Put these dead letters back, as ``change`` does one; durable on return. Returns their number.

        They go back a few at a time, in the order of their sending, beside the traffic: where it ends early, by being
        cancelled too, some are back. Raises Unavailable.
        """
        ...

    async def status(self, actor: ActorId | None = None, *, totals: bool = True) -> Sequence[QueueStatus]:
        """Every queue that has messages or dead letters or is paused, of one actor or of all.

        Without ``totals`` nothing is read from the disk: ``completed`` may then count since the keeper began only.
        """
        ...

    async def close(self) -> None:
        """Stop keeping: pending waits end with Unavailable. What was acknowledged stays."""
        ...
