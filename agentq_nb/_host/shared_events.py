"""Events between hosts of the same queues: those that actors of this host broadcast, and those listened to here."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from agentq_nb._brokers.exchange import Exchange
from agentq_nb._client.broadcasts import Listener, Listeners
from agentq_nb._core.ids import ActorId
from agentq_nb._core.loop_portal import LoopPortal
from agentq_nb._core.tagged_values import dumped, loaded
from agentq_nb.errors import AgentqError, Forked, NoHost, Unavailable, ValidationFailed

_FIRST_EVENTS_WITHIN = 5.0
"""Seconds that a call waits at most until other hosts know the listeners that were added before it."""
_AGAIN = 1.0


@dataclass(eq=False)
class _Asked:
    """A listener here. Changed on the loop only.

    :ivar known: whether other hosts know of it.
    :ivar ended: whether it was stopped.
    """

    actor: ActorId
    event: str
    known: bool = False
    ended: bool = False


class SharedEvents:
    """The events of one host, or of one client without a host.

    :param exchange: returns the exchange with other hosts, once it is connected.
    :param listeners: the listeners in this process, called with events of other hosts too.
    """

    def __init__(
        self, exchange: Callable[[], Coroutine[Any, Any, Exchange]], portal: LoopPortal, listeners: Listeners
    ) -> None:
        self._exchange = exchange
        self._portal = portal
        self._listeners = listeners
        self._asking: set[Future[None]] = set()
        self._lock = threading.Lock()
        self.listening = 0
        """How many listeners there are."""

    def received(self, actor: ActorId, event: str, payload: bytes) -> None:
        """Pass on an event of another host. The exchange calls this."""
        with suppress(AgentqError):  # a value that a newer host writes in another way
            self._listeners.tell(actor, event, loaded(payload))

    def listen(self, actor: ActorId, event: str, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` for each event of this name, whichever host runs the actor. Returns a function to stop it.

        Can be called from any loop or thread. Raises NoHost.
        """
        asked = _Asked(actor, event)
        begun = self._portal.submit(self._begin, asked)
        stop = self._listeners.add(actor, event, listener, lambda: self._stopped(asked))
        with self._lock:
            self._asking.add(begun)
        begun.add_done_callback(self._begun)
        return stop

    def _begun(self, begun: Future[None]) -> None:
        with self._lock:
            self._asking.discard(begun)

    async def told(self) -> None:
        """Return once other hosts know all listeners, so that none misses an event that the next call causes."""
        with self._lock:
            asking = [asyncio.wrap_future(begun) for begun in self._asking]
        if asking:
            await asyncio.wait(asking, timeout=_FIRST_EVENTS_WITHIN)

    async def _begin(self, asked: _Asked) -> None:
        self.listening += 1
        while not (asked.known or asked.ended):
            try:
                await (await self._exchange()).listen(asked.actor, asked.event)
                asked.known = True
            except Unavailable as error:
                logging.getLogger("agentq").warning("no events of %s yet: %s", asked.actor, error)
                await asyncio.sleep(_AGAIN)
        if asked.known and asked.ended:  # it ended meanwhile
            await self._ignore(asked)

    def _stopped(self, asked: _Asked) -> None:
        with suppress(NoHost, Forked):  # then it has ended with the host
            self._portal.submit(self._end, asked)

    async def _end(self, asked: _Asked) -> None:
        self.listening -= 1
        asked.ended = True
        if asked.known:
            await self._ignore(asked)

    async def _ignore(self, asked: _Asked) -> None:
        with suppress(Unavailable):  # it ends with the session
            await (await self._exchange()).ignore(asked.actor, asked.event)

    def share(self, exchange: Exchange, actor: ActorId, event: str, payload: Any) -> None:
        """Send an event of an actor of this host to listeners elsewhere. One that cannot be encoded is logged."""
        if not exchange.wants(actor, event):
            return
        try:
            # Encoded at once: the actor may change the payload afterwards.
            written = dumped(payload, f"The payload of event '{event}'")
        except ValidationFailed as error:
            logging.getLogger("agentq").warning("an event of %s did not reach other hosts: %s", actor, error)
            return
        exchange.broadcast(actor, event, written.encode("utf-8", "surrogatepass"))
