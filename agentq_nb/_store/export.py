"""Export a copy of the log that other programs can open, since they cannot open the log while it is in use.

Between two checkpoints DuckDB changes no block in use, and only appends to its write-ahead log. So the bytes of both at
one moment are a snapshot until the next checkpoint, and they are copied alongside the writer. The copy is made in a
folder of its own beside the target, locked while in use: an unlocked one was left by a crash, and is removed by the
next export there, or the next opening of a log there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from agentq_nb._core.result_table import TablePages
from agentq_nb._store import schema
from agentq_nb._store.database_file import DatabaseFile
from agentq_nb._store.store_paths import check_path
from agentq_nb.errors import StoreError, StoreReadOnly

_PREFIX = ".agentq-export-"
_PIECE_BYTES = 1 << 20
_SYNC_BYTES = 4 << 20
"""Bytes after which the copy is synced: a large sync at the end would delay the log's own, on the same disk."""


def check_target(target: Path) -> None:
    """Raise StoreError if a copy cannot be at ``target``, which is absolute, or if something exists there."""
    check_path(target, "export to another file")
    if os.path.lexists(target):
        raise _already_exists(target)


class Source:
    """The bytes of a database that is open in this process."""

    def __init__(self, file: DatabaseFile) -> None:
        self._file = file
        self._changed = threading.Condition()
        self._copies: set[threading.Event] = set()
        self._reading = 0

    @property
    def in_use(self) -> bool:
        """Whether a copy is being made, so that no checkpoint may be."""
        return bool(self._copies)

    def hold(self, stop: threading.Event) -> tuple[int, int]:
        """Begin a copy, which ``stop`` stops, and return its sizes: they are a snapshot until :meth:`release`.

        Call it in the thread that makes checkpoints.
        """
        sizes = self.sizes()
        with self._changed:
            self._copies.add(stop)
        return sizes

    def release(self, stop: threading.Event) -> None:
        """Allow checkpoints again."""
        with self._changed:
            self._copies.discard(stop)

    def stop(self) -> None:
        """Stop all copies and wait until none is being read. Blocks."""
        with self._changed:
            for stop in self._copies:
                stop.set()
            self._changed.wait_for(lambda: not self._reading, timeout=10)

    def sizes(self) -> tuple[int, int]:
        """Return the bytes of the database and of its write-ahead log, between two commits."""
        wal = schema.wal_of(self._file.path)
        return self._file.size(), wal.stat().st_size if wal.exists() else 0

    def export(self, target: Path, sizes: tuple[int, int], stop: threading.Event) -> None:
        """Copy those ``sizes`` to ``target``. Blocks, until ``stop`` is set; no checkpoint may be made meanwhile.

        Raises StoreError and StoreReadOnly, with nothing left behind.
        """
        needed = sizes[0] + 2 * sizes[1]
        try:
            if shutil.disk_usage(target.parent).free < needed:
                raise _no_room(target, needed)
            remove_leftovers(target.parent)
            with _workplace(target.parent) as folder:
                copy = folder / "copy.duckdb"
                self._copy(copy, sizes, stop)
                _finish(copy)
                # Unlike a rename, a link never replaces an existing file.
                os.link(copy, target)
                schema.sync_file(target.parent)
        except FileExistsError:
            raise _already_exists(target) from None
        except (OSError, duckdb.Error) as error:
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            if full or "No space left" in str(error):
                raise _no_room(target, needed) from error
            raise StoreReadOnly(f"{target} cannot be written: {error}") from error

    def _copy(self, to: Path, sizes: tuple[int, int], stop: threading.Event) -> None:
        with self._changed:
            self._reading += 1
        try:
            _copy_bytes(self._file.read, to, sizes[0], stop)
            if sizes[1]:
                # DuckDB locks only the database, so this file may be closed.
                with schema.wal_of(self._file.path).open("rb", buffering=0) as wal:
                    _copy_bytes(partial(os.pread, wal.fileno()), schema.wal_of(to), sizes[1], stop)
        finally:
            self.release(stop)
            with self._changed:
                self._reading -= 1
                self._changed.notify_all()


