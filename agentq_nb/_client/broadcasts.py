"""Who listens to what actors broadcast, and in which event loop each listener is called."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from agentq_nb._core.ids import ActorId

Listener: TypeAlias = Callable[[Any], None]
"""Called with what was broadcast."""

Observer: TypeAlias = Callable[[ActorId, str, Any], None]
"""Called with the actor, the event, and what was broadcast."""


@dataclass(eq=False)
class _Subscription:
    """Who is called, and where: in the loop and the context of whoever asked for it."""

    listener: Callable[..., None]
    loop: asyncio.AbstractEventLoop
    context: Context = field(default_factory=copy_context)

    def tell(self, *payload: Any) -> None:
        # A copy each time: where loops are nested, the context itself may be entered already.
        context = self.context.copy()
        if _running_loop() is self.loop:
            context.run(self._call, *payload)
        elif not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._call, *payload, context=context)

    def _call(self, *payload: Any) -> None:
        try:
            self.listener(*payload)
        except Exception:
            logging.getLogger("agentq").exception("a listener failed: %r", self.listener)


class Listeners:
    """All listeners of one host.

    A listener is called in the event loop that ran where it was added: at once if that is where the event comes from,
    else as soon as that loop turns. One that was added where no loop ran is called in the loop of the host.
    """

    def __init__(self, home: asyncio.AbstractEventLoop) -> None:
        self._home = home
        self._of_events: dict[tuple[ActorId, str], list[_Subscription]] = {}
        self._observers: list[_Subscription] = []

    def add(self, actor: ActorId, event: str, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` for each event of this name that the actor broadcasts; the result ends it."""
        return self._subscribe(self._of_events.setdefault((actor, event), []), listener)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call ``observer`` for all that any actor broadcasts; the result ends it."""
        return self._subscribe(self._observers, observer)

    def _subscribe(self, subscriptions: list[_Subscription], listener: Callable[..., None]) -> Callable[[], None]:
        subscription = _Subscription(listener, _running_loop() or self._home)
        subscriptions.append(subscription)

        def end() -> None:
            if subscription in subscriptions:
                subscriptions.remove(subscription)

        return end

    def tell(self, actor: ActorId, event: str, payload: Any) -> None:
        """Call everybody concerned. One that raises keeps nobody else from hearing of it."""
        for subscription in list(self._of_events.get((actor, event), ())):
            subscription.tell(payload)
        for subscription in list(self._observers):
            subscription.tell(actor, event, payload)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
