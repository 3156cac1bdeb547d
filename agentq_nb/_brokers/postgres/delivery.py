"""Find an actor's due messages in their order, and start them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from psycopg import AsyncCursor

from agentq_nb._actor.send_options import origin_of
from agentq_nb._brokers.chains import lost
from agentq_nb._brokers.messages import Delivery
from agentq_nb._brokers.postgres.connection import Row, Transaction
from agentq_nb._brokers.postgres.results import read
from agentq_nb._core.ids import ActorId, MessageId

# Which messages of an actor may be delivered now. Of a queue in which one waits in order nothing is, until that is due;
# of a paused queue nothing is. (An anti-join would make the planner expect no rows, and sort all that wait.)
DUE = """
m.actor = %(actor)s and m.status = 'queued' and m.due <= agentq.now()
and (m.expires is null or m.expires > agentq.now())
and case when %(queues)s::text[] is null then left(m.queue, 1) <> '$' else m.queue = any(%(queues)s::text[]) end
and m.id <> all(%(withheld)s::text[]) and m.queue <> all(%(closed)s::text[])
and m.queue not in (
    select q.queue from agentq.queues q
    where q.actor = %(actor)s
      and (
        (q.paused and coalesce(q.paused_until > agentq.now(), true))
        or coalesce(q.held_until > agentq.now(), false)
      )
    union all
    select o.queue from agentq.messages o
    where o.actor = %(actor)s and o.status = 'queued' and o.in_order and o.due > agentq.now()
)
"""

_TAKE = f"""
with taken as (
    select m.id
    from agentq.messages m
    where {DUE} and (%(only)s::text is null or m.id = %(only)s)
    order by m.front desc, m.priority desc, m.place
    limit %(limit)s
    for no key update of m
)
update agentq.messages m
set status = 'running', epoch = %(epoch)s, token = nextval('agentq.starts'), began_at = agentq.now(), expires = null,
    limits = {{limits}}
from taken
where m.id = taken.id and m.status = 'queued'
returning m.front, m.priority, m.place, m.id, m.queue, m.body, m.failures, m.crashes, m.created_at, m.token, m.ended,
    m.options, m.batch, m.released_because
"""
_TAKE_FREELY = _TAKE.format(limits="null")
_TAKE_PLACES = _TAKE.format(
    limits="nullif(array(select jsonb_array_elements_text(%(places)s::jsonb -> m.queue)), '{}')"
)

_PEEK = f"select exists (select from agentq.messages m where {DUE})"

# When to look again: when something falls due, and at the ends of pauses.
_NEXT = """
select min(moment) from (
    select min(due) as moment from agentq.messages
    where actor = %(actor)s and status = 'queued' and due > 0 and due > %(since)s
    union all
    select min(paused_until) from agentq.queues
    where actor = %(actor)s and paused and paused_until > %(since)s
    union all
    select min(held_until) from agentq.queues
    where actor = %(actor)s and held_until > %(since)s
) moments
"""


class Wanted(NamedTuple):
    """What a receiver asks for; ``withheld`` are messages that must not be delivered, ``closed`` queues."""

    queues: Sequence[str] | None
    withheld: Sequence[MessageId]
    closed: Sequence[str] = ()

    @classmethod
    def of(cls, queues: Collection[str] | None, withheld: Collection[MessageId]) -> Wanted:
        return cls(None if queues is None else list(queues), list(withheld))

    @property
    def parameters(self) -> dict[str, Any]:
        """What the conditions of queries take."""
        return {"queues": self.queues, "withheld": self.withheld, "closed": list(self.closed)}


async def take(
    tx: Transaction,
    actor: ActorId,
    epoch: int,
    wanted: Wanted,
    limit: int,
    only: MessageId | None = None,
    places: Mapping[str, Sequence[str]] | None = None,
) -> list[Delivery]:
    """Start up to ``limit`` messages, or ``only`` this one, and return them in their order.

    ``places`` are the concurrency limits of queues that have any.
    """
    asked = {"actor": actor, "epoch": epoch, "limit": limit, "only": only, **wanted.parameters}
    if places:
        taken = await tx.ask(_TAKE_PLACES, places=json.dumps(places), **asked)
    else:
        taken = await tx.ask(_TAKE_FREELY, **asked)
    deliveries = await read_taken(taken)
    return await with_results(tx, deliveries) if awaited(deliveries) else deliveries


async def ask_to_take(tx: Transaction, actor: ActorId, epoch: int, wanted: Wanted, limit: int) -> AsyncCursor[Row]:
    """Start up to ``limit`` messages without waiting for them. :func:`read_taken` returns them."""
    return await tx.ask(_TAKE_FREELY, actor=actor, epoch=epoch, limit=limit, only=None, **wanted.parameters)


async def read_taken(taken: AsyncCursor[Row]) -> list[Delivery]:
    """Return the messages that were started, in their order, without the results that they waited for."""
    found = await taken.fetchall()
    found.sort(key=lambda row: (not row[0], -row[1], row[2]))
    return [_delivery(*row[3:]) for row in found]


def awaited(deliveries: Sequence[Delivery]) -> bool:
    """Whether one of them was sent after others."""
    return any(delivery.after for delivery in deliveries)


def _delivery(
    id: str,
    queue: str,
    body: bytes,
    failures: int,
    crashes: int,
    created_at: float,
    token: int,
    ended: int,
    options: str,
    batch: str | None,
    released_because: str | None,
) -> Delivery:
    parsed: dict[str, Any] = json.loads(options)
    because = None if released_because is None else json.loads(released_because)
    after = [lost(message) for message in parsed.get("after", ())]
    return Delivery(
        id, queue, body, failures, crashes, created_at, token, 1 + ended, origin_of(parsed), after, batch, because
    )


async def with_results(tx: Transaction, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Return deliveries with the results of what they were sent after, which may be deleted by now."""
    _, found = await read(tx, list({one.message for delivery in deliveries for one in delivery.after}))
    return [delivery._replace(after=[found.get(one.message, one) for one in delivery.after]) for delivery in deliveries]


