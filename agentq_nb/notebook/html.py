"""Sheets as HTML: small tables in JupyterLab's own colours, readable where its style is missing."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

from agentq_nb.commands.sheets import Cell, Sheet, Tone
from agentq_nb.showable import LONGEST_TEXT, safe

# Every colour has a fallback that is readable on white and on black, for viewers without JupyterLab's variables.
_QUIET = "color:var(--jp-ui-font-color2,GrayText)"
_LINE = "1px solid var(--jp-border-color2,#8888)"
_TONES: dict[Tone, str] = {
    "good": "color:var(--jp-success-color0,#2e8b57)",
    "bad": "color:var(--jp-error-color1,#d9534f);font-weight:600",
    "busy": "color:var(--jp-warn-color0,#c77700)",
    "quiet": _QUIET,
}
_CELL = "text-align:left;vertical-align:top;padding:2px 12px 2px 0;border:0;unicode-bidi:isolate"
_NUMBER = "text-align:right;vertical-align:top;padding:2px 12px 2px 0;border:0;font-variant-numeric:tabular-nums"
_SHORT = 40
_WRAPPING = "white-space:pre-wrap;overflow-wrap:anywhere;max-width:60ch"


def as_html(sheet: Sheet) -> str:
    """The sheet as one ``<div>``. Everything that comes from users and agents is escaped; there is no script."""
    return (
        '<div class="agentq" style="color:var(--jp-ui-font-color1,inherit);'
        'font-family:var(--jp-ui-font-family,sans-serif);font-size:var(--jp-ui-font-size1,13px);line-height:1.5">'
        + "".join(_parts(sheet))
        + "</div>"
    )


def _parts(sheet: Sheet) -> Iterable[str]:
    if sheet.title:
        yield f'<div style="font-weight:600;margin:2px 0">{_text(sheet.title)}</div>'
    if sheet.facts:
        yield _table(
            f'<tr><th style="{_CELL};{_QUIET}">{_text(name)}</th>{_cell(value)}</tr>' for name, value in sheet.facts
        )
    if sheet.columns and sheet.rows:
        numeric = [all(_is_number(row[index]) for row in sheet.rows) for index in range(len(sheet.columns))]
        heads = "".join(
            f'<th style="{_NUMBER if right else _CELL};border-bottom:{_LINE}">{_text(column)}</th>'
            for column, right in zip(sheet.columns, numeric, strict=True)
        )
        yield _table([f"<tr>{heads}</tr>", *(f"<tr>{''.join(map(_cell, row))}</tr>" for row in sheet.rows)])
    elif sheet.columns:
        yield f'<div style="{_QUIET}">{_text(sheet.empty)}</div>'
    for heading, text in sheet.texts:
        yield (
            f'<details open style="margin:4px 0"><summary style="{_QUIET}">{_text(heading)}</summary>'
            f'<pre style="margin:2px 0;max-height:24em;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere;'
            f'unicode-bidi:isolate;background:transparent;color:inherit">{_text(text, LONGEST_TEXT)}</pre></details>'
        )
    for note in sheet.notes:
        yield f'<div style="{_QUIET};{_WRAPPING}">{_text(note, LONGEST_TEXT)}</div>'


def _table(rows: Iterable[str]) -> str:
    return f'<table style="border-collapse:collapse;margin:2px 0;background:transparent">{"".join(rows)}</table>'


def _cell(value: Any) -> str:
    if isinstance(value, Cell):
        return f'<td style="{_CELL};{_TONES[value.tone]}">{_text(value.text)}</td>'
    text = _text(value)
    if _is_number(value):
        style = _NUMBER
    else:  # short words stay whole; what could not be broken at a space is broken anywhere
        style = f"{_CELL};white-space:nowrap" if len(text) <= _SHORT else f"{_CELL};{_WRAPPING}"
    return f'<td style="{style}">{text}</td>'


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(value: Any, longest: int | None = None) -> str:
    return html.escape(safe(value) if longest is None else safe(value, longest))
