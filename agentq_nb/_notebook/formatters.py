"""IPython formatters that display our objects as HTML and plain text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from agentq_nb._batches.sync_batch import SyncBatch
from agentq_nb._client.batch import Batch
from agentq_nb._client.receipt import Receipt
from agentq_nb._display import document_of, kinds
from agentq_nb._display.document import as_text
from agentq_nb._display.html import as_html
from agentq_nb._display.repositories import for_terminal
from agentq_nb._host import unawaited_calls
from agentq_nb._host.registry import current_registry
from agentq_nb._notebook.dashboard import show_receipt, show_session
from agentq_nb.agent_os import Diff, SessionInfo
from agentq_nb.errors import AgentqError

if TYPE_CHECKING:
    from agentq_nb._notebook.ipython_types import Shell


def html(value: object) -> str | None:
    """Return a value as HTML; None if its class has no document."""
    document = document_of(value)
    return None if document is None else as_html(document)


def plain(value: object, printer: Any, cycle: bool) -> None:
    """Write a value as plain text to IPython's printer; inside a list or dict, its repr."""
    document = document_of(value)
    printer.text(repr(value) if document is None or cycle or printer.stack[:-1] else as_text(document))


def diff_in_terminal(diff: Diff, printer: Any, cycle: bool) -> None:
    """Write a diff in colours, for IPython's terminal shell; inside a list or dict, its repr."""
    document = document_of(diff)
    inside = cycle or printer.stack[:-1]
    printer.text(repr(diff) if document is None or inside else for_terminal(as_text(document)))


def coroutine_form(shell: Shell) -> Callable[[CoroutineType[Any, Any, Any], Any, bool], None]:
    """Return the formatter of coroutines: for a call that was not awaited, it writes the line to write instead."""

    def form(value: CoroutineType[Any, Any, Any], printer: Any, cycle: bool) -> None:
        forgotten = not printer.stack[:-1] and unawaited_calls.waits(value)
        call = unawaited_calls.call_of(value, shell.user_ns) if forgotten else None
        if call is None:
            printer.text(repr(value))
            return
        unawaited_calls.mark_reported(value)
        printer.text(call.text())

    return form


def show_batch(batch: Batch[Any] | SyncBatch) -> None:
    """Show a batch live until it is done. Raises NotImplementedError where that is impossible or of no use."""
    batch = batch.batch if isinstance(batch, SyncBatch) else batch
    registry = current_registry()
    if registry is None or not registry.running:
        raise NotImplementedError
    try:
        loop = asyncio.get_running_loop()
        progress = batch.progress()
    except (RuntimeError, AgentqError):
        raise NotImplementedError from None
    from agentq_nb._notebook.batch_view import BatchView
    from agentq_nb._notebook.dashboard.open_views import room

    if not room() or (progress.finished and not progress.failed):
        raise NotImplementedError
    BatchView(batch, registry, progress, loop).show()


_LIVE: dict[type[Any], Callable[[Any], None]] = {
    Receipt: show_receipt,
    SessionInfo: show_session,
    Batch: show_batch,
    SyncBatch: show_batch,
}
"""The types with a live view at the end of a cell. It displays itself: only a named display can be replaced later."""


def install(shell: Shell) -> None:
    """Register the formatters."""
    formatters = shell.display_formatter.formatters
    for kind in kinds():
        formatters["text/html"].for_type(kind, html)
        formatters["text/plain"].for_type(kind, plain)
    formatters["text/plain"].for_type(CoroutineType, coroutine_form(shell))
    if getattr(shell, "kernel", None) is None:
        if shell.colors.lower() != "nocolor":
            formatters["text/plain"].for_type(Diff, diff_in_terminal)
    else:
        for kind, show in _LIVE.items():
            shell.display_formatter.ipython_display_formatter.for_type(kind, show)


def remove(shell: Shell) -> None:
    """Remove the formatters."""
    formatters = shell.display_formatter.formatters
    for kind in kinds():
        formatters["text/html"].pop(kind, None)
        formatters["text/plain"].pop(kind, None)
    formatters["text/plain"].pop(CoroutineType, None)
    for kind in _LIVE:
        shell.display_formatter.ipython_display_formatter.pop(kind, None)
