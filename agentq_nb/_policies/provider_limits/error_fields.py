"""What an error says in the fields of its JSON: types, statuses, messages, quotas and moments."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from agentq_nb._policies.provider_limits.headers import HeaderFacts, read_headers
from agentq_nb._policies.provider_limits.reset_times import after, moment_of, number

_DEEPEST = 12
_MOST = 3_000  # values of one error that are read

_CODES = {
    "type", "code", "status", "reason", "errorkind", "errorcode", "errortype", "error", "name", "subtype",
    "codexerrorinfo", "ratelimitreachedtype",
}  # fmt: skip
_STATUSES = {"code", "status", "statuscode", "httpstatuscode", "httpstatus", "apierrorstatus", "errorcode"}
_MESSAGES = {
    "message", "msg", "detail", "details", "error", "errormessage", "description", "raw", "title", "body",
    "responsebody", "data", "errordescription", "errormsg", "additionaldetails", "cause", "stderr", "text",
}  # fmt: skip
_QUOTAS = {"quotaid", "quotametric", "quotalimit", "metric"}
_STAMPS = {"resetsat", "resetat", "resettime", "quotaresettimestamp", "resettimestamp", "resetson", "resetdate"}
_LENGTHS = {
    "resetsinseconds", "resetinseconds", "resetafterseconds", "quotaresetdelay", "resetsin", "resetafter",
}  # fmt: skip
_RETRIES = {"retryafter", "retryafterseconds", "retryinseconds", "retrydelay", "retryafterinseconds"}
_LITERAL = re.compile(r"[{\[]")


@dataclass(slots=True)
class ErrorFields:
    """What was found in an error, whatever its shape.

    :param codes: names of errors in lower case without punctuation.
    :param quotas: names of Google's quotas in lower case.
    :param windows: what Claude reports of the plan's windows.
    """

    codes: set[str] = field(default_factory=set[str])
    statuses: set[int] = field(default_factory=set[int])
    messages: list[str] = field(default_factory=list[str])
    quotas: set[str] = field(default_factory=set[str])
    quota_is_zero: bool = False
    stamps: list[datetime] = field(default_factory=list[datetime])
    lengths: list[datetime] = field(default_factory=list[datetime])
    retries: list[datetime] = field(default_factory=list[datetime])
    headers: list[HeaderFacts] = field(default_factory=list[HeaderFacts])
    windows: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])


def read_error(data: object, now: datetime) -> ErrorFields:
    """Collect what ``data``, an error's JSON, says. Text inside that is JSON itself is read too."""
    found = ErrorFields()
    seen = 0
    stack: list[tuple[str, object, int]] = [("", data, 0)]
    while stack and seen < _MOST:
        key, value, depth = stack.pop()
        seen += 1
        if isinstance(value, Mapping) and depth < _DEEPEST:
            mapping = cast("Mapping[Any, Any]", value)
            if _is_window(key, mapping):
                found.windows.append(mapping)
                continue
            if key in ("headers", "responseheaders"):
                found.headers.append(read_headers(mapping, now))
                continue
            if key == "codexerrorinfo":
                found.codes |= {_plain(name) for name in mapping}
            # Reversed, so that the stack yields them in their order.
            stack += [(_plain(name), item, depth + 1) for name, item in reversed(list(mapping.items()))]
        elif isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)) and depth < _DEEPEST:
            stack += [(key, item, depth + 1) for item in reversed(cast("Sequence[Any]", value))]
        else:
            inner = _read_value(found, key, value, now) if isinstance(value, (str, int, float)) else ()
            stack += [("", item, depth + 1) for item in inner]
    return found


def literals(text: str) -> Iterator[tuple[int, int, Any]]:
    """Yield the JSON objects, and Python's own form of them, in ``text``: their start, their end and their value."""
    decoder = json.JSONDecoder(strict=False)  # terminals break lines within strings
    position = attempts = 0
    while (opening := _LITERAL.search(text, position)) and attempts < 50:
        start, attempts = opening.start(), attempts + 1
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = _closing(text, start)
            value = _python_literal(text[start:end]) if end else None
        if isinstance(value, (dict, list)) and value and end:
            yield start, end, cast("Any", value)
            position = end
        else:
            position = start + 1


def is_error(value: object) -> bool:
    """Whether a JSON value is shaped like the report of an error."""
    if isinstance(value, list):
        return any(is_error(item) for item in cast("list[Any]", value))
    if not isinstance(value, Mapping):
        return False
    keys = {_plain(key) for key in cast("Mapping[Any, Any]", value)}
    return bool(keys & {"error", "errors"}) or {"message"} <= keys or {"type", "code"} <= keys


def _read_value(found: ErrorFields, key: str, value: str | float, now: datetime) -> list[Any]:
    """Take one value in, and return the JSON that it contains."""
    if isinstance(value, bool):
        return []
    if key in _STATUSES and (status := number(value)) is not None and status in range(100, 600):
        found.statuses.add(int(status))
    elif key in _CODES and isinstance(value, str) and len(value) <= 80 and not re.search(r"\s\S+\s", value):
        found.codes.add(_plain(value))
    if key in _QUOTAS:
        found.quotas.add(str(value).lower())
    if key == "quotavalue":
        found.quota_is_zero |= number(value) == 0
    for keys, moments, read in (
        (_STAMPS, found.stamps, moment_of),
        (_LENGTHS, found.lengths, after),
        (_RETRIES, found.retries, after),
    ):
        if key in keys and (moment := read(value, now)):
            moments.append(moment)
    if key in ("retryafterms", "retrydelayms") and (length := number(value)) is not None:
        found.retries += filter(None, [after(length / 1000, now)])
    if not isinstance(value, str) or key not in _MESSAGES or not value.strip():
        return []
    inner = [literal for _, _, literal in literals(value)]
    found.messages.append(value)
    return inner


def _is_window(key: str, value: Mapping[Any, Any]) -> bool:
    return key in ("clauderatelimit", "ratelimitinfo", "ratelimit") and isinstance(value.get("status"), str)


def _plain(name: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _closing(text: str, start: int) -> int:
    """Return the index after the bracket that closes the one at ``start``, or 0."""
    depth, quote, position = 0, "", start
    for position in range(start, min(len(text), start + 20_000)):
        letter = text[position]
        if quote:
            if letter == quote and text[position - 1] != "\\":
                quote = ""
        elif letter in "\"'" and (text[position - 1] in " {[(:,"):
            quote = letter
        elif letter in "{[":
            depth += 1
        elif letter in "}]":
            depth -= 1
            if depth == 0:
                return position + 1
    return 0


def _python_literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
