"""One live view: a widget, its synchronization, and the outputs that show it, which become static views at its end."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any

from IPython.display import display  # pyright: ignore[reportUnknownVariableType]  # IPython has no types

from agentq_nb._core.clock import Clock, SystemClock
from agentq_nb._core.threads import in_thread
from agentq_nb._display.document import Document
from agentq_nb._host.registry import Registry
from agentq_nb._notebook.dashboard import open_views, page_requests, static_view
from agentq_nb._notebook.dashboard.patch import Sections
from agentq_nb._notebook.dashboard.sync import PageSync, Subject
from agentq_nb._notebook.dashboard.widget import LiveWidget

_OUTLIVED = "Its kernel ended while this was shown. Run the cell again for a live view."

Draw = Callable[[Sections, float], Sequence[Document]]
"""Makes documents from the last state and its time."""


class Live:
    """A view that is kept up to date until its subject is settled or the host stops. Created in the kernel's loop.

    It runs in that loop even if the host has its own loop and thread: a widget's messages may be sent from one thread
    only.
    """

    def __init__(self, kind: str, subject: Subject, draw: Draw, registry: Registry, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.widget = LiveWidget(kind, self._heard, self.show)
        self._kind = kind
        self._draw = draw
        self._registry = registry
        self._loop = asyncio.get_running_loop()
        name = f"Keeping the {kind} {self.widget.identity[:6]} up to date"
        self._feed = PageSync(
            subject,
            self.widget.tell,
            self.clock,
            registry.host.upkeep,
            name,
            lambda: registry.lifecycle.keeps_alive,
            page_requests.OF_KERNEL,
            lambda: in_thread(self._picture, _OUTLIVED),
        )
        self._places: list[str] = []
        self._settled = False
        open_views.add(self.widget.identity, self)
        registry.before_stop.append(self._host_stops)
        registry.on_stop.append(self._host_stopped)
        # In an empty context, so that what it sends belongs to no cell.
        self._task = self._loop.create_task(self._run(), context=Context())

    def _heard(self, message: dict[str, Any]) -> None:
        """Handle a page's message. It may arrive in another thread, because front ends may send it over a subshell."""
        self._loop.call_soon_threadsafe(self._feed.heard, message)

    async def _host_stops(self) -> None:
        """Update the state before the host stops, so that the static view shows the end."""
        if asyncio.get_running_loop() is self._loop:
            await self._feed.refresh()

    def _host_stopped(self) -> None:
        """Settle; at once if code of the kernel stopped the host, so that its cell ends with the static views."""
        if asyncio.get_running_loop() is self._loop:
            self.settle()
        else:
            self._loop.call_soon_threadsafe(self.settle)

    async def _run(self) -> None:
        try:
            await self._feed.run()
        except Exception:
            logging.getLogger("agentq").exception("a view has ended")
        self.settle()

    def show(self) -> None:
        """Display the widget here, with HTML and text for other viewers; after its end, only the static view."""
        if self._settled:
            display(self._forms(), raw=True)
            return
        place = f"agentq-{uuid.uuid4().hex}"
        self._places.append(place)
        view, metadata = self.widget.view()
        display({**view, **self._forms()}, metadata=metadata, raw=True, display_id=place)

    def settle(self) -> None:
        """End the view: each output that shows it gets a static view, which needs no kernel."""
        if self._settled:
            return
        self._settled = True
        open_views.forget(self.widget.identity)
        self._registry.before_stop.remove(self._host_stops)
        self._registry.on_stop.remove(self._host_stopped)
        self._feed.last_word(self._picture())
        self._task.cancel()
        for place in self._places:
            display(self._forms(), raw=True, display_id=place, update=True)

    def _picture(self, *notes: str) -> dict[str, Any]:
        """Return the static view with which a page replaces the widget, and the widget's id."""
        return {"model": self.widget.identity, "data": self._forms(*notes)}

    def _forms(self, *notes: str) -> dict[str, str]:
        documents = [*self._draw(self._feed.latest, self.clock.time()), *([Document(notes=notes)] if notes else [])]
        return {"text/html": static_view.as_page(documents, self._kind), "text/plain": static_view.as_plain(documents)}
