"""The live view of a batch at the end of a cell: a bar, its counts, the failures by name, and a button that retries them."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from contextlib import suppress
from contextvars import Context
from typing import Any

import ipywidgets
from IPython.display import display  # pyright: ignore[reportUnknownVariableType]  # IPython has no types

from agentq_nb._client.batch import Batch
from agentq_nb._client.progress import Progress
from agentq_nb._client.progress_bar import on_waited
from agentq_nb._client.receipt import Result
from agentq_nb._display.batches import document_of_batch
from agentq_nb._display.document import Document, as_text
from agentq_nb._display.html import as_html
from agentq_nb._host.registry import Registry
from agentq_nb._notebook.dashboard import open_views
from agentq_nb.errors import AgentqError

# pyright: reportMissingTypeStubs=false, reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

_EVERY = 0.5
"""Seconds between two looks. A look reads memory, and nothing is sent to the page unless it shows something new."""


class BatchView:
    """One live view. It lives in the kernel's event loop; at its end, its output becomes a static view.

    What it sends while no cell runs belongs to no cell, and is dropped by the programs that execute notebooks. So it
    sends its state once more from each cell that waits for the batch or stops the host.
    """

    def __init__(
        self, batch: Batch[Any], registry: Registry, progress: Progress, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.batch = batch
        self._registry = registry
        self._loop = loop
        self._progress = progress
        self._read_at = time.time()
        """When the progress was read, in seconds since 1970."""
        self._failures: list[Result[Any]] = []
        self._identity = uuid.uuid4().hex
        self._place = f"agentq-{self._identity}"
        self._settled = False
        self._left: dict[str, str] = {}
        self.bar = ipywidgets.IntProgress(value=progress.settled, max=max(1, progress.total))
        self.text = ipywidgets.HTML(self._html())
        self.retry = ipywidgets.Button(description="Retry failed", icon="refresh")
        self.retry.on_click(lambda _: loop.call_soon_threadsafe(self._begin, self._retry()))
        self.box = ipywidgets.VBox([ipywidgets.HBox([self.bar, self.retry]), self.text])
        self._adapt()
        self._tasks: set[asyncio.Task[None]] = set()

    def show(self) -> None:
        """Display it, and keep it up to date. In an empty context, so that what it sends belongs to no cell."""
        display({**self._widget(), **self._forms()}, raw=True, display_id=self._place)
        open_views.add(self._identity, self)
        on_waited.append(self._waited)
        self._registry.before_stop.append(self._host_stops)
        self._registry.on_stop.append(self._host_stopped)
        self._begin(self._keep_up_to_date())

    def _begin(self, work: Any) -> None:
        task = self._loop.create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep_up_to_date(self) -> None:
        try:
            while not self._settled:
                await self.look()
                if self._progress.finished and not self._progress.failed:
                    break
                await asyncio.sleep(_EVERY)
        except AgentqError:
            pass  # the host has stopped: the last state stays
        except Exception:
            logging.getLogger("agentq").exception("the view of a batch has ended")
        self.settle()

    async def look(self) -> None:
        """Read the progress; show what is new."""
        if not self.batch.progress().finished and self._registry.lifecycle.keep_alive_settings.mode == "never":
            return  # what is sent to a page counts as activity of the kernel
        if await self._read():
            self._adapt()

    async def _read(self) -> bool:
        """Read the progress and the failures. Returns whether they are new."""
        progress = self.batch.progress()
        unnamed = progress.failed > 0 and not self._failures
        if progress == self._progress and not unnamed:
            return False
        if progress.failed != self._progress.failed or unnamed:
            self._failures = await self.batch.failures()
        self._take(progress)
        return True

    def _take(self, progress: Progress) -> None:
        self._progress, self._read_at = progress, time.time()

    def _adapt(self) -> None:
        progress = self._progress
        self.bar.value = progress.settled
        self.bar.bar_style = "danger" if progress.stopped else "warning" if progress.failed else "success"
        self.retry.layout.display = "" if progress.failed or progress.stopped else "none"
        self.retry.description = "Retry failed" if progress.failed else "Resume"
        self.text.value = self._html()

    async def _retry(self) -> None:
        self.retry.disabled = True
        try:
            await self.batch.retry_failed()
            await self.look()
        except AgentqError as error:
            self.text.value = self._html() + as_html(Document(notes=[error.message]))
        finally:
            self.retry.disabled = False

    def settle(self) -> None:
        """End the view: its output becomes a static one, which needs no kernel."""
        if self._settled:
            return
        self._settled = True
        open_views.forget(self._identity)
        self._send(self._forms())
        self.box.close()

    # --- in cells that wait for the batch, or stop the host -----------------------------------------------------------

    async def _waited(self, name: str) -> None:
        if name != self.batch.name:
            return
        with suppress(AgentqError):  # the host has stopped: the last state stays
            if not self._settled and await self._read() and self._in_loop:
                self._adapt()
        if self._progress.finished and not self._progress.failed and self._in_loop:
            self.settle()
        self._leave()

    async def _host_stops(self) -> None:
        """Read the last state before the host stops, so that the static view shows it."""
        with suppress(AgentqError):
            if not self._settled:
                await self._read()

    def _host_stopped(self) -> None:
        """Settle; at once if code of the kernel stopped the host, so that its cell ends with the static view."""
        on_waited.remove(self._waited)
        self._registry.before_stop.remove(self._host_stops)
        self._registry.on_stop.remove(self._host_stopped)
        if self._in_loop:
            self.settle()
            self._leave()
        else:
            self._loop.call_soon_threadsafe(self.settle)

    def leave(self) -> None:
        with suppress(AgentqError):
            progress = self.batch.progress()
            if progress != self._progress:
                self._take(progress)
                self._adapt()
        self._leave()

    def _leave(self) -> None:
        """Send the state from the cell that runs, unless it was sent from a cell before."""
        forms = self._forms()
        if forms == self._left:
            return
        self._left = forms
        if self._settled or (self._progress.finished and not self._progress.failed):
            self._send(forms)
            return
        self._send({**self._widget(), **forms})
        if self._in_loop:
            for widget in (self.bar, self.retry, self.text):
                widget.send_state()

    @property
    def _in_loop(self) -> bool:
        """Whether this is the loop of the view: a widget's messages may be sent from one thread only."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    # --- what is sent -------------------------------------------------------------------------------------------------

    def _send(self, forms: dict[str, Any]) -> None:
        display(forms, raw=True, display_id=self._place, update=True)

    def _widget(self) -> dict[str, Any]:
        return getattr(self.box, "_repr_mimebundle_")()  # noqa: B009  # as in the dashboard's widget

    def _html(self) -> str:
        return as_html(document_of_batch(self.batch.name, self._progress, self._failures))

    def _forms(self) -> dict[str, str]:
        """Return what is shown where no widgets are, and after the end: it does not change any more."""
        document = document_of_batch(self.batch.name, self._progress, self._failures, at=self._read_at)
        return {"text/html": as_html(document), "text/plain": as_text(document)}
