"""Read a journal without changing it, and find which of its rows are readable and which are missing."""

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
    Frame,
    frame_bytes,
    frame_checksum,
    seed_of,
)


@dataclass(frozen=True, slots=True)
class JournalContent:
    """The content of a journal.

    :ivar id: distinguishes the journals of one store. ``replaces`` is the id of the previous one.
    :ivar frames: every readable frame, ordered by sequence number.
    :ivar reached: every row up to this number was durable, here or in the database.
    :ivar torn: whether an incomplete frame follows the last one: an unfinished write, or damage.
    :ivar problem: why there may be frames that cannot be read; None when every frame that was ever durable can be,
        except rows missing between readable ones.
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
        """The last row known to have been durable."""
        return max(self.reached, *(frame.last for frame in self.frames), 0)

    def after(self, last: int) -> tuple[list[Frame], int]:
        """Return the frames after row ``last``, and how many rows are missing between or after them.

        Frames are written one after the other, each durable before the next one starts. So a frame that cannot be read
        was durable once if a later one exists, and was never acknowledged if none does.
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
    """Read the journal at ``path``; None when it does not exist. Raises OSError."""
    content = _read(path)
    if content is None:
        return None
    headers = _headers(content, 0, FILE_HEADER, FILE_MAGIC)
    if not headers:
        # There are two regions of equal size, so they can be found without it.
        found = _regions(content, max(0, (len(content) - BLOCK) // 2))
        return replace(found, problem="the header of the journal cannot be read")
    _, version, region_bytes, *ids = headers[0]
    store_id, journal, replaces = (name.rstrip(b"\0").decode() for name in ids)
    if version != VERSION:
        return JournalContent(store_id, journal, replaces, problem=f"the journal has the unknown version {version}")
    found = _regions(content, region_bytes)
    if len(content) < BLOCK + 2 * region_bytes:
        # The file has its full length before the first row is written.
        found = replace(found, problem="the journal was cut")
    return replace(found, store_id=store_id, id=journal, replaces=replaces)


def _regions(content: bytes, region_bytes: int) -> JournalContent:
    """Return the content of both regions."""
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
    """Whether a frame of the region's current use begins at ``offset``. Leftovers have numbers below ``first``."""
    if offset + FRAME_HEADER.size > min(end, len(content)):
        return False
    magic, _, number, _, _ = FRAME_HEADER.unpack_from(content, offset)
    return number == expected or (magic == FRAME_MAGIC and number >= first)


def _read(path: Path) -> bytes | None:
    try:
        # Without the last flag, opening a pipe of that name would block.
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
    """Return the readable copies of a header."""
    found: list[tuple[Any, ...]] = []
    for offset in (start, start + SECTOR):
        header = content[offset : offset + layout.size]
        checksum = content[offset + layout.size : offset + layout.size + CHECKSUM.size]
        if header[: len(magic)] == magic and checksum == CHECKSUM.pack(zlib.crc32(header)):
            found.append(layout.unpack(header))
    return found


def _frames(content: bytes, start: int, end: int, seed: int) -> Iterator[tuple[int, Frame]]:
    """Yield every frame of the region's current use, with its end: leftovers have another seed."""
    offset = start
    while (offset := content.find(FRAME_MAGIC, offset, end)) >= 0:
        frame, size = _frame(content, offset, end, seed)
        if frame is not None:
            yield offset + size, frame
        offset += size


def _frame(content: bytes, offset: int, end: int, seed: int) -> tuple[Frame | None, int]:
    """Return the frame at ``offset``, if it is complete, and how many bytes to advance."""
    if offset + FRAME_HEADER.size > end:
        return None, len(FRAME_MAGIC)
    _, size, first, rows, checksum = FRAME_HEADER.unpack_from(content, offset)
    body = offset + FRAME_HEADER.size
    payload = content[body : body + size] if body + size <= end else b""
    if len(payload) != size or not rows or frame_checksum(payload, first, rows, seed) != checksum:
        return None, len(FRAME_MAGIC)
    return Frame(first, rows, payload.decode()), frame_bytes(size)
