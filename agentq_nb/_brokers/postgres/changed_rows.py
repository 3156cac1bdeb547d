"""Write changed rows of messages, and what follows from them for their queues."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from agentq_nb._actor.failure_record import FAILURES
from agentq_nb._actor.message import headline
from agentq_nb._brokers.postgres import notable_events
from agentq_nb._brokers.postgres.connection import Key, Transaction
from agentq_nb._brokers.postgres.rows import MessageRow, QueueRow, lock_queues
from agentq_nb._core.ids import ActorId, MessageId


async def write(
    tx: Transaction,
    changed: Sequence[MessageRow],
    queues: dict[tuple[ActorId, str], QueueRow] | None = None,
    *,
    revived: Mapping[MessageId, str] | None = None,
) -> None:
    """Write changed messages, and what follows from them for their queues' counters; notify those who wait for them.

    Use ``dependents.save``, unless no message can wait for one of these.

    :param queues: the rows of their queues, if they are locked already.
    :param revived: those that were settled before, with how.
    """
    if not changed:
        return
    if queues is None:
        queues = await lock_queues(tx, [(row.actor, row.queue) for row in changed])
    numbers: dict[MessageId, int] = {}
    settled = dict.fromkeys(queues, 0)
    for row in changed:
        if row.settled:
            place = (row.actor, row.queue)
            settled[place] += 1
            numbers[row.id] = queues[place].settled + settled[place]
    await tx.ask_with_rows(_SAVE, **_arrays(changed, numbers), places=await _places(tx, changed))
    await tx.ask_with_rows(_COUNT, **_counters(queues, changed, revived or {}))
    tx.announce(*dict.fromkeys(key for row in changed for key in _news(row)))
    await notable_events.note_settled(tx, [row for row in changed if row.settled])
    tx.committed += [
        partial(FAILURES.note_message, row.id, row.actor, row.queue, row.error)
        for row in changed
        if row.status == "failed"
    ]


async def _places(tx: Transaction, changed: Sequence[MessageRow]) -> list[int | None]:
    """Return new places in the order of sending for those that are moved, in their order."""
    count = sum(row.moved for row in changed)
    if count == 0:
        return [None] * len(changed)
    found = await tx.rows(
        "select nextval('agentq.places') from generate_series(1, %(count)s::int) order by 1", count=count
    )
    numbers = iter(found)
    return [next(numbers)[0] if row.moved else None for row in changed]


def _news(row: MessageRow) -> Iterable[Key]:
    places: list[Key] = [("limit", name) for name in row.limits or ()]
    if not row.settled:
        return [("work", row.actor), *places]
    # What comes behind a message that waits in order may go now.
    waits = [("work", row.actor)] if row.in_order else []
    return [("settled", row.id), ("room", row.actor, row.queue), *waits, *places]


def _arrays(changed: Sequence[MessageRow], numbers: dict[MessageId, int]) -> dict[str, Any]:
    return {
        "ids": [row.id for row in changed],
        "statuses": [row.status for row in changed],
        "dues": [row.due for row in changed],
        "delays": [row.delay for row in changed],
        "expires": [row.expires for row in changed],
        "fronts": [row.front for row in changed],
        "in_orders": [row.in_order for row in changed],
        "cancellings": [row.cancelling for row in changed],
        "failures": [row.failures for row in changed],
        "crashes": [row.crashes for row in changed],
        "ended": [row.ended for row in changed],
        "suspicions": [row.suspicion for row in changed],
        "epochs": [row.epoch for row in changed],
        "attempts": [row.attempts for row in changed],
        "problems": [row.problem for row in changed],
        "released": [row.released_because for row in changed],
        "replies": [row.reply for row in changed],
        "errors": [None if row.error is None else json.dumps(row.error) for row in changed],
        "said": [None if row.error is None else searchable(row.error) for row in changed],
        "numbers": [numbers.get(row.id) for row in changed],
    }


def searchable(error: dict[str, Any]) -> str:
    """Return the text of an error that dead letters are found by."""
    said = f"{headline(error)} {error.get('group')}.{error.get('code')}"
    return said.lower().replace("\0", "").encode("utf-8", "replace").decode()


_SAVE = """
update agentq.messages m
set status = r.status,
    place = coalesce(r.place, m.place),
    due = case when r.delay > 0 then agentq.now() + r.delay else r.due end,
    expires = r.expires,
    front = r.front,
    in_order = r.in_order,
    cancelling = r.cancelling,
    failures = r.failures,
    crashes = r.crashes,
    ended = r.ended,
    suspicion = r.suspicion,
    epoch = r.epoch,
    attempts = r.attempts,
    problem = r.problem,
    released_because = r.released_because,
    reply = r.reply,
    error = r.error,
    said = r.said,
    seconds = case when m.status = 'running' then agentq.now() - m.began_at else m.seconds end,
    ended_at = case when r.number is not null then agentq.now() end,
    settled = r.number
from (
    select * from unnest(
        %(ids)s::text[], %(statuses)s::text[], %(dues)s::float8[], %(delays)s::float8[], %(expires)s::float8[],
        %(fronts)s::bool[], %(in_orders)s::bool[], %(cancellings)s::bool[], %(failures)s::int[], %(crashes)s::int[],
        %(ended)s::int[], %(suspicions)s::int[], %(epochs)s::bigint[], %(attempts)s::int[], %(problems)s::text[],
        %(released)s::text[], %(replies)s::bytea[], %(errors)s::text[], %(said)s::text[], %(places)s::bigint[],
        %(numbers)s::bigint[]
    ) as r (
        id, status, due, delay, expires,
        front, in_order, cancelling, failures, crashes,
        ended, suspicion, epoch, attempts, problem,
        released_because, reply, error, said, place,
        number
    )
) r
where m.id = r.id
"""


def _counters(
    queues: dict[tuple[ActorId, str], QueueRow], changed: Sequence[MessageRow], revived: Mapping[MessageId, str]
) -> dict[str, Any]:
    columns = ("live", "bytes", "completed", "expired", "handled", "settled")
    counted = {place: dict.fromkeys(columns, 0) for place in queues}
    for row in changed:
        queue = counted[row.actor, row.queue]
        if row.id in revived:
            queue["live"] += 1
            queue["bytes"] += row.size
            queue["expired"] -= revived[row.id] == "expired"
        elif row.settled:
            queue["live"] -= 1
            queue["bytes"] -= row.size
            queue["settled"] += 1
            queue["completed"] += row.status == "completed"
            queue["expired"] += row.status == "expired"
            queue["handled"] += row.status in ("completed", "failed")
    places = list(counted)
    return {
        "actors": [actor for actor, _ in places],
        "queues": [queue for _, queue in places],
        **{column: [counted[place][column] for place in places] for column in columns},
    }


_COUNT = """
update agentq.queues q
set live = q.live + c.live,
    bytes = q.bytes + c.bytes,
    completed = q.completed + c.completed,
    expired = q.expired + c.expired,
    handled = q.handled + c.handled,
    settled = q.settled + c.settled
from unnest(
    %(actors)s::text[], %(queues)s::text[], %(live)s::bigint[], %(bytes)s::bigint[], %(completed)s::bigint[],
    %(expired)s::bigint[], %(handled)s::bigint[], %(settled)s::bigint[]
) as c (actor, queue, live, bytes, completed, expired, handled, settled)
where q.actor = c.actor and q.queue = c.queue
"""
