"""Texts and values as people read them. They come from agents, messages and errors, so they may hold anything."""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import datetime
from typing import Any

LONGEST_CELL = 300
LONGEST_TEXT = 20_000

_TERMINAL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours and cursor movements
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles and links
    r"|\x1b[@-Z\\-_]"
)
# Characters that reorder the text around them: shown by their number instead.
_REORDERING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def safe(value: Any, longest: int = LONGEST_CELL) -> str:
    """``value`` as text that no terminal, page or font is confused by, and that is not too long to show."""
    text = value if isinstance(value, str) else shown(value)
    whole = len(text)
    cut = text[: 4 * longest]
    cut = _TERMINAL.sub("", cut)
    cut = _REORDERING.sub(lambda found: f"\\u{ord(found[0]):04x}", cut)
    cut = "".join(_printable(character) for character in cut)
    if len(cut) <= longest and whole <= 4 * longest:
        return cut
    return f"{cut[:longest]}… ({whole:,} characters)"


def shown(value: Any) -> str:
    """A value as text: nothing for None, seconds for times, repr for what has no better form."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
        case datetime():
            return value.isoformat(" ", "milliseconds")
        case bytes():
            return value.decode("utf-8", "replace")
        case _:
            return str(value)


def pretty(value: Any) -> str:
    """A JSON value as people read it: text as it is, the rest indented."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _printable(character: str) -> str:
    if character in "\n\t" or character.isprintable():
        return character
    category = unicodedata.category(character)
    if category in ("Cc", "Cs", "Cn", "Co"):
        return "" if character == "\r" else "\ufffd"
    return " " if category in ("Zs", "Zl", "Zp") else character
