"""Events between hosts of the same queues: those that actors broadcast here, and those that are listened to here."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from agentq_nb._brokers.exchange import Exchange
from agentq_nb._client.broadcasts import Listener, Listeners
from agentq_nb._core.ids import ActorId
from agentq_nb._core.loop_portal import LoopPortal
from agentq_nb._core.tagged_values import dumped, loaded
from agentq_nb.errors import AgentqError, Unavailable, ValidationFailed

_FIRST_EVENTS_WITHIN = 5.0
"""Seconds that a call waits at most for others to know of listeners that were added before it."""
_AGAIN = 1.0


class SharedEvents:
    """The events of one host, or of one client without a host.

    :param exchange: returns the way to the others, once there is one.
    :param listeners: the listeners here; events from elsewhere reach them as those of here do.
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
        """Pass on an event from elsewhere: the exchange calls this."""
        with suppress(AgentqError):  # a value that a newer host writes in another way
            self._listeners.tell(actor, event, loaded(payload))

    def listen(self, actor: ActorId, event: str, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` for each event of here and elsewhere. Returns a function to stop it. Callable anywhere."""
        stop = self._listeners.add(actor, event, listener, lambda: self._portal.submit(self._end, actor, event))
        begun = self._portal.submit(self._begin, actor, event)
        with self._lock:
            self._asking.add(begun)
        begun.add_done_callback(self._begun)
        return stop

    def _begun(self, begun: Future[None]) -> None:
        with self._lock:
            self._asking.discard(begun)

    async def told(self) -> None:
        """Return once others know all listeners, so that what is asked next cannot cause events that are missed."""
        with self._lock:
            asking = [asyncio.wrap_future(begun) for begun in self._asking]
        if asking:
            await asyncio.wait(asking, timeout=_FIRST_EVENTS_WITHIN)

    async def _begin(self, actor: ActorId, event: str) -> None:
        self.listening += 1
        while True:
            try:
                return await (await self._exchange()).listen(actor, event)
            except Unavailable as error:
                logging.getLogger("agentq").warning("no events of %s yet: %s", actor, error)
                await asyncio.sleep(_AGAIN)

    async def _end(self, actor: ActorId, event: str) -> None:
        self.listening -= 1
        with suppress(Unavailable):  # it ends with the session
            await (await self._exchange()).ignore(actor, event)

    def share(self, exchange: Exchange, actor: ActorId, event: str, payload: Any) -> None:
        """Send an event of an actor of here to those who listen elsewhere. One that cannot be written is logged."""
        if not exchange.wants(actor, event):
            return
        try:
            # Written at once: the actor may change it afterwards.
            written = dumped(payload, f"The payload of event '{event}'")
        except ValidationFailed as error:
            logging.getLogger("agentq").warning("an event of %s did not reach other hosts: %s", actor, error)
            return
        exchange.broadcast(actor, event, written.encode("utf-8", "surrogatepass"))
