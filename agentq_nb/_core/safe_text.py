"""Make untrusted text and values (from agents, messages, errors) safe and readable to show."""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import datetime
from functools import lru_cache
from typing import Any

LONGEST_CELL = 300
LONGEST_TEXT = 20_000

_TERMINAL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours and cursor movements
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles and links
    r"|\x1b[@-Z\\-_]"
)
# Characters that are invisible, or that reorder the text around them: shown as their code points.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
# But some of them join emoji, and letters of Persian and of India's scripts.
_JOINERS = ("\u200c", "\u200d", "\ufe0f\u200d")
_VARIANTS = ("\ufe0e", "\ufe0f")


def safe(value: Any, longest: int = LONGEST_CELL) -> str:
    """Return ``value`` as text of limited length that cannot disturb a terminal, page or font."""
    text = value if isinstance(value, str) else shown(value)
    whole = len(text)
    cut = text[: 4 * longest]
    cut = _TERMINAL.sub("", cut)
    cut = _UNSEEN.sub(_seen, cut)
    cut = "".join(_printable(character) for character in cut)
    if len(cut) <= longest and whole <= 4 * longest:
        return cut
    return f"{cut[:longest]}… ({whole:,} characters)"


@lru_cache(maxsize=4096)
def safe_name(name: str) -> str:
    """Return :func:`safe` of a name, remembered: a live view shows hundreds of them again and again."""
    return safe(name)


def exact(text: str) -> str:
    """Return all of a text, safe to show: invisible characters become their code points, nothing is cut."""
    if not text.isascii():
        text = _UNSEEN.sub(_seen, text)
    unprintable = {one for one in set(text) if not one.isprintable() and one not in "\n\t"}
    unprintable -= {*_JOINERS, *_VARIANTS}  # those left belong to the text around them
    return text.translate({ord(one): ascii(one)[1:-1] for one in unprintable}) if unprintable else text


def is_safe(text: str) -> bool:
    """Whether ``text`` can be shown as it is."""
    return safe(text, len(text)) == text


def shown(value: Any) -> str:
    """Return a value as text: empty for None, ISO for datetimes, ``str`` for types without a better form."""
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
    """Return a JSON value for people: a str as it is, the rest as indented JSON."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _seen(found: re.Match[str]) -> str:
    """Return the characters as their code points, unless they belong to the text around them."""
    start, end = found.span()
    run, before, after = found[0], found.string[max(start - 1, 0) : start], found.string[end : end + 1]
    if run in _JOINERS and not before.isascii() and not after.isascii():
        return run
    if run in _VARIANTS and before and (not before.isascii() or before in "0123456789#*"):
        return run
    return "".join(f"\\u{ord(one):04x}" if ord(one) < 0x10000 else f"\\U{ord(one):08x}" for one in run)


def _printable(character: str) -> str:
    if character in "\n\t" or character.isprintable():
        return character
    category = unicodedata.category(character)
    if category in ("Cc", "Cs", "Cn", "Co"):
        return "" if character == "\r" else "\ufffd"
    return " " if category in ("Zs", "Zl", "Zp") else character
