"""Text of programs with typographic signs made plain, and patterns put together."""

from __future__ import annotations

import re

_SIGNS = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2010": "-",
        "\u2011": "-",
        "\u2012": "-",
        "\u2013": "-",
        "\u2014": "-",
        "\u2212": "-",
        "\u2026": "...",
        "\u2219": "·",
        "\u2022": "·",
        "\u30fb": "·",
        "\u00a0": " ",
        "\u2007": " ",
        "\u2009": " ",
        "\u202f": " ",
    }
)
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def plain(text: str) -> str:
    """Return the text without colours, and with plain quotes, dashes, dots and spaces."""
    return _ANSI.sub("", text).translate(_SIGNS)


def any_of(*patterns: str) -> str:
    """Return a pattern that matches what one of the patterns matches, the first first."""
    return "(?:" + "|".join(patterns) + ")"
