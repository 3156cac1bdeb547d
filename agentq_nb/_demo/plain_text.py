"""Check any text file for common problems, and data formats by parsing them."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath
from typing import Any

from agentq_nb._demo.report import Finding

LONGEST_LINE = 160
"""The most characters of a line that is not reported as long."""

_PROSE = (".md", ".rst", ".txt", ".html")
_KEEPS_TRAILING_SPACE = (".md",)
_SECRET = re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|\bghp_[0-9A-Za-z]{36}\b")
_UNFINISHED = re.compile(r"""^[^'"]*(?:#|//|/\*|<!--)\s*(TODO|FIXME|XXX|HACK)\b""")
_READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    ".json": ("JSON", json.loads),
    ".ipynb": ("JSON", json.loads),
    ".toml": ("TOML", tomllib.loads),
}


def lines_of(text: str) -> list[str]:
    """Return the lines as editors count them: a form feed or a Unicode line separator does not end a line."""
    return text.removesuffix("\n").replace("\r\n", "\n").replace("\r", "\n").split("\n")


def check(path_name: str, text: str) -> list[Finding]:
    """Return findings about the text of a file, in no particular order."""
    suffix = PurePath(path_name).suffix.lower()
    lines = lines_of(text)
    return [
        *_merge_markers(lines),
        *_lines_that(lines, _SECRET.search, "secret", "what looks like a private key", serious=True),
        *_lines_that(lines, _UNFINISHED.search, "unfinished", "a comment that says something is unfinished"),
        *([] if suffix in _PROSE else _long_lines(lines)),
        *([] if suffix in _KEEPS_TRAILING_SPACE else _trailing_space(lines)),
        *_line_endings(text),
        *_unreadable(suffix, text),
    ]


def _lines_that(
    lines: Sequence[str], matches: Callable[[str], object], rule: str, what: str, serious: bool = False
) -> list[Finding]:
    """Return one finding for all matching lines, at the first of them, so that a file full of them has one remark."""
    numbers = [number for number, line in enumerate(lines, 1) if matches(line)]
    times = f", {len(numbers)} times" if len(numbers) > 1 else ""
    return [Finding(numbers[0], rule, what + times, serious)] if numbers else []


def _merge_markers(lines: Sequence[str]) -> Iterator[Finding]:
    opened = None
    for number, line in enumerate(lines, 1):
        if line.startswith("<<<<<<< "):
            opened = number
        elif opened and line.startswith(">>>>>>> "):
            yield Finding(opened, "merge-conflict", "merge conflict left in the file", serious=True)
            opened = None


def _long_lines(lines: Sequence[str]) -> list[Finding]:
    what = f"line of more than {LONGEST_LINE} characters"
    return _lines_that(lines, lambda line: len(line) > LONGEST_LINE, "long-line", what)


def _trailing_space(lines: Sequence[str]) -> list[Finding]:
    return _lines_that(lines, lambda line: line.endswith((" ", "\t")), "trailing-space", "white space at a line's end")


def _line_endings(text: str) -> Iterator[Finding]:
    windows = text.count("\r\n")
    if 0 < windows < text.count("\n"):
        first = text.count("\n", 0, text.index("\r\n")) + 1
        yield Finding(first, "line-endings", "Windows and Unix line endings mixed")
    if not text.endswith(("\n", "\r")):
        yield Finding(text.count("\n") + 1, "no-final-newline", "no newline at the end")


def _unreadable(suffix: str, text: str) -> Iterator[Finding]:
    if suffix not in _READERS:
        return
    name, read = _READERS[suffix]
    try:
        read(text.removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        yield Finding(error.lineno, "unreadable", f"not valid {name}: {error.msg}", serious=True)
    except RecursionError:
        yield Finding(1, "unreadable", f"{name} nested too deeply to be read", serious=True)
    except ValueError as error:
        line = re.search(r"line (\d+)", str(error))
        yield Finding(int(line[1]) if line else 1, "unreadable", f"not valid {name}: {error}", serious=True)
