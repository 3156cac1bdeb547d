"""The calls of a Python client to a host's server: their names, what they ask and answer, and how that is written.

Both sides use these definitions. A call is one ``POST /transport/NAME``; what it asks and answers is JSON. Bodies and
replies of messages are JSON already, and travel as texts; so do values of users, see :func:`agentq_nb._core.tagged_values.dumped`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from pydantic import TypeAdapter, ValidationError

from agentq_nb._brokers.batches import BatchCounts, BatchRow, Cursor, NewBatch, SettledRows
from agentq_nb._brokers.messages import NewMessage, StoredResult
from agentq_nb._client.class_descriptions import ClassDescription
from agentq_nb._client.status import ActorStatus
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb.errors import BadRequest

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")

PROTOCOL = 1
"""Raised when a call changes in a way that older programs cannot read."""

LONGEST_WAIT = 20.0
"""Seconds after which the server answers a wait at the latest, so that proxies and dead connections do not hold it up."""

Text: TypeAlias = str
"""A value of a user, as :func:`agentq_nb._core.tagged_values.dumped` writes it."""

Span: TypeAlias = tuple[int, int, int]
"""Numbers of rows: the start, the stop and the step of a range."""


class Call(Generic[Asked, Answered]):
    """One call.

    :ivar repeatable: whether doing it twice is the same as doing it once, so that it is sent again when its answer got
        lost.
    """

    def __init__(self, name: str, asked: Any, answered: Any, *, repeatable: bool) -> None:
        self.name = name
        self.repeatable = repeatable
        self._types = asked, answered

    @cached_property
    def _asked(self) -> TypeAdapter[Asked]:
        return TypeAdapter(self._types[0])

    @cached_property
    def _answered(self) -> TypeAdapter[Answered]:
        return TypeAdapter(self._types[1])

    def write_request(self, asked: Asked) -> bytes:
        """Return what is asked, as JSON."""
        return self._asked.dump_json(asked)

    def read_request(self, body: bytes) -> Asked:
        """Return what is asked. Raises BadRequest."""
        try:
            return self._asked.validate_json(body)
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False, include_context=False)
            raise BadRequest(f"The call {self.name} cannot be read: {details[0]['msg']}.") from None
        except TypeError:  # pydantic copies defaults, and not all of them can be copied
            raise BadRequest(f"The call {self.name} cannot be read: a field is missing.") from None

    def write_answer(self, answered: Answered) -> bytes:
        """Return the answer, as JSON."""
        return self._answered.dump_json(answered)

    def read_answer(self, body: bytes) -> Answered:
        """Return the answer. Raises ValueError."""
        return self._answered.validate_json(body)


# --- the host and its actors ------------------------------------------------------------------------------------------


class HostDescription(NamedTuple):
    """What a client must know before it sends. ``now`` is the host's time, in seconds since 1970."""

    protocol: int
    now: float
    classes: Mapping[str, ClassDescription]


class ActorInput(NamedTuple):
    """An actor, and the input to create it with."""

    actor: ActorId
    input: Text


class ActionCall(NamedTuple):
    """An action to call. ``input`` is used if the actor does not exist yet."""

    actor: ActorId
    action: str
    args: Text
    kwargs: Text
    input: Text


DESCRIBE: Call[None, HostDescription] = Call("describe", None, HostDescription, repeatable=True)
CREATE: Call[ActorInput, None] = Call("create", ActorInput, None, repeatable=False)
REQUIRE: Call[ActorId, None] = Call("require", ActorId, None, repeatable=True)
ENSURE: Call[ActorInput, None] = Call("ensure", ActorInput, None, repeatable=True)
ACT: Call[ActionCall, Text] = Call("act", ActionCall, Text, repeatable=False)
STATUS: Call[ActorId, ActorStatus] = Call("status", ActorId, ActorStatus, repeatable=True)


# --- messages ---------------------------------------------------------------------------------------------------------


class Send(NamedTuple):
    """A message to send, and how many seconds to wait for room (0: not at all; None: no limit)."""

    message: NewMessage
    room_timeout: float | None


class SendAndWait(NamedTuple):
    """A message to send, and how many seconds to wait for its result: at most :data:`LONGEST_WAIT`."""

    message: NewMessage
    timeout: float


class Wait(NamedTuple):
    """A message whose result is wanted within so many seconds, at most :data:`LONGEST_WAIT`."""

    message: MessageId
    timeout: float
    explained: bool


class Standing(NamedTuple):
    """The status and result of a message, and why it is not settled yet."""

    stored: StoredResult
    reason: str | None


class ChangeOf(NamedTuple):
    """A change to an actor's messages or queues. ``target`` is a message's id or a queue's name."""

    actor: ActorId
    kind: Literal["pause", "resume", "cancel", "redeliver", "purge"]
    target: str
    until: float | None = None


# The sender makes a message's id, so that sending it twice makes one message.
SEND: Call[Send, MessageId] = Call("send", Send, MessageId, repeatable=True)
SEND_AND_WAIT: Call[SendAndWait, Standing] = Call("send_and_wait", SendAndWait, Standing, repeatable=True)
WAIT: Call[Wait, Standing] = Call("wait", Wait, Standing, repeatable=True)
CANCEL: Call[MessageId, bool] = Call("cancel", MessageId, bool, repeatable=False)
CHANGE: Call[ChangeOf, int] = Call("change", ChangeOf, int, repeatable=False)


