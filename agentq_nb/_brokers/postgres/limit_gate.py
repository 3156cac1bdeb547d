"""The gate of an actor whose queues have limits or are paused by a provider: what it lets start, and who waits.

Whatever starts locks its limits until its commit, so that of two hosts that want the last place one gets it. A queue that is
refused waits, by the age of its next message over all actors and hosts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from agentq_nb._brokers.messages import Delivery
from agentq_nb._brokers.postgres import delivery, limit_line
from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.postgres.delivery import Wanted
from agentq_nb._brokers.postgres.limit_line import PATIENCE, Refused, Wait
from agentq_nb._brokers.postgres.limit_register import LimitRegister, QueueLimit, own_name
from agentq_nb._brokers.postgres.limit_starts import store_starts
from agentq_nb._brokers.postgres.limit_states import LimitState, lock_limits, read_states
from agentq_nb._brokers.postgres.provider_pause import Paused
from agentq_nb._core.ids import ActorId
from agentq_nb._policies.limits import ConcurrencyLimit


class Found(NamedTuple):
    """What the database says of an actor's limits."""

    now: float
    limits: dict[str, tuple[QueueLimit, ...]]
    """The limits of each queue that has any."""
    states: dict[str, LimitState]
    own: dict[str, Paused]
    """The pauses of single queues."""
    waits: list[Wait]


