"""The values that hosts and brokers exchange: new messages, deliveries, settlements, changes and status."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

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
    """A message to enqueue. ``body`` is JSON; ``max_size`` and ``max_bytes`` are the queue's limits.

    They bound its unsettled messages and the bytes of their bodies; None: no limit.

    A broker stores all ``options`` unchanged, also unknown ones, and applies those below.
    """

    id: MessageId
    actor: ActorId
    queue: str
    body: bytes
    options: StoredOptions = NO_OPTIONS
    max_size: int | None = None
    max_bytes: int | None = None

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

    @property
    def schedule(self) -> str | None:
        """The name of the schedule whose next message this is. Only the latest message of a name waits."""
        return self.options.get("schedule")

    @property
    def ttl(self) -> float | None:
        """Seconds after it is due within which it must be started first, or it expires. None: no limit."""
        return self.options.get("ttl")

    def delayed(self, seconds: float) -> NewMessage:
        """The same message with this delay."""
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


class Unsettled(NamedTuple):
    """A message that is not settled. ``due`` is in seconds since 1970; 0: at once. ``options`` are as it was sent."""

    id: MessageId
    body: bytes
    options: StoredOptions
    due: float
    running: bool
    cancelling: bool
    """It is running and was cancelled: it is not repeated."""

    @property
    def schedule(self) -> str | None:
        """The name of its schedule, see :class:`NewMessage`."""
        return self.options.get("schedule")


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

    ``schedule`` are new messages to the leased actor itself; one with the name of a schedule replaces that schedule's
    message, unless it is running. ``destroy`` deletes the actor: its state, its messages and the pauses of its queues.
    """

    settlements: Sequence[Settlement] = ()
    state: bytes | None = None
    schedule: Sequence[NewMessage] = ()
    destroy: bool = False
    successor: NewMessage | None = None
    """The next message of a schedule, of which this commit settles a message. It is dropped if that message was being
    cancelled, or is no longer the latest of its schedule."""


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
    ``expired`` counts as ``completed`` does. ``waiting_senders`` wait for room in the full queue.
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
    expired: int = 0
    waiting_senders: int = 0

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
