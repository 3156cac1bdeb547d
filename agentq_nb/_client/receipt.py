"""The receipt of a sent message, and its result."""

import asyncio
import json
from collections.abc import AsyncIterator, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeAlias, cast

from typing_extensions import TypeVar

from agentq_nb._actor.message import headline
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._client.transport import Standing, Transport
from agentq_nb._core import number_options
from agentq_nb._core.codec import Schema
from agentq_nb._core.ids import MessageId
from agentq_nb._core.message_status import LIVE, FinalStatus, MessageStatus
from agentq_nb.errors import (
    AgentqError,
    MessageCancelled,
    MessageExpired,
    MessageFailed,
    ValidationFailed,
    WaitTimedOut,
)

Reply = TypeVar("Reply", default=Any)

ResultStatus: TypeAlias = FinalStatus | Literal["timed_out"]


@dataclass(frozen=True)
class Result(Generic[Reply]):
    """The result of a message, or the fact that it has none yet.

        result = await runner.send("tasks", task, wait=True, timeout=60)
        if result.ok:
            print(result.response)

    :ivar status: ``completed``; ``failed`` (a dead letter); ``cancelled``; ``expired`` (not started within its
        ``ttl``); or ``timed_out``: the wait has ended, but not the work.
    :ivar message_id: the message's id; ``client.receipt(message_id)`` asks for the result again.
    :ivar response: the reply that the handler gave to ``message.complete(...)``.
    :ivar error: why it failed or expired, as a dict: ``group``, ``code``, ``message``, ``type``, ``traceback``.
    :ivar attempts: how many attempts were started.
    :ivar reason: why the message is not settled yet, in a sentence or two; None once it is.
    :ivar row: in a batch, the position of the row's item among those that were sent; else None.
    """

    status: ResultStatus
    message_id: MessageId
    response: Reply | None = None
    error: Mapping[str, Any] | None = None
    attempts: int = 0
    reason: str | None = None
    row: int | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether the message completed."""
        return self.status == "completed"

    def unwrap(self) -> Reply | None:
        """Return the reply. Raises ``queue.failed``, ``queue.timed_out``, ``queue.cancelled`` or ``queue.expired``."""
        if self.status == "completed":
            return self.response
        raise _error_of(self)


def _error_of(result: Result[Any]) -> AgentqError:
    reason = headline(result.error) if result.error else "no reason was given"
    facts = {"message_id": result.message_id, "error": dict(result.error or {})}
    if result.status == "failed":
        stop = "" if reason.endswith((".", "!", "?")) else "."
        again = f"To try it again: %agentq retry {result.message_id}"
        return MessageFailed(f"Message {result.message_id} failed: {reason}{stop} {again}", metadata=facts)
    if result.status == "cancelled":
        why_cancelled = f"{reason} " if result.error else ""
        # One that waited for others comes back with the one that failed first.
        first = (result.error or {}).get("metadata", {}).get("failed_first", result.message_id)
        again = f"To run it after all: %agentq retry {first}"
        return MessageCancelled(f"Message {result.message_id} was cancelled. {why_cancelled}{again}", metadata=facts)
    if result.status == "expired":
        why_expired = f"{reason} " if result.error else ""
        return MessageExpired(
            f"Message {result.message_id} expired. {why_expired}To run it after all: %agentq retry {result.message_id}",
            metadata=facts,
        )
    why = f" {result.reason}" if result.reason else ""
    return WaitTimedOut(
        f"Message {result.message_id} is not done yet, but is still being worked on. Ask its receipt again later.{why}",
        metadata=facts,
    )


@dataclass(frozen=True, repr=False)
class Receipt(Generic[Reply]):
    """Proof that a message is on disk, and the way to its result.

        receipt = await runner.send("tasks", task)
        result = await receipt.result(timeout=60)

    :ivar id: the message's id. ``create_client().receipt(id)`` returns a receipt for it at any time, also after a restart.
    """

    id: MessageId
    transport: Transport

    async def status(self) -> MessageStatus:
        """Return ``queued``, ``delayed`` (until its time, or its next attempt), ``blocked`` (until other messages complete),
        ``running``, ``completed``, ``failed``, ``cancelled`` or ``expired``.

        Raises ``queue.message_unknown``.
        """
        standing = await self.transport.standing(self.id, 0)
        return standing.stored.status

    async def result(self, timeout: float | None = None) -> Result[Reply]:
        """Wait for the result, at most ``timeout`` seconds (None: no limit). A timeout ends the wait, not the work.

        A failed message is a result, not an error: see :meth:`Result.unwrap`. Raises ``queue.message_unknown`` and
        ``queue.wait_would_deadlock``.
        """
        timeout = number_options.seconds("timeout", timeout)
        return result_of(await self.transport.standing(self.id, timeout, explained=True))

    def __await__(self) -> Generator[Any, Any, Result[Reply]]:
        """``await receipt`` is the same as ``await receipt.result()``."""
        return self.result().__await__()

    async def cancel(self) -> bool:
        """Cancel the message; durable on return. Returns False when it was settled already.

        A running handler is asked to stop; ``await receipt.result()`` returns once it has. Raises
        ``queue.message_unknown``.
        """
        return await self.transport.cancel(self.id)

    def __repr__(self) -> str:
        return f"<Receipt {self.id}>"


def result_of(standing: Standing, row: int | None = None) -> Result[Any]:
    """Return the sender's view of a message's stored result; ``row`` is its position in a batch."""
    stored = standing.stored
    return Result(
        status="timed_out" if stored.status in LIVE else stored.status,  # type: ignore[arg-type]  # only final ones are left
        message_id=stored.message,
        response=_response(stored, standing.replies),
        error=stored.error,
        attempts=stored.attempts,
        reason=standing.reason,
        row=row,
    )


def _response(standing: StoredResult, replies: Schema[Any] | None) -> Any:
    if standing.reply is None:
        return None
    if replies is not None:
        try:
            return replies.load(standing.reply, f"Reply to message {standing.message}")
        except ValidationFailed:
            pass  # the type has changed since: return the plain JSON
    return json.loads(standing.reply)


async def gather(receipts: Iterable[Receipt[Reply]], *, timeout: float | None = None) -> list[Result[Reply]]:
    """Wait for the results of messages, and return them in the order of their receipts.

        receipts = [await runner.send("tasks", task) for task in tasks]
        results = await gather(receipts)

    A message that fails is a result, not an error: see ``Result.unwrap``.

    :param timeout: seconds after which the wait ends, but not the work. Messages that are not settled by then have the
        status ``timed_out``. None: no limit.
    """
    return list(await asyncio.gather(*(receipt.result(timeout) for receipt in _checked(receipts))))


async def as_completed(receipts: Iterable[Receipt[Reply]]) -> AsyncIterator[Result[Reply]]:
    """Yield the result of each message as soon as it is settled: ``async for result in as_completed(receipts)``.

    ``result.message_id`` is the ``id`` of its receipt.
    """
    waiting = {asyncio.ensure_future(receipt.result()) for receipt in _checked(receipts)}
    try:
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                yield one.result()
    finally:
        for one in waiting:
            one.cancel()


def _checked(receipts: object) -> list[Receipt[Any]]:
    """Return the receipts. Raises ``actor.validation_error`` for anything else, such as a single one."""
    given = list(cast("Iterable[object]", receipts)) if isinstance(receipts, Iterable) else [receipts]
    found: list[Receipt[Any]] = [one for one in given if isinstance(one, Receipt)]
    if len(found) < len(given) or not isinstance(receipts, Iterable):
        raise ValidationFailed(
            "gather and as_completed take a list of receipts, as send returns them. For anything else: asyncio.gather(...)."
        )
    return found
