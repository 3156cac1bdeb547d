"""Read and write BARE, the binary encoding of RivetKit's protocol, as far as that uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from agentq_nb.errors import BadRequest

Value = TypeVar("Value")

VERSION = 4
"""The version of the protocol that is written. Clients write this one too, and read it."""

_LONGEST_UINT = 10
"""Bytes of the longest varint: 64 bits, 7 in each."""


class BareReader:
    """Reads one message from its bytes, front to back. Raises BadRequest for what is cut off or malformed."""

    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded
        self._position = 0

    def _take(self, count: int) -> bytes:
        end = self._position + count
        if end > len(self._encoded):
            raise BadRequest("The body ends too early for the encoding bare.")
        taken = self._encoded[self._position : end]
        self._position = end
        return taken

    def version(self) -> None:
        """Read the version that begins every message."""
        found = int.from_bytes(self._take(2), "little")
        if found != VERSION:
            raise BadRequest(f"The body is of version {found} of the protocol; this server speaks version {VERSION}.")

    def end(self) -> None:
        """Check that nothing is left."""
        if self._position != len(self._encoded):
            raise BadRequest("The body has bytes after its end in the encoding bare.")

    def u8(self) -> int:
        return self._take(1)[0]

    def u64(self) -> int:
        return int.from_bytes(self._take(8), "little")

    def uint(self) -> int:
        value = 0
        for place in range(_LONGEST_UINT):
            byte = self.u8()
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                if value >= 1 << 64 or (place > 0 and byte == 0):
                    break
                return value
        raise BadRequest("A number in the body is malformed for the encoding bare.")

    def bool(self) -> bool:
        byte = self.u8()
        if byte > 1:
            raise BadRequest("A yes or no in the body is malformed for the encoding bare.")
        return byte == 1

    def data(self) -> bytes:
        return self._take(self.uint())

    def str(self) -> str:
        try:
            return self.data().decode()
        except UnicodeDecodeError:
            raise BadRequest("A text in the body is no UTF-8.") from None

    def optional(self, read: Callable[[], Value]) -> Value | None:
        return read() if self.bool() else None


class BareWriter:
    """Writes one message, its version first. Each method returns the writer, so that calls can be chained."""

    def __init__(self) -> None:
        self._parts = [VERSION.to_bytes(2, "little")]

    @property
    def encoded(self) -> bytes:
        """What was written so far."""
        return b"".join(self._parts)

    def u8(self, value: int) -> BareWriter:
        self._parts.append(bytes((value,)))
        return self

    def uint(self, value: int) -> BareWriter:
        written = bytearray()
        while value >= 0x80:
            written.append(value & 0x7F | 0x80)
            value >>= 7
        written.append(value)
        self._parts.append(bytes(written))
        return self

    def data(self, value: bytes) -> BareWriter:
        self.uint(len(value))
        self._parts.append(value)
        return self

    def str(self, value: str) -> BareWriter:
        return self.data(value.encode())

    def optional_data(self, value: bytes | None) -> BareWriter:
        self.u8(value is not None)
        return self if value is None else self.data(value)

    def optional_uint(self, value: int | None) -> BareWriter:
        self.u8(value is not None)
        return self if value is None else self.uint(value)
