"""Events for Python clients: kept for each of them until it has asked for them, and for a while if it does not ask."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from agentq_nb._core.ids import ActorId
from agentq_nb._core.tagged_values import dumped
from agentq_nb._gateway import transport_calls as calls
from agentq_nb._gateway.host_calls import HostCalls
from agentq_nb._host.host import Host
from agentq_nb.errors import Refused

_MOST_SUBSCRIPTIONS = 1000
_MOST_EVENTS = 10_000
_MOST_BYTES = 16 * 1024 * 1024
"""Events and bytes that wait for a slow client. Beyond that it loses the oldest ones."""

_FORGOTTEN_AFTER = 60.0
"""Seconds after which a client that has not asked is taken to be gone."""


class _Subscription:
    """The events that one client has asked for and not received yet. It belongs to the server's loop."""

    def __init__(self, host: Host, forget: Callable[[], None]) -> None:
        self.host = host
        self.stops: dict[tuple[ActorId, str], Callable[[], None]] = {}
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[calls.Event] = deque()
        self._bytes = 0
        self._last = 0
        self._arrived = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self.rest()

    def rest(self) -> None:
        """Forget it unless the client asks again in time."""
        self.stay()
        self._timer = self._loop.call_later(_FORGOTTEN_AFTER, self._forget)

    def stay(self) -> None:
        """Keep it as long as the client waits."""
        if self._timer is not None:
            self._timer.cancel()

    def put(self, actor: ActorId, event: str, payload: calls.Text) -> None:
        self._last += 1
        self._waiting.append(calls.Event(self._last, actor, event, payload))
        self._bytes += len(payload)
        while len(self._waiting) > _MOST_EVENTS or self._bytes > _MOST_BYTES:
            self._bytes -= len(self._waiting.popleft().payload)
        self._arrived.set()

    async def after(self, number: int, timeout: float) -> list[calls.Event]:
        """Return the events after this number, at least one unless the time is up. The earlier ones are dropped."""
        while self._waiting and self._waiting[0].number <= number:
            self._bytes -= len(self._waiting.popleft().payload)
        if not self._waiting:
            self._arrived.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._arrived.wait()
            except TimeoutError:
                return []
        return list(self._waiting)

    def end(self) -> None:
        self.stay()
        for stop in self.stops.values():
            stop()
        self.stops.clear()


class EventSubscriptions:
    """Carries out the calls about events. The id of a subscription is the client's, and lives as long as the client."""

    def __init__(self, host_calls: HostCalls) -> None:
        self._calls = host_calls
        self._of_clients: dict[str, _Subscription] = {}

    async def listen(self, asked: calls.Listen) -> None:
        """Begin to keep an actor's events of one name, or end it. Raises Refused where there are too many clients."""
        host = self._calls.host
        subscription = self._known(asked.subscription, host)
        wanted = (asked.actor, asked.event)
        if not asked.on:
            if subscription is not None and (stop := subscription.stops.pop(wanted, None)) is not None:
                stop()
            return
        if subscription is None:
            subscription = self._new(asked.subscription, host)
        if wanted not in subscription.stops:
            subscription.stops[wanted] = _do_nothing  # the client may ask again before the host has answered
            try:
                stop = await self._calls.run(_listening(subscription, *wanted))
            except BaseException:
                subscription.stops.pop(wanted, None)
                raise
            if wanted in subscription.stops:
                subscription.stops[wanted] = stop
            else:
                stop()

    async def poll(self, asked: calls.Poll) -> calls.Events:
        """Return the next events."""
        subscription = self._known(asked.subscription, self._calls.host)
        if subscription is None:
            return calls.Events(False, [])
        subscription.stay()
        try:
            return calls.Events(True, await subscription.after(asked.after, min(asked.timeout, calls.LONGEST_WAIT)))
        finally:
            subscription.rest()

    def _known(self, name: str, host: Host) -> _Subscription | None:
        """Return the subscription, unless it is one of a host that has ended."""
        found = self._of_clients.get(name)
        if found is not None and found.host is not host:
            self._forget(name)
            return None
        return found

    def _new(self, name: str, host: Host) -> _Subscription:
        if len(self._of_clients) >= _MOST_SUBSCRIPTIONS:
            raise Refused(503, "too_many_clients", "Too many clients listen to events of this host.")
        made = self._of_clients[name] = _Subscription(host, lambda: self._forget(name))
        return made

    def _forget(self, name: str) -> None:
        if (found := self._of_clients.pop(name, None)) is not None:
            found.end()


def _do_nothing() -> None: ...


def _listening(subscription: _Subscription, actor: ActorId, event: str) -> Callable[[Host], Any]:
    """Return a coroutine function that listens for the events of an actor on the host's loop."""
    loop = asyncio.get_running_loop()

    async def listen(host: Host) -> Callable[[], None]:
        def tell(payload: Any) -> None:
            # Written here, on the host's loop: its actor may change it afterwards.
            written = dumped(payload, f"The payload of event '{event}'")
            if not loop.is_closed():
                loop.call_soon_threadsafe(subscription.put, actor, event, written)

        return host.listen(actor, event, tell)

    return listen