async def is_due(tx: Transaction, actor: ActorId, wanted: Wanted) -> bool:
    """Whether there is a message to deliver."""
    row = await tx.row(_PEEK, actor=actor, **wanted.parameters)
    return row is not None and row[0]


async def oldest(tx: Transaction, actor: ActorId, wanted: Wanted, queues: Sequence[str]) -> dict[str, int]:
    """Return the place, in the order of sending, of the next due message of each of these queues that has one."""
    return dict(await tx.rows(_OLDEST, actor=actor, of=list(queues), **wanted.parameters))


_OLDEST = f"""
select q.queue, h.place
from unnest(%(of)s::text[]) as q (queue)
cross join lateral (
    select m.place from agentq.messages m
    where {DUE} and m.queue = q.queue
    order by m.front desc, m.priority desc, m.place
    limit 1
) h
"""


async def next_moment(tx: Transaction, actor: ActorId, since: float) -> float | None:
    """Return when another message of the actor may be due that was not ``since`` then."""
    row = await tx.row(_NEXT, actor=actor, since=since)
    return None if row is None else row[0]


# One message of each queue is looked for, and only in queues of these actors: the last condition needs a row of both tables.
# The moment is a query of its own, so that it is computed once and not for each message.
_AWAKE = """
select q.actor, q.queue
from agentq.actors a
join agentq.queues q on q.actor = a.actor
where a.session = %(session)s and q.live > 0
  and not (q.paused and coalesce(q.paused_until > agentq.now() + %(soon)s, true))
  and (
    select true from agentq.messages m
    where a.epoch is not null and m.actor = q.actor and m.queue = q.queue and m.status = 'queued'
      and m.due <= (select agentq.now() + %(soon)s)
    order by m.place
    limit 1
  )
"""


async def awake_with_work(tx: Transaction, session: str, soon: float) -> Sequence[tuple[ActorId, str]]:
    """Return the actors that a session runs, each with a queue that has messages due within ``soon`` seconds."""
    return [(actor, queue) for actor, queue in await tx.rows(_AWAKE, session=session, soon=soon)]


async def give_back(tx: Transaction, epoch: int, deliveries: Sequence[Delivery]) -> None:
    """Undo the start of messages that never reached their receiver."""
    rows = await tx.rows(
        """
        update agentq.messages set status = 'queued', epoch = null
        where id = any(%(ids)s) and token = any(%(tokens)s) and epoch = %(epoch)s and status = 'running'
        returning limits
        """,
        ids=[delivery.id for delivery in deliveries],
        tokens=[delivery.token for delivery in deliveries],
        epoch=epoch,
    )
    tx.announce(*(("limit", name) for (limits,) in rows for name in limits or ()))
