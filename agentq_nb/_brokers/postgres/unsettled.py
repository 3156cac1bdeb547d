"""Read what is not settled, what it waits for, whether there is work ahead, and the states of actors."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

from agentq_nb._brokers.messages import Place, Unsettled
from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.postgres.expirations import settle_all_expired
from agentq_nb._brokers.postgres.rows import UNSETTLED
from agentq_nb._core.ids import ActorId, MessageId

_COLUMNS = "id, body, options, case when status = 'blocked' then 0 else due end, status = 'running', cancelling"


async def unsettled_of(tx: Transaction, actor: ActorId, queue: str) -> Sequence[Unsettled]:
    """Return the unsettled messages of a queue, in the order they were sent."""
    await settle_all_expired(tx)
    rows = await tx.rows(
        f"""
        select {_COLUMNS} from agentq.messages
        where actor = %(actor)s and queue = %(queue)s and status in {UNSETTLED}
        order by place
        """,
        actor=actor,
        queue=queue,
    )
    return [_unsettled(*row) for row in rows]


async def unsettled_of_all(tx: Transaction, name: str, queue: str) -> Mapping[ActorId, Sequence[Unsettled]]:
    """Return the unsettled messages of this queue of every actor of a name that has any."""
    await settle_all_expired(tx)
    rows = await tx.rows(
        f"""
        select m.actor, {_COLUMNS} from agentq.messages m
        where (m.actor, m.queue) in (
            select q.actor, q.queue from agentq.queues q
            where q.name = %(name)s and q.queue = %(queue)s and q.live > 0
        ) and m.status in {UNSETTLED}
        order by m.actor, m.place
        """,
        name=name,
        queue=queue,
    )
    found: dict[ActorId, list[Unsettled]] = {}
    for actor, *columns in rows:
        found.setdefault(actor, []).append(_unsettled(*columns))
    return found


def _unsettled(id: str, body: bytes, options: str, due: float, running: bool, cancelling: bool) -> Unsettled:
    return Unsettled(id, body, json.loads(options), due, running, cancelling)


async def states(tx: Transaction, name: str) -> Mapping[ActorId, bytes]:
    """Return the state of every created actor of a name."""
    return dict(
        await tx.rows("select actor, state from agentq.actors where name = %(name)s and state is not null", name=name)
    )


async def exists(tx: Transaction, actor: ActorId) -> bool:
    """Whether an actor was created, or has unsettled messages."""
    await settle_all_expired(tx)
    row = await tx.row(
        """
        select exists (select from agentq.actors where actor = %(actor)s and state is not null)
            or exists (select from agentq.queues where actor = %(actor)s and live > 0)
        """,
        actor=actor,
    )
    return row is not None and row[0]


async def before(tx: Transaction, messages: Sequence[MessageId]) -> Sequence[Place]:
    """Return those of these messages that are not settled, and all unsettled ones that they wait for, directly or not."""
    rows = await tx.rows(
        f"""
        with recursive named (message) as (
            select unnest(%(messages)s::text[])
            union
            select d.predecessor
            from named n
            join agentq.messages m on m.id = n.message and m.status = 'blocked'
            join agentq.predecessors d on d.message = m.id
        )
        select m.id, m.actor, m.queue from named n join agentq.messages m on m.id = n.message
        where m.status in {UNSETTLED}
        """,
        messages=list(messages),
    )
    return [Place(*row) for row in rows]


# Pauses by hand do not end by themselves, and neither do those of failures.
_WORKS = """
select exists (
    select from agentq.queues q
    join unnest(%(names)s::text[], %(queues)s::text[]) as counting (name, queue)
        on counting.name = q.name and counting.queue = q.queue
    where q.live > 0 and exists (
        select from agentq.messages m
        where m.actor = q.actor and m.queue = q.queue and (
            m.status = 'running'
            or (
                m.status = 'queued' and m.due <= %(moment)s
                and not (q.paused and coalesce(q.paused_until > %(moment)s, true))
                and coalesce(q.held_until <= %(moment)s, true)
            )
        ) and m.status in ('queued', 'running')
    )
),
(select coalesce(sum(settled), 0)::bigint from agentq.queues where name = any(%(names)s::text[]))
"""


async def works_until(tx: Transaction, queues: Mapping[str, Collection[str]], moment: float) -> tuple[bool, int]:
    """Return whether any of these queues has messages in flight or due by ``moment``, and how many were ever settled."""
    places = [(name, queue) for name, counting in queues.items() for queue in counting]
    row = await tx.row(_WORKS, names=[name for name, _ in places], queues=[queue for _, queue in places], moment=moment)
    assert row is not None  # it has no condition
    return row[0], row[1]
