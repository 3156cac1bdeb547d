"""Writing a copy of the log that other programs can open, since nobody else can open the log itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import duckdb

from agentq_nb.errors import StoreError, StoreReadOnly
from agentq_nb.store import schema
from agentq_nb.store.checkpoint import CheckpointNotBegun
from agentq_nb.store.database_file import DatabaseFile
from agentq_nb.store.names import check_path


class Copyist:
    """Copies the bytes of a database that is open in this process."""

    def __init__(self, file: DatabaseFile, checkpoint: Callable[[], None]) -> None:
        self._file = file
        self._checkpoint = checkpoint

    def copy(self, target: Path) -> None:
        """Copy to ``target``, which must not exist. Nobody may write meanwhile. Raises StoreError, StoreReadOnly."""
        target = target.absolute()
        check_path(target, "export to another file")
        if target.exists():
            raise _exists(target)
        unfinished = target.with_name(target.name + ".unfinished")
        # A query that still reads what was pruned since can forbid this; then the write-ahead log is copied too.
        with suppress(CheckpointNotBegun):
            self._checkpoint()
        try:
            schema.remove_database(unfinished)
            self._copy_bytes(unfinished)
            _merge_wal(self._file.path, unfinished)
            schema.sync_file(unfinished)
            # Unlike a rename, a link never replaces what is there.
            os.link(unfinished, target)
            schema.sync_file(target.parent)
        except FileExistsError:
            raise _exists(target) from None
        except (OSError, duckdb.Error) as error:
            raise StoreReadOnly(f"{target} cannot be written: {error}") from error
        finally:
            with suppress(OSError):
                schema.remove_database(unfinished)

    def _copy_bytes(self, to: Path) -> None:
        descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as copy:
            while piece := self._file.read(1 << 20, copy.tell()):
                copy.write(piece)


def _merge_wal(source: Path, copied: Path) -> None:
    """Make one file of the copy, whatever was still in the write-ahead log."""
    wal = schema.wal_of(source)
    if wal.exists():
        shutil.copyfile(wal, schema.wal_of(copied))
    with duckdb.connect(str(copied)) as connection:
        connection.execute("checkpoint")


def _exists(target: Path) -> StoreError:
    return StoreError(f"{target} exists already; it was left as it is. Choose another name.", code="exists")
