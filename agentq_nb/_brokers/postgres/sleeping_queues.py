"""Queues with limits, or paused by a provider, whose actors sleep: which of them may go, and which one waits in line.

Of the queues that wait for one limit only that with the oldest message is in the line: the next one follows when its actor
is awake. A queue that waits for its own limit is not looked at before that may have room.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.postgres.homes import MAY_RUN
from agentq_nb._brokers.postgres.limit_line import PATIENCE, Wait, write_waits
from agentq_nb._brokers.postgres.limit_register import LimitRegister, QueueLimit, own_name
from agentq_nb._brokers.postgres.limit_states import LimitState, read_states
from agentq_nb._brokers.postgres.provider_pause import Paused
from agentq_nb._brokers.statuses import Home
from agentq_nb._core.ids import ActorId

# Queues of sleeping actors with a due message that no pause by hand holds. One message of each is looked for, by the index
# that has its messages in order.
READY = f"""
from agentq.queues q
left join agentq.actors a on a.actor = q.actor
where q.live > 0 and q.name = any(%(names)s) and a.epoch is null and (a.actor is null or {MAY_RUN})
  and not (q.paused and coalesce(q.paused_until > agentq.now(), true))
  and (
    select true from agentq.messages m
    where a.epoch is null and m.actor = q.actor and m.queue = q.queue and m.status = 'queued' and m.due <= agentq.now()
      and (m.expires is null or m.expires > agentq.now()) and m.id <> all(%(withheld)s::text[])
    order by m.place
    limit 1
  )
  and (
    select true from agentq.messages m
    where a.epoch is null and m.actor = q.actor and m.queue = q.queue and m.status = 'queued' and m.in_order
      and m.due > agentq.now()
    limit 1
  ) is null
"""

_LIMITED = f"""
select q.actor, q.queue, h.place, q.held,
    q.probe is not null and exists (select from agentq.messages p where p.id = q.probe and p.status = 'running')
from (
    select q.actor, q.queue, q.held, q.probe
    {READY}
    and (
      q.held is not null
      or (q.name, q.queue) in (select * from unnest(%(limited_names)s::text[], %(limited_queues)s::text[]))
    )
    and not exists (
      select from agentq.limit_waits w where w.actor = q.actor and w.queue = q.queue and w.until > agentq.now()
    )
) q
cross join lateral (
    select m.place from agentq.messages m
    where m.actor = q.actor and m.queue = q.queue and m.status = 'queued' and m.due <= agentq.now()
    order by m.front desc, m.priority desc, m.place
    limit 1
) h
order by h.place
limit %(most)s
"""

_MOST = 200
"""How many queues are looked at in one turn."""


class Sleeping(NamedTuple):
    """The queues that may go, the limits that others wait for, and when to look again."""

    ready: Sequence[tuple[ActorId, str]]
    limits: set[str]
    moment: float | None


async def look_for_limited(
    tx: Transaction,
    register: LimitRegister,
    names: Sequence[str],
    limited: Sequence[tuple[str, str]],
    withheld: Collection[str],
    home: Home,
    now: float,
) -> Sleeping:
    """Look at the queues of sleeping actors in the order of their next messages."""
    rows = await tx.rows(
        _LIMITED,
        names=names,
        withheld=list(withheld),
        home=home.id,
        limited_names=[name for name, _ in limited],
        limited_queues=[queue for _, queue in limited],
        most=_MOST,
    )
    if not rows:
        return Sleeping([], set(), await _next_look(tx))
    limits = {(row[0], row[1]): register.limits(row[0], [row[1]]).get(row[1], ()) for row in rows}
    states = await read_states(tx, (limit for some in limits.values() for limit in some))
    looking = _Look(states, now)
    ready: list[tuple[ActorId, str]] = []
    for actor, queue, place, held, probing in rows:
        closed = looking.closed(actor, queue, limits[actor, queue], Paused.read(held, probing))
        if not closed:
            ready.append((actor, queue))
        elif looking.leads(closed):
            until = _opening(closed, now) if all(name.startswith(own_name(actor, queue)) for name in closed) else None
            await write_waits(tx, None, [Wait(actor, queue, place, sorted(closed), None, True)], until)
    moments = [*looking.moments, await _next_look(tx), now if len(rows) == _MOST and looking.set_aside else None]
    return Sleeping(ready, set(looking.waited_for), min((one for one in moments if one is not None), default=None))


def _opening(closed: dict[str, float | None], now: float) -> float:
    return max(now + PATIENCE if moment is None else moment for moment in closed.values())


async def _next_look(tx: Transaction) -> float | None:
    row = await tx.row("select min(until) from agentq.limit_waits where session is null and until > agentq.now()")
    return None if row is None else row[0]


class _Look:
    """Looks at one queue after the other, and counts those that may go as started."""

    def __init__(self, states: dict[str, LimitState], now: float) -> None:
        self._states = states
        self._now = now
        self._rooms = {name: state.room(now) for name, state in states.items()}
        self.waited_for: set[str] = set()
        self.moments: list[float | None] = []
        self.set_aside = False

    def closed(
        self, actor: ActorId, queue: str, limits: Sequence[QueueLimit], own: Paused | None
    ) -> dict[str, float | None]:
        """Return what holds a queue, and when each may open, if that is known; nothing: it may go."""
        closed: dict[str, float | None] = {}
        pauses = [(own_name(actor, queue), own), *((one.name, self._states[one.name].paused) for one in limits)]
        for name, paused in pauses:
            if paused is not None and paused.is_closed(self._now):
                closed[name] = paused.opens_at(self._now)
        for limit in limits:
            if self._rooms[limit.name] <= 0:
                closed.setdefault(limit.name, self._states[limit.name].next_start(self._now))
        if not closed:
            for limit in limits:
                self._rooms[limit.name] -= 1
        return closed

    def leads(self, closed: dict[str, float | None]) -> bool:
        """Whether a queue is the first that waits for one of these."""
        first = [name for name in closed if name not in self.waited_for]
        self.waited_for.update(first)
        self.moments += [closed[name] for name in first]
        self.set_aside = self.set_aside or bool(first)
        return bool(first)
