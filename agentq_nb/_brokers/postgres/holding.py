"""Why messages of queues may not start now: a provider's pause, or a limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.postgres.limit_declarations import ClassQueue, declared_by_all
from agentq_nb._brokers.postgres.limit_register import limits_of, own_name
from agentq_nb._brokers.postgres.limit_states import LimitState, read_states
from agentq_nb._brokers.postgres.provider_pause import Paused, histories, past_pauses
from agentq_nb._core.ids import ActorId
from agentq_nb._policies.limits import Limit
from agentq_nb._policies.pause import PastPause, PauseHistory


class Held(NamedTuple):
    """What holds a queue. Times are in seconds since 1970."""

    paused: bool = False
    paused_until: float | None = None
    reason: str | None = None
    limit: str | None = None
    next_start: float | None = None


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
