"""The messages that hosts and brokers exchange: new ones, deliveries, settlements and results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from agentq_nb._actor.send_options import NO_OPTIONS, StoredOptions, origin_of, with_origin
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.message_status import MessageStatus
from agentq_nb._core.origin import PROCESS, Origin
from agentq_nb._policies.retry import Failure
from agentq_nb.errors import Unavailable

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
    def after(self) -> Sequence[MessageId]:
        """The messages that must have completed before it is due. Its delay and its ttl count from then on."""
        return self.options.get("after", ())

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
    after: Sequence[StoredResult] = ()
    """The results of the messages that it was sent after, in the order in which they were given."""
    batch: str | None = None
    """The name of the batch that it belongs to."""
    released_because: str | None = None
    """The provider's limit, or the budget, for which an attempt since the last failed one was put back uncounted."""


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


class Answer(NamedTuple):
    """The answer to a request of another host, see ``exchange``: ``reply`` or, as JSON as well, the ``error``."""

    request: str
    reply: bytes | None = None
    error: bytes | None = None


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
    answer: Answer | None = None
    """What the action returned or raised whose changes these are, if another host has asked for it."""


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
    """The name of the batch that it belongs to, where the broker needs it: None does not mean that it belongs to no batch."""
    expires: float | None = None
    after: Sequence[MessageId] = ()
    """The messages that it still waits for, in the order in which they were given."""


class Place(NamedTuple):
    """Where an unsettled message is."""

    message: MessageId
    actor: ActorId
    queue: str


def digest(body: bytes) -> bytes:
    """Return a hash that is equal for bodies that are equal as JSON values, regardless of formatting."""
    canonical = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def stopped_waiting(message: MessageId) -> Unavailable:
    """Return the error of a wait for a message that the end of the host ends."""
    return Unavailable(
        f"The host stopped while message {message} was waited for. The work is kept: once a host runs again, "
        f"ask with await create_client().receipt({message!r}).result()",
        metadata={"message_id": message},
    )


def not_sent() -> Unavailable:
    """Return the error of a send that the end of the host finds waiting for room in its queue."""
    return Unavailable(
        "The host stopped, or writing failed, while this send waited for room in its queue: nothing was sent. Send it "
        "again once the host runs."
    )
