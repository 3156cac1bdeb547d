"""Who waits for limits: the queues of all hosts by the age of their next message, and this host's receivers.

The database has the line of all hosts, so that no message overtakes an older one that could start and is asked for. In this
process only the receiver with the oldest message is woken for a limit: when it has looked, it is the turn of the next one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.postgres.notifications import Watch
from agentq_nb._core.ids import ActorId

PATIENCE = 1.0
"""Seconds for which a place is kept for a queue whose turn it is: its host may not look."""
WAKING = 5.0
"""Seconds for which it is kept for a sleeping actor that is being woken."""


_MOST_HEARD = 1000
"""How many limits are remembered that were heard of lately."""


class Wait(NamedTuple):
    """A queue that waits for these ``limits`` with a message at ``place`` in the order of sending.

    :ivar called: since when it is its turn.
    :ivar asleep: whether its actor runs nowhere.
    """

    actor: ActorId
    queue: str
    place: int
    limits: Sequence[str]
    called: float | None
    asleep: bool

    def is_over(self, now: float) -> bool:
        """Whether it did not use its turn."""
        return self.called is not None and now >= self.called + (WAKING if self.asleep else PATIENCE)


async def read_waits(tx: Transaction, actor: ActorId, names: Sequence[str]) -> list[Wait]:
    """Return the queues that wait for one of these limits, and those of the actor."""
    rows = await tx.rows(
        """
        select actor, queue, place, limits, called, session is null from agentq.limit_waits
        where limits && %(names)s::text[] or actor = %(actor)s
        """,
        actor=actor,
        names=names,
    )
    return [Wait(*row) for row in rows]


async def write_waits(tx: Transaction, session: str | None, waits: Sequence[Wait], until: float | None = None) -> None:
    """Put queues into the line, or bring their entries up to date: it is not their turn."""
    for wait in waits:
        await tx.ask(
            """
            insert into agentq.limit_waits (actor, queue, place, limits, session, until)
            values (%(actor)s, %(queue)s, %(place)s, %(limits)s, %(session)s, %(until)s)
            on conflict (actor, queue) do update
            set place = excluded.place, limits = excluded.limits, session = excluded.session, until = excluded.until,
                called = null
            """,
            actor=wait.actor,
            queue=wait.queue,
            place=wait.place,
            limits=list(wait.limits),
            session=session,
            until=until,
        )


async def leave_line(tx: Transaction, actor: ActorId, queues: Collection[str]) -> None:
    """Take queues of an actor out of the line. Those behind them may go."""
    rows = await tx.rows(
        "delete from agentq.limit_waits where actor = %(actor)s and queue = any(%(queues)s) returning limits",
        actor=actor,
        queues=list(queues),
    )
    tx.announce(*(("limit", name) for (limits,) in rows for name in limits))


async def call(tx: Transaction, waits: Iterable[Wait]) -> None:
    """Note that it is the turn of these queues, and tell their hosts; those that did not use it lose it."""
    for wait in waits:
        change = (
            "delete from agentq.limit_waits" if wait.called else "update agentq.limit_waits set called = agentq.now()"
        )
        await tx.ask(f"{change} where actor = %(actor)s and queue = %(queue)s", actor=wait.actor, queue=wait.queue)
        tx.announce(("work" if wait.asleep else "turn", wait.actor))


class Refused(NamedTuple):
    """What a receiver was refused: the place of its oldest message, and when each limit may have room, if that is known."""

    place: int
    moments: Mapping[str, float | None]
    queues: Sequence[str]


class Line:
    """The receivers of this host that wait for limits, each with what wakes it."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[Watch, int]] = {}
        self._refused: dict[Watch, Refused] = {}
        self._heard: dict[str, int] = {}
        self._forgotten = 0
        self.now = 0
        """How many times limits were heard of."""

    def note(self, receiver: Watch, refused: Refused | None, since: int) -> float | None:
        """Note what a receiver was refused, if anything, and return when it should look again.

        ``since`` is what :attr:`now` was before it looked: it looks again at once if a limit was heard of meanwhile.
        """
        earlier = self._refused.get(receiver)
        before: set[str] = set() if earlier is None else set(earlier.moments)
        names: set[str] = set() if refused is None else set(refused.moments)
        for name in before - names:
            self._drop(name, receiver)
        if refused is None:
            self._refused.pop(receiver, None)
        else:
            self._refused[receiver] = refused
            for name in names:
                self._waiting.setdefault(name, {})[receiver] = refused.place
        for name in before - names:
            self._wake(name)
        if refused is None:
            return None
        first = [name for name in names if self._first(name) is receiver]
        if self.has_heard(first, since):
            return 0.0
        return min((moment for name in first if (moment := refused.moments[name]) is not None), default=None)

    def leave(self, receiver: Watch) -> Refused | None:
        """Take a receiver out of the line; return what it was refused last."""
        refused = self._refused.pop(receiver, None)
        for name in () if refused is None else refused.moments:
            self._drop(name, receiver)
            self._wake(name)
        return refused

    def hear(self, name: str) -> None:
        """Wake the receiver whose turn it may be, after news of a limit."""
        self.now += 1
        self._heard.pop(name, None)
        self._heard[name] = self.now
        if len(self._heard) > _MOST_HEARD:
            self._forgotten = self._heard.pop(next(iter(self._heard)))
        self._wake(name)

    def has_heard(self, names: Iterable[str], since: int) -> bool:
        """Whether one of these limits may have been heard of since :attr:`now` was this."""
        return any(self._heard.get(name, self._forgotten) > since for name in names)

    def _wake(self, name: str) -> None:
        if (first := self._first(name)) is not None:
            first.ring()

    def _first(self, name: str) -> Watch | None:
        waiting = self._waiting.get(name)
        return min(waiting, key=waiting.__getitem__) if waiting else None

    def _drop(self, name: str, receiver: Watch) -> None:
        waiting = self._waiting[name]
        waiting.pop(receiver, None)
        if not waiting:
            del self._waiting[name]
