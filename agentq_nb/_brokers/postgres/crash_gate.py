"""Find the message that crashes its host, by handling each suspect with nothing else in flight on this host.

When a host dies with several messages in flight, no crash is counted for any of them: they become suspects. While there are
suspects, the gate decides what is delivered: a suspect only while nothing else is in flight on this host, those started last
first, and nothing beside it. After a minute without progress everything is delivered, since a suspect may wait for a message
that is held back.
"""

from __future__ import annotations

from typing import NamedTuple

from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.postgres.delivery import DUE, Wanted
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._policies.retry import backoff

_PATIENCE = 60.0
"""Seconds that everything else waits for a suspect; doubled by each further crash with others in flight."""
_LONGEST_PATIENCE = 3600.0
_LATER_ONES = 5.0
"""Seconds that a suspect waits for those that were started later."""
LOOK_AGAIN = 1.0
"""Seconds after which a receiver that was refused asks again."""


class Suspect(NamedTuple):
    """A suspect of an actor that runs here; ``ready``: it is the next of its queue."""

    id: MessageId
    running: bool
    suspicion: int
    token: int
    ready: bool


_SUSPECTS = """
select s.id, s.status = 'running', s.suspicion, coalesce(s.token, 0),
    s.status = 'queued' and s.due <= agentq.now()
    and not exists (
        select from agentq.queues q
        where q.actor = s.actor and q.queue = s.queue
          and (
            (q.paused and coalesce(q.paused_until > agentq.now(), true))
            or coalesce(q.held_until > agentq.now(), false)
          )
    )
    and not exists (
        select from agentq.messages o
        where o.actor = s.actor and o.queue = s.queue and o.status = 'queued' and o.due <= agentq.now()
          and (not o.front, -o.priority, o.place) < (not s.front, -s.priority, s.place)
    )
from agentq.messages s join agentq.actors a on a.actor = s.actor
where s.suspicion > 0 and s.status in ('queued', 'running') and a.session = %(session)s
"""

_IN_FLIGHT = """
select exists (
    select from agentq.messages m join agentq.actors a on a.epoch = m.epoch
    where a.session = %(session)s and m.status = 'running'
)
"""

_HEADS = f"""
select id from (
    select distinct on (m.queue) m.id, m.front, m.priority, m.place
    from agentq.messages m
    where {DUE}
    order by m.queue, m.front desc, m.priority desc, m.place
) heads
order by front desc, priority desc, place
"""


class CrashGate:
    """Decides what the broker of one host delivers while there are suspects."""

    def __init__(self, clock: Clock, session: str) -> None:
        self._clock = clock
        self._session = session
        self._asked: float | None = None
        """Since when a suspect waits or is handled, on the monotonic clock."""
        self._handling = False

    async def next(self, tx: Transaction, actor: ActorId, wanted: Wanted, *, taken: bool = False) -> MessageId | None:
        """Return the message of an actor that may be delivered now, and is if it is ``taken``."""
        # Two receivers of this host decide one after the other.
        await tx.ask("select pg_advisory_xact_lock(hashtextextended(%(session)s, 1))", session=self._session)
        suspects = {row[0]: Suspect(*row) for row in await tx.rows(_SUSPECTS, session=self._session)}
        heads = [row[0] for row in await tx.rows(_HEADS, actor=actor, **wanted.parameters)]
        row = await tx.row(_IN_FLIGHT, session=self._session)
        busy = row is not None and row[0]
        if self._handling and not any(suspect.running for suspect in suspects.values()):
            self._handling, self._asked = False, None
        found = next((head for head in heads if self._permits(head, suspects, busy)), None)
        if taken and found in suspects:
            self._handling, self._asked = True, self._clock.monotonic()
        return found

    def _permits(self, message: MessageId, suspects: dict[MessageId, Suspect], busy: bool) -> bool:
        handled = any(suspect.running for suspect in suspects.values())
        over = self._is_over(suspects)
        if over and not handled:
            self._asked, over = None, False
        suspect = suspects.get(message)
        if suspect is None:
            return over or not handled
        if self._asked is None:
            self._asked = self._clock.monotonic()
        later = any(other.ready and other.token > suspect.token for other in suspects.values())
        early = self._clock.monotonic() < self._asked + _LATER_ONES
        return over or not (busy or (early and later))

    def _is_over(self, suspects: dict[MessageId, Suspect]) -> bool:
        if self._asked is None:
            return False
        most = max((suspect.suspicion for suspect in suspects.values()), default=1)
        patience = backoff(most, first=_PATIENCE, longest=_LONGEST_PATIENCE)
        return self._clock.monotonic() >= self._asked + patience
