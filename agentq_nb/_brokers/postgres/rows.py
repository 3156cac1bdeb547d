"""Rows of messages and queues: locked, and changed in memory, to be written in the same transaction.

Every transaction locks in the same order, so that two seldom wait for each other: actors, messages, queues.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from psycopg import AsyncCursor

from agentq_nb._actor.message import brief
from agentq_nb._brokers.messages import Settlement
from agentq_nb._brokers.postgres.connection import Row, Transaction
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.message_status import FinalStatus
from agentq_nb.errors import MessageUnknown

UNSETTLED = "('queued', 'blocked', 'running')"
"""The stored statuses of messages that are not settled."""


class MessageRow(NamedTuple):
    """What decides about a message, without its body and reply. ``place`` is read only, unless it is ``moved``."""

    id: MessageId
    actor: ActorId
    queue: str
    status: str
    size: int
    due: float
    expires: float | None
    began_at: float | None
    front: bool
    in_order: bool
    cancelling: bool
    failures: int
    crashes: int
    ended: int
    suspicion: int
    epoch: int | None
    token: int | None
    limits: Sequence[str] | None
    """The limits in which it has a place while it runs."""
    released_because: str | None
    """As JSON, since a column cannot hold every text."""
    batch: str | None
    attempts: int = 0
    reply: bytes | None = None
    error: dict[str, Any] | None = None
    problem: str | None = None
    delay: float = 0.0
    """Seconds from now in which it is due."""
    moved: bool = False
    """Whether it goes behind what was sent before."""

    @property
    def settled(self) -> bool:
        return self.status not in ("queued", "blocked", "running")

    # --- what may become of it ----------------------------------------------------------------------------------------

    def finished(self, status: FinalStatus, *, handled: bool = False, **values: Any) -> MessageRow:
        """Return it settled."""
        return self._replace(
            status=status, epoch=None, attempts=self.ended + handled, suspicion=0, expires=None, **values
        )

    def after(self, settlement: Settlement) -> MessageRow:
        """Return it after an attempt at it has ended."""
        outcome = settlement.outcome
        if outcome in ("completed", "failed", "dead"):
            status: FinalStatus = "completed" if outcome == "completed" else "failed"
            return self.finished(status, handled=True, reply=settlement.reply, error=settlement.error)
        if self.cancelling:
            return self.finished("cancelled", handled=True)
        if outcome == "again":
            return self._replace(
                status="queued",
                epoch=None,
                failures=self.failures + 1,
                crashes=0,
                suspicion=0,
                ended=self.ended + 1,
                front=settlement.front,
                in_order=settlement.in_order,
                due=0.0,
                delay=settlement.delay,
                problem=brief(settlement.error),
                error=settlement.error,
                released_because=None,
            )
        if settlement.limited is not None:
            return self._replace(released_because=json.dumps(settlement.limited.reason)).put_back()
        return self.put_back()

    def put_back(self, *, crashed: bool = False, alone: bool = False) -> MessageRow:
        """Return it first in its queue, after an attempt that does not count; or, if its host crashed, that does."""
        if self.cancelling:
            return self.finished("cancelled")
        return self._replace(
            status="queued",
            epoch=None,
            front=True,
            due=0.0,
            ended=self.ended + crashed,
            crashes=self.crashes + (crashed and alone),
            suspicion=self.suspicion + (not alone) if crashed else 0,
        )

    def redelivered(self) -> MessageRow:
        """Return it as if it had just been sent."""
        return self._replace(
            status="queued",
            due=0.0,
            expires=None,
            front=False,
            in_order=False,
            cancelling=False,
            failures=0,
            crashes=0,
            ended=0,
            suspicion=0,
            attempts=0,
            released_because=None,
            moved=True,
        )


_COLUMNS = (
    "id, actor, queue, status, size, due, expires, began_at, front, in_order, cancelling, failures, crashes, ended, "
    "suspicion, epoch, token, limits, released_because, batch"
)

LOCK = f"select {_COLUMNS} from agentq.messages where {{condition}} order by place for update"
"""Lock the messages that meet a condition."""


class QueueRow(NamedTuple):
    """The counters of a queue, and its pause."""

    actor: ActorId
    queue: str
    live: int
    bytes: int
    completed: int
    settled: int
    stopped: str | None
    held: str | None
    probe: str | None


async def ask_messages(tx: Transaction, condition: str, **parameters: Any) -> AsyncCursor[Row]:
    """Lock messages, in the order they were sent, without waiting for them."""
    return await tx.ask(LOCK.format(condition=condition), **parameters)


async def lock_messages(tx: Transaction, condition: str, **parameters: Any) -> list[MessageRow]:
    """Lock messages, in the order they were sent."""
    return [MessageRow(*row) for row in await (await ask_messages(tx, condition, **parameters)).fetchall()]


async def lock_message(tx: Transaction, message: MessageId) -> MessageRow:
    """Lock one message. Raises MessageUnknown."""
    found = await lock_messages(tx, "id = %(id)s", id=message)
    if not found:
        raise MessageUnknown(message)
    return found[0]


async def lock_queues(tx: Transaction, places: Iterable[tuple[ActorId, str]]) -> dict[tuple[ActorId, str], QueueRow]:
    """Lock the rows of queues, which exist."""
    return {(row[0], row[1]): QueueRow(*row) for row in await (await ask_queues(tx, places)).fetchall()}


async def ask_queues(
    tx: Transaction, places: Iterable[tuple[ActorId, str]], unless_awaited: Sequence[MessageId] = ()
) -> AsyncCursor[Row]:
    """Lock the rows of queues without waiting for them; none if others wait for one of these messages."""
    wanted = sorted(set(places))
    asked = {"actors": [actor for actor, _ in wanted], "queues": [queue for _, queue in wanted]}
    if not unless_awaited:
        return await tx.ask_with_rows(_LOCK_QUEUES.format(condition="true"), **asked)
    return await tx.ask_with_rows(_LOCK_QUEUES.format(condition=_NOT_AWAITED), **asked, messages=list(unless_awaited))


_LOCK_QUEUES = """
select actor, queue, live, bytes, completed, settled, stopped, held, probe
from agentq.queues
where (actor, queue) in (select * from unnest(%(actors)s::text[], %(queues)s::text[]))
  and {condition}
order by actor, queue
for update
"""
_NOT_AWAITED = """
not exists (select from agentq.predecessors where predecessor in (select * from unnest(%(messages)s::text[])))
"""