def export_tables(target: Path, tables: Iterable[TablePages], stop: threading.Event) -> None:
    """Write the tables to ``target``. Blocks, until ``stop`` is set.

    Raises StoreError if something exists there, and StoreReadOnly; nothing is left behind then.
    """
    target = target.absolute()
    check_target(target)
    try:
        remove_leftovers(target.parent)
        with _workplace(target.parent) as folder:
            copy = folder / "copy.duckdb"
            with duckdb.connect(copy) as connection:
                for table in tables:
                    _write(connection, table, stop)
            copy.chmod(0o600)
            schema.sync_file(copy)
            os.link(copy, target)
            schema.sync_file(target.parent)
    except FileExistsError:
        raise _already_exists(target) from None
    except (OSError, duckdb.Error) as error:
        raise StoreReadOnly(f"{target} cannot be written: {error}") from error


def _write(connection: duckdb.DuckDBPyConnection, table: TablePages, stop: threading.Event) -> None:
    columns = ", ".join(f'"{name}" {kind}' for name, kind in zip(table.columns, table.types, strict=True))
    connection.execute(f'create table "{table.name}" ({columns})')
    # Given as lists, rows are inserted much faster than one after the other.
    values = ", ".join(_unnested(kind) for kind in table.types)
    for rows in table.pages:
        if stop.is_set():
            raise StoreError("The export was stopped before its end. Nothing is left of it.", code="interrupted")
        connection.execute(f'insert into "{table.name}" select {values}', _by_column(rows))


def _unnested(kind: str) -> str:
    return "unnest(?::VARCHAR[])::JSON" if kind == "JSON" else f"unnest(?::{kind}[])"


def _by_column(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _copy_bytes(read: Callable[[int, int], bytes], to: Path, size: int, stop: threading.Event) -> None:
    descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as copy:
        done = unsynced = 0
        while True:
            if stop.is_set():
                raise StoreError(
                    "The export was stopped before its end. Nothing is left of it: export again to have a copy.",
                    code="interrupted",
                )
            if done >= size:
                break
            piece = read(min(_PIECE_BYTES, size - done), done)
            if not piece:
                raise OSError(errno.EIO, "the database ends before its end")
            written = copy.write(piece)
            done += written
            unsynced += written
            if unsynced >= _SYNC_BYTES:
                os.fsync(descriptor)
                unsynced = 0


def _finish(copy: Path) -> None:
    """Merge the copy into one file. It needs no journal: all of its rows are in it."""
    with schema.open_database(copy) as connection:
        connection.execute("update store_facts set journal = ''")
        connection.execute("checkpoint")
    schema.sync_file(copy)


@contextmanager
def _workplace(parent: Path) -> Generator[Path]:
    """Make a folder that is locked until it is removed at the end."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        descriptor = _locked(folder)
        if descriptor is not None:
            break
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _locked(folder: Path) -> int | None:
    """Return the descriptor that holds a folder's lock; None when another process has it, or it is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Before it was locked, another export may have removed it as a leftover.
        if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
            return descriptor
    os.close(descriptor)
    return None


def remove_leftovers(parent: Path) -> None:
    """Remove the folders that killed exports left, as far as possible."""
    with suppress(OSError):
        for folder in parent.glob(_PREFIX + "*"):
            descriptor = _locked(folder)
            if descriptor is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(descriptor)


def _already_exists(target: Path) -> StoreError:
    """Return the error that says that something is there."""
    return StoreError(f"{target} exists already; it was left as it is. Choose another name.", code="exists")


def _no_room(target: Path, needed: int) -> StoreError:
    return StoreError(
        f"There is no room for {target}: it needs {needed:,} bytes. Nothing is left of it. Make room, or choose "
        "another disk.",
        code="disk_full",
        metadata={"path": str(target), "bytes": needed},
    )
