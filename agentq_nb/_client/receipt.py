"""What a sender holds: the receipt of a message, and the result of its work."""

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias

from typing_extensions import TypeVar

from agentq_nb._actor.message import headline
from agentq_nb._brokers.base import MessageStatus, StoredResult
from agentq_nb._client.transport import Standing, Transport
from agentq_nb._core import number_options
from agentq_nb._core.codec import Schema
from agentq_nb._core.ids import MessageId
from agentq_nb.errors import (
    AgentqError,
    MessageCancelled,
    MessageExpired,
    MessageFailed,
    ValidationFailed,
    WaitTimedOut,
)

Reply = TypeVar("Reply", default=Any)

ResultStatus: TypeAlias = Literal["completed", "timed_out", "failed", "cancelled", "expired"]


@dataclass(frozen=True)
class Result(Generic[Reply]):
    """How work ended, or that it has not ended yet.

    :ivar status: ``completed``; ``timed_out``: the wait ended, the work goes on; ``failed``: a dead letter;
        ``cancelled``; ``expired``.
    :ivar response: what the handler gave to ``message.complete(...)``.
    :ivar error: why it failed: ``group``, ``code``, ``message``, ``type``, ``traceback``.
    :ivar attempts: how often it was started.
    :ivar reason: why it is not settled yet, in a sentence or two; None when it is.
    """

    status: ResultStatus
    message_id: MessageId
    response: Reply | None = None
    error: Mapping[str, Any] | None = None
    attempts: int = 0
    reason: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it completed."""
        return self.status == "completed"

    def unwrap(self) -> Reply | None:
        """The reply. Raises ``queue.failed``, ``queue.timed_out``, ``queue.cancelled`` or ``queue.expired``."""
        if self.status == "completed":
            return self.response
        raise _error_of(self)


def _error_of(result: Result[Any]) -> AgentqError:
    told = headline(result.error) if result.error else "no reason was given"
    facts = {"message_id": result.message_id, "error": dict(result.error or {})}
    if result.status == "failed":
        stop = "" if told.endswith((".", "!", "?")) else "."
        again = f"To try it again: %agentq retry {result.message_id}"
        return MessageFailed(f"Message {result.message_id} failed: {told}{stop} {again}", metadata=facts)
    if result.status == "cancelled":
        again = f"To run it after all: %agentq retry {result.message_id}"
        return MessageCancelled(f"Message {result.message_id} was cancelled. {again}", metadata=facts)
    if result.status == "expired":
        return MessageExpired(
            f"Message {result.message_id} expired before it was started. Send it again.", metadata=facts
        )
    why = f" {result.reason}" if result.reason else ""
    return WaitTimedOut(
        f"Message {result.message_id} is not done yet; the work goes on. Ask its receipt again later.{why}",
        metadata=facts,
    )


@dataclass(frozen=True, repr=False)
class Receipt(Generic[Reply]):
    """A message that is on disk. ``client.receipt(id)`` makes it again at any time, after a restart too."""

    id: MessageId
    transport: Transport

    async def status(self) -> MessageStatus:
        """``queued``, ``delayed``, ``running``, ``completed``, ``failed``, ``cancelled`` or ``expired``."""
        standing = await self.transport.standing(self.id, 0)
        return standing.stored.status

    async def result(self, timeout: float | None = None) -> Result[Reply]:
        """Wait for the result, at most ``timeout`` seconds (None: for ever). The work goes on when the wait ends.

        Raises ``queue.message_unknown``, ``queue.wait_would_deadlock``.
        """
        timeout = number_options.seconds("timeout", timeout)
        return result_of(await self.transport.standing(self.id, timeout, explained=True))

    def __await__(self) -> Generator[Any, Any, Result[Reply]]:
        """``await receipt`` is ``await receipt.result()``: how the work ended, which is no error when it failed."""
        return self.result().__await__()

    async def cancel(self) -> bool:
        """Settle it as cancelled; False when it was settled already.

        A handler that is at it is stopped: it is asked to end when this returns, and :meth:`result` tells when it has.
        """
        return await self.transport.cancel(self.id)

    def __repr__(self) -> str:
        return f"<Receipt {self.id}>"


def is_live(stored: StoredResult) -> bool:
    """Whether it is not settled yet."""
    return stored.status in ("queued", "delayed", "running")


def result_of(standing: Standing) -> Result[Any]:
    """What a sender sees of what the keeper knows."""
    stored = standing.stored
    return Result(
        status="timed_out" if is_live(stored) else stored.status,  # type: ignore[arg-type]  # the live ones are sorted out
        message_id=stored.message,
        response=_response(stored, standing.replies),
        error=stored.error,
        attempts=stored.attempts,
        reason=standing.reason,
    )


def _response(standing: StoredResult, replies: Schema[Any] | None) -> Any:
    if standing.reply is None:
        return None
    if replies is not None:
        try:
            return replies.load(standing.reply, f"Reply to message {standing.message}")
        except ValidationFailed:
            pass  # the type has changed since: better the plain JSON than nothing
    return json.loads(standing.reply)
