"""Documents: what is displayed of an object (title, facts, table, long texts), and how a terminal renders it.

Texts come from agents, messages and errors, so they may contain anything: they go through
:func:`~agentq_nb._core.safe_text.safe`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, TypeVar

from agentq_nb._actor.message import headline
from agentq_nb._core.safe_text import LONGEST_CELL, LONGEST_TEXT, safe, shown

Tone: TypeAlias = Literal["good", "bad", "busy", "quiet"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A text with a tone, which decides its colour."""

    text: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class Document:
    """The display of one object. ``facts`` are names and values, ``texts`` are headings and long texts."""

    title: str = ""
    facts: Sequence[tuple[str, Any]] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    texts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    empty: str = "Nothing here."
    """Shown instead of a table without rows."""
    widest: int = 100
    """How many characters of a cell a terminal shows."""
    longest: int = LONGEST_TEXT
    """How many characters of each of the ``texts`` are shown."""
    is_diff: bool = False
    """Whether the texts are unified diffs, whose lines are shown in colours."""


def tone(status: str) -> Cell:
    """Return the status of a message, an actor or a check as a cell with its tone."""
    tones: dict[str, Tone] = {
        "completed": "good",
        "awake": "good",
        "ok": "good",
        "running": "busy",
        "queued": "quiet",
        "delayed": "quiet",
        "blocked": "quiet",
        "asleep": "quiet",
        "cancelled": "quiet",
        "expired": "bad",
        "failed": "bad",
        "dead": "bad",
        "timed_out": "busy",
        "problem": "bad",
        "notice": "busy",
    }
    return Cell(status, tones.get(status, "quiet"))


def duration(seconds: float | None) -> str:
    """Return seconds as ``850 ms``, ``3.2 s``, ``4 min 10 s``, ``2 h 5 min`` or ``3 d 4 h``; None as empty text."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for size, name, smaller, smaller_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            left = whole % size // smaller
            return f"{whole // size} {name}" + (f" {left} {smaller_name}" if left else "")
    return f"{whole} s"


def disk_space(size: int) -> str:
    """Return a size as ``850 bytes``, ``12 KB``, ``3.4 MB`` or ``1.2 GB``, where a kilobyte is 1,000 bytes."""
    if size < 1000:
        return f"{size} byte{'' if size == 1 else 's'}"
    shown = float(size)
    for unit in ("KB", "MB", "GB"):
        shown /= 1000
        if shown < 999.5 or unit == "GB":
            return f"{shown:.0f} {unit}" if shown >= 99.5 or unit == "KB" else f"{shown:.1f} {unit}"
    raise AssertionError("a size has a unit")


def moment_text(seconds: float) -> str:
    """Return seconds since 1970 as date and time of day, UTC."""
    return shown(datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None))


def error_text(error: Mapping[str, Any]) -> str:
    """Return a stored error as text, with its traceback if it has one."""
    text = headline(error)
    return f"{text}\n\n{error['traceback']}" if error.get("traceback") else text


def is_number(value: Any) -> bool:
    """Whether a cell of a table is a number, which is aligned right."""
    if isinstance(value, Cell):
        return value.text.isdecimal()
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def numeric_columns(document: Document) -> list[bool]:
    """Return for each column whether it holds numbers and, apart from empty cells, nothing else."""
    columns = [[row[index] for row in document.rows] for index in range(len(document.columns))]
    return [
        any(map(is_number, column)) and all(is_number(value) or value in ("", None) for value in column)
        for column in columns
    ]


# --- plain text -------------------------------------------------------------------------------------------------------


def as_text(document: Document) -> str:
    """Return the document as plain text, for terminals and everything else that cannot show HTML."""
    blocks: list[str] = []
    if document.title:
        blocks.append(safe(document.title))
    if document.facts:
        width = max(len(name) for name, _ in document.facts)
        blocks.append("\n".join(f"{name:<{width}}  {_one_line(value)}" for name, value in document.facts))
    if document.columns:
        blocks.append("\n".join(_aligned(document)) if document.rows else document.empty)
    for heading, text in document.texts:
        body = safe(text, document.longest)
        blocks.append(f"{_one_line(heading)}:\n" + "\n".join(f"  {line}" for line in body.splitlines()))
    blocks += [_one_line(note, LONGEST_TEXT) for note in document.notes]
    return "\n\n".join(blocks)


def _aligned(document: Document) -> Iterable[str]:
    numeric = numeric_columns(document)
    lines = [[_one_line(cell, document.widest) for cell in row] for row in (document.columns, *document.rows)]
    widths = [max(_width(line[index]) for line in lines) for index in range(len(numeric))]
    for number, line in enumerate(lines):
        cells = [
            " " * (width - _width(text)) + text if right else text + " " * (width - _width(text))
            for text, width, right in zip(line, widths, numeric, strict=True)
        ]
        yield "  ".join(cells).rstrip()
        if number == 0:
            yield "  ".join("-" * width for width in widths)


def _one_line(value: Any, longest: int = LONGEST_CELL) -> str:
    text = value.text if isinstance(value, Cell) else value
    return safe(text, longest).replace("\n", " ⏎ ").replace("\t", " ")


def _width(text: str) -> int:
    """Return how many columns a terminal uses: wide characters take two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


T = TypeVar("T")

_documents: dict[type[Any], Callable[[Any], Document]] = {Document: lambda document: document}


def shows(kind: type[T]) -> Callable[[Callable[[T], Document]], Callable[[T], Document]]:
    """Return a decorator that registers the function that makes the documents of ``kind``."""

    def register(document: Callable[[T], Document]) -> Callable[[T], Document]:
        _documents[kind] = document
        return document

    return register


def kinds() -> list[type[Any]]:
    """Return the classes whose objects have a document."""
    return list(_documents)


def document_of(value: object) -> Document | None:
    """Return the document of a value; None if its class has none."""
    for kind in type(value).__mro__:
        if kind in _documents:
            return _documents[kind](value)
    return None
