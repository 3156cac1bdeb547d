"""The status of queues, of the hosts that use them, and of the server that has them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import psycopg

from agentq_nb._brokers.postgres.address import Address, parse_address
from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.postgres.expirations import settle_all_expired
from agentq_nb._brokers.postgres.limit_status import Holding
from agentq_nb._brokers.postgres.provider_pause import Paused
from agentq_nb._brokers.postgres.rows import UNSETTLED
from agentq_nb._brokers.statuses import Elsewhere, HostLease, QueueStatus
from agentq_nb._core.ids import ActorId
from agentq_nb.errors import Unavailable

_WINDOW = 300.0
"""Seconds over which the rate is measured."""

_STATUS = f"""
select q.actor, q.queue,
    coalesce(m.ready, 0), coalesce(m.later, 0), coalesce(m.blocked, 0), coalesce(m.running, 0), coalesce(d.dead, 0),
    agentq.now() - (
        select o.created_at from agentq.messages o
        where o.actor = q.actor and o.queue = q.queue and o.status = 'queued' and o.due <= agentq.now()
        order by o.front desc, o.priority desc, o.place
        limit 1
    ),
    coalesce(m.running_ids, '{{}}'),
    q.paused and coalesce(q.paused_until > agentq.now(), true), q.paused_until,
    q.name, q.held,
    q.handled, q.completed, q.expired, coalesce(r.recent, 0),
    (select count(*) from agentq.senders s where s.actor = q.actor and s.queue = q.queue),
    q.stopped, agentq.now()
from agentq.queues q
left join (
    select actor, queue,
        count(*) filter (where status = 'queued' and due <= agentq.now()) as ready,
        count(*) filter (where status = 'queued' and due > agentq.now()) as later,
        count(*) filter (where status = 'blocked') as blocked,
        count(*) filter (where status = 'running') as running,
        array_agg(id order by token) filter (where status = 'running') as running_ids
    from agentq.messages
    where status in {UNSETTLED} and (%(actor)s::text is null or actor = %(actor)s)
    group by actor, queue
) m on m.actor = q.actor and m.queue = q.queue
left join (
    select actor, queue, count(*) as dead
    from agentq.messages
    where status = 'failed' and (%(actor)s::text is null or actor = %(actor)s)
    group by actor, queue
) d on d.actor = q.actor and d.queue = q.queue
left join (
    select actor, queue, count(*) as recent
    from agentq.messages
    where ended_at > agentq.now() - %(window)s and status in ('completed', 'failed')
      and (%(actor)s::text is null or actor = %(actor)s)
    group by actor, queue
) r on r.actor = q.actor and r.queue = q.queue
where (%(actor)s::text is null or q.actor = %(actor)s)
  and (
    q.live > 0 or q.settled > 0 or coalesce(d.dead, 0) > 0
    or (q.paused and coalesce(q.paused_until > agentq.now(), true)) or q.held is not null
    or exists (select from agentq.senders s where s.actor = q.actor and s.queue = q.queue)
  )
order by q.actor, q.queue
"""


async def statuses(tx: Transaction, session: str, actor: ActorId | None) -> Sequence[QueueStatus]:
    """Return the status of the queues of one actor, or of all."""
    await settle_all_expired(tx)
    rows = await tx.rows(_STATUS, actor=actor, window=_WINDOW)
    held = await Holding.read(tx, session, [(row[0], row[1], row[11]) for row in rows])
    return [_status(held, *row) for row in rows]


def _status(
    holding: Holding,
    actor: str,
    queue: str,
    ready: int,
    later: int,
    blocked: int,
    running: int,
    dead: int,
    oldest: float | None,
    running_ids: Sequence[str],
    paused: bool,
    paused_until: float | None,
    name: str,
    own_pause: str | None,
    handled: int,
    completed: int,
    expired: int,
    recent: int,
    waiting_senders: int,
    stopped: str | None,
    now: float,
) -> QueueStatus:
    held = holding.of(actor, queue, name, Paused.read(own_pause), now)
    return QueueStatus(
        actor=actor,
        queue=queue,
        ready=ready,
        delayed=later,
        blocked=blocked,
        running=running,
        dead=dead,
        oldest=None if oldest is None else max(0.0, oldest),
        running_ids=tuple(running_ids),
        paused=paused or held.paused,
        paused_until=paused_until if paused else held.paused_until,
        handled=handled,
        completed=completed,
        expired=expired,
        per_minute=round(60 * recent / _WINDOW, 1),
        waiting_senders=waiting_senders,
        pause_reason=held.reason if stopped is None else stopped,
        limited_by=held.limit,
        next_start=held.next_start,
        stopped=stopped is not None,
        pauses=holding.pauses(actor, queue, name, now),
    )


_HOSTS = """
select s.session, s.facts, s.until,
    array(select a.actor from agentq.actors a where a.session = s.session order by a.actor),
    (
        select count(*) from agentq.messages m join agentq.actors a on a.epoch = m.epoch
        where a.session = s.session and m.status = 'running'
    )
from agentq.sessions s
order by s.session
"""


async def hosts(tx: Transaction) -> Sequence[HostLease]:
    """Return the hosts that use the queues, also those whose time is over and that were not ended yet."""
    return [
        HostLease(session, json.loads(facts), until, actors, running)
        for session, facts, until, actors, running in await tx.rows(_HOSTS)
    ]


_ELSEWHERE = """
select s.facts,
    array(
        select a.actor from agentq.actors a
        where a.session = s.session and (%(actor)s::text is null or a.actor = %(actor)s)
    )
from agentq.sessions s
where s.session <> %(session)s and s.until >= agentq.now()
"""


async def elsewhere(tx: Transaction, session: str, actor: ActorId | None) -> Elsewhere:
    """Return what sessions besides this one do."""
    awake: dict[ActorId, str] = {}
    classes: set[str] = set()
    for text, actors in await tx.rows(_ELSEWHERE, session=session, actor=actor):
        facts = json.loads(text)
        classes.update(facts.get("classes", ()))
        awake.update(dict.fromkeys(actors, _name(facts)))
    return Elsewhere(awake, classes)


def _name(facts: Mapping[str, Any]) -> str:
    return f"{facts.get('machine', 'another machine')}, process {facts.get('process', 'unknown')}"


class ServerFacts(NamedTuple):
    """``number`` is the version as a number, like 150004. ``hosts`` are those that use the queues; None: no tables yet."""

    version: str
    number: int
    read_only: bool
    hosts: int | None


def server_facts(url: str) -> ServerFacts:
    """Ask the server. Blocks. Raises Unavailable and ``actor.validation_error``."""
    address = parse_address(url)
    try:
        return _ask(address)
    except psycopg.Error as error:
        text = address.hide(" ".join(str(error).split()))
        raise Unavailable(f"The queues on PostgreSQL ({address.shown}) cannot be reached: {text}") from None


def _ask(address: Address) -> ServerFacts:
    with psycopg.connect(address.conninfo, autocommit=True) as connection:
        row = connection.execute(
            "select current_setting('server_version'), current_setting('server_version_num')::int,"
            " current_setting('transaction_read_only') = 'on', to_regclass(%s) is not null",
            [f"{address.schema}.sessions"],
        ).fetchone()
        assert row is not None  # it has no condition
        version, number, read_only, begun = row
        hosts = None
        if begun:
            counted = connection.execute(
                address.statement("select count(*) from agentq.sessions where until > agentq.now()")
            )
            hosts = (counted.fetchone() or (0,))[0]
        return ServerFacts(version.split()[0], number, read_only, hosts)
