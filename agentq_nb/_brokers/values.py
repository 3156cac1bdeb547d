"""The values that hosts and brokers exchange: new messages, deliveries, settlements, changes and status."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from agentq_nb._actor.send_options import NO_OPTIONS, StoredOptions, origin_of, with_origin
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.message_status import MessageStatus
from agentq_nb._core.origin import PROCESS, Origin
from agentq_nb._policies.limits import Limit
from agentq_nb._policies.pause import PastPause
from agentq_nb._policies.retry import Failure

Outcome: TypeAlias = Literal["completed", "failed", "again", "dead", "released", "limited"]
"""How an attempt ended.

``completed``: done. ``failed``: final, decided by the handler. ``dead``: final, decided by policy (attempts used up,
too many crashes, body does not fit). ``again``: a failed attempt that counts, to be repeated. ``released``: put back
uncounted. ``limited``: put back uncounted, because of a provider's limit that pauses the queue.
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

    @property
    def origin(self) -> Origin:
        return origin_of(self.options)

    def delayed(self, seconds: float) -> NewMessage:
        """The same message with this delay."""
        return self._replace(options={**self.options, "delay": seconds})

    def from_origin(self, origin: Origin) -> NewMessage:
        """The same message, coming from there unless it comes from where less is trusted already."""
        options = with_origin(self.options, origin)
        return self if options is self.options else self._replace(options=options)


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
    origin: Origin = PROCESS
    """Where the message came from: its option ``origin``, or this process."""


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
    limited: LimitReached | None = None
    """With the outcome ``limited``."""
    failure: Failure | None = None
    """Of a queue that failures may stop, what the failed attempt tells about other messages.

    The broker counts it (see ``FailureRun``; the settlements of one commit count once for each queue) and pauses the
    queue with the reason in the same write. An attempt that was in flight then and fails as was to be expected is put
    back uncounted, unless the handler decided that it is final.
    """


class LimitReached(NamedTuple):
    """A provider's limit that a message met.

    The message goes back to the head of its queue uncounted, and every queue that declares the limit named ``limit`` is
    paused (None: its own queue). A pause of more than ``max_pause`` seconds is none: then it settles as ``otherwise``.

    :ivar until: when the limit ends, in seconds since 1970; None: unknown, so the broker guesses, and tries one message
        at a time.
    """

    limit: str | None
    until: float | None
    reason: str
    max_pause: float | None
    otherwise: Settlement


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
    """The next of the schedule whose message this settles; dropped if that was being cancelled or is not the latest."""


class StoredResult(NamedTuple):
    """The stored status and result of a message: ``reply`` is JSON, ``error`` a JSON object.

    Only for unsettled messages, and only if the broker knows them: ``due`` and ``expires`` (when it expires unless it is
    started before), in seconds since 1970; ``problem``, how the last attempt failed, in short.
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
    batch: str | None = None
    """The name of the batch that it belongs to, where the broker needs it: None does not say that there is none."""
    expires: float | None = None


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

    Running handlers finish, and new messages are accepted. This replaces an earlier pause and its ``until``.
    """

    queue: str
    until: float | None = None


class Resume(NamedTuple):
    """End the pause of a queue."""

    queue: str


Change: TypeAlias = Pause | Resume | Cancel | Redeliver | Purge


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """A limit and its use.

    :ivar name: its name; that of a limit without one is the queue's: ``worker/main tasks``.
    :ivar count: how many starts, or messages at work, are allowed now; ``per`` how many seconds (None: at work).
    :ivar declared: the limit as it is declared.
    :ivar used: how many starts its window holds now, or how many messages are at work.
    :ivar next_start: when the next message may start, in seconds since 1970; None: when another one ends.
    :ivar waiting: how many queues wait for it.
    :ivar paused_until: when a provider's pause ends or the next message is tried; None: it is not paused.
    """

    name: str
    count: int
    per: float | None
    declared: Limit
    used: int
    next_start: float | None
    waiting: int = 0
    paused_until: float | None = None
    reason: str | None = None

    @property
    def changed(self) -> bool:
        """Whether a user has changed it."""
        return (self.count, self.per) != (self.declared.count, getattr(self.declared, "per", None))


class QueueStatus(NamedTuple):
    """The status of one queue: counts of messages, and the oldest ready one's age in seconds.

    Ready messages of a paused queue wait until ``paused_until`` (seconds since 1970; None: until resumed). ``handled``
    counts messages that completed or failed since the broker started; it may restart from 0. ``completed``
    counts all completed messages, except those pruned before the broker started; ``per_minute`` is the rate over the
    last five minutes.
    ``held_back``: the next message waits while messages that may have crashed the host are tried one at a time.
    ``expired`` counts as ``completed`` does. ``waiting_senders`` wait for room in the full queue.
    ``pause_reason``: what a provider said, if its limit pauses the queue, or why it is ``stopped`` because messages fail.
    ``limited_by``: the name of the limit that holds the queue, and ``next_start`` when it lets the next message start
    (None: when another one ends).
    ``pauses``: the latest ones because of a provider's limit, oldest first, also those of before a restart.
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
    pause_reason: str | None = None
    limited_by: str | None = None
    next_start: float | None = None
    stopped: bool = False
    pauses: Sequence[PastPause] = ()

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
