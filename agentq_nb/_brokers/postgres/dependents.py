"""Messages that wait for others (``after=``): due once all of those have completed, cancelled when one of them cannot.

Both happen in the transaction that settles the predecessors, whichever hosts run the actors. A transaction that sends a message
locks the rows of its predecessors in share mode until it commits, and one that settles a message locks its row exclusively. So
no dependent is missed, and if several transactions settle the predecessors of one message, the last one releases it.

In the order of sending, a message is always behind its predecessors. Rows are locked in that order, predecessors first, so two
transactions seldom wait for each other.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from agentq_nb._brokers.chains import reason
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._brokers.postgres import changed_rows
from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.postgres.rows import MessageRow, QueueRow, ask_messages, lock_messages, lock_queues
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.message_status import MessageStatus

_WITH_WAITING = """
id in (
    with recursive ending (message) as (
        select id from agentq.messages where {condition}
        union
        select d.message from ending e join agentq.predecessors d on d.predecessor = e.message
    )
    select message from ending
) and status <> 'completed'
"""


async def lock_ahead(tx: Transaction, condition: str, **parameters: Any) -> None:
    """Lock the messages that meet a condition, and what waits for them, in the order of sending.

    Call it before locking several messages: what waits for one of them may be before another.
    """
    await ask_messages(tx, _WITH_WAITING.format(condition=condition), **parameters)


_WAITING = """
id in (
    with recursive waiting (message, ends) as (
        select d.message, d.predecessor <> all(%(completed)s::text[])
        from agentq.predecessors d
        where d.predecessor = any(%(messages)s::text[])
        union
        select d.message, true
        from waiting w join agentq.predecessors d on d.predecessor = w.message
        where w.ends
    )
    select message from waiting
) and status = 'blocked'
"""


async def lock_waiting(
    tx: Transaction, messages: Iterable[MessageId], completed: Collection[MessageId] = ()
) -> list[MessageRow]:
    """Lock what waits for these messages, whose rows are locked, in the order of sending.

    Of a message that has not ``completed``, these are all its dependents, direct or not; of one that has, only the direct ones.
    """
    asked = {"messages": list(messages), "completed": list(completed)}
    waiting: dict[MessageId, MessageRow] = {}
    while True:
        found = await lock_messages(tx, _WAITING, **asked)
        new = {row.id: row for row in found if row.id not in waiting}
        waiting.update(new)
        # Until one was locked, something may have been sent after it.
        if not new or len(asked["completed"]) == len(asked["messages"]):
            return list(waiting.values())


async def save(
    tx: Transaction,
    changed: Sequence[MessageRow],
    queues: dict[tuple[ActorId, str], QueueRow] | None = None,
    *,
    waiting: Sequence[MessageRow] | None = None,
    revived: Mapping[MessageId, str] | None = None,
) -> None:
    """Write changed messages as ``changed_rows.write`` does, and release or cancel what waits for those that are settled now.

    :param queues: the rows of their queues and of those of ``waiting``, if they are locked already.
    :param waiting: what :func:`lock_waiting` returned for them, if that was called already.
    """
    settled = {row.id: row for row in changed if row.settled}
    completed = [row.id for row in settled.values() if row.status == "completed"]
    if waiting is None:
        waiting = await lock_waiting(tx, settled, completed) if settled else []
    changing = {row.id for row in changed}
    waiting = [row for row in waiting if row.id not in changing]
    cancelled = await _cancelled(tx, waiting, [row for row in settled.values() if row.status != "completed"])
    everything = [*changed, *cancelled]
    if queues is None and everything:
        queues = await lock_queues(tx, [(row.actor, row.queue) for row in everything])
    await changed_rows.write(tx, everything, queues, revived=revived)
    if waiting and completed:
        await _release(tx, waiting)


async def _cancelled(
    tx: Transaction, waiting: Sequence[MessageRow], ended: Sequence[MessageRow]
) -> Sequence[MessageRow]:
    """Return those that wait for messages that ended without a reply, as cancelled. They are in the order of sending."""
    if not waiting or not ended:
        return []
    causes = {row.id: _result(row) for row in ended}
    cancelled: list[MessageRow] = []
    after = await predecessors_of(tx, [row.id for row in waiting])
    for row in waiting:
        cause = next((causes[one] for one in after[row.id] if one in causes), None)
        if cause is not None:
            cancelled.append(row.finished("cancelled", error=reason(cause)))
            causes[row.id] = _result(cancelled[-1])
    return cancelled


def _result(row: MessageRow) -> StoredResult:
    status: MessageStatus = row.status  # type: ignore[assignment]  # only brokers write the column
    return StoredResult(row.id, row.actor, row.queue, status, error=row.error)


async def predecessors_of(tx: Transaction, messages: Collection[MessageId]) -> dict[MessageId, list[MessageId]]:
    """Return what each of these messages was sent after, in the order in which that was given."""
    found: dict[MessageId, list[MessageId]] = {message: [] for message in messages}
    for message, predecessor in await tx.rows(_PREDECESSORS, messages=list(messages)):
        found[message].append(predecessor)
    return found


_PREDECESSORS = """
select message, predecessor from agentq.predecessors where message = any(%(messages)s) order by message, number
"""


async def _release(tx: Transaction, waiting: Sequence[MessageRow]) -> None:
    """Let those of them go that wait for nothing any more. Their delay and their ttl count from now on."""
    released = await tx.rows(_RELEASE, ids=[row.id for row in waiting])
    tx.announce(*(("work", actor) for actor in dict.fromkeys(actor for (actor,) in released)))


_RELEASE = """
update agentq.messages m
set status = 'queued',
    due = case when m.due > 0 then agentq.now() + m.due else 0 end,
    expires = agentq.now() + m.due + m.expires
where m.id = any(%(ids)s) and m.status = 'blocked' and not exists (
    select from agentq.predecessors d left join agentq.messages p on p.id = d.predecessor
    where d.message = m.id and p.status is distinct from 'completed'
)
returning m.actor
"""


# --- sending after others ---------------------------------------------------------------------------------------------

_SHARE = "select id from agentq.messages where id = any(%(ids)s) order by place for key share"
_ENDS = "select id, actor, queue, status, error from agentq.messages where id = any(%(ids)s)"


async def share(tx: Transaction, messages: Iterable[MessageId]) -> dict[MessageId, StoredResult]:
    """Keep these messages from being settled or deleted until the end of the transaction; return those that there are.

    They may be started meanwhile. Their results have no replies.
    """
    ids = list(dict.fromkeys(messages))
    if not ids:
        return {}
    await tx.ask(_SHARE, ids=ids)
    return {
        message: StoredResult(message, actor, queue, status, error=None if error is None else json.loads(error))
        for message, actor, queue, status, error in await tx.rows(_ENDS, ids=ids)
    }
