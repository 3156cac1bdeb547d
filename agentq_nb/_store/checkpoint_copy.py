"""The copy that makes a checkpoint undoable: its file, and how a checkpoint is undone when the file is opened."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from agentq_nb._store.database_file import BLOCKS_START, HEADERS_START, active_header
from agentq_nb._store.guard import read_only
from agentq_nb._store.schema import checkpoint_of, sync_file, wal_of
from agentq_nb.errors import StoreError, StoreInUse

_MAGIC = b"AQCHKPT\n"
_VERSION = 1
_HEADER = struct.Struct("<8sII32sQ")
"""Magic, version, number of pieces, store id, iteration."""
_PIECE = struct.Struct("<QQQ")
"""Offset in the database, bytes, bit mask of the 64 parts in use (bit 0: the first)."""
_CHECKSUM = struct.Struct("<I")
PARTS = 64
_BLOCK_CHECKSUM_BYTES = 8


def unfinished_of(path: Path) -> Path:
    return path.with_name(path.name + ".checkpoint.new")


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the database. ``in_use`` is the bit mask of the parts (64ths) that a checkpoint leaves unchanged."""

    offset: int
    content: bytes
    in_use: int = 0

    def is_of(self, found: bytes) -> bool:
        """Whether the parts that no checkpoint changes are the same in ``found``."""
        size = (len(self.content) - _BLOCK_CHECKSUM_BYTES) // PARTS & ~7
        parts = [
            slice(start, start + size)
            for number in range(PARTS)
            if self.in_use >> number & 1
            for start in [_BLOCK_CHECKSUM_BYTES + number * size]
        ]
        return all(self.content[part] == found[part] for part in parts)


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of everything that a checkpoint may overwrite: both headers, then the blocks of metadata."""

    store_id: str
    iteration: int
    pieces: tuple[Piece, ...]

    def encoded(self) -> bytes:
        """Return the copy as the content of a file."""
        header = _HEADER.pack(_MAGIC, _VERSION, len(self.pieces), self.store_id.encode(), self.iteration)
        places = [_PIECE.pack(piece.offset, len(piece.content), piece.in_use) for piece in self.pieces]
        content = b"".join([header, *places, *(piece.content for piece in self.pieces)])
        return content + _CHECKSUM.pack(zlib.crc32(content))

    @staticmethod
    def decoded(content: bytes) -> Copy | None:
        """Return the copy in a file's content; None when any byte of it is wrong."""
        body, checksum = content[: -_CHECKSUM.size], content[-_CHECKSUM.size :]
        if len(body) < _HEADER.size or checksum != _CHECKSUM.pack(zlib.crc32(body)):
            return None
        magic, version, number, store_id, iteration = _HEADER.unpack_from(body)
        if magic != _MAGIC or version != _VERSION:
            return None
        pieces: list[Piece] = []
        start = _HEADER.size + number * _PIECE.size
        for place in range(_HEADER.size, start, _PIECE.size):
            offset, size, in_use = _PIECE.unpack_from(body, place)
            pieces.append(Piece(offset, body[start : start + size], in_use))
            start += size
        return Copy(store_id.rstrip(b"\0").decode(), iteration, tuple(pieces))


def write_copy(path: Path, content: bytes) -> None:
    """Write the file of the copy. It gets its name only when all of it is durable."""
    unfinished = unfinished_of(path)
    unfinished.unlink(missing_ok=True)
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(unfinished, checkpoint_of(path))
        sync_file(path.parent)
    except OSError:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


# --- opening ----------------------------------------------------------------------------------------------------------


def restore(path: Path, store_id: str | None) -> str | None:
    """Undo an unfinished checkpoint. Call it under the guard, before DuckDB opens the file.

    ``store_id`` is what the guard says; None: not known. Returns a notice where the copy cannot be used; then it stays,
    and the database's content decides. If killed at any moment, it can be repeated.
    Raises StoreInUse, StoreReadOnly, StoreError: then the database must not be opened.
    """
    try:
        unfinished_of(path).unlink(missing_ok=True)
        copy, useless = _pending(path, store_id)
        if useless or not path.exists() or not checkpoint_of(path).exists():
            return useless
        _put_back(path, copy.pieces if copy is not None else ())
        checkpoint_of(path).unlink()
        sync_file(path.parent)
    except PermissionError as error:
        raise read_only(path, error) from error
    except BlockingIOError:
        raise StoreInUse(f"{path} is open in another program. Close it there first.") from None
    except OSError as error:
        raise StoreError(
            f"{path} was left in the middle of a checkpoint, which cannot be undone now: {error.strerror or error}. "
            f"Nothing is lost: {checkpoint_of(path).name} holds what is needed. Repair the disk, and try again."
        ) from error
    return None