class Gate:
    """What limits and pauses let an actor start in one transaction."""

    def __init__(self, actor: ActorId, found: Found) -> None:
        self._actor = actor
        self._now, self._limits, self._states, self._own, self._waits = found
        self._taken: dict[str, int] = {}
        self._tried: set[str] = set()
        """The names under which a message was taken to be tried."""
        self._places: dict[str, int] = {}
        """The places of the queues' next messages, where others wait too."""

    @classmethod
    async def read(
        cls, tx: Transaction, register: LimitRegister, actor: ActorId, wanted: Wanted, now: float, *, lock: bool
    ) -> Gate:
        """Read an actor's limits and pauses, and with ``lock`` keep them as they are."""
        if lock:
            await lock_limits(tx, register.names(actor))
        own = await tx.rows(_OWN_PAUSES, actor=actor)
        limits = {queue: some for queue, some in register.limits(actor).items() if _is_wanted(queue, wanted.queues)}
        states = await read_states(tx, (limit for some in limits.values() for limit in some))
        waits = await limit_line.read_waits(tx, actor, list(states)) if states or own else []
        paused = {queue: found for queue, held, probing in own if (found := Paused.read(held, probing)) is not None}
        gate = cls(actor, Found(now, limits, states, paused, waits))
        if any(wait.actor != actor for wait in waits):
            gate._places = await delivery.oldest(tx, actor, wanted, gate.queues)
        return gate

    @property
    def queues(self) -> list[str]:
        """The queues that have limits or are paused."""
        return list({**self._limits, **self._own})

    # --- what may start -----------------------------------------------------------------------------------------------

    def narrow(self, wanted: Wanted) -> Wanted:
        """Leave out what may not start now."""
        return wanted._replace(closed=[queue for queue in self.queues if self._room(queue) <= 0])

    def _room(self, queue: str) -> float:
        """How many messages of the queue may start."""
        if any(paused.is_closed(self._now) for paused in self._pauses(queue).values()):
            return 0
        trying = [name for name, paused in self._pauses(queue).items() if paused.is_trying(self._now)]
        if any(name in self._tried or self._older(name, queue) for name in trying):
            return 0
        rooms = (self._room_of(limit.name) - len(self._older(limit.name, queue)) for limit in self._of(queue))
        return min([*rooms, 1 if trying else math.inf])

    def _of(self, queue: str) -> Sequence[QueueLimit]:
        return self._limits.get(queue, ())

    def _room_of(self, name: str) -> int:
        return self._states[name].room(self._now) - self._taken.get(name, 0)

    def _pauses(self, queue: str) -> dict[str, Paused]:
        """The pauses that concern a queue, by the name of the limit or its own."""
        shared = {limit.name: paused for limit in self._of(queue) if (paused := self._states[limit.name].paused)}
        return {own_name(self._actor, queue): self._own[queue], **shared} if queue in self._own else shared

    def _older(self, name: str, queue: str) -> list[Wait]:
        """The other queues that wait for a limit, could start, and whose messages are older than this queue's next one."""
        place = self._places.get(queue)
        if place is None:
            return []
        return [
            wait
            for wait in self._waits
            if wait.actor != self._actor
            and name in wait.limits
            and wait.place < place
            and not wait.is_over(self._now)
            and all(other in self._states and self._room_of(other) > 0 for other in wait.limits)
        ]

    # --- taking -------------------------------------------------------------------------------------------------------

    async def take(
        self, tx: Transaction, epoch: int, wanted: Wanted, limit: int, only: str | None = None
    ) -> list[Delivery]:
        """Start up to ``limit`` messages, as many as may start, and count them."""
        taken: list[Delivery] = []
        places = {queue: names for queue, some in self._limits.items() if (names := _places(some))}
        while len(taken) < limit:
            rooms = [room for queue in self.queues if (room := self._room(queue)) > 0]
            count = int(min([limit - len(taken), *rooms]))
            found = await delivery.take(tx, self._actor, epoch, self.narrow(wanted), count, only, places)
            for each in found:
                await self._count(tx, each)
            taken += found
            if len(found) < count or only is not None:
                break
        await store_starts(tx, self._states, [(each.token, self._of(each.queue)) for each in taken])
        self._announce(tx)
        return taken

    def _announce(self, tx: Transaction) -> None:
        """Tell those who wait for a limit that has more room, and nothing of a limit that is full again."""
        others = {name for wait in self._waits if wait.actor != self._actor for name in wait.limits}
        for name in self._states:
            if self._room_of(name) <= 0:
                tx.announced.pop(("limit", name), None)
            elif name in self._taken and name in others:
                tx.announce(("limit", name))

    async def _count(self, tx: Transaction, taken: Delivery) -> None:
        for limit in self._of(taken.queue):
            self._taken[limit.name] = self._taken.get(limit.name, 0) + 1
        for name, paused in self._pauses(taken.queue).items():
            if paused.is_trying(self._now):
                self._tried.add(name)
                await tx.ask(_TRY_NAMED if name in self._states else _TRY_OWN, **self._trying(name, taken))

    def _trying(self, name: str, taken: Delivery) -> dict[str, str]:
        if name in self._states:
            return {"name": name, "probe": taken.id}
        return {"actor": self._actor, "queue": taken.queue, "probe": taken.id}

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def wait(self, tx: Transaction, wanted: Wanted, session: str) -> Refused | None:
        """Put the queues into the line that have a due message and may not start it; return what was refused."""
        closed = self.narrow(wanted).closed
        places = await delivery.oldest(tx, self._actor, wanted, closed) if closed else {}
        moments: dict[str, float | None] = {}
        for queue in places:
            moments.update(self._moments(queue))
        mine = {wait.queue: wait for wait in self._waits if wait.actor == self._actor}
        waits = [
            Wait(self._actor, queue, place, sorted(self._moments(queue)), None, False)
            for queue, place in places.items()
        ]
        await limit_line.write_waits(tx, session, [wait for wait in waits if mine.get(wait.queue) != wait])
        await self.leave(tx, [queue for queue in mine if queue not in places])
        overtaken = [wait for queue in places for limit in self._of(queue) for wait in self._older(limit.name, queue)]
        await limit_line.call(tx, [wait for wait in overtaken if wait.called is None])
        return Refused(min(places.values()), moments, list(places)) if places else None

    async def leave(self, tx: Transaction, queues: Collection[str]) -> None:
        """Take those of these queues out of the line that are in it, and those that did not use their turn."""
        mine = [wait.queue for wait in self._waits if wait.actor == self._actor and wait.queue in queues]
        if mine:
            await limit_line.leave_line(tx, self._actor, mine)
        await limit_line.call(
            tx, [wait for wait in self._waits if wait.actor != self._actor and wait.is_over(self._now)]
        )

    def _moments(self, queue: str) -> dict[str, float | None]:
        """The limits and pauses that close a queue, and when each may open, if that is known."""
        moments: dict[str, float | None] = {}
        for limit in self._of(queue):
            if self._room_of(limit.name) <= 0:
                moments[limit.name] = self._states[limit.name].next_start(self._now)
            elif len(self._older(limit.name, queue)) >= self._room_of(limit.name):
                moments[limit.name] = self._now + PATIENCE
        for name, paused in self._pauses(queue).items():
            if paused.is_closed(self._now):
                moments[name] = paused.opens_at(self._now)
            elif paused.is_trying(self._now):
                moments[name] = self._now + PATIENCE
        return moments


def _is_wanted(queue: str, queues: Collection[str] | None) -> bool:
    return not queue.startswith("$") if queues is None else queue in queues


def _places(limits: Iterable[QueueLimit]) -> list[str]:
    return [limit.name for limit in limits if isinstance(limit.declared, ConcurrencyLimit)]


_OWN_PAUSES = """
select q.queue, q.held,
    q.probe is not null and exists (select from agentq.messages m where m.id = q.probe and m.status = 'running')
from agentq.queues q
where q.actor = %(actor)s and q.held is not null
"""

_TRY_NAMED = "update agentq.limits set probe = %(probe)s where name = %(name)s"

_TRY_OWN = "update agentq.queues set probe = %(probe)s where actor = %(actor)s and queue = %(queue)s"
