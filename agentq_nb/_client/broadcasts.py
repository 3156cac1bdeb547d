"""Subscriptions to events that actors broadcast; each listener is called on its own event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from agentq_nb._core.ids import ActorId

Listener: TypeAlias = Callable[[Any], None]
"""Called with an event's payload."""

Observer: TypeAlias = Callable[[ActorId, str, Any], None]
"""Called with the actor, the event's name and its payload."""


@dataclass(eq=False)
class _Subscription:
    """A listener, and the loop and context to call it in: those of the subscriber."""

    listener: Callable[..., None]
    loop: asyncio.AbstractEventLoop
    context: Context = field(default_factory=copy_context)

    def tell(self, *payload: Any) -> None:
        # A copy for each call: with nested loops the context itself may be entered already.
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

    A listener is called on the event loop that was running when it was added: at once if the event is broadcast on that
    loop, else in the loop's next iteration. A listener added without a running loop is called on the host's.
    """

    def __init__(self, host_loop: asyncio.AbstractEventLoop) -> None:
        self._host_loop = host_loop
        self._of_events: dict[tuple[ActorId, str], list[_Subscription]] = {}
        self._observers: list[_Subscription] = []

    def add(
        self, actor: ActorId, event: str, listener: Listener, stopped: Callable[[], object] | None = None
    ) -> Callable[[], None]:
        """Call ``listener`` for each event of this name that the actor broadcasts. Returns a function to stop it.

        :param stopped: called when it is stopped, once.
        """
        return self._subscribe(self._of_events.setdefault((actor, event), []), listener, stopped)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call ``observer`` for every event of every actor. Returns a function to stop it."""
        return self._subscribe(self._observers, observer)

    def _subscribe(
        self,
        subscriptions: list[_Subscription],
        listener: Callable[..., None],
        stopped: Callable[[], object] | None = None,
    ) -> Callable[[], None]:
        subscription = _Subscription(listener, _running_loop() or self._host_loop)
        subscriptions.append(subscription)

        def end() -> None:
            if subscription in subscriptions:
                subscriptions.remove(subscription)
                if stopped is not None:
                    stopped()

        return end

    def tell(self, actor: ActorId, event: str, payload: Any) -> None:
        """Call all listeners of the event. An error in one does not affect the others."""
        for subscription in list(self._of_events.get((actor, event), ())):
            subscription.tell(payload)
        for subscription in list(self._observers):
            subscription.tell(actor, event, payload)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
