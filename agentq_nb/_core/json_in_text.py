"""Find the JSON values in what a language model wrote: in prose, in fences, several of them, cut off.

Nothing is repaired. What is broken or cut off may contain values that look whole, and one of those would be taken for the
answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

_FENCE = re.compile(r"^[ \t]*(?:`{3,}|~{3,})[\w+.-]*[ \t]*$", re.MULTILINE)
"""A line that opens or closes a fence. No JSON value has such a line inside."""
_BEGINNING = re.compile(r"""\{\s*(?=\}|"[^"\\\n]*(?:\\.[^"\\\n]*)*"\s*:)|\[\s*(?=["{\[\]\-0-9tfn])""")
"""The beginning of an object or a list, in contrast to brackets in prose."""
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["{}\[\]]', re.DOTALL)
"""A string, a quote that is never closed, or a bracket."""
_SCALAR = re.compile(
    r'(?<!\\)"(?:[^"\\\x00-\x1f]|\\.)*"'
    r"|(?<![\w.,-])-?\d[\d.eE+-]*(?<![.+-])(?!\w|[.,]\d)"
    r"|\b(?:true|false|null)\b"
)
_LINE = re.compile(r"[^\n]+")
_CLOSING = {"{": "}", "[": "]"}


class JsonInText(NamedTuple):
    """What a text has of JSON.

    :ivar values: its objects and lists, and the numbers, strings, booleans and nulls that are a line of their own, in their
        order. Values inside of others are left out. Some may be no JSON: only their brackets and quotes were read.
    :ivar prose: the other lines, or parts of lines.
    :ivar cut_off: whether the last of its objects and lists is never closed.
    """

    values: list[str]
    prose: list[str]
    cut_off: bool

    def inline(self) -> Iterator[str]:
        """Yield the numbers, strings, booleans and nulls within lines of prose."""
        for line in self.prose:
            for found in _SCALAR.finditer(line):
                yield found[0]


def find_json(text: str) -> JsonInText:
    """Return the JSON values in a text. The time is proportional to its length."""
    values: list[str] = []
    prose: list[str] = []
    cut_off = False
    for segment in _segments(text):
        here = 0
        while (found := _BEGINNING.search(segment, here)) is not None:
            begin = found.start()
            _sort_lines(segment[here:begin], here == 0, False, values, prose)
            if (here := _end_of_brackets(segment, begin)) == -1:
                cut_off = True
                break
            values.append(segment[begin:here])
            cut_off = False
        else:
            before = len(values)
            _sort_lines(segment[here:], here == 0, True, values, prose)
            cut_off = cut_off and len(values) == before
    return JsonInText(values, prose, cut_off)


def _segments(text: str) -> Iterator[str]:
    """Yield what is between the lines of fences, so that something broken ends with its fence."""
    here = 0
    for fence in _FENCE.finditer(text):
        yield text[here : fence.start()]
        here = fence.end()
    yield text[here:]


def _sort_lines(gap: str, from_start: bool, to_end: bool, values: list[str], prose: list[str]) -> None:
    """Sort the lines of what stands between objects and lists into values and prose.

    :param from_start: whether its first line is whole, and ``to_end`` whether its last one is.
    """
    for found in _LINE.finditer(gap):
        line = found[0].strip()
        is_whole = (found.start() > 0 or from_start) and (found.end() < len(gap) or to_end)
        if is_whole and _SCALAR.fullmatch(line):
            values.append(line)
        elif line:
            prose.append(line)


def _end_of_brackets(text: str, begin: int) -> int:
    """Return where the value that begins here ends; -1: it is cut off.

    Python's own decoder would tell that too, but it counts the lines of the whole text for each broken value.
    """
    expected: list[str] = []
    for token in _TOKEN.finditer(text, begin):
        kind = token[0]
        if kind in _CLOSING:
            expected.append(_CLOSING[kind])
        elif kind == '"':
            return -1
        elif kind in ("}", "]"):
            expected.pop()
            if not expected:
                return token.end()
    return -1


def inner_json(text: str) -> str | None:
    """Return the value that a JSON value only wraps, as in ``{"answer": …}`` or a string of JSON; None: it wraps none."""
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match content:
        case {"type": _}:  # a schema that was repeated
            return None
        case dict() if len(content) == 1:  # pyright: ignore[reportUnknownArgumentType]  # any JSON
            (inner,) = content.values()  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]  # any JSON
        case [only]:
            inner = only  # pyright: ignore[reportUnknownVariableType]  # any JSON
        case str():
            return content if content[:1] in ("{", "[") else None
        case _:
            return None
    return json.dumps(inner, ensure_ascii=False)
