"""The receivers of a lease: how they look for messages, wait for them, and stand in line for limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import ExitStack
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from psycopg import AsyncCursor

from agentq_nb._brokers.messages import Delivery, Take
from agentq_nb._brokers.postgres import delivery, limit_line
from agentq_nb._brokers.postgres.connection import Database, Row, Transaction
from agentq_nb._brokers.postgres.crash_gate import LOOK_AGAIN, CrashGate
from agentq_nb._brokers.postgres.delivery import Wanted
from agentq_nb._brokers.postgres.limit_gate import Gate
from agentq_nb._brokers.postgres.limit_line import Refused
from agentq_nb._brokers.postgres.limit_starts import LEEWAY, LONG_RESERVE, RESERVE, has_windows, move_starts
from agentq_nb._brokers.postgres.limit_states import lock_limits
from agentq_nb._brokers.postgres.limits import PostgresLimits
from agentq_nb._brokers.postgres.notifications import Notifications, Watch, by_this_clock, receivable
from agentq_nb._brokers.postgres.settlement import Beginning
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId, MessageId

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Work: TypeAlias = Callable[[Transaction, Beginning], Awaitable[T]]
"""Part of a transaction of a lease."""


class Unread(Protocol[T_co]):
    """What a transaction has asked for, to be read once it is committed: nothing waits for it before."""

    async def read(self) -> T_co: ...


class Seen(NamedTuple, Generic[T]):
    """What a receiver saw at the time ``now``, and when there may be more; both by the database's clock.

    :ivar refused: what limits did not let start.
    :ivar limited: whether limits were asked; then who waits next looks again, to wait in line.
    :ivar in_time: until when on the monotonic clock the messages must be handed out, to have started as stored.
    """

    what: T
    now: float
    moment: float | None
    refused: Refused | None = None
    limited: bool = False
    in_time: float | None = None

    async def read(self) -> Seen[T]:
        """Return this."""
        return self


class Taken(NamedTuple):
    """A look whose messages are not read yet, if it has any; without any limit."""

    database: Database
    actor: ActorId
    cursor: AsyncCursor[Row]
    now: float

    async def read(self) -> Seen[list[Delivery]]:
        """Return the messages. What they waited for, and when there may be more, need not be of the same transaction."""
        taken, moment = await delivery.read_taken(self.cursor), None
        if not taken:
            moment = await self._ask(lambda tx: delivery.next_moment(tx, self.actor, self.now))
        elif delivery.awaited(taken):
            taken = await self._ask(lambda tx: delivery.with_results(tx, taken))
        return Seen(taken, self.now, moment)

    async def _ask(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        return await self.database.run(work, repeatable=True, one_statement=True)


class Look(NamedTuple):
    """A look that found nothing: a watch for what has changed since, and when to look again by this machine's clock."""

    watch: Watch
    moment: float | None
    end: Callable[[], None]


class ReceivingBroker(Protocol):
    """What receivers need of the broker."""

    database: Database
    notifications: Notifications
    limits: PostgresLimits
    clock: Clock
    session: str
    withheld: set[MessageId]
    crash_gate: CrashGate


class Calls(Protocol):
    """What receivers need of their lease, whose calls reach the database one after the other."""

    actor: ActorId
    epoch: int

    @property
    def over(self) -> bool:
        """Whether the lease was released or lost."""
        ...

    def check(self) -> None:
        """Raise LeaseLost if it is over."""
        ...

    def begin(self, work: Work[T]) -> asyncio.Task[T]:
        """Begin the next call."""
        ...

    def begin_and_read(self, work: Work[Unread[T]]) -> asyncio.Task[T]:
        """Begin the next call, and read what it has asked for."""
        ...

    async def do(self, work: Work[T]) -> T:
        """Run the next call to its end even if the caller is cancelled."""
        ...


