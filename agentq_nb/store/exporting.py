"""Writing a copy of the log that other programs can open, since nobody else can open the log itself."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import duckdb

from agentq_nb.errors import StoreError, StoreReadOnly
from agentq_nb.store import schema
from agentq_nb.store.names import check_path


class Copyist:
    """Copies the bytes of a database that is open in this process.

    Closing any descriptor of that file would take DuckDB's lock away, so one descriptor is kept until the end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def copy(self, connection: duckdb.DuckDBPyConnection, target: Path) -> None:
        """Copy to ``target``, which must not exist. Nobody may write meanwhile. Raises StoreError, StoreReadOnly."""
        target = target.absolute()
        check_path(target, "export to another file")
        if target.exists():
            raise _exists(target)
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        unfinished = target.with_name(target.name + ".unfinished")
        # A query that still reads what was pruned since can forbid this; then the write-ahead log is copied too.
        with suppress(duckdb.TransactionException):
            connection.execute("checkpoint")
        try:
            schema.remove_database(unfinished)
            self._copy_bytes(unfinished)
            _merge_wal(self._path, unfinished)
            schema.sync_file(unfinished)
            # Unlike a rename, a link never replaces what is there.
            os.link(unfinished, target)
        except FileExistsError:
            raise _exists(target) from None
        except (OSError, duckdb.Error) as error:
            raise StoreReadOnly(f"{target} cannot be written: {error}") from error
        finally:
            with suppress(OSError):
                schema.remove_database(unfinished)

    def _copy_bytes(self, to: Path) -> None:
        assert self._descriptor is not None
        descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as copy:
            while piece := os.pread(self._descriptor, 1 << 20, copy.tell()):
                copy.write(piece)

    def close(self) -> None:
        """Let go, once DuckDB has closed the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _merge_wal(source: Path, copied: Path) -> None:
    """Make one file of the copy, whatever was still in the write-ahead log."""
    wal = schema.wal_of(source)
    if wal.exists():
        shutil.copyfile(wal, schema.wal_of(copied))
    with duckdb.connect(str(copied)) as connection:
        connection.execute("checkpoint")


def _exists(target: Path) -> StoreError:
    return StoreError(f"{target} exists already; it was left as it is. Choose another name.", code="exists")
