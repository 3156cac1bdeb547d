"""Reading a journal back without changing it: which rows can be read, and which are missing between them."""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agentq_nb._store.journal import (
    BLOCK,
    CHECKSUM,
    FILE_HEADER,
    FILE_MAGIC,
    FRAME_HEADER,
    FRAME_MAGIC,
    REGION_HEADER,
    REGION_MAGIC,
    SECTOR,
    VERSION,
    frame_bytes,
    frame_checksum,
    seed_of,
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One group commit: ``text`` has ``rows`` lines, the first of which has the sequence number ``first``."""

    first: int
    rows: int
    text: str

    @property
    def last(self) -> int:
        return self.first + self.rows - 1

    def after(self, last: int) -> Frame:
        """The frame without the rows up to number ``last``."""
        known = last - self.first + 1
        if known <= 0:
            return self
        return Frame(last + 1, self.rows - known, self.text.split("\n", known)[known])


@dataclass(frozen=True, slots=True)
class JournalContent:
    """What a journal holds.

    :ivar id: tells journals of one store apart. ``replaces`` is the id of the one before it.
    :ivar frames: every frame that can be read, in the order of sequence numbers.
    :ivar reached: every row up to this number was durable, here or in the database.
    :ivar torn: behind the last frame there is one that is not whole: a write that was not finished, or damage to it.
    :ivar problem: why frames may be there that cannot be read; None when every one that was ever durable can be, but
        for the rows missing between those that are there.
    """

    store_id: str = ""
    id: str = ""
    replaces: str = ""
    frames: tuple[Frame, ...] = ()
    reached: int = 0
    torn: bool = False
    problem: str | None = None

    @property
    def last(self) -> int:
        """The last row that is known to have been durable."""
        return max(self.reached, *(frame.last for frame in self.frames), 0)

    def after(self, last: int) -> tuple[list[Frame], int]:
        """The rows behind number ``last``, and how many are missing between or behind them.

        Frames are written strictly one after the other, each durable before the next one is begun. So a frame that
        cannot be read was durable once if a later one is there, and was never acknowledged if none is.
        """
        frames: list[Frame] = []
        missing = 0
        for frame in self.frames:
            if frame.last > last:
                missing += max(0, frame.first - last - 1)
                frames.append(frame.after(last))
                last = frame.last
        return frames, missing + max(0, self.reached - last)


def scan(path: Path) -> JournalContent | None:
    """Read the journal at ``path``; None when there is none. Raises OSError."""
    content = _read(path)
    if content is None:
        return None
    headers = _headers(content, 0, FILE_HEADER, FILE_MAGIC)
    if not headers:
        # It has two regions of equal size, so what is in them can be found without it.
        found = _regions(content, max(0, (len(content) - BLOCK) // 2))
        return replace(found, problem="the header of the journal cannot be read")
    _, version, region_bytes, *ids = headers[0]
    store_id, journal, replaces = (name.rstrip(b"\0").decode() for name in ids)
    if version != VERSION:
        return JournalContent(store_id, journal, replaces, problem=f"the journal has the unknown version {version}")
    found = _regions(content, region_bytes)
    if len(content) < BLOCK + 2 * region_bytes:
        # It has its whole length before a row is written to it.
        found = replace(found, problem="the journal was cut")
    return replace(found, store_id=store_id, id=journal, replaces=replaces)


def _regions(content: bytes, region_bytes: int) -> JournalContent:
    """What both regions hold."""
    frames: list[Frame] = []
    problem = None
    reached = newest = 0
    torn = False
    for start in (BLOCK, BLOCK + region_bytes):
        regions = _headers(content, start, REGION_HEADER, REGION_MAGIC)
        if not regions:
            problem = "the header of a region of the journal cannot be read"
            continue
        _, salt, first, turn = max(regions, key=lambda region: region[3])
        if not turn:
            continue
        reached = max(reached, first - 1)
        found = list(_frames(content, start + BLOCK, start + region_bytes, seed_of(salt)))
        frames += [frame for _, frame in found]
        if turn > newest:
            newest = turn
            end, last = (found[-1][0], found[-1][1].last) if found else (start + BLOCK, first - 1)
            torn = _begins_a_frame(content, end, start + region_bytes, first, last + 1)
    frames.sort(key=lambda frame: frame.first)
    return JournalContent(frames=tuple(frames), reached=reached, torn=torn, problem=problem)


def _begins_a_frame(content: bytes, offset: int, end: int, first: int, expected: int) -> bool:
    """Whether a frame of this use of a region was begun at ``offset``. Leftovers have smaller numbers than ``first``."""
    if offset + FRAME_HEADER.size > min(end, len(content)):
        return False
    magic, _, number, _, _ = FRAME_HEADER.unpack_from(content, offset)
    return number == expected or (magic == FRAME_MAGIC and number >= first)


def _read(path: Path) -> bytes | None:
    try:
        # Without the flag, a pipe of that name would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        if hasattr(os, "posix_fadvise"):
            # After a failed write the page cache may hold what the disk does not.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        content = bytearray()
        while piece := os.pread(descriptor, 1 << 24, len(content)):
            content += piece
        return bytes(content)
    finally:
        os.close(descriptor)


def _headers(content: bytes, start: int, layout: struct.Struct, magic: bytes) -> list[tuple[Any, ...]]:
    """The copies of a header that can be read."""
    found: list[tuple[Any, ...]] = []
    for offset in (start, start + SECTOR):
        header = content[offset : offset + layout.size]
        checksum = content[offset + layout.size : offset + layout.size + CHECKSUM.size]
        if header[: len(magic)] == magic and checksum == CHECKSUM.pack(zlib.crc32(header)):
            found.append(layout.unpack(header))
    return found


def _frames(content: bytes, start: int, end: int, seed: int) -> Iterator[tuple[int, Frame]]:
    """Every frame of the present use of a region, with where it ends: leftovers of an earlier one have another seed."""
    offset = start
    while (offset := content.find(FRAME_MAGIC, offset, end)) >= 0:
        frame, size = _frame(content, offset, end, seed)
        if frame is not None:
            yield offset + size, frame
        offset += size


def _frame(content: bytes, offset: int, end: int, seed: int) -> tuple[Frame | None, int]:
    """The frame at ``offset``, if it is whole, and how many bytes further to go on."""
    if offset + FRAME_HEADER.size > end:
        return None, len(FRAME_MAGIC)
    _, size, first, rows, checksum = FRAME_HEADER.unpack_from(content, offset)
    body = offset + FRAME_HEADER.size
    payload = content[body : body + size] if body + size <= end else b""
    if len(payload) != size or not rows or frame_checksum(payload, first, rows, seed) != checksum:
        return None, len(FRAME_MAGIC)
    return Frame(first, rows, payload.decode()), frame_bytes(size)