class Receivers:
    """All receivers of one lease. Each looks, and waits until there may be more than it saw."""

    def __init__(self, broker: ReceivingBroker, lease: Calls) -> None:
        self._broker = broker
        self._lease = lease
        self._latest_looks: dict[frozenset[str] | None, Look] = {}
        """By the queues that were asked for, as long as nothing waits for them."""

    async def take(self, take: Take) -> Sequence[Delivery]:
        """Start messages and return them, none if there are none in time."""

        async def look(tx: Transaction, beginning: Beginning) -> Unread[Seen[list[Delivery]]]:
            wanted = Wanted.of(take.queues, self._broker.withheld)
            gate = await self._gate(tx, beginning, wanted, lock=True)
            before = self._broker.clock.monotonic()
            if beginning.suspects:
                taken = await self._take_carefully(tx, wanted, take.limit, gate)
            elif gate is not None:
                taken = await gate.take(tx, self._lease.epoch, wanted, take.limit)
            else:
                actor, epoch = self._lease.actor, self._lease.epoch
                asked = await delivery.ask_to_take(tx, actor, epoch, wanted, take.limit)
                return Taken(self._broker.database, actor, asked, beginning.now)
            seen = await self._seen(tx, beginning, taken)
            if gate is None:
                return seen
            if not taken:
                refused = await gate.wait(tx, wanted, self._broker.session) if take.timeout != 0 else None
                return seen._replace(limited=True, refused=refused)
            await gate.leave(tx, gate.queues)
            return seen._replace(in_time=before + RESERVE - LEEWAY)

        return await self._until(take.queues, take.timeout, lambda: self._taken(look))

    async def until_due(
        self, queues: Collection[str] | None, timeout: float | None, *, may_be_early: bool = False
    ) -> None:
        """Return when a message is due, or the time is over. See :meth:`agentq_nb._brokers.base.Lease.until_due`."""

        async def look(tx: Transaction, beginning: Beginning) -> Seen[bool]:
            wanted = Wanted.of(queues, self._broker.withheld)
            gate = await self._gate(tx, beginning, wanted, lock=False)
            open_ones = wanted if gate is None else gate.narrow(wanted)
            if beginning.suspects:
                due = await self._broker.crash_gate.next(tx, self._lease.actor, open_ones) is not None
            else:
                due = await delivery.is_due(tx, self._lease.actor, open_ones)
            seen = await self._seen(tx, beginning, due)
            refused = None if due or gate is None else await gate.wait(tx, wanted, self._broker.session)
            return seen._replace(refused=refused)

        latest = self._latest_looks.pop(_asked(queues), None)
        if may_be_early and latest is not None:
            await self._until_changed(latest, timeout)
        else:
            await self._until(queues, timeout, lambda: self._lease.do(look), latest)

    async def _until_changed(self, latest: Look, timeout: float | None) -> None:
        """Return when there may be more than a look saw. To look whether there is would cost a new message its time."""
        try:
            if not latest.watch.rung():
                deadline = None if timeout is None else self._broker.clock.monotonic() + timeout
                await latest.watch.wait(deadline, latest.moment, polls=False)
        finally:
            latest.end()
        self._lease.check()

    async def _gate(self, tx: Transaction, beginning: Beginning, wanted: Wanted, *, lock: bool) -> Gate | None:
        """Return the gate of an actor that has limits or is paused by a provider; None: it needs none."""
        register = self._broker.limits.register
        if not beginning.held and not register.limits(self._lease.actor):
            return None
        return await Gate.read(tx, register, self._lease.actor, wanted, beginning.now, lock=lock)

    async def _take_carefully(self, tx: Transaction, wanted: Wanted, limit: int, gate: Gate | None) -> list[Delivery]:
        """Take one message after the other while one of them may crash the host."""
        taken: list[Delivery] = []
        while len(taken) < limit:
            open_ones = wanted if gate is None else gate.narrow(wanted)
            message = await self._broker.crash_gate.next(tx, self._lease.actor, open_ones, taken=True)
            if message is None:
                break
            if gate is None:
                taken += await delivery.take(tx, self._lease.actor, self._lease.epoch, wanted, 1, message)
            else:
                taken += await gate.take(tx, self._lease.epoch, wanted, 1, message)
        return taken

    async def _seen(self, tx: Transaction, beginning: Beginning, what: T) -> Seen[T]:
        moment = None
        if not what:
            moment = await delivery.next_moment(tx, self._lease.actor, beginning.now)
            if beginning.suspects:
                again = beginning.now + LOOK_AGAIN
                moment = again if moment is None else min(moment, again)
        return Seen(what, beginning.now, moment)

    async def _until(
        self,
        queues: Collection[str] | None,
        timeout: float | None,
        look: Callable[[], Awaitable[Seen[T]]],
        latest: Look | None = None,
    ) -> T:
        """Return what is seen when it is not empty, or when the time is over.

        It waits at once if nothing has changed since the ``latest`` look. Only those in line for limits look again every
        few seconds: if every receiver of every awake actor did, they would keep the server busy with nothing to do.
        """
        clock, line = self._broker.clock, self._broker.limits.line
        deadline = None if timeout is None else clock.monotonic() + timeout
        with ExitStack() as watching:
            keys = (*receivable(self._lease.actor, queues), ("turn", self._lease.actor))
            watch = watching.enter_context(self._broker.notifications.watch(*keys))
            if latest is not None:
                latest.end()
                if not latest.watch.rung():
                    await watch.wait(deadline, latest.moment, polls=False)
                    self._lease.check()
            try:
                while True:
                    watch.clear()
                    before, heard = clock.time(), line.now
                    seen = await look()
                    if seen.what:
                        return seen.what
                    moments = [seen.moment, line.note(watch, seen.refused, heard)]
                    moment = by_this_clock(
                        min((one for one in moments if one is not None), default=None), seen.now, before
                    )
                    if deadline is not None and clock.monotonic() >= deadline:
                        if not seen.limited:
                            self._note(queues, Look(watch, moment, watching.pop_all().close))
                        return seen.what
                    await watch.wait(deadline, moment, polls=seen.refused is not None)
                    self._lease.check()
            finally:
                self._leave_line(line.leave(watch))

    def _leave_line(self, refused: Refused | None) -> None:
        """Take the queues of a receiver that stopped waiting for limits out of the line, so that those behind them may start."""
        if refused is not None and not self._lease.over:
            self._lease.begin(lambda tx, _: limit_line.leave_line(tx, self._lease.actor, refused.queues))

    def _note(self, queues: Collection[str] | None, look: Look) -> None:
        """Note the latest look for these queues, for who waits next."""
        self.forget(_asked(queues))
        if not self._lease.over:
            self._latest_looks[_asked(queues)] = look
        else:
            look.end()

    def forget(self, *asked: frozenset[str] | None) -> None:
        """Forget the latest looks for these sets of queues; without one, all."""
        for queues in asked or list(self._latest_looks):
            if queues in self._latest_looks:
                self._latest_looks.pop(queues).end()

    async def _taken(self, look: Work[Unread[Seen[list[Delivery]]]]) -> Seen[list[Delivery]]:
        taking = self._lease.begin_and_read(look)
        try:
            seen = await asyncio.shield(taking)
            while seen.in_time is not None and self._broker.clock.monotonic() > seen.in_time:
                seen = await self._lease.do(lambda tx, beginning, seen=seen: self._move(tx, beginning, seen))
            return seen
        except asyncio.CancelledError:
            self._lease.begin(lambda tx, _: self._give_back(tx, taking))
            raise

    async def _move(self, tx: Transaction, beginning: Beginning, seen: Seen[list[Delivery]]) -> Seen[list[Delivery]]:
        """Count starts later whose commit took too long; without room for them then, put the messages back."""
        limits, before = self._broker.limits.register.limits(self._lease.actor), self._broker.clock.monotonic()
        starts = [(each.token, some) for each in seen.what if has_windows(some := limits.get(each.queue, ()))]
        await lock_limits(tx, self._broker.limits.register.names(self._lease.actor))
        if not starts or await move_starts(tx, starts):
            return seen._replace(in_time=before + LONG_RESERVE - LEEWAY if starts else None)
        await delivery.give_back(tx, self._lease.epoch, seen.what)
        return Seen([], beginning.now, beginning.now + RESERVE)

    async def _give_back(self, tx: Transaction, taking: asyncio.Task[Seen[list[Delivery]]]) -> None:
        """Undo a take whose receiver was cancelled before it got the messages. Calls run in order, so the take has ended."""
        if not taking.cancelled() and taking.exception() is None and taking.result().what:
            await delivery.give_back(tx, self._lease.epoch, taking.result().what)
            tx.announce(("work", self._lease.actor))


def _asked(queues: Collection[str] | None) -> frozenset[str] | None:
    return None if queues is None else frozenset(queues)
