"""Find protocol frames in an agent's stdout, between banners and progress bars, and the sentence in an error's JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

_BEGIN = re.compile(r'\{\s*"(?:jsonrpc|id|method|params|result|error)"\s*:')
_MOST_TRIES = 64  # places in a line where a frame may begin


@dataclass(frozen=True)
class Line:
    """The frames and other text of one line."""

    frames: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    rest: str = ""
    """The text that is not a frame."""

    @property
    def broken(self) -> bool:
        """Whether the rest was meant to be a frame."""
        return '"jsonrpc"' in self.rest


def read_line(line: bytes) -> Line:
    """Return the frames in a line: normally the whole line, else those within other text."""
    try:
        whole = _DECODER.decode(line.decode())
    except (ValueError, RecursionError):
        return _among_others(line.decode(errors="replace"))
    return Line([cast(dict[str, Any], whole)]) if _is_frame(whole) else Line(rest=line.decode())


def _among_others(text: str) -> Line:
    frames: list[dict[str, Any]] = []
    rest: list[str] = []
    at = rest_from = 0
    for _ in range(_MOST_TRIES):
        begin = _BEGIN.search(text, at)
        if begin is None:
            break
        at = begin.start() + 1
        try:
            frame, end = _DECODER.raw_decode(text, begin.start())
        except (ValueError, RecursionError):
            continue
        if _is_frame(frame):
            frames.append(cast(dict[str, Any], frame))
            rest.append(text[rest_from : begin.start()])
            at = rest_from = end
    rest.append(text[rest_from:])
    return Line(frames, " ".join(part.strip() for part in rest if part.strip()))


def _is_frame(value: Any) -> bool:
    """Whether this is a JSON-RPC request, notification or response."""
    if not isinstance(value, Mapping):
        return False
    frame = cast(Mapping[str, Any], value)
    identity = frame.get("id")
    if isinstance(identity, bool) or not isinstance(identity, (int, str, type(None))):
        return False
    if "method" in frame:
        return isinstance(frame["method"], str) and isinstance(frame.get("params"), (dict, list, type(None)))
    if "error" in frame and "result" not in frame:
        return isinstance(frame["error"], Mapping)
    return "result" in frame and identity is not None


def answered_badly(line: Line) -> int | None:
    """Return the id of the request that a broken line was meant to answer, if readable. No other answer will come."""
    found = re.search(r'"id"\s*:\s*(\d{1,18})\b', line.rest) if line.broken and '"method"' not in line.rest else None
    return int(found[1]) if found else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def mapping(value: object) -> Mapping[str, Any]:
    """Return ``value`` if it is a mapping, and otherwise an empty one."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


_SAYS_WHY = ("details", "detail", "message", "error", "reason", "data")
_DEEPEST = 8
_LONGEST = 300  # characters of data without a sentence


def sentence_of(details: Any) -> str:
    """Return the message in ``details``; ``""`` where it is data without a readable one."""
    return _sentence(details, _DEEPEST)


def shown_as_data(details: Any) -> str:
    """Return the beginning of ``details`` as JSON, when there is no readable message."""
    text = json.dumps(details, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _sentence(details: Any, depth: int) -> str:
    if isinstance(details, str):
        return _without_json(details.strip(), depth)
    if not isinstance(details, Mapping) or not depth:
        return ""
    mapping = cast(Mapping[str, Any], details)
    return next((said for name in _SAYS_WHY if (said := _sentence(mapping.get(name), depth - 1))), "")


def _without_json(text: str, depth: int) -> str:
    """Return ``401 {"error": {"message": "invalid key"}}`` as ``401 invalid key``; leave alone what is not JSON."""
    before, brace, _ = text.partition("{")
    if not brace or not depth:
        return text
    try:
        value, end = json.JSONDecoder().raw_decode(text, len(before))
    except (ValueError, RecursionError):
        return text
    said = _sentence(value, depth - 1)
    return " ".join(part for part in (before.strip(), said, text[end:].strip()) if part) if said else text
