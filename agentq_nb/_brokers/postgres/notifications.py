"""Wake waiters when the database changes: in this process at once, in others by LISTEN and NOTIFY.

A change is a tuple of texts: ``("sent", actor, queue)``, ``("work", actor)`` for anything else that may let an actor receive,
``("settled", message)``, ``("room", actor, queue)``, ``("stopped", actor, queue)``, ``("cancel", actor, message)``,
``("moved", actor)``, ``("batch", name)``, ``("limit", name)``, ``("turn", actor)``, ``("resumed",)``, ``("joined", session)``,
``("left", session)``, and those of ``requests`` and ``events``. A notification may be lost, so waiters also look by themselves
every few seconds; for receivers ``upkeep`` does, for all of a host at once. Notifications are sent after the commit and not
within it: PostgreSQL commits transactions with notifications one after the other.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable
from contextlib import contextmanager, suppress

import psycopg
from psycopg import AsyncConnection

from agentq_nb._brokers.postgres.connection import Database, Key
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId
from agentq_nb.errors import Unavailable

POLL = 5.0
"""Seconds after which waiters look again, in case a notification was lost."""
_MOST_BYTES = 7000
"""A notification holds fewer than 8,000 bytes."""
_RECONNECT = 0.5
_FIRST_WITHIN = 5.0
"""Seconds that opening waits at most for the connection that listens. Without one, changes are found by looking."""

ANY_WORK: Key = ("work",)
"""The work of every actor that is not awake in this process."""

_NOTIFY = """
select set_config('synchronous_commit', 'off', true), pg_notify(%(channel)s, payload)
from unnest(%(payloads)s::text[]) as payload
"""


def receivable(actor: ActorId, queues: Collection[str] | None) -> list[Key]:
    """Return the changes after which an actor may receive from these queues; None: from all but internal ones."""
    sent = [("sent", actor)] if queues is None else [("sent", actor, queue) for queue in queues]
    return [("work", actor), *sent]


class Watch:
    """Waits for changes since it was last cleared."""

    def __init__(self, clock: Clock) -> None:
        self._event = asyncio.Event()
        self._clock = clock
        self.ring = self._event.set
        self.clear = self._event.clear
        self.rung = self._event.is_set

    async def wait(self, deadline: float | None = None, moment: float | None = None, *, polls: bool = True) -> None:
        """Return after a change, or to look again.

        :param deadline: on the monotonic clock.
        :param moment: when something falls due, in seconds since 1970 by this machine's clock.
        :param polls: whether to look again after a while in any case.
        """
        now = self._clock.monotonic()
        timers = [self._clock.call_later(POLL, self.ring)] if polls else []
        if deadline is not None:
            timers.append(self._clock.call_later(deadline - now, self.ring))
        if moment is not None:
            timers.append(self._clock.call_at(moment, self.ring))
        try:
            await self._event.wait()
        finally:
            for timer in timers:
                timer.cancel()


def by_this_clock(moment: float | None, now: float, before: float) -> float | None:
    """Return when to look for what falls due at ``moment`` by the database's clock.

    :param now: what that clock showed.
    :param before: what this machine's clock showed when the database was asked. So the result is rather early than late.
    """
    return None if moment is None else moment - (now - before)


class Notifications:
    """Changes that this broker makes or hears of, and their waiters.

    :ivar is_awake: whether an actor is awake in this process: then its new messages wake no other.
    :ivar handlers: functions by the first text of a change, called with its other texts. Changes without one wake their waiters.
    :ivar others: whether other brokers may be connected; without any, nothing is sent.
    :ivar on_listening: called whenever listening has begun, to read what only notifications tell: earlier ones were missed.
    """

    def __init__(self, database: Database, clock: Clock, session: str) -> None:
        self.is_awake: Callable[[ActorId], bool] = lambda actor: False
        self.handlers: dict[str, Callable[..., None]] = {}
        self.others = True
        self._joined = 0
        """How many times another may have joined."""
        self.on_listening: Callable[[], Awaitable[None]] | None = None
        self._database = database
        self._clock = clock
        self._session = session
        self._watches: dict[Key, set[Watch]] = {}
        self._unsent: dict[Key, None] = {}
        self._sending = asyncio.Event()
        self._tried = asyncio.Event()
        """Set once it listens, or has failed to."""
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen, and then send what is announced, until :meth:`close`. Others learn of this broker once it hears them."""
        self._tasks = [asyncio.create_task(self._listen())]
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_WITHIN):
                await self._tried.wait()
        self._tasks.append(asyncio.create_task(self._send()))

    async def close(self) -> None:
        """Stop, and wake all waiters."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.ring_all()

    # --- in this process ----------------------------------------------------------------------------------------------

    @contextmanager
    def watch(self, *keys: Key) -> Generator[Watch]:
        """Watch for any of these changes."""
        watch = Watch(self._clock)
        for key in keys:
            self._watches.setdefault(key, set()).add(watch)
        try:
            yield watch
        finally:
            for key in keys:
                self._watches[key].discard(watch)
                if not self._watches[key]:
                    del self._watches[key]

    def ring(self, key: Key) -> None:
        """Wake the waiters of this process."""
        self._ring(key)
        if key[0] == "sent" and not key[2].startswith("$"):
            self._ring(key[:2])
        if key[0] == "work" or (key[0] == "sent" and not self.is_awake(key[1])):
            self._ring(ANY_WORK)

    def _ring(self, key: Key) -> None:
        for watch in self._watches.get(key, ()):
            watch.ring()

    def ring_all(self) -> None:
        """Wake all waiters, after changes without a notification."""
        for watches in self._watches.values():
            for watch in watches:
                watch.ring()

    def announce(self, keys: Iterable[Key]) -> None:
        """Tell this process and the others about committed changes."""
        for key in keys:
            self._hear(key)
            if self.others:
                self._unsent[key] = None
        if self._unsent:
            self._sending.set()

    async def look_for_others(self, look: Callable[[], Awaitable[bool]]) -> None:
        """Set :attr:`others` to what the database says, unless another joins meanwhile. Raises the errors of ``look``."""
        joined = self._joined
        found = await look()
        self.others = found or self._joined > joined

    def _note_other(self) -> None:
        self.others = True
        self._joined += 1

    def _hear(self, key: Key) -> None:
        if key[0] == "joined":
            self._note_other()
        elif (handler := self.handlers.get(key[0])) is not None:
            handler(*key[1:])
        else:
            self.ring(key)

    # --- between processes --------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        while True:
            await self._sending.wait()
            self._sending.clear()
            unsent, self._unsent = self._unsent, {}
            with suppress(Unavailable):
                # Losing one is allowed, so its commit need not reach the disk.
                payloads = list(_payloads(self._session, unsent))
                await self._database.run_statement(_NOTIFY, channel=self._channel, payloads=payloads)

    async def _listen(self) -> None:
        while True:
            with suppress(psycopg.Error, ValueError):
                connection = await AsyncConnection.connect(self._database.address.conninfo, autocommit=True)
                async with connection:
                    await connection.execute(self._database.address.statement(f'listen "{self._channel}"'))
                    await self._listens()
                    async for notification in connection.notifies():
                        self._received(notification.payload)
            self._tried.set()
            await asyncio.sleep(_RECONNECT)

    async def _listens(self) -> None:
        self._note_other()  # one may have joined unheard
        if self.on_listening is not None:
            with suppress(Unavailable):
                await self.on_listening()
        self.ring_all()
        self._tried.set()

    @property
    def _channel(self) -> str:
        return self._database.address.schema

    def _received(self, payload: str) -> None:
        # Any program may send notifications, and newer hosts others than these.
        try:
            session, *keys = json.loads(payload)
            if session != self._session:
                for key in keys:
                    self._hear(tuple(key))
        except (ValueError, TypeError, LookupError) as error:
            logging.getLogger("agentq").debug("a notification could not be read: %r: %s", error, payload)


def _payloads(session: str, keys: Iterable[Key]) -> Generator[str]:
    """Pack changes into as few notifications as possible. One that fits into none is left out: others look for it."""
    packed, size = [json.dumps(session)], 0
    for key in keys:
        text = json.dumps(key)
        if len(text) > _MOST_BYTES:
            continue
        if size + len(text) > _MOST_BYTES:
            yield f"[{','.join(packed)}]"
            packed, size = packed[:1], 0
        packed.append(text)
        size += len(text) + 1
    if len(packed) > 1:
        yield f"[{','.join(packed)}]"