@contextmanager
def restored(path: Path, store_id: str | None) -> Generator[str | None]:
    """Run ``restore`` and yield its notice. When StoreError is raised inside, put the files back as they were found.

    Raises what ``restore`` does. A kill before that leaves the files restored, which is harmless.
    """
    try:
        found = _found(path, store_id)
    except OSError:
        found = None  # restoring reads the same files, and reports what is wrong
    useless = restore(path, store_id)
    try:
        yield useless
    except StoreError:
        if found is not None:
            with suppress(OSError):
                _undo(path, *found)
        raise


def _found(path: Path, store_id: str | None) -> tuple[bytes, os.stat_result, tuple[Piece, ...]] | None:
    """Return the copy's bytes, the database's stat, and the bytes the copy will replace; None: nothing to undo."""
    if not path.is_file() or not checkpoint_of(path).is_file():
        return None
    copy, _ = _pending(path, store_id)
    pieces = copy.pieces if copy is not None else ()
    replaced = tuple(Piece(piece.offset, _read(path, len(piece.content), piece.offset)) for piece in pieces)
    return checkpoint_of(path).read_bytes(), path.stat(), replaced


def _undo(path: Path, saved: bytes, before: os.stat_result, replaced: Sequence[Piece]) -> None:
    if checkpoint_of(path).exists() or not os.path.samestat(path.stat(), before):
        return  # nothing was restored, or another database has replaced it
    write_copy(path, saved)
    if replaced:
        _put_back(path, replaced)
        os.truncate(path, before.st_size)


@contextmanager
def as_restored(path: Path, store_id: str | None) -> Generator[Path]:
    """Yield where the database can be read as opening would restore it, with nothing changed: itself, or a copy of it.

    Raises StoreError when there is no room for a copy.
    """
    copy, _ = _pending(path, store_id)
    if copy is None:
        yield path
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix=".agentq-", dir=path.parent)
    except OSError as error:
        raise _no_room(path, error) from error
    with folder as name:
        trial = Path(name) / "log.duckdb"
        try:
            shutil.copyfile(path, trial)
            _put_back(trial, copy.pieces)
            if wal_of(path).exists():
                shutil.copyfile(wal_of(path), wal_of(trial))
        except OSError as error:
            raise _no_room(path, error) from error
        yield trial


def _no_room(path: Path, error: OSError) -> StoreError:
    needed = sum(file.stat().st_size for file in (path, wal_of(path)) if file.exists())
    return StoreError(
        f"{path} was left in the middle of a checkpoint, and looking at it takes a copy, which cannot be made: "
        f"{error.strerror or error}. Make room for {needed:,} bytes, or open it: that undoes the checkpoint in place.",
        code="disk_full",
        metadata={"path": str(path), "bytes": needed},
    )


def _pending(path: Path, store_id: str | None) -> tuple[Copy | None, str | None]:
    """Return the copy if it must be put back, or a notice if it exists but cannot be used. Raises OSError."""
    saved = checkpoint_of(path)
    if not saved.is_file() or not path.is_file():
        return None, None
    copy = Copy.decoded(saved.read_bytes())
    if copy is None:
        # It got its name only once it was durable, so this damage is not from a crash.
        return None, f"{saved.name} was damaged and was not used."
    active = active_header(_read(path, BLOCKS_START - HEADERS_START, HEADERS_START))
    if active is not None and active.iteration > copy.iteration and store_id in (None, copy.store_id):
        return None, None
    if active is None or active.iteration != copy.iteration or not _is_ours(path, copy, store_id):
        return None, f"{saved.name} does not belong to {path.name} as it is now, and was not used."
    return copy, None


def _is_ours(path: Path, copy: Copy, store_id: str | None) -> bool:
    """Whether the copy belongs to this database: by the guard, or without it by parts that no checkpoint changes."""
    if store_id is not None:
        return copy.store_id == store_id
    return all(piece.is_of(_read(path, len(piece.content), piece.offset)) for piece in copy.pieces)


def _read(path: Path, length: int, offset: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        return os.pread(file.fileno(), length, offset)


def _put_back(path: Path, pieces: Sequence[Piece]) -> None:
    """Write the pieces and sync: even a header that is still only in memory must be durable before the copy goes."""
    with path.open("r+b", buffering=0) as file:
        # A program that does not use guards may have it open.
        fcntl.lockf(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        for piece in pieces:
            _write_piece(file.fileno(), piece)
        os.fsync(file.fileno())


def _write_piece(descriptor: int, piece: Piece) -> None:
    rest = memoryview(piece.content)
    while rest:
        rest = rest[os.pwrite(descriptor, rest, piece.offset + len(piece.content) - len(rest)) :]
