"""CBOR (RFC 8949) as RivetKit's client reads and writes it, by the library ``cbor2``.

Read are the kinds of values that the client writes, and no others: no references to other values, which could form a
circle or make little input large, and no expressions that are costly to build. Sizes and depths are bounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, cast

import cbor2

from agentq_nb._core.tagged_values import as_set
from agentq_nb.errors import BadRequest

_DEEPEST = 100
"""How many values may be inside each other. JSON of that depth passes pydantic as well."""

_MOST_ITEMS = 1_000_000
"""Values in one text. An empty list takes one byte there and 64 bytes here; and while they are read, the loop waits."""

_LARGEST_EXACT = 2**53
"""Integers up to here are exact as a float64, the only number that JavaScript has."""

_SMALL = 2**32
_LONGEST_NUMBER = 1024

_DATE_TEXT, _DATE, _BIG, _BIG_NEGATIVE, _TYPED_ARRAY, _SET, _MAP = 0, 1, 2, 3, 64, 258, 259


def decode(encoded: bytes) -> Any:
    """Return the one value in ``encoded``. ``undefined`` becomes None, a date a datetime. Raises BadRequest."""
    if len(encoded) > _MOST_ITEMS and _has_too_many_items(encoded):
        raise BadRequest(
            f"The body holds more than {_MOST_ITEMS:,} values. Send a large text or a file's path instead."
        )
    decoder = cbor2.CBORDecoder(
        BytesIO(encoded), semantic_decoders=_TAGS, max_depth=_DEEPEST, strict_hashable_types=True
    )
    try:
        value = _as_plain(decoder.decode())
    except cbor2.CBORDecodeError as error:
        if isinstance(error.__cause__, BadRequest):
            raise error.__cause__ from None
        raise BadRequest(f"The body is no CBOR that this server reads: {error}.") from None
    try:
        decoder.read(1)
    except cbor2.CBORDecodeEOF:
        return value
    raise BadRequest("The body is no well-formed CBOR: something follows its value.")


def _has_too_many_items(encoded: bytes) -> bool:
    """Whether there are more than ``_MOST_ITEMS`` heads; every value starts with one."""
    position = 0
    for _ in range(_MOST_ITEMS + 1):
        if position >= len(encoded):
            return False
        major, low = encoded[position] >> 5, encoded[position] & 31
        position += 1
        size = 1 << (low - 24) if 24 <= low < 28 else 0
        if major in (2, 3):  # bytes and text: skip the content
            position += int.from_bytes(encoded[position : position + size], "big") if size else low if low < 24 else 0
        position += size
    return True


def _as_plain(value: Any) -> Any:
    """Return a decoded value with None for ``undefined``. Raises BadRequest for what JSON has no kind of value for."""
    kind = cast("type[object]", type(value))
    if kind in _PLAIN:
        return value
    if kind is list:
        items = cast("list[Any]", value)
        for place, item in enumerate(items):
            items[place] = _as_plain(item)
        return items
    if kind is dict:
        fields = cast("dict[Any, Any]", value)
        for name, item in fields.items():
            if type(name) is not str:
                raise BadRequest("The body holds a map whose keys are not all text.")
            fields[name] = _as_plain(item)
        return fields
    if value is cbor2.undefined:
        return None
    raise BadRequest(f"The body holds a {kind.__name__}, which this server does not take.")


_PLAIN = frozenset((str, int, float, bool, bytes, type(None), datetime, set))


# --- tags -------------------------------------------------------------------------------------------------------------


class _Tags(Mapping[int, Callable[[Any, bool], Any]]):
    """What becomes of a tagged value, for every tag: the library has ideas of its own for many."""

    def __getitem__(self, tag: int) -> Callable[[Any, bool], Any]:
        return _OF_TAG.get(tag) or (lambda _, __: _refuse(tag))

    def __iter__(self) -> Iterator[int]:
        return iter(_OF_TAG)

    def __len__(self) -> int:
        return len(_OF_TAG)


_TAGS = _Tags()


def _refuse(tag: int) -> Any:
    raise BadRequest(f"The body holds a value with CBOR tag {tag}, which this server does not take.")


def _number(value: Any, sign: int) -> int:
    if not isinstance(value, bytes) or len(value) > _LONGEST_NUMBER:
        raise BadRequest("The body holds a large number that is none.")
    number = int.from_bytes(value, "big")
    return number if sign > 0 else -1 - number


def _date(value: Any, _: bool) -> datetime:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        try:
            return datetime.fromtimestamp(value, UTC)
        except (ValueError, OverflowError, OSError):
            pass
    raise BadRequest("The body holds a date that is none.")


def _set(value: Any, _: bool) -> set[Any] | list[Any]:
    if not isinstance(value, list):
        raise BadRequest("The body holds a set that is none.")
    return as_set(_as_plain(value))


def _of_kind(kind: type, tag: int) -> Callable[[Any, bool], Any]:
    return lambda value, _: value if isinstance(value, kind) else _refuse(tag)


_OF_TAG: Mapping[int, Callable[[Any, bool], Any]] = {
    _DATE_TEXT: _of_kind(str, _DATE_TEXT),
    _DATE: _date,
    _BIG: lambda value, _: _number(value, 1),
    _BIG_NEGATIVE: lambda value, _: _number(value, -1),
    _TYPED_ARRAY: _of_kind(bytes, _TYPED_ARRAY),
    _SET: _set,
    _MAP: _of_kind(dict, _MAP),
}


# --- writing ----------------------------------------------------------------------------------------------------------


def encode(value: Any) -> bytes:
    """Return ``value`` as CBOR. It is made of dict, list, str, int, float, bool, None, bytes and datetime.

    It is not nested more deeply than ``values.plain`` lets pass: the library does not bound that.
    """
    sent = _for_client(value)
    try:
        return cbor2.dumps(sent)
    except UnicodeEncodeError:
        return cbor2.dumps(_valid_text(sent))


def _for_client(value: Any) -> Any:
    """Return a copy whose numbers the client reads as numbers: it makes a BigInt of an integer that takes 8 bytes."""
    kind = cast("type[object]", type(value))
    if kind is int and not -_SMALL <= value < _SMALL:
        assert abs(value) <= _LARGEST_EXACT  # larger ones are tagged, see ``values``
        return float(value)
    if kind is list:
        return [_for_client(item) for item in cast("list[Any]", value)]
    if kind is dict:
        return {name: _for_client(item) for name, item in cast("dict[str, Any]", value).items()}
    if kind is datetime:
        return cbor2.CBORTag(_DATE, value.timestamp())
    return value


def _valid_text(value: Any) -> Any:
    """Return a copy with lone surrogates replaced, which no CBOR can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_valid_text(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {_valid_text(name): _valid_text(item) for name, item in cast("dict[str, Any]", value).items()}
    return value
