"""Limits as the database has them now: what is used, when the next start may be, and whether a provider pauses them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.postgres.limit_register import QueueLimit
from agentq_nb._brokers.postgres.provider_pause import Paused
from agentq_nb._policies.limits import Limit
from agentq_nb._policies.rate_limit import RateLimit

_FAR_AHEAD = 1.0
"""Seconds by which no start is later than now, unless the server's clock was set back."""


@dataclass(frozen=True, slots=True)
class LimitState:
    """One limit. Times are in seconds since 1970 by the database's clock.

    :ivar used: how many starts its window holds, or how many places are taken.
    :ivar nth: the start that is ``count`` starts ago; ``latest`` the last one.
    :ivar paused: the pause because of a provider's limit, of the queues that share its name.
    """

    name: str
    declared: Limit
    count: int
    per: float | None
    used: int
    nth: float | None
    latest: float | None
    paused: Paused | None

    def next_start(self, now: float) -> float | None:
        """Return when the next message may start; None: when another one ends."""
        if self.per is None:
            return now if self.used < self.count else None
        earliest = now if self.nth is None else max(now, self.nth + self.per)
        if self._spread and self.latest is not None:
            earliest = max(earliest, self.latest + self.per / self.count)
        return None if earliest == math.inf else earliest

    def room(self, now: float) -> int:
        """Return how many messages may start."""
        upcoming = self.next_start(now)
        if upcoming is None or upcoming > now:
            return 0
        return 1 if self._spread else self.count - self.used

    @property
    def _spread(self) -> bool:
        return isinstance(self.declared, RateLimit) and self.declared.spread


async def lock_limits(tx: Transaction, names: Sequence[str]) -> None:
    """Lock limits with names until the end of the transaction.

    What is read after that, and not in the same statement, is what other hosts have left.
    """
    if names:
        await tx.ask("select from agentq.limits where name = any(%(names)s) order by name for update", names=names)


async def read_states(tx: Transaction, limits: Iterable[QueueLimit]) -> dict[str, LimitState]:
    """Return the states of limits, by name."""
    wanted = {limit.name: limit for limit in limits}
    if not wanted:
        return {}
    states = await _read(tx, wanted)
    now = await tx.row("select agentq.now()")
    ahead = (now[0] if now else 0.0) + _FAR_AHEAD
    late = [limit.counted_as for limit in wanted.values() if ahead < (states[limit.name].latest or 0.0) < math.inf]
    if not late:
        return states
    await count_as_now(tx, late)
    return await _read(tx, wanted)


async def _read(tx: Transaction, wanted: dict[str, QueueLimit]) -> dict[str, LimitState]:
    rows = await tx.rows(
        _STATES,
        names=list(wanted),
        counted=[limit.counted_as for limit in wanted.values()],
        counts=[limit.declared.count for limit in wanted.values()],
        pers=[getattr(limit.declared, "per", None) for limit in wanted.values()],
    )
    return {row[0]: _state(wanted[row[0]].declared, *row) for row in rows}


def _state(
    declared: Limit,
    name: str,
    count: int,
    per: float | None,
    used: int,
    nth: float | None,
    latest: float | None,
    held: str | None,
    probing: bool,
) -> LimitState:
    return LimitState(name, declared, count, per, used, nth, latest, Paused.read(held, probing))


async def count_as_now(tx: Transaction, names: Sequence[str]) -> None:
    """Let stored starts that are later than now count as now: the server's clock was set back."""
    await tx.ask(
        """
        update agentq.limit_starts set at = agentq.now()
        where name = any(%(names)s) and at > agentq.now() + %(ahead)s and at < 'infinity'
        """,
        names=names,
        ahead=_FAR_AHEAD,
    )


_STATES = """
select d.name, d.count, d.per,
    case when d.per is null
        then (
            select count(*) from agentq.messages m
            where m.status = 'running' and m.limits is not null and m.limits @> array[d.name]
        ) + (select count(*) from agentq.limited_work w where w.limits @> array[d.name])
        else (select count(*) from agentq.limit_starts s where s.name = d.counted and s.at > agentq.now() - d.per)
    end,
    case when d.per is not null then (
        select s.at from agentq.limit_starts s where s.name = d.counted order by s.at desc offset d.count - 1 limit 1
    ) end,
    case when d.per is not null then (
        select s.at from agentq.limit_starts s where s.name = d.counted order by s.at desc limit 1
    ) end,
    d.held,
    d.probe is not null and exists (select from agentq.messages m where m.id = d.probe and m.status = 'running')
from (
    select g.name, g.counted, l.held, l.probe,
        coalesce(l.count, (l.agreed::jsonb ->> 'count')::int, g.count) as count,
        case when g.per is not null then coalesce(l.per, (l.agreed::jsonb ->> 'per')::float8, g.per) end as per
    from unnest(%(names)s::text[], %(counted)s::text[], %(counts)s::int[], %(pers)s::float8[])
        as g (name, counted, count, per)
    left join agentq.limits l on l.name = g.name
) d
"""
