"""Render documents as HTML: small tables in JupyterLab's own colours, readable without its style sheet too."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

from agentq_nb._core.safe_text import LONGEST_TEXT, safe
from agentq_nb._display.document import Cell, Document, Tone, is_number, numeric_columns


def _towards_text(colour: str, share: int) -> str:
    """Mix a colour of the theme with that of its text: some are too faint on the background by themselves."""
    return f"color:color-mix(in srgb,{colour} {share}%,var(--jp-ui-font-color0,currentColor))"


# Every colour has a fallback that is readable on white and on black, for viewers without JupyterLab's variables.
_QUIET = _towards_text("var(--jp-ui-font-color2,GrayText)", 85)
_LINE = "1px solid var(--jp-border-color2,#8888)"
_TONES: dict[Tone, str] = {
    "good": _towards_text("var(--jp-success-color0,#2e8b57)", 80),
    "bad": f"{_towards_text('var(--jp-error-color1,#d9534f)', 85)};font-weight:600",
    "busy": _towards_text("var(--jp-warn-color0,#c77700)", 75),
    "quiet": _QUIET,
}
_FORM = (
    "padding:2px var(--jp-code-padding,5px);color:var(--jp-ui-font-color1,inherit);"
    "font-family:var(--jp-ui-font-family,sans-serif);font-size:var(--jp-ui-font-size1,13px);line-height:1.5"
)
_CELL = "vertical-align:top;padding:2px 12px 2px 0;border:0;unicode-bidi:isolate"
_LEFT = f"{_CELL};text-align:left"
_RIGHT = f"{_CELL};text-align:right;font-variant-numeric:tabular-nums"
_PROSE = "white-space:pre-wrap;overflow-wrap:anywhere"
_LONG_TEXT = (
    f"margin:2px 0;max-height:24em;overflow:auto;unicode-bidi:isolate;background:transparent;color:inherit;{_PROSE}"
)
# In notebooks that JupyterLab does not trust it keeps only the first of these; elsewhere the second one applies.
_BREAKS_WORDS = "word-break:break-all;word-break:break-word"
_DIFF_HEADERS = ("+++", "---", "diff --git", "index ", "new file", "deleted file", "rename ", "similarity ")
# In characters: up to the first, a text stays on one line, and up to the second a word, such as the id of a message. A longer
# text, a moment for one, is wrapped between the two widths where there is no room.
_SHORT, _SHORT_WORD, _NARROWEST, _WIDEST = 22, 32, 16, 60


def as_html(document: Document) -> str:
    """Return the document as one ``<div>``. All text of users and agents is escaped; there is no script."""
    # The classes keep MathJax away: it would turn TeX in an agent's text into links that run scripts.
    return f'<div class="agentq tex2jax_ignore mathjax_ignore" style="{_FORM}">{"".join(_parts(document))}</div>'


def _parts(document: Document) -> Iterable[str]:
    if document.title:
        yield f'<div style="font-weight:600;margin:2px 0;{_PROSE}">{_text(document.title)}</div>'
    if document.facts:
        yield _table([_fact(name, value) for name, value in document.facts])
    if document.columns and document.rows:
        yield _table([_row(row) for row in document.rows], _head(document))
    elif document.columns:
        yield f'<div style="{_QUIET}">{_text(document.empty)}</div>'
    for heading, text in document.texts:
        yield (
            f'<details open style="margin:4px 0"><summary style="{_QUIET}">{_text(heading)}</summary>'
            f'<pre style="{_LONG_TEXT}">{_long_text(text, document)}</pre></details>'
        )
    for note in document.notes:
        yield f'<div style="{_QUIET};{_PROSE};max-width:100ch">{_text(note, LONGEST_TEXT)}</div>'


def _long_text(text: str, document: Document) -> str:
    escaped = _text(text, document.longest)
    return "\n".join(map(_diff_line, escaped.split("\n"))) if document.is_diff else escaped


def _diff_line(line: str) -> str:
    """Return a line of a diff, which is escaped, in its colour."""
    tones: dict[str, Tone] = {"+": "good", "-": "bad", "@": "busy"}
    tone = "quiet" if line.startswith(_DIFF_HEADERS) else tones.get(line[:1])
    return line if tone is None else f'<span style="{_TONES[tone]}">{line}</span>'


def _table(rows: Iterable[str], head: str = "") -> str:
    """Return a table that scrolls on its own where the page is too narrow for it."""
    return (
        '<div style="overflow-x:auto"><table style="border-collapse:collapse;margin:2px 0;background:transparent">'
        f"{head}<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _fact(name: str, value: Any) -> str:
    # JupyterLab gives every other row a background, which means nothing here.
    return (
        f'<tr style="background:transparent"><th style="{_LEFT};{_QUIET};white-space:nowrap">{_text(name)}</th>'
        f'<td style="{_LEFT};{_PROSE};{_tone(value)}">{_text(value)}</td></tr>'
    )


def _head(document: Document) -> str:
    cells = "".join(
        f'<th style="{_RIGHT if right else _LEFT};white-space:nowrap;border-bottom:{_LINE}">{_text(column)}</th>'
        for column, right in zip(document.columns, numeric_columns(document), strict=True)
    )
    return f"<thead><tr>{cells}</tr></thead>"


def _row(row: Iterable[Any]) -> str:
    return f"<tr>{''.join(map(_cell, row))}</tr>"


def _cell(value: Any) -> str:
    text = _text(value)
    if is_number(value):
        style = _RIGHT
    elif len(text) <= (_SHORT_WORD if len(text.split()) == 1 else _SHORT):
        style = f"{_LEFT};white-space:nowrap"
    else:
        style = f"{_LEFT};{_PROSE};min-width:{_NARROWEST}ch;max-width:{_WIDEST}ch"
        if any(len(word) > _NARROWEST for word in text.split()):
            style += f";{_BREAKS_WORDS}"
    return f'<td style="{style};{_tone(value)}">{text}</td>'


def _tone(value: Any) -> str:
    return _TONES[value.tone] if isinstance(value, Cell) else ""


def _text(value: Any, longest: int | None = None) -> str:
    text = value.text if isinstance(value, Cell) else value
    return html.escape(safe(text) if longest is None else safe(text, longest))
