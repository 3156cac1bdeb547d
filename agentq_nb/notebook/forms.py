"""How objects look in a notebook: formatters for HTML and plain text, put into the shell and taken out again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq_nb.commands.sheets import as_text
from agentq_nb.commands.showing import kinds, sheet_of
from agentq_nb.notebook.html import as_html

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


def install(shell: Shell) -> None:
    """Register the forms."""
    formatters = shell.display_formatter.formatters
    for kind in kinds():
        formatters["text/html"].for_type(kind, html)
        formatters["text/plain"].for_type(kind, plain)


def remove(shell: Shell) -> None:
    """Take the forms out again."""
    formatters = shell.display_formatter.formatters
    for kind in kinds():
        formatters["text/html"].pop(kind, None)
        formatters["text/plain"].pop(kind, None)
