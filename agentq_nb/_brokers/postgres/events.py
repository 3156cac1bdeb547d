"""Events of actors, for listeners in other hosts and clients.

Each event is a row, so that it can be large, and so that a lost notification loses no event. Events without a listener
elsewhere are not written.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from agentq_nb._brokers.postgres.connection import Database, Key, Transaction
from agentq_nb._brokers.postgres.notifications import Notifications
from agentq_nb._core.ids import ActorId
from agentq_nb.errors import Unavailable

_KEPT = 60.0
"""Seconds after which an event is deleted. Listeners look for new ones every few seconds."""
_AT_ONCE = 1000
_BYTES_AT_ONCE = 8 * 1024 * 1024
_AGAIN = 0.5
_LONGEST_NAME = 1000
"""Longer names do not fit into a notification: other brokers learn of them when they look."""
_MOST_UNSENT = 10_000
"""How many events wait for the server. While it cannot be reached, the oldest are dropped."""

_EVENTS: Key = ("events",)

Place = tuple[ActorId, str]
"""An actor, and the name of an event."""


class Events:
    """The events of one broker's actors for others, and those of others that it listens to.

    :param on_event: called with the actor, the name and the payload of an event from elsewhere.
    """

    def __init__(
        self,
        database: Database,
        notifications: Notifications,
        session: str,
        on_event: Callable[[ActorId, str, bytes], None],
    ) -> None:
        self._on_event = on_event
        self._database = database
        self._notifications = notifications
        self._session = session
        self._wanted: set[Place] = set()
        """What others listen to."""
        self._heard: Counter[Place] = Counter()
        """What this broker listens to, and how often."""
        self._changing = asyncio.Lock()
        """Held while listening begins or ends: the server must see both in their order."""
        self._reading = asyncio.Lock()
        """Held while it is read what others listen to."""
        self._noted: set[Place] = set()
        """What others have begun to listen to since this broker began to look last."""
        self._unsent: deque[tuple[ActorId, str, bytes]] = deque(maxlen=_MOST_UNSENT)
        self._sending = asyncio.Event()
        self._listening = asyncio.Event()
        self._last = 0

    # --- from here ----------------------------------------------------------------------------------------------------

    def wants(self, actor: ActorId, event: str) -> bool:
        """See :meth:`agentq_nb._brokers.exchange.Exchange.wants`."""
        return (actor, event) in self._wanted

    def broadcast(self, actor: ActorId, event: str, payload: bytes) -> None:
        """See :meth:`agentq_nb._brokers.exchange.Exchange.broadcast`."""
        self._unsent.append((actor, event, payload))
        self._sending.set()

    async def send(self) -> None:
        """Write what is broadcast, until cancelled."""
        while True:
            await self._sending.wait()
            self._sending.clear()
            while events := self._next():
                try:
                    await self._database.run(lambda tx, events=events: self._insert(tx, events))
                except Unavailable:
                    self._put_back(events)
                    await asyncio.sleep(_AGAIN)

    def _put_back(self, events: Sequence[tuple[ActorId, str, bytes]]) -> None:
        """Put events back before the later ones, the newest of them that there is room for."""
        room = _MOST_UNSENT - len(self._unsent)
        self._unsent.extendleft(reversed(events[max(0, len(events) - room) :]))

    def _next(self) -> list[tuple[ActorId, str, bytes]]:
        """Take the next events, as many as one transaction should hold."""
        taken: list[tuple[ActorId, str, bytes]] = []
        size = 0
        while self._unsent and len(taken) < _AT_ONCE and size < _BYTES_AT_ONCE:
            taken.append(self._unsent.popleft())
            size += len(taken[-1][2])
        return taken

    async def _insert(self, tx: Transaction, events: Sequence[tuple[ActorId, str, bytes]]) -> None:
        await tx.ask("set local synchronous_commit = off")
        # One writer after the other, so that numbers become visible in their order.
        await tx.ask("select pg_advisory_xact_lock('agentq.events'::regclass::oid::bigint)")
        await tx.ask(
            """
            insert into agentq.events (actor, event, payload, session, created_at)
            select actor, event, payload, %(session)s, agentq.now()
            from unnest(%(actors)s::text[], %(events)s::text[], %(payloads)s::bytea[]) with ordinality
                as given (actor, event, payload, place)
            order by place
            """,
            session=self._session,
            actors=[actor for actor, _, _ in events],
            events=[event for _, event, _ in events],
            payloads=[payload for _, _, payload in events],
        )
        tx.announce(_EVENTS)

    # --- from elsewhere -----------------------------------------------------------------------------------------------

    async def listen(self, actor: ActorId, event: str) -> None:
        """See :meth:`agentq_nb._brokers.exchange.Exchange.listen`."""
        async with self._changing:
            if (actor, event) not in self._heard:
                last = await self._database.run(lambda tx: self._begin(tx, [(actor, event)]), repeatable=True)
                if not self._listening.is_set():
                    self._last = last
                    self._listening.set()
            self._heard[actor, event] += 1

    async def ignore(self, actor: ActorId, event: str) -> None:
        """See :meth:`agentq_nb._brokers.exchange.Exchange.ignore`."""
        async with self._changing:
            self._heard[actor, event] -= 1
            if self._heard[actor, event] > 0:
                return
            del self._heard[actor, event]
            if not self._heard:
                self._listening.clear()
            await self._database.run(lambda tx: self._end(tx, actor, event), repeatable=True)

    async def listen_again(self) -> None:
        """Register what this broker listens to under its new session. Raises Unavailable."""
        async with self._changing:
            if self._heard:
                await self._database.run(lambda tx: self._begin(tx, list(self._heard)), repeatable=True)

    async def _begin(self, tx: Transaction, places: Sequence[Place]) -> int:
        await tx.ask(
            """
            insert into agentq.listeners (session, actor, event)
            select %(session)s, actor, event from unnest(%(actors)s::text[], %(events)s::text[]) as given (actor, event)
            on conflict do nothing
            """,
            session=self._session,
            actors=[actor for actor, _ in places],
            events=[event for _, event in places],
        )
        row = await tx.row("select last_value, is_called from agentq.event_numbers")
        tx.announce(*(("listening", *place) for place in places if len("".join(place)) <= _LONGEST_NAME))
        return 0 if row is None or not row[1] else row[0]

    async def _end(self, tx: Transaction, actor: ActorId, event: str) -> None:
        await tx.ask(
            "delete from agentq.listeners where session = %(session)s and actor = %(actor)s and event = %(event)s",
            session=self._session,
            actor=actor,
            event=event,
        )

    async def receive(self) -> None:
        """Pass on events from elsewhere, until cancelled."""
        with self._notifications.watch(_EVENTS) as watch:
            while True:
                await self._listening.wait()
                watch.clear()
                found: Sequence[tuple[int, ActorId, str, bytes]] = ()
                with suppress(Unavailable):
                    found = await self._database.run(self._read, repeatable=True)
                for number, actor, event, payload in found:
                    self._last = number
                    self._on_event(actor, event, payload)
                if len(found) < _AT_ONCE:
                    await watch.wait()

    async def _read(self, tx: Transaction) -> Sequence[tuple[int, ActorId, str, bytes]]:
        places = list(self._heard)
        rows = await tx.rows(
            """
            select number, actor, event, payload
            from agentq.events
            where number > %(last)s and session <> %(session)s
              and (actor, event) in (select * from unnest(%(actors)s::text[], %(events)s::text[]))
            order by number
            limit %(limit)s
            """,
            last=self._last,
            session=self._session,
            actors=[actor for actor, _ in places],
            events=[event for _, event in places],
            limit=_AT_ONCE,
        )
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    # --- listeners elsewhere ------------------------------------------------------------------------------------------

    def note_listener(self, actor: ActorId, event: str) -> None:
        """Note that another broker listens to this event from now on."""
        self._noted.add((actor, event))
        self._wanted.add((actor, event))

    async def look_after(self) -> None:
        """Read who listens, in case notifications were lost, and delete events that all have read. Raises Unavailable."""
        await self.read_listeners()
        await self._database.look(
            lambda tx: tx.ask("delete from agentq.events where created_at < agentq.now() - %(kept)s", kept=_KEPT)
        )

    async def read_listeners(self) -> None:
        """Read what others listen to. Raises Unavailable."""
        async with self._reading:
            self._noted = set()
            wanted = await self._database.look(self._listened_to)
            self._wanted = wanted | self._noted

    async def _listened_to(self, tx: Transaction) -> set[Place]:
        rows = await tx.rows(
            "select distinct actor, event from agentq.listeners where session <> %(session)s", session=self._session
        )
        return {(actor, event) for actor, event in rows}


async def end_session(tx: Transaction, session: str) -> None:
    """Forget what a session listened to."""
    await tx.ask("delete from agentq.listeners where session = %(session)s", session=session)
