"""Read and write CBOR (RFC 8949), as RivetKit's client does: plain values, byte strings, dates, large integers, sets.

Depths and lengths are bounded before anything is allocated. Numbers are written so that the client reads them as numbers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

from agentq_nb.errors import BadRequest

_DEEPEST = 100
"""How many values may be inside each other. JSON of that depth passes pydantic as well."""

_LARGEST_EXACT = 2**53
"""Integers up to here are exact as a float64, the only number that JavaScript has."""

_SMALL = 2**32
_INDEFINITE = 31
_BREAK = object()
_UNDEFINED_CODE = 23

_DATE_TEXT, _DATE, _BIG, _BIG_NEGATIVE, _TYPED_ARRAY, _SET, _MAP = 0, 1, 2, 3, 64, 258, 259


def decode(encoded: bytes) -> Any:
    """Return the one value in ``encoded``. ``undefined`` becomes None, a date a datetime. Raises BadRequest."""
    reader = _Reader(encoded)
    value = reader.value(0)
    if value is _BREAK or reader.position != len(encoded):
        raise _malformed()
    return value


def _malformed() -> BadRequest:
    return BadRequest("The body is no well-formed CBOR.")


class _Reader:
    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded
        self.position = 0

    def _take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self._encoded):
            raise _malformed()
        taken = self._encoded[self.position : end]
        self.position = end
        return taken

    def value(self, depth: int) -> Any:
        """Read one value, or the break that ends an indefinite one."""
        if depth > _DEEPEST:
            raise BadRequest(f"The body is nested more than {_DEEPEST} levels deep.")
        first = self._take(1)[0]
        major, low = first >> 5, first & 31
        if major == 7:
            return self._simple(low)
        argument = self._argument(low)
        if major == 0:
            return self._definite(argument)
        if major == 1:
            return -1 - self._definite(argument)
        if major == 2:
            return self._bytes(argument)
        if major == 3:
            return self._text(argument)
        if major == 4:
            return self._items(argument, depth)
        return self._mapping(argument, depth) if major == 5 else self._tagged(self._definite(argument), depth)

    def _argument(self, low: int) -> int | None:
        """Return the number in a value's head; None for an indefinite length."""
        if low < 24:
            return low
        if low < 28:
            return int.from_bytes(self._take(1 << (low - 24)), "big")
        if low == _INDEFINITE:
            return None
        raise _malformed()

    def _definite(self, argument: int | None) -> int:
        if argument is None:
            raise _malformed()
        return argument

    def _bytes(self, argument: int | None) -> bytes:
        return self._take(argument) if argument is not None else self._chunks(2)

    def _text(self, argument: int | None) -> str:
        encoded = self._take(argument) if argument is not None else self._chunks(3)
        try:
            return encoded.decode()
        except UnicodeDecodeError:
            raise BadRequest("A text in the body is no UTF-8.") from None

    def _chunks(self, major: int) -> bytes:
        chunks: list[bytes] = []
        while (first := self._take(1)[0]) != 0xFF:
            length = self._argument(first & 31)
            if first >> 5 != major or length is None:
                raise _malformed()
            chunks.append(self._take(length))
        return b"".join(chunks)

    def _items(self, count: int | None, depth: int) -> list[Any]:
        if count is not None and count > len(self._encoded) - self.position:
            raise _malformed()
        items: list[Any] = []
        while count is None or len(items) < count:
            item = self.value(depth + 1)
            if item is _BREAK:
                if count is None:
                    break
                raise _malformed()
            items.append(item)
        return items

    def _mapping(self, argument: int | None, depth: int) -> dict[str, Any]:
        flat = self._items(None if argument is None else 2 * argument, depth)
        if len(flat) % 2:
            raise _malformed()
        return {_key(flat[place]): flat[place + 1] for place in range(0, len(flat), 2)}

    def _tagged(self, tag: int, depth: int) -> Any:
        value = self.value(depth + 1)
        if value is _BREAK:
            raise _malformed()
        if tag in (_BIG, _BIG_NEGATIVE):
            if not isinstance(value, bytes) or len(value) > 1024:
                raise _malformed()
            number = int.from_bytes(value, "big")
            return number if tag == _BIG else -1 - number
        if tag == _DATE:
            return _date(value)
        if tag == _DATE_TEXT and isinstance(value, str):
            return value
        if tag == _TYPED_ARRAY and isinstance(value, bytes):
            return value
        if tag == _MAP:
            return value
        if tag == _SET and isinstance(value, list):
            return as_set(cast("list[Any]", value))
        raise BadRequest(f"The body holds a value with CBOR tag {tag}, which this server does not take.")

    def _simple(self, low: int) -> Any:
        if low in _SIMPLE:
            return _SIMPLE[low]
        if low in _FLOATS:
            size, layout = _FLOATS[low]
            return struct.unpack(layout, self._take(size))[0]
        raise _malformed()


_SIMPLE: dict[int, Any] = {20: False, 21: True, 22: None, _UNDEFINED_CODE: None, _INDEFINITE: _BREAK}
_FLOATS = {25: (2, ">e"), 26: (4, ">f"), 27: (8, ">d")}


def as_set(items: list[Any]) -> set[Any] | list[Any]:
    """Return the items as a set where Python can make one of them, else as the list that they are."""
    try:
        return set(items)
    except TypeError:
        return items


def _key(value: Any) -> str:
    """Return a map's key as a str: JSON has no others."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise BadRequest("The body holds a map whose keys are not all text.")


def _date(value: Any) -> datetime:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        try:
            return datetime.fromtimestamp(value, UTC)
        except (ValueError, OverflowError, OSError):
            pass
    raise BadRequest("The body holds a date that is none.")


def encode(value: Any) -> bytes:
    """Return ``value`` as CBOR. It is made of dict, list, str, int, float, bool, None, bytes and datetime."""
    parts: list[bytes] = []
    _write(value, parts.append)
    return b"".join(parts)


def _write(value: Any, put: Callable[[bytes], None]) -> None:
    if value is None or value is True or value is False:
        put(b"\xf6" if value is None else b"\xf5" if value else b"\xf4")
    elif isinstance(value, str):
        text = value.encode("utf-8", "replace")
        put(_head(3, len(text)) + text)
    elif isinstance(value, int):
        put(_number(value))
    elif isinstance(value, float):
        put(struct.pack(">Bd", 0xFB, value))
    elif isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        put(_head(5, len(fields)))
        for key, item in fields.items():
            _write(key, put)
            _write(item, put)
    elif isinstance(value, list):
        items = cast("list[Any]", value)
        put(_head(4, len(items)))
        for item in items:
            _write(item, put)
    elif isinstance(value, datetime):
        put(b"\xc1" + struct.pack(">Bd", 0xFB, value.timestamp()))
    else:
        put(_head(2, len(value)) + value)


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes((major << 5 | argument,))
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << (8 * size):
            return bytes((major << 5 | code,)) + argument.to_bytes(size, "big")
    raise ValueError("larger than CBOR's largest argument")


def _number(value: int) -> bytes:
    """Write an integer as the client reads it back as a number: it makes a BigInt of what takes 8 bytes."""
    if -_SMALL <= value < _SMALL:
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    assert abs(value) <= _LARGEST_EXACT  # larger ones are tagged, see ``values``
    return struct.pack(">Bd", 0xFB, float(value))
