"""Events of actors in another process: asked for again and again, and passed to the listeners of this one."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from agentq_nb._client.broadcasts import Listener, Listeners
from agentq_nb._core.ids import ActorId, mint_id
from agentq_nb._core.loop_portal import LoopPortal
from agentq_nb._core.tagged_values import loaded
from agentq_nb._gateway import transport_calls as calls
from agentq_nb._gateway.client_loop import until_exit
from agentq_nb._gateway.remote_calls import RemoteCalls
from agentq_nb.errors import AgentqError, HostBlocked

_FIRST_EVENTS_WITHIN = 5.0
"""Seconds that a call waits at most for the host to know of listeners that were added before it."""


class RemoteEvents:
    """The listeners of one client. Its coroutines run on the client's loop; :meth:`listen` can be called anywhere."""

    def __init__(self, remote: RemoteCalls, portal: LoopPortal) -> None:
        self._remote = remote
        self._portal = portal
        self._listeners = Listeners(portal.loop)
        self._subscription = mint_id()
        self._wanted: Counter[tuple[ActorId, str]] = Counter()
        self._asking: set[asyncio.Task[None]] = set()
        self._following: asyncio.Task[None] | None = None
        self._last = 0

    def listen(self, actor: ActorId, event: str, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` for each event. Returns a function to stop it."""
        stop = self._listeners.add(actor, event, listener, lambda: self._portal.submit(self._end, actor, event))
        self._portal.submit(self._begin, actor, event)
        return stop

    async def told(self) -> None:
        """Return once the host knows all listeners, so that what is asked next cannot cause events that are missed."""
        if self._asking:
            await asyncio.wait(set(self._asking), timeout=_FIRST_EVENTS_WITHIN)

    async def _begin(self, actor: ActorId, event: str) -> None:
        self._wanted[actor, event] += 1
        if self._wanted[actor, event] > 1:
            return
        asking = until_exit(self._ask_for(actor, event))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)

    async def _ask_for(self, actor: ActorId, event: str) -> None:
        if await self._tell(actor, event, on=True) and (self._following is None or self._following.done()):
            self._following = until_exit(self._follow())

    async def _end(self, actor: ActorId, event: str) -> None:
        self._wanted[actor, event] -= 1
        if not self._wanted[actor, event]:
            del self._wanted[actor, event]
            await self._tell(actor, event, on=False)

    async def _tell(self, actor: ActorId, event: str, *, on: bool) -> bool:
        """Begin or end an event's delivery. Returns False if that failed, which is logged."""
        asked = calls.Listen(self._subscription, actor, event, on)
        while True:
            try:
                await self._remote.ask(calls.LISTEN, asked, patience=None if on else 0.0)
                return True
            except HostBlocked:
                if not on:
                    return False
            except AgentqError as error:
                if on:
                    logging.getLogger("agentq").warning("no events of %s: %s", actor, error)
                return False

    async def _follow(self) -> None:
        """Ask for events as long as something listens."""
        while self._wanted:
            asked = calls.Poll(self._subscription, self._last, calls.LONGEST_WAIT)
            try:
                found = await self._remote.ask(calls.POLL, asked, patience=None)
            except AgentqError as error:
                logging.getLogger("agentq").warning("no more events from the host: %s", error)
                return
            if not found.known:  # the host was started again
                self._last = 0
                for actor, event in list(self._wanted):
                    await self._tell(actor, event, on=True)
            for event in found.events:
                self._last = event.number
                with suppress(AgentqError):  # a value that a newer host writes in another way
                    self._listeners.tell(event.actor, event.event, loaded(event.payload))
