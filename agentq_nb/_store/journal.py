"""The journal: a small preallocated file that makes each group commit durable with one write.

A DuckDB commit costs most of a millisecond of CPU before any flush. So a group commit is one *frame* here, written in
place and durable at once; rows move into the database later, in large transactions (``backlog``). This is a write-ahead
log; as in PostgreSQL, files of fixed size are overwritten again and again, and leftovers of earlier use are recognized
by the seeds of their checksums.

Layout (little-endian): one block with the file's header, then two regions of equal size. A region is one block with its
header, then consecutive frames, each at a multiple of 8. Headers are written twice, in sectors of their own. A region
is restarted, with a new salt, once all its rows are durable in the database. Every frame's checksum is seeded with the
salt, and sequence numbers have no gaps, so no leftover is taken for a frame and none is skipped.
``journal_scan`` reads it.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agentq_nb._store.schema import sync_file

BLOCK = 4096
SECTOR = 512
REGION_BYTES = 4 << 20
VERSION = 1

FILE_HEADER = struct.Struct("<8sII32s16s16s")
"""Magic, version, bytes of a region, store id, id of this journal, id of the journal it replaced."""
REGION_HEADER = struct.Struct("<8sQQQ")
"""Magic, salt, first sequence number, turn (how many uses of regions began in this file so far; 0: never used)."""
FRAME_HEADER = struct.Struct("<4sIQII")
"""Magic, bytes of the payload, first sequence number, number of rows, checksum."""
CHECKSUM = struct.Struct("<I")
FILE_MAGIC, REGION_MAGIC, FRAME_MAGIC = b"AGENTQJ\n", b"AQREGION", b"AQF1"

_RWF_DSYNC: int = getattr(os, "RWF_DSYNC", 0)
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def journal_of(path: Path) -> Path:
    """Return the path of a database's journal."""
    return path.with_name(path.name + ".journal")


def unfinished_journal_of(path: Path) -> Path:
    """Return the path of a journal that is being made, or was left unfinished by a crash."""
    return path.with_name(path.name + ".journal.new")


def seed_of(salt: int) -> int:
    """Return the seed of the checksums in a region with this salt."""
    return zlib.crc32(struct.pack("<Q", salt))


def frame_checksum(payload: bytes, first: int, rows: int, seed: int) -> int:
    return zlib.crc32(payload, zlib.crc32(struct.pack("<IQI", len(payload), first, rows), seed))


def frame_bytes(payload: int) -> int:
    """Return the bytes of a frame with so many bytes of payload."""
    return (FRAME_HEADER.size + payload + 7) & ~7


@dataclass(frozen=True, slots=True)
class Frame:
    """One group commit: ``text`` has ``rows`` lines; the first has the sequence number ``first``."""

    first: int
    rows: int
    text: str

    @property
    def last(self) -> int:
        return self.first + self.rows - 1

    def after(self, last: int) -> Frame:
        """Return the frame without the rows up to number ``last``."""
        known = last - self.first + 1
        if known <= 0:
            return self
        return Frame(last + 1, self.rows - known, self.text.split("\n", known)[known])


