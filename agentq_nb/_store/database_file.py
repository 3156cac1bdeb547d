"""Read a database file's bytes in DuckDB's storage format: headers, and blocks of equal size.

The file begins with three headers of 4096 bytes: one that never changes, and two for the database, written in turn at
each checkpoint. The one with the higher iteration is the *active* header; it names the root from which everything else
is found. Blocks follow, numbered from 0.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HEADERS_START = 4096
BLOCKS_START = 12288
_HEADER_BYTES = 4096
_FIELDS = struct.Struct("<8Q")
_WORDS = struct.Struct(f"<{_HEADER_BYTES // 8}Q")
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class DatabaseHeader:
    """One of the two database headers."""

    iteration: int
    """The number of checkpoints so far."""
    block_count: int
    block_bytes: int

    def offset_of(self, block: int) -> int:
        """Return where a block begins in the file."""
        return BLOCKS_START + block * self.block_bytes


def active_header(headers: bytes) -> DatabaseHeader | None:
    """Return the header that DuckDB would use; None if neither is readable. ``headers`` are both, as on disk."""
    found = [
        header
        for offset in range(0, len(headers), _HEADER_BYTES)
        if (header := _header(headers[offset : offset + _HEADER_BYTES])) is not None
    ]
    return max(found, key=lambda header: header.iteration, default=None)


def _header(content: bytes) -> DatabaseHeader | None:
    if len(content) != _HEADER_BYTES or not _is_sound(content):
        return None
    _, iteration, _, _, block_count, block_bytes, _, _ = _FIELDS.unpack_from(content)
    return DatabaseHeader(iteration, block_count, block_bytes)


def _is_sound(content: bytes) -> bool:
    """Whether DuckDB's checksum, in the first eight bytes, matches the rest."""
    stored, *words = _WORDS.unpack(content)
    checksum = 5381
    for word in words:
        checksum ^= word * 0xBF58476D1CE4E5B9 & _MASK
    return checksum == stored


class DatabaseFile:
    """A database that is open in this process, read alongside DuckDB.

    Closing any descriptor of the file releases DuckDB's POSIX lock. So there is one descriptor, kept until DuckDB has
    closed the file, and all code that needs its bytes reads them here.
    """

    def __init__(self, path: Path) -> None:
        """Open the file. Raises OSError."""
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, length: int, offset: int) -> bytes:
        """Return up to ``length`` bytes from ``offset``; fewer only at the end of the file. Raises OSError."""
        pieces: list[bytes] = []
        while length and (piece := os.pread(self.descriptor, length, offset)):
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return b"".join(pieces)

    def size(self) -> int:
        """Return the bytes of the open file, even if it was moved or deleted."""
        return os.fstat(self.descriptor).st_size

    def headers(self) -> bytes:
        """Return both database headers as they are now."""
        return self.read(BLOCKS_START - HEADERS_START, HEADERS_START)

    def blocks(self, header: DatabaseHeader, numbers: Sequence[int]) -> list[tuple[int, bytes]]:
        """Return the offsets and bytes of blocks."""
        offsets = [header.offset_of(number) for number in numbers]
        return [(offset, self.read(header.block_bytes, offset)) for offset in offsets]

    def close(self) -> None:
        """Close the file, after DuckDB has closed it."""
        os.close(self.descriptor)
