"""What moves from one broker's store to another's: messages, states, pauses and batches, as they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.message_status import MessageStatus


class MovedMessage(NamedTuple):
    """A message that is unsettled (``queued`` or ``blocked``), or the result of one. Times are seconds since 1970.

    ``options`` and ``error`` are JSON objects, ``body`` and ``reply`` JSON. While it is ``blocked``, ``due`` and ``expires``
    are seconds that count from the end of that.
    """

    id: MessageId
    actor: ActorId
    queue: str
    status: MessageStatus
    body: bytes
    options: Mapping[str, Any]
    created_at: float
    priority: int = 0
    due: float = 0.0
    expires: float | None = None
    front: bool = False
    in_order: bool = False
    failures: int = 0
    crashes: int = 0
    ended: int = 0
    suspicion: int = 0
    attempts: int = 0
    problem: str | None = None
    began_at: float | None = None
    ended_at: float | None = None
    seconds: float | None = None
    reply: bytes | None = None
    error: Mapping[str, Any] | None = None
    batch: str | None = None
    row: int = 0


class MovedActor(NamedTuple):
    """An actor with its state, JSON."""

    actor: ActorId
    state: bytes
    created_at: float | None
    state_at: float | None


class MovedPause(NamedTuple):
    """A queue that is paused. ``stopped``: why failures stopped it."""

    actor: ActorId
    queue: str
    until: float | None
    stopped: str | None


class MovedBatch(NamedTuple):
    """A batch without its messages. ``view`` are its rows, ``replaced`` those that others took the place of."""

    name: str
    actor: ActorId
    queue: str
    created_at: float
    facts: Mapping[str, Any]
    view: Sequence[int]
    replaced: frozenset[int]
    total: int


class Totals(NamedTuple):
    """How many messages of a queue were ever settled, and how."""

    actor: ActorId
    queue: str
    completed: int
    failed: int
    expired: int


class Contents(Protocol):
    """What a store holds, to be moved. Its methods block."""

    @property
    def store(self) -> str:
        """The store's own id."""
        ...

    def messages(self) -> Iterator[MovedMessage]:
        """Yield unsettled messages, dead letters, and results that keys, batches and messages sent after them need.

        Each queue's are in its order. An unsettled one that can only be cancelled any more is yielded as ``cancelled``.
        """
        ...

    def unsettled(self) -> Sequence[MessageId]:
        """Return the messages that are unsettled here."""
        ...

    def actors(self) -> Sequence[MovedActor]: ...

    def pauses(self) -> Sequence[MovedPause]: ...

    def batches(self) -> Sequence[MovedBatch]: ...

    def totals(self) -> Sequence[Totals]: ...