class Journal:
    """A journal open for writing. One thread at a time may use it.

    Every method that writes raises OSError; then it is unknown what was written, and the journal must not be written
    again: only reading it back from the disk can tell.
    """

    def __init__(self, path: Path, store_id: str, first: int, replaces: str = "") -> None:
        """Create the file at ``path``, which must not exist; all but its name is durable when this returns.

        ``first`` is the sequence number of the next row; ``replaces`` is the id of the journal that it replaces. Raises
        OSError, leaving nothing behind.
        """
        self.path = path
        self.id = os.urandom(8).hex()
        self.seconds = 0.0
        """Duration of the last append."""
        self._region_bytes = REGION_BYTES
        self._direct = bool(_RWF_DSYNC)
        self._turn = 0
        self.active = 0
        """The region being written, 0 or 1."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._fill_with_zeros()
            header = FILE_HEADER.pack(
                FILE_MAGIC, VERSION, REGION_BYTES, store_id.encode(), self.id.encode(), replaces.encode()
            )
            self._write_headers(0, header)
            self._write_headers(BLOCK + REGION_BYTES, REGION_HEADER.pack(REGION_MAGIC, 0, 0, 0))
            self.begin(0, first)
            os.fsync(self._descriptor)
        except BaseException:
            os.close(self._descriptor)
            path.unlink(missing_ok=True)
            raise

    @property
    def descriptor(self) -> int:
        """The file's descriptor."""
        return self._descriptor

    def _fill_with_zeros(self) -> None:
        """Allocate the whole file, so that later writes need no space and change only data."""
        zeros = bytes(1 << 20)
        size = self.size()
        for offset in range(0, size, len(zeros)):
            _write_all(self._descriptor, [zeros[: size - offset]], offset)

    def take_name(self, path: Path) -> None:
        """Rename the file to ``path``, durably, replacing any other journal there."""
        os.replace(self.path, path)
        self.path = path
        sync_file(path.parent)

    def begin(self, region: int, first: int) -> None:
        """Restart ``region`` with row ``first``. All rows in it must be durable in the database."""
        self._turn += 1
        salt = int.from_bytes(os.urandom(8), "little")
        start = BLOCK + region * self._region_bytes
        self._write_headers(start, REGION_HEADER.pack(REGION_MAGIC, salt, first, self._turn))
        self.active = region
        self._position = start + BLOCK
        self._end = start + self._region_bytes
        self._seed = seed_of(salt)

    def _write_headers(self, start: int, header: bytes) -> None:
        """Write both copies, the second when the first is durable: one of them is readable at any time."""
        header += CHECKSUM.pack(zlib.crc32(header))
        self._write([header], start)
        self._write([header], start + SECTOR)

    @staticmethod
    def size() -> int:
        """Return the bytes of the file."""
        return BLOCK + 2 * REGION_BYTES

    @property
    def largest(self) -> int:
        """Bytes of the largest payload that is written to the journal."""
        return self._region_bytes // 2

    def fits(self, size: int) -> bool:
        """Whether the active region has room for a payload of ``size`` bytes."""
        return self._position + FRAME_HEADER.size + size <= self._end

    def append(self, first: int, rows: int, payload: bytes) -> None:
        """Write one frame, which must fit; durable on return."""
        begun = time.perf_counter()
        checksum = frame_checksum(payload, first, rows, self._seed)
        header = FRAME_HEADER.pack(FRAME_MAGIC, len(payload), first, rows, checksum)
        self._write([header, payload], self._position)
        self._position += frame_bytes(len(payload))
        self.seconds = time.perf_counter() - begun

    def _write(self, parts: Sequence[bytes], offset: int) -> None:
        """Write the parts at ``offset``; durable on return."""
        if self._direct:
            try:
                _write_all(self._descriptor, parts, offset, _RWF_DSYNC)
                return
            except OSError as error:
                # Some file systems do not support the flag; then nothing was written.
                if error.errno not in _UNSUPPORTED:
                    raise
                self._direct = False
        _write_all(self._descriptor, parts, offset)
        _flush(self._descriptor)

    def close(self) -> None:
        """Close the file without writing or removing it."""
        os.close(self._descriptor)


def remove_journal(path: Path) -> None:
    """Remove a database's journal. All its rows must be durable in the database."""
    journal_of(path).unlink(missing_ok=True)
    with suppress(OSError):  # if it reappears after a power loss, it holds nothing new
        sync_file(path.parent)


def _write_all(descriptor: int, parts: Sequence[bytes], offset: int, flags: int = 0) -> None:
    """Write all parts, even if the system writes only some at a time."""
    wanted = sum(len(part) for part in parts)
    written = os.pwritev(descriptor, parts, offset, flags) if flags else os.pwritev(descriptor, parts, offset)
    if written == wanted:
        return
    rest = memoryview(b"".join(parts))[written:]
    while rest:
        written = os.pwritev(descriptor, [rest], offset + wanted - len(rest), flags)
        rest = rest[written:]


def _flush(descriptor: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)