# --- events -----------------------------------------------------------------------------------------------------------


class Listen(NamedTuple):
    """Begins (or ends, unless ``on``) to keep an actor's events of one name. The client makes the subscription's id."""

    subscription: str
    actor: ActorId
    event: str
    on: bool


class Poll(NamedTuple):
    """Asks for events after number ``after``, waiting up to ``timeout`` seconds for the first one."""

    subscription: str
    after: int
    timeout: float


class Event(NamedTuple):
    """An event that an actor broadcast."""

    number: int
    actor: ActorId
    event: str
    payload: Text


class Events(NamedTuple):
    """Events in their order. Unless ``known``, the host does not know the subscription: it was started again, say."""

    known: bool
    events: Sequence[Event]


LISTEN: Call[Listen, None] = Call("listen", Listen, None, repeatable=True)
POLL: Call[Poll, Events] = Call("poll", Poll, Events, repeatable=True)


# --- batches ----------------------------------------------------------------------------------------------------------


class SendBatch(NamedTuple):
    """A batch to send, and how many seconds to wait for room (0: not at all; None: no limit)."""

    batch: NewBatch
    room_timeout: float | None


class BatchDescription(NamedTuple):
    """A batch as it is stored, see :class:`agentq_nb._brokers.batches.StoredBatch`."""

    name: str
    actor: ActorId
    queue: str
    created_at: float
    rows: Sequence[Span]
    total: int
    pruned: int
    facts: Mapping[str, Any]
    added: int
    earlier: Mapping[str, Any] | None


class BatchRows(NamedTuple):
    """Some rows of a batch."""

    name: str
    rows: Sequence[Span]


class RowsToRead(NamedTuple):
    """Rows of a batch to read, by number."""

    name: str
    rows: Sequence[int]
    timed: bool
    bodies: bool


class FailedRows(NamedTuple):
    """Asks for the first failed rows."""

    name: str
    rows: Sequence[Span]
    most: int


class SettledSince(NamedTuple):
    """Asks for rows settled since a cursor, waiting up to ``timeout`` seconds for the first one."""

    name: str
    cursor: Cursor | None
    timeout: float


class UntilFinished(NamedTuple):
    """Asks whether rows are all settled, waiting up to ``timeout`` seconds for that."""

    name: str
    rows: Sequence[Span]
    timeout: float


class Finished(NamedTuple):
    """Whether rows are all settled, or why they will not be."""

    ended: bool
    stopped: str | None = None


SEND_BATCH: Call[SendBatch, BatchDescription] = Call("send_batch", SendBatch, BatchDescription, repeatable=True)
REDO_BATCH: Call[SendBatch, BatchDescription] = Call("redo_batch", SendBatch, BatchDescription, repeatable=False)
"""As :data:`SEND_BATCH`, for a batch that sends settled rows again."""
FIND_BATCH: Call[str, BatchDescription] = Call("find_batch", str, BatchDescription, repeatable=True)
ALL_BATCHES: Call[None, Sequence[BatchDescription]] = Call(
    "all_batches", None, Sequence[BatchDescription], repeatable=True
)
RECENT_BATCHES: Call[int, Sequence[BatchDescription]] = Call(
    "recent_batches", int, Sequence[BatchDescription], repeatable=True
)
COUNTS: Call[BatchRows, BatchCounts] = Call("batch_counts", BatchRows, BatchCounts, repeatable=True)
SETTLED: Call[SettledSince, SettledRows] = Call("batch_settled", SettledSince, SettledRows, repeatable=True)
FINISHED: Call[UntilFinished, Finished] = Call("batch_finished", UntilFinished, Finished, repeatable=True)
READ: Call[RowsToRead, Sequence[BatchRow | None]] = Call(
    "batch_read", RowsToRead, Sequence[BatchRow | None], repeatable=True
)
FAILED: Call[FailedRows, Sequence[tuple[int, StoredResult]]] = Call(
    "batch_failed", FailedRows, Sequence[tuple[int, StoredResult]], repeatable=True
)
RETRY_FAILED: Call[BatchRows, int] = Call("batch_retry_failed", BatchRows, int, repeatable=False)
REDO_ROWS: Call[BatchRows, BatchDescription] = Call("batch_redo", BatchRows, BatchDescription, repeatable=False)
CANCEL_ROWS: Call[BatchRows, int] = Call("batch_cancel", BatchRows, int, repeatable=False)
RESUME_BATCH: Call[str, bool] = Call("batch_resume", str, bool, repeatable=False)


def spans(rows: Sequence[range]) -> list[Span]:
    """Return ranges as they are written."""
    return [(row.start, row.stop, row.step) for row in rows]


def ranges(rows: Sequence[Span]) -> list[range]:
    """Return the ranges of spans. Raises BadRequest."""
    if any(step == 0 for _, _, step in rows):
        raise BadRequest("A range of rows has the step 0.")
    return [range(*row) for row in rows]
