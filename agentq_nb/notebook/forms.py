"""How objects look in a notebook: formatters for HTML and plain text, put into the shell and taken out again."""

from __future__ import annotations

from collections.abc import Callable
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from agentq_nb.agent_os import SessionInfo
from agentq_nb.commands.sheets import as_text
from agentq_nb.commands.showing import kinds, sheet_of
from agentq_nb.messages import is_ours
from agentq_nb.notebook.dashboard import show_receipt, show_session
from agentq_nb.notebook.html import as_html
from agentq_nb.receipts import Receipt

if TYPE_CHECKING:
    from agentq_nb.notebook.shell import Shell


def html(value: object) -> str | None:
    """The HTML form of a value; None for what has none."""
    sheet = sheet_of(value)
    return None if sheet is None else as_html(sheet)


def plain(value: object, printer: Any, cycle: bool) -> None:
    """Write the plain-text form of a value to IPython's printer. Inside a list or dict it is the repr."""
    sheet = sheet_of(value)
    printer.text(repr(value) if sheet is None or cycle or printer.stack[:-1] else as_text(sheet))


def unawaited(value: CoroutineType[Any, Any, Any], printer: Any, cycle: bool) -> None:
    """Say that a call of this package at the end of a cell did nothing, since ``await`` was forgotten."""
    forgotten = is_ours(value.cr_code.co_filename) and getcoroutinestate(value) == CORO_CREATED
    if forgotten and not printer.stack[:-1]:
        name = value.__qualname__.rpartition(".")[2]
        printer.text(f"{name}(...) did nothing yet. Write await in front of the call.")
    else:
        printer.text(repr(value))


_LIVE: dict[type[Any], Callable[[Any], None]] = {Receipt: show_receipt, SessionInfo: show_session}
"""What is shown live at the end of a cell. It displays itself, since only a named display can become a picture later."""


def install(shell: Shell) -> None:
    """Register the forms."""
    formatters = shell.display_formatter.formatters
    for kind in kinds():
        formatters["text/html"].for_type(kind, html)
        formatters["text/plain"].for_type(kind, plain)
    formatters["text/plain"].for_type(CoroutineType, unawaited)
    if getattr(shell, "kernel", None) is not None:
        for kind, show in _LIVE.items():
            shell.display_formatter.ipython_display_formatter.for_type(kind, show)


def remove(shell: Shell) -> None:
    """Take the forms out again."""
    formatters = shell.display_formatter.formatters
    for kind in kinds():
        formatters["text/html"].pop(kind, None)
        formatters["text/plain"].pop(kind, None)
    formatters["text/plain"].pop(CoroutineType, None)
    for kind in _LIVE:
        shell.display_formatter.ipython_display_formatter.pop(kind, None)
