"""Show all details of a tool call as text for the user who is asked to allow it.

Nothing is left out or truncated, unless another part has the very same text; invisible characters are shown by their
number (:func:`agentq_nb._core.safe_text.exact`). Agents fill the protocol's fields differently, and a hostile one does
so on purpose. Therefore the input is shown beside the agent's description of it, and malformed fields as JSON.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, TypeAlias, cast

from agentq_nb._core.safe_text import exact

Json: TypeAlias = Mapping[str, Any]

LONGEST_TITLE = 120
"""Characters of a title shown in one line. A longer one is a part of its own."""

_OF_PROTOCOL = ("toolCallId", "title", "kind", "status", "content", "locations", "rawInput", "rawOutput", "_meta")
_COMMANDS = ("command", "cmd", "script")
_CONTEXT = 3
"""Unchanged lines shown around a change."""
_BREAK = "\n"
_MOST_COMPARED = 250_000
"""Lines of the old text times lines of the new one, beyond which they are shown one after the other, not compared."""


@dataclass(frozen=True)
class Part:
    """One text with its name."""

    name: str
    text: str
    is_diff: bool = False
    """Whether its lines begin with ``+``, ``-``, a space, ``@@`` or a backslash."""


def parts_of(title: str, tool_call: Json) -> tuple[Part, ...]:
    """Return what is shown besides the title, the most important part first."""
    blocks = tool_call.get("content")
    given = {name: value for name, value in tool_call.items() if name not in _OF_PROTOCOL}
    if isinstance(raw := tool_call.get("rawInput"), Mapping):
        given |= cast(Json, raw)
    elif raw is not None:
        given["rawInput"] = raw
    if blocks is not None and not isinstance(blocks, list):
        given.setdefault("content", blocks)
    parts = _Parts()
    for name in _COMMANDS:
        if (command := _command(given.get(name))) is not None:
            parts.add(name, command, source=given.pop(name))
    for block in cast(list[Any], blocks) if isinstance(blocks, list) else []:
        _add_block(parts, block)
    _add_input(parts, given)
    _add_paths(parts, tool_call.get("locations"))
    if not parts.has(title.strip("` ")) and ("\n" in title or len(title) > LONGEST_TITLE):
        parts.add("asks", title, first=True)
    return tuple(parts.parts)


class _Parts:
    """Collects the parts. Names are unique."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._names: set[str] = set()
        self._shown: set[str] = set()

    def add(self, name: str, text: str, *, source: Any = None, is_diff: bool = False, first: bool = False) -> None:
        base, number = exact(name), 1
        name = base
        while name in self._names:
            number += 1
            name = f"{base} ({number})"
        self._names.add(name)
        self.note(source if isinstance(source, str) else text)
        self.parts.insert(0 if first else len(self.parts), Part(name, exact(text), is_diff))

    def note(self, text: str) -> None:
        """Remember that this text is visible in a part."""
        self._shown.add(text)

    def has(self, text: object) -> bool:
        """Whether the very same text is already visible."""
        return text == "" or (isinstance(text, str) and text in self._shown)


def _command(value: Any) -> str | None:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list) and value:
        words = cast(list[Any], value)
        return shlex.join(words) if all(isinstance(word, str) for word in words) else None
    return None


def _add_block(parts: _Parts, block: Any) -> None:
    fields = _fields(block)
    if fields.get("type") == "diff":
        path, old, new = (fields.get(name) for name in ("path", "oldText", "newText"))
        if isinstance(path, str) and isinstance(new, str) and (old is None or isinstance(old, str)):
            parts.add(f"{'new file' if old is None else 'change of'} {path}", diff(old, new), is_diff=True)
            for text in (path, new, old):
                parts.note(text or "")
            return
    if fields.get("type") == "content" and (content := _fields(fields.get("content"))):
        text = content.get("text")
        if content.get("type") == "text" and isinstance(text, str):
            if not parts.has(text):
                parts.add("says", text)
            return
        block = content
    parts.add("content", _as_json(block, indent=2))


