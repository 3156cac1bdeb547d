"""Python values as RivetKit's client sees them, and back: what JSON cannot carry is tagged, ``["$BigInt", "12"]``.

A list of two items whose first is a text that begins with ``$`` could be taken for such a tag, so it gets one ``$`` more.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from agentq_nb.errors import BadRequest, ValidationFailed

UNDEFINED: Any = ["$Undefined", 0]
"""What a call that returns nothing returns to the client. It tells that from null."""

_LARGEST_EXACT = 2**53
_MOST_DIGITS = 4000
_COLLIDING = 2**61 - 1
_LARGEST_MIXED_SET = 1000
_DEEPEST = 200
_MOST_CONTAINERS = 2_000_000
"""Lists and objects in a JSON text: an empty one takes 3 bytes there and 64 bytes here."""


def revived(value: Any) -> Any:
    """Return a received value with its tags resolved. Raises BadRequest for an unknown tag."""
    if isinstance(value, list):
        items = cast("list[Any]", value)
        if _could_be_tag(items):
            return _of_tag(items[0], items[1])
        return [revived(item) for item in items]
    if isinstance(value, dict):
        return {key: revived(item) for key, item in cast("dict[str, Any]", value).items()}
    return value


def _could_be_tag(items: list[Any]) -> bool:
    return len(items) == 2 and isinstance(items[0], str) and items[0].startswith("$")


def _of_tag(tag: str, value: Any) -> Any:
    if tag.startswith("$$"):
        return [tag[1:], revived(value)]
    try:
        if tag == "$Undefined":
            return None
        if tag == "$BigInt" and isinstance(value, str) and len(value) <= _MOST_DIGITS:
            return int(value)
        if tag in ("$Uint8Array", "$ArrayBuffer") and isinstance(value, str):
            return base64.b64decode(value, validate=True)
        if tag == "$Date" and isinstance(value, str):
            return datetime.fromisoformat(value)
        if tag == "$Set" and isinstance(value, list):
            return as_set([revived(item) for item in cast("list[Any]", value)])
    except (ValueError, binascii.Error):
        pass
    raise BadRequest(f"The body holds a value tagged {tag!r:.40} that cannot be read.")


def plain(value: Any, what: str) -> Any:
    """Return a copy of ``value`` made of dict, list, str, int, float, bool, None, bytes and datetime, tags added.

    It is a copy, so that it can be encoded in another thread. Raises ``actor.validation_error`` naming ``what`` for what
    has no such form.
    """
    try:
        return _plain(value, what, 0)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise ValidationFailed(f"{what} cannot be sent to the client: {error}") from None


def _plain(value: Any, what: str, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValidationFailed(f"{what} cannot be sent to the client: it is nested too deeply, or holds itself.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # of an enum its text, not its name
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int):
        return int(value) if abs(value) <= _LARGEST_EXACT else ["$BigInt", str(int(value))]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return ["$Uint8Array", base64.b64encode(cast(bytes, value)).decode()]
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value).items()
        return {str(key): _plain(item, what, depth + 1) for key, item in pairs}
    if isinstance(value, (list, tuple)):
        items = [_plain(item, what, depth + 1) for item in cast("list[Any]", value)]
        return [f"${items[0]}", items[1]] if _could_be_tag(items) else items
    if isinstance(value, (set, frozenset)):
        return ["$Set", [_plain(item, what, depth + 1) for item in cast("set[Any]", value)]]
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    if isinstance(value, type) or get_origin(value) is not None:
        raise ValidationFailed(
            f"{what} cannot be sent to another process: it has a type, {value!r:.100}. Make the call where the host runs, as "
            "in a handler or an action of an actor."
        )
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json", by_alias=True), what, depth + 1)
    return _plain(to_jsonable_python(value, by_alias=True), what, depth + 1)


def as_json(value: Any) -> bytes:
    """Return a plain value as JSON: dates as text, and null for numbers that JSON has not."""
    try:
        return _dumps(value)
    except ValueError:
        return _dumps(_finite(value))


def _dumps(value: Any) -> bytes:
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=datetime.isoformat, allow_nan=False)
    return written.encode("utf-8", "replace")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in cast("dict[str, Any]", value).items()}
    return value


def read_json(encoded: bytes) -> Any:
    """Return the value of a JSON text, with its tags resolved. Raises BadRequest."""
    if encoded.count(b"[") + encoded.count(b"{") > _MOST_CONTAINERS:
        raise BadRequest(f"The body holds more than {_MOST_CONTAINERS:,} lists and objects.")
    try:
        return revived(json.loads(encoded, parse_constant=_refuse_constant))
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None
    except ValueError:
        raise BadRequest("The body is no JSON.") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def as_set(items: list[Any]) -> set[Any] | list[Any]:
    """Return the items as a set where Python can make one of them, else as the list that they are.

    Large integers can be chosen so that all have the same hash, and a set of them takes forever: many stay a list.
    """
    if len(items) > _LARGEST_MIXED_SET and any(isinstance(item, int) and abs(item) >= _COLLIDING for item in items):
        return items
    try:
        return set(items)
    except TypeError:
        return items


def dumped(value: Any, what: str) -> str:
    """Write a value of a user: JSON, in which bytes, sets, dates and large numbers are tagged.

    Raises ``actor.validation_error``, naming ``what``.
    """
    return json.dumps(plain(value, what), ensure_ascii=False, separators=(",", ":"), default=_tagged)


def _tagged(moment: datetime) -> list[str]:
    return ["$Date", moment.isoformat()]


def loaded(text: str | bytes) -> Any:
    """Return the value that :func:`dumped` wrote. Raises BadRequest."""
    try:
        return revived(json.loads(text))
    except (ValueError, RecursionError):
        raise BadRequest("A value cannot be read: it is no JSON, or nested too deeply.") from None
