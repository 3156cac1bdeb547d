"""The status and result of a message, and the wait for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from agentq_nb._brokers.messages import StoredResult, stopped_waiting
from agentq_nb._brokers.postgres.connection import Database, Transaction
from agentq_nb._brokers.postgres.expirations import settle_all_expired
from agentq_nb._brokers.postgres.notifications import Notifications, by_this_clock
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import MessageId
from agentq_nb._core.message_status import MessageStatus, is_final
from agentq_nb.errors import MessageUnknown, Unavailable

_RESULTS = """
select id, actor, queue, status, ended, attempts, reply, error, due, expires, problem, batch,
    case when status = 'blocked' then array(
        select d.predecessor
        from agentq.predecessors d left join agentq.messages p on p.id = d.predecessor
        where d.message = m.id and p.status is distinct from 'completed'
        order by d.number
    ) end,
    agentq.now()
from agentq.messages m
where id = any(%(ids)s)
"""


async def read(tx: Transaction, ids: Sequence[MessageId]) -> tuple[float, dict[MessageId, StoredResult]]:
    """Return the database's time, and the results of those of the messages that there are."""
    rows = await tx.rows(_RESULTS, ids=list(ids))
    if any(_may_have_expired(*row) for row in rows):
        await settle_all_expired(tx)
        rows = await tx.rows(_RESULTS, ids=list(ids))
    return (rows[0][-1] if rows else 0.0), {row[0]: _result(*row) for row in rows}


def _may_have_expired(*row: Any) -> bool:
    """Whether it has, or waits for a message that may have."""
    status, expires, now = row[3], row[9], row[-1]
    return status == "blocked" or (status == "queued" and expires is not None and expires <= now)


def _result(
    id: str,
    actor: str,
    queue: str,
    stored: str,
    ended: int,
    attempts: int,
    reply: bytes | None,
    error: str | None,
    due: float,
    expires: float | None,
    problem: str | None,
    batch: str | None,
    after: Sequence[MessageId] | None,
    now: float,
) -> StoredResult:
    status: MessageStatus = "delayed" if stored == "queued" and due > now else stored  # type: ignore[assignment]  # only brokers write the column
    if is_final(status):
        failure = None if error is None else json.loads(error)
        return StoredResult(id, actor, queue, status, attempts, reply, failure, batch=batch)
    if after is not None:  # its times begin when it does not wait any more
        return StoredResult(id, actor, queue, status, ended, problem=problem, batch=batch, after=after)
    count = ended + (status == "running")
    return StoredResult(id, actor, queue, status, count, due=due or None, problem=problem, batch=batch, expires=expires)


async def wait(
    database: Database, notifications: Notifications, clock: Clock, message: MessageId, timeout: float | None
) -> StoredResult:
    """See :meth:`agentq_nb._brokers.base.Broker.wait`."""
    try:
        return await _wait(database, notifications, clock, message, timeout)
    except Unavailable:
        if database.closed:
            raise stopped_waiting(message) from None
        raise


async def _wait(
    database: Database, notifications: Notifications, clock: Clock, message: MessageId, timeout: float | None
) -> StoredResult:
    deadline = None if timeout is None else clock.monotonic() + timeout
    with notifications.watch(("settled", message)) as watch:
        while True:
            watch.clear()
            before = clock.time()
            now, found = await database.run(lambda tx: read(tx, [message]), repeatable=True)
            result = found.get(message)
            if result is None:
                raise MessageUnknown(message)
            if is_final(result.status) or (deadline is not None and clock.monotonic() >= deadline):
                return result
            await watch.wait(deadline, by_this_clock(result.expires, now, before))