def _add_input(parts: _Parts, given: Json) -> None:
    """Add each text of several lines as a part of its own, and all else as one part, a line each."""
    lines: list[str] = []
    for name, value in given.items():
        if parts.has(value) or value is None:
            continue
        if isinstance(value, str) and "\n" in value and re.fullmatch(r"[\w .-]{1,40}", name):
            parts.add(name, value)
        elif isinstance(value, str) and not _breaks_line(name + value):
            lines.append(f"{name}: {value}")
        else:
            lines.append(f"{name if not _breaks_line(name) else _as_json(name)}: {_as_json(value)}")
    if lines:
        parts.add("input", "\n".join(lines))


def _add_paths(parts: _Parts, locations: Any) -> None:
    lines: list[str] = []
    for location in cast(list[Any], locations) if isinstance(locations, list) else [locations]:
        fields = _fields(location)
        path, line = fields.get("path"), fields.get("line")
        if not isinstance(path, str) or _breaks_line(path):
            lines += [] if location is None else [_as_json(location)]
        elif not parts.has(path):
            lines.append(path if line is None else f"{path}:{line}")
    if lines:
        parts.add("paths", "\n".join(lines))


def _fields(value: Any) -> Json:
    """Return a JSON object's fields; none for any other value."""
    return cast(Json, value) if isinstance(value, Mapping) else {}


def _breaks_line(text: str) -> bool:
    return "\n" in text or "\r" in text


def _as_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, default=str)


# --- diffs ------------------------------------------------------------------------------------------------------------


def diff(old: str | None, new: str) -> str:
    """Return the changes line by line; ``old`` is None for a new file. Line breaks but ``\\n`` are part of a line."""
    after = _lines(new)
    if old is None:
        return "\n".join(f"+{line.removesuffix(_BREAK)}" for line in after) or "(empty)"
    before = _lines(old)
    if before == after:
        return "(nothing changes)"
    return "\n".join(_hunks(before, after))


def _lines(text: str) -> list[str]:
    """Split into lines with their line breaks: a last line without one differs from the same line with one."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _hunks(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    same = 0
    while same < min(len(before), len(after)) and before[same] == after[same]:
        same += 1
    tail = 0
    while tail < min(len(before), len(after)) - same and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    # Only the part between the two, and the context shown around it, is compared.
    start, kept = max(0, same - _CONTEXT), max(0, tail - _CONTEXT)
    old, new = before[start : len(before) - kept], after[start : len(after) - kept]
    for group in _groups(old, new, same - start, tail - kept):
        first, last = group[0], group[-1]
        yield f"@@ -{_range(start, first[1], last[2])} +{_range(start, first[3], last[4])} @@"
        for tag, begin, end, new_begin, new_end in group:
            if tag == "equal":
                yield from _marked(" ", old[begin:end])
                continue
            yield from _marked("-", old[begin:end])
            yield from _marked("+", new[new_begin:new_end])


_Step: TypeAlias = tuple[str, int, int, int, int]


def _groups(old: Sequence[str], new: Sequence[str], head: int, tail: int) -> Iterable[Sequence[_Step]]:
    """Return the edit steps, nearby ones grouped. ``head`` and ``tail`` lines are the same in both."""
    if len(old) * len(new) <= _MOST_COMPARED:
        return SequenceMatcher(None, old, new).get_grouped_opcodes(_CONTEXT)
    ends, new_ends = len(old) - tail, len(new) - tail
    steps: list[_Step] = [
        ("equal", 0, head, 0, head),
        ("replace", head, ends, head, new_ends),
        ("equal", ends, len(old), new_ends, len(new)),
    ]
    return [[step for step in steps if step[2] > step[1] or step[4] > step[3]]]


def _range(start: int, begin: int, end: int) -> str:
    """Return the line range as a diff counts it: from 1, and for an empty range the line before it."""
    length = end - begin
    first = start + begin + (1 if length else 0)
    return f"{first}" if length == 1 else f"{first},{length}"


def _marked(sign: str, lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield sign + line.removesuffix(_BREAK)
        if not line.endswith(_BREAK):
            yield "\\ no line break at the end"
