"""Limits and pauses as a status shows them: why messages of queues may not start now, and how much of each limit is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.postgres.limit_declarations import ClassQueue, declared_by_all
from agentq_nb._brokers.postgres.limit_register import QueueLimit, limits_of, own_name
from agentq_nb._brokers.postgres.limit_states import LimitState, read_states
from agentq_nb._brokers.postgres.provider_pause import Paused, histories, past_pauses
from agentq_nb._brokers.statuses import LimitStatus
from agentq_nb._core.ids import ActorId
from agentq_nb._policies.limits import Limit
from agentq_nb._policies.pause import Held, PastPause, PauseHistory

_MOST_QUEUES = 1000
"""How many queues are shown that have limits of their own."""


class Holding(NamedTuple):
    """The limits and pauses of queues, as they are at one time."""

    declared: Mapping[ClassQueue, Sequence[Limit]]
    states: Mapping[str, LimitState]
    histories: Mapping[str, PauseHistory]

    @classmethod
    async def read(cls, tx: Transaction, session: str, queues: Sequence[tuple[ActorId, str, str]]) -> Holding:
        """Read what concerns these queues, each with its actor and its class's registered name."""
        declared = await declared_by_all(tx, session)
        limits = {
            limit.name: limit
            for actor, queue, name in queues
            for limit in limits_of(actor, queue, declared.get(ClassQueue(name, queue), ()))
        }
        names = [*limits, *(own_name(actor, queue) for actor, queue, _ in queues)]
        return cls(declared, await read_states(tx, limits.values()), await histories(tx, names))

    def of(self, actor: ActorId, queue: str, name: str, own: Paused | None, now: float) -> Held:
        """Return what holds a queue: a provider's pause before a limit."""
        states = [
            self.states[limit.name]
            for limit in limits_of(actor, queue, self.declared.get(ClassQueue(name, queue), ()))
            if limit.name in self.states
        ]
        pauses = [(None, own), *((state.name, state.paused) for state in states if state.declared.name is not None)]
        holding = [(limit, paused.pause) for limit, paused in pauses if paused and not paused.pause.is_over(now)]
        if holding:
            limit, pause = holding[-1]
            return Held(True, max(each.until for _, each in holding), pause.reason, limit)
        for state in states:
            if state.room(now) <= 0:
                return Held(limit=state.name, next_start=state.next_start(now))
        return Held()

    def pauses(self, actor: ActorId, queue: str, name: str, now: float) -> tuple[PastPause, ...]:
        """Return the latest pauses of a queue because of a provider's limit, oldest first."""
        declared = self.declared.get(ClassQueue(name, queue), ())
        shared = [limit.name for limit in declared if limit.name is not None]
        return past_pauses(self.histories, own_name(actor, queue), shared, now)


async def limit_statuses(tx: Transaction, session: str) -> Sequence[LimitStatus]:
    """Return the limits with a name, and those of queues that have or had messages, the busy ones first."""
    declared = await declared_by_all(tx, session)
    if not declared:
        return ()
    limits = _named(declared)
    own = {queue for queue, some in declared.items() if any(limit.name is None for limit in some)}
    paused: dict[str, Paused | None] = {}
    for actor, queue, name, held in await _own_queues(tx, own):
        some = limits_of(actor, queue, declared[ClassQueue(name, queue)])
        limits.update({one.name: one for one in some})
        paused[own_name(actor, queue)] = Paused.read(held)
    states = await read_states(tx, limits.values())
    waiting = dict(await tx.rows("select unnest(limits), count(*) from agentq.limit_waits group by 1"))
    row = await tx.row("select agentq.now()")
    now = row[0] if row else 0.0
    return [
        _status(state, state.paused or paused.get(state.name), waiting.get(state.name, 0), now)
        for state in states.values()
    ]


def _named(declared: Mapping[ClassQueue, Sequence[Limit]]) -> dict[str, QueueLimit]:
    named = {limit.name: limit for some in declared.values() for limit in some if limit.name is not None}
    return {name: QueueLimit(name, name, limit) for name, limit in named.items()}


async def _own_queues(tx: Transaction, queues: set[ClassQueue]) -> Sequence[tuple[str, str, str, str | None]]:
    if not queues:
        return []
    rows = await tx.rows(
        """
        select actor, queue, name, held from agentq.queues
        where (name, queue) in (select * from unnest(%(names)s::text[], %(queues)s::text[]))
        order by live > 0 desc, actor, queue
        limit %(most)s
        """,
        names=[name for name, _ in queues],
        queues=[queue for _, queue in queues],
        most=_MOST_QUEUES,
    )
    return [(row[0], row[1], row[2], row[3]) for row in rows]


def _status(state: LimitState, paused: Paused | None, waiting: int, now: float) -> LimitStatus:
    holding = paused if paused is not None and not paused.pause.is_over(now) else None
    return LimitStatus(
        name=state.name,
        count=state.count,
        per=state.per,
        declared=state.declared,
        used=state.used,
        next_start=state.next_start(now),
        waiting=waiting,
        paused_until=None if holding is None else holding.pause.until,
        reason=None if holding is None else holding.pause.reason,
    )
