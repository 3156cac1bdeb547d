"""Calls, events and class descriptions between brokers. See :class:`agentq_nb._brokers.exchange.Exchange`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping

from agentq_nb._brokers.exchange import Request
from agentq_nb._brokers.messages import Answer
from agentq_nb._brokers.postgres import requests, session, status
from agentq_nb._brokers.postgres.connection import STATUS_PATIENCE, Database, Transaction
from agentq_nb._brokers.postgres.events import Events
from agentq_nb._brokers.postgres.notifications import Notifications
from agentq_nb._brokers.postgres.pending_calls import PendingCalls
from agentq_nb._brokers.statuses import Elsewhere, Home
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId


class PostgresExchange:
    """Calls, events and descriptions of classes, as rows of tables."""

    def __init__(
        self, database: Database, notifications: Notifications, clock: Clock, session: str, home: Home
    ) -> None:
        self.on_withdrawn: Callable[[str], None] = lambda request: None
        self.on_event: Callable[[ActorId, str, bytes], None] = lambda actor, event, payload: None
        self._database = database
        self._notifications = notifications
        self._session = session
        self._home = home
        self._calls = PendingCalls(database, notifications, clock, session)
        self._events = Events(database, notifications, session, self._received)
        self._tasks: list[asyncio.Task[None]] = []
        self._classes: set[str] = set()
        """The names of this host's classes."""

    # --- calls --------------------------------------------------------------------------------------------------------

    async def ask(self, request: Request) -> bytes:
        return await self._calls.ask(request)

    async def is_awake(self, actor: ActorId) -> bool:
        return await self._database.run(lambda tx: requests.is_awake(tx, actor), repeatable=True)

    async def withdraw(self, request: str) -> None:
        await self._database.run(lambda tx: requests.withdraw(tx, request), repeatable=True)

    def requests(self, names: Callable[[], Collection[str]], begun: Collection[str]) -> AsyncIterator[Request]:
        return requests.requests(self._database, self._notifications, self._session, self._home, names, begun)

    async def answer(self, answer: Answer) -> None:
        await self._database.run(lambda tx: requests.answer(tx, answer), repeatable=True)

    async def give_back(self, request: str) -> None:
        await self._database.run(lambda tx: requests.give_back(tx, request, self._session), repeatable=True)

    # --- events -------------------------------------------------------------------------------------------------------

    def wants(self, actor: ActorId, event: str) -> bool:
        return self._events.wants(actor, event)

    def broadcast(self, actor: ActorId, event: str, payload: bytes) -> None:
        self._events.broadcast(actor, event, payload)

    async def listen(self, actor: ActorId, event: str) -> None:
        await self._events.listen(actor, event)

    async def ignore(self, actor: ActorId, event: str) -> None:
        await self._events.ignore(actor, event)

    # --- classes ------------------------------------------------------------------------------------------------------

    async def describe(self, classes: Mapping[str, bytes]) -> None:
        self._classes |= classes.keys()
        await self._database.run(lambda tx: _describe(tx, classes), repeatable=True)
        await self._declare()

    async def _declare(self) -> None:
        await self._database.run(
            lambda tx: session.add_facts(tx, self._session, {"classes": sorted(self._classes)}), repeatable=True
        )

    async def elsewhere(self, actor: ActorId | None = None) -> Elsewhere:
        return await self._database.run(
            lambda tx: status.elsewhere(tx, self._session, actor), repeatable=True, patience=STATUS_PATIENCE
        )

    async def described(self) -> Mapping[str, bytes]:
        rows = await self._database.run(
            lambda tx: tx.rows("select name, description from agentq.classes order by name"), repeatable=True
        )
        return {name: bytes(description) for name, description in rows}

    # --- its upkeep ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Send and receive events until :meth:`close`."""
        self._notifications.handlers["withdrawn"] = self._withdrawn
        self._notifications.handlers["listening"] = self._events.note_listener
        self._notifications.on_listening = self._events.read_listeners
        work = (self._calls.work, self._events.send, self._events.receive)
        self._tasks = [asyncio.create_task(each()) for each in work]

    def _received(self, actor: ActorId, event: str, payload: bytes) -> None:
        self.on_event(actor, event, payload)

    def _withdrawn(self, request: str) -> None:
        self.on_withdrawn(request)

    async def begin_again(self) -> None:
        """Go on with a new session: describe its classes, and register its listeners. Raises Unavailable."""
        await self._declare()
        await self._events.listen_again()

    async def look_after(self) -> None:
        """Read what notifications may have missed, and delete old rows. Raises Unavailable."""
        for request in await self._database.look(lambda tx: requests.look_after(tx, self._session)):
            self.on_withdrawn(request)
        await self._events.look_after()

    async def close(self) -> None:
        """Stop sending and receiving."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _describe(tx: Transaction, classes: Mapping[str, bytes]) -> None:
    await tx.ask(
        """
        insert into agentq.classes (name, description)
        select name, description from unnest(%(names)s::text[], %(descriptions)s::bytea[]) as given (name, description)
        order by name
        on conflict (name) do update set description = excluded.description
        where classes.description <> excluded.description
        """,
        names=list(classes),
        descriptions=list(classes.values()),
    )
