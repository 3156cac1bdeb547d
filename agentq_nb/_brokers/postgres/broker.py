"""A broker whose queues are in PostgreSQL, shared by the hosts that use the same database.

Every decision is made in a short transaction from the stored rows; memory holds only this host's leases and waiters. A host
that does not renew its session in time loses its leases (see ``session``).
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from agentq_nb._brokers.batches import Batches
from agentq_nb._brokers.changes import Change, DeadLetters
from agentq_nb._brokers.messages import Enqueued, NewMessage, Place, StoredResult, Unsettled
from agentq_nb._brokers.postgres import (
    control,
    homes,
    lease,
    ready_actors,
    redelivery,
    results,
    session,
    status,
    unsettled,
)
from agentq_nb._brokers.postgres.address import parse_address
from agentq_nb._brokers.postgres.batches import PostgresBatches
from agentq_nb._brokers.postgres.connection import STATUS_PATIENCE, Database, Transaction
from agentq_nb._brokers.postgres.crash_gate import CrashGate
from agentq_nb._brokers.postgres.enqueue import Enqueuer
from agentq_nb._brokers.postgres.exchange import PostgresExchange
from agentq_nb._brokers.postgres.history import MessageHistory, prune
from agentq_nb._brokers.postgres.lease import PostgresLease
from agentq_nb._brokers.postgres.limits import PostgresLimits
from agentq_nb._brokers.postgres.migration import migrate
from agentq_nb._brokers.postgres.notable_events import NotableEvents
from agentq_nb._brokers.postgres.notifications import POLL, Notifications
from agentq_nb._brokers.postgres.settlement import Runs
from agentq_nb._brokers.postgres.upkeep import Upkeep
from agentq_nb._brokers.statuses import ActorHome, Home, HostLease, QueueStatus
from agentq_nb._core.clock import Clock, SystemClock
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.threads import in_long_thread
from agentq_nb.errors import Unavailable


class PostgresBroker:
    """See :class:`agentq_nb._brokers.base.Broker`. Make it with :meth:`open`; call it from one event loop only."""

    look_every = POLL
    """Seconds between two checks for work, see :class:`agentq_nb._host.keep_alive.BrokerAtWork`."""

    def __init__(self, url: str, clock: Clock | None = None, home: Home | None = None) -> None:
        self.clock = clock or SystemClock()
        self.database = Database(parse_address(url))
        self.session = uuid.uuid4().hex
        self.home = home or Home(self.session, "a host without a folder")
        self.database.host = f"{self.home.id} {self.home.name}"
        self.notifications = Notifications(self.database, self.clock, self.session)
        self.notable_events = NotableEvents(self.database, self.notifications, self.clock)
        self.withheld: set[MessageId] = set()
        self.limits = PostgresLimits(self.database, self.notifications, self.clock, self.session)
        self.history = MessageHistory(self.database)
        self.on_close: Callable[[], Awaitable[None]] | None = None
        """Called when it is closed."""
        self.crash_gate = CrashGate(self.clock, self.session)
        self.runs: dict[ActorId, Runs] = {}
        self.settled = 0
        """How many messages of the queues that were asked about have been settled, by any host."""
        self.leases: dict[ActorId, PostgresLease] = {}
        self.acquiring: Counter[ActorId] = Counter()
        """Calls of :meth:`acquire` that the database has not answered yet."""
        self._enqueuer = Enqueuer(self.database, self.notifications, self.clock, self.session)
        self.batches: Batches = PostgresBatches(
            self.database, self.notifications, self.clock, self._enqueuer, self.session
        )
        self.exchange = PostgresExchange(self.database, self.notifications, self.clock, self.session, self.home)
        self._facts: Mapping[str, Any] = {}
        self._renewal: session.Renewal | None = None
        self._upkeep = Upkeep(self)
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        clock: Clock | None = None,
        facts: Mapping[str, Any] | None = None,
        home: Home | None = None,
    ) -> PostgresBroker:
        """Connect to ``postgresql://…``, and create the tables if they are missing.

        :param facts: a description of this host for others, as plain JSON values.
        :param home: where the files of its actors are.

        Raises Unavailable, StoreTooNew, ``actor.validation_error``.
        """
        broker = cls(url, clock, home)
        broker._facts = {**(facts or {}), "home": broker.home.id, "place": broker.home.name}
        await broker.database.open()
        try:
            await migrate(broker.database)
            await broker._begin()
        except BaseException:
            await broker.database.close()
            raise
        return broker

    async def _begin(self) -> None:
        self.database.announce = self.notifications.announce
        self.notifications.handlers["cancel"] = self.cancelling
        self.notifications.is_awake = self._is_awake
        self.notifications.handlers["moved"] = self.leave
        await self.database.run(lambda tx: session.end_predecessors(tx, self.session, self.home), repeatable=True)
        await session.end_dead(self.database, self.session)
        await self.database.run(lambda tx: session.begin(tx, self.session, self._facts), repeatable=True)
        self._renewal = session.Renewal(self.database.address, self.session, self._session_lost)
        self.exchange.start()
        await self.notifications.start()
        await self._upkeep.look_for_others()
        self._keep(self._upkeep.look_after())
        self._keep(self._upkeep.look_after_stalled())

    @property
    def trouble(self) -> str | None:
        """A current problem that is being retried; None if there is none."""
        return self.database.trouble

    # --- running ------------------------------------------------------------------------------------------------------

    async def enqueue(self, new_messages: Sequence[NewMessage], room_timeout: float | None = 0.0) -> Sequence[Enqueued]:
        return await self._enqueuer.enqueue(new_messages, room_timeout)

    async def acquire(self, actor: ActorId, host: str, *, keeps_files: bool = False) -> PostgresLease | None:
        home = self.home if keeps_files else None
        acquired = await self._acquire(actor, host, home)
        if isinstance(acquired, str):
            await session.end_dead(self.database, self.session)
            acquired = await self._acquire(actor, host, home)
        if acquired is None or isinstance(acquired, str):
            return None
        if (other := self.leases.get(actor)) is not None:
            if other.epoch > acquired.epoch:
                return None  # a later call was answered before this one
            other.lose()
        found = self.leases[actor] = PostgresLease(self, actor, *acquired)
        return found

    async def _acquire(self, actor: ActorId, host: str, home: Home | None) -> session.Acquired | str | None:
        self.acquiring[actor] += 1
        try:
            return await self.database.run(lambda tx: session.acquire(tx, actor, host, self.session, home))
        finally:
            self.acquiring[actor] -= 1
            if not self.acquiring[actor]:
                del self.acquiring[actor]

    async def homes(self, actor: ActorId | None = None) -> Mapping[ActorId, ActorHome]:
        return await self.database.run(
            lambda tx: homes.homes(tx, self.home, actor), repeatable=True, patience=STATUS_PATIENCE
        )

    async def give_up_home(self, actor: ActorId, *, back: bool = False) -> bool:
        return await self.database.run(lambda tx: homes.give_up(tx, actor, back=back))

    async def exists(self, actor: ActorId) -> bool:
        return await self.database.run(lambda tx: unsettled.exists(tx, actor), repeatable=True)

    async def now(self) -> float:
        """Return the database's time, in seconds since 1970."""
        row = await self.database.run(lambda tx: tx.row("select agentq.now()"), repeatable=True)
        return 0.0 if row is None else row[0]

    async def states(self, name: str) -> Mapping[ActorId, bytes]:
        return await self.database.run(lambda tx: unsettled.states(tx, name), repeatable=True)

    async def unsettled(self, name: str, queue: str) -> Mapping[ActorId, Sequence[Unsettled]]:
        return await self.database.run(lambda tx: unsettled.unsettled_of_all(tx, name, queue), repeatable=True)

    def ready_actors(self, queues: Mapping[str, Collection[str] | None]) -> AsyncIterator[ActorId]:
        return ready_actors.ready_actors(
            self.database, self.notifications, self.clock, queues, self.withheld, self.limits, self.home
        )

    async def wait(self, message: MessageId, timeout: float | None, waiter: ActorId | None = None) -> StoredResult:
        return await results.wait(self.database, self.notifications, self.clock, message, timeout)

    async def unsettled_before(self, messages: Sequence[MessageId]) -> Sequence[Place]:
        return await self.database.run(lambda tx: unsettled.before(tx, messages), repeatable=True)

    async def change(self, actor: ActorId, change: Change) -> int:
        return await self.database.run(lambda tx: control.apply(tx, actor, change))

    async def redeliver(self, which: DeadLetters) -> int:
        return await redelivery.redeliver(self.database, which)

    async def status(self, actor: ActorId | None = None, *, totals: bool = True) -> Sequence[QueueStatus]:
        return await self.database.run(
            lambda tx: status.statuses(tx, self.session, actor), repeatable=True, patience=STATUS_PATIENCE
        )

    async def works_until(self, queues: Mapping[str, Collection[str]], moment: float) -> bool:
        """Whether these queues have messages in flight or due by ``moment``. The work of other hosts counts: they may die."""
        works, self.settled = await self.database.run(
            lambda tx: unsettled.works_until(tx, queues, moment), repeatable=True
        )
        return works

    async def hosts(self) -> Sequence[HostLease]:
        """Return every host that uses these queues, this one too. Raises Unavailable."""
        return await self.database.run(status.hosts, repeatable=True)

    async def prune(self, before: float) -> int:
        """Delete history from before this time, in seconds since 1970; return the number of deleted messages."""
        return await prune(self.database, before)

    # --- leases -------------------------------------------------------------------------------------------------------

    def ended(self, lease: PostgresLease, *, known: bool) -> None:
        """See :class:`agentq_nb._brokers.postgres.lease.Leaseholder`."""
        if self.leases.get(lease.actor) is lease:
            del self.leases[lease.actor]
        if not known and not self.database.closed:
            self._keep(self._end(lease))

    async def _end(self, ended: PostgresLease) -> None:
        while not self.database.closed:
            with suppress(Unavailable):
                await self.database.run(lambda tx: lease.end(tx, ended.actor, ended.epoch), repeatable=True)
                return
            await self.clock.sleep(1.0)

    def cancelling(self, actor: ActorId, message: MessageId) -> None:
        """Stop a message that was cancelled, if this host is working on it."""
        held = self.leases.get(actor)
        if held is not None and held.cancelling is not None:
            held.cancelling(message)

    def _is_awake(self, actor: ActorId) -> bool:
        return actor in self.leases

    def leave(self, actor: ActorId) -> None:
        """End an actor that another host may run from now on."""
        held = self.leases.get(actor)
        if held is not None and held.leaving is not None:
            held.leaving()

    def _session_lost(self) -> None:
        """Lose all leases, since another host has ended this session as dead, and begin a new session."""
        leases, self.leases = list(self.leases.values()), {}
        for held in leases:
            held.lose()
        if not self.database.closed:
            self._keep(self._begin_again())

    async def _begin_again(self) -> None:
        while not self.database.closed:
            with suppress(Unavailable):
                await self.database.run(self._begin_session, repeatable=True)
                await self.exchange.begin_again()
                self._renewal = session.Renewal(self.database.address, self.session, self._session_lost)
                return
            await self.clock.sleep(1.0)

    async def _begin_session(self, tx: Transaction) -> None:
        await session.begin(tx, self.session, self._facts)
        await self.limits.declare_again(tx)

    def _keep(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- closing ------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        if self.database.closed:
            return
        if self._loop is not asyncio.get_running_loop():
            await self._close_after_its_loop()
            return
        leases = list(self.leases.values())
        for held in leases:
            await held.finish()
        for held in leases:
            held.lose()
        with suppress(Unavailable):
            await self.database.run(
                lambda tx: session.end(tx, self.session, crashed=False), repeatable=True, patience=2.0
            )
        await self.abandon()
        if self.on_close is not None:
            await self.on_close()

    async def _close_after_its_loop(self) -> None:
        """Close what is left once the event loop has ended, and its tasks with it, without a stop."""
        self.database.drop()
        if self._renewal is not None:
            await self._renewal.end()
        await in_long_thread(session.end_now, self.database.address, self.session)
        if self.on_close is not None:
            await self.on_close()

    def close_now(self) -> None:
        """End the session without an event loop, at the end of the process. Blocking.

        What is in flight goes back uncounted. If the server cannot be reached, it comes again as after a crash.
        """
        if not self.database.closed:
            self.database.closed = True
            session.end_now(self.database.address, self.session)

    async def abandon(self) -> None:
        """Close the connections without giving leases back, as if the process had died."""
        self.database.closed = True
        for held in list(self.leases.values()):
            held.lose()
        self.leases.clear()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.limits.close()
        await self.exchange.close()
        await self.notifications.close()
        if self._renewal is not None:
            await self._renewal.end()
        await self.database.close()
