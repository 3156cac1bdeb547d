"""Checkpoints that can be undone, since DuckDB's own can tear when power is lost in the middle of one.

At a checkpoint DuckDB writes data to free blocks, then its metadata, then a new header that makes all of it valid. But
a block of metadata has 64 parts under one checksum. New parts go into free places of blocks that are in use, so those
are written *in place*, and half of such a write leaves a block, and with it the file, unreadable.

So every block of metadata is copied to ``<file>.checkpoint`` first, with the iteration of the header that it belongs to.
While the file's header still has that iteration, the checkpoint did not happen: opening puts the blocks back, always,
since a readable block may still be half new. Once the header has moved on, the copy is obsolete.

DuckDB syncs the file before it writes the header, and once more after it. It never syncs the folder, so the name of the
write-ahead log that it begins after a checkpoint is made durable here too.
"""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

from agentq_nb._store.checkpoint_copy import PARTS, Copy, Piece, write_copy
from agentq_nb._store.database_file import HEADERS_START, DatabaseFile, active_header
from agentq_nb._store.schema import checkpoint_of, sync_file, wal_of
from agentq_nb.errors import StoreError

WAL_BYTES = 16 << 20
"""Bytes of DuckDB's write-ahead log after which a checkpoint is due, so that opening never has to replay more."""
COMMITS = 10_000
"""Commits after which a checkpoint is due, since replaying each takes time of its own."""


class CheckpointNotBegun(StoreError):
    """A checkpoint could not begin (disk full, transaction running). Nothing was changed; it can be retried later."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(
            f"{path.name} cannot be tidied now: {str(error).partition(chr(10))[0]}. Nothing is lost; it "
            f"is tried again. Make room on the disk if there is none.",
            code="busy",
        )


class Checkpointer:
    """Moves DuckDB's write-ahead log into the database. All methods are for the writer's thread.

    While a log is open its write-ahead log exists, with a durable name: no commit is made before.
    """

    def __init__(self, path: Path, store_id: str, connection: duckdb.DuckDBPyConnection) -> None:
        """Prepare checkpoints of the database at ``path``, to which the connection is. Raises OSError, duckdb.Error."""
        self.file = DatabaseFile(path)
        self._path = path
        self._store_id = store_id
        self._copied: int | None = None
        """The iteration that the copy on the disk belongs to."""
        try:
            # A copy that opening did not need: all rows were seen without it.
            checkpoint_of(path).unlink(missing_ok=True)
            self._begin_wal(connection)
        except BaseException:
            connection.close()  # before any descriptor of its file
            self.file.close()
            raise

    def due_after_commit(self) -> bool:
        """Return whether a checkpoint is due; call it after each commit.

        It is due when replaying the write-ahead log would make opening slow, or when that file was deleted, so that a
        crash would lose what is not in the database.
        """
        self._commits += 1
        size = self._wal_bytes()
        return size is None or self._commits >= COMMITS or size >= self._due_bytes

    def _wal_bytes(self) -> int | None:
        """Return the write-ahead log's size; None when the file was deleted between two commits."""
        try:
            return wal_of(self._path).stat().st_size
        except FileNotFoundError:
            return None

    def checkpoint(self, connection: duckdb.DuckDBPyConnection, *, last: bool = False) -> None:
        """Move the write-ahead log into the database. After the ``last`` one, no other starts.

        Raises CheckpointNotBegun; OSError and duckdb.Error when it failed later: then nothing may be written any more,
        and opening the log again makes it whole.
        """
        if self._wal_bytes() != 0:
            try:
                self._copy(connection)
                connection.execute("checkpoint")
            except (OSError, duckdb.TransactionException) as error:
                self._count_from(self._wal_bytes() or 0)
                raise CheckpointNotBegun(self._path, error) from error
        self._copied = None
        # DuckDB has synced its new header. The sync of the folder makes the removal of its write-ahead log durable too.
        checkpoint_of(self._path).unlink(missing_ok=True)
        if last:
            sync_file(self._path.parent)
        else:
            self._begin_wal(connection)

    def _begin_wal(self, connection: duckdb.DuckDBPyConnection) -> None:
        if not wal_of(self._path).exists():
            # DuckDB creates it at the first commit that changes something, so change a value and change it back.
            connection.begin()
            connection.execute("update store_facts set pruned = pruned + 1")
            connection.execute("update store_facts set pruned = pruned - 1")
            connection.commit()
        os.chmod(wal_of(self._path), 0o600)
        sync_file(self._path.parent)
        self._count_from(0)

    def _count_from(self, wal_bytes: int) -> None:
        self._commits = 0
        self._due_bytes = wal_bytes + WAL_BYTES

    def _copy(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the copy, durably. An existing copy of this iteration, from a failed checkpoint, is the better one."""
        headers = self.file.headers()
        active = active_header(headers)
        if active is None:
            raise OSError(f"{self._path} has no header that can be read")
        if self._copied == active.iteration:
            return
        found = connection.execute("select block_id, free_list from pragma_metadata_info()").fetchall()
        pieces = [Piece(HEADERS_START, headers)]
        for block, free in found:
            if block < active.block_count:
                offset = active.offset_of(block)
                in_use = ((1 << PARTS) - 1) & ~sum(1 << part for part in free)
                pieces.append(Piece(offset, self.file.read(active.block_bytes, offset), in_use))
        write_copy(self._path, Copy(self._store_id, active.iteration, tuple(pieces)).encoded())
        self._copied = active.iteration

    def close(self) -> None:
        """Close the file, after DuckDB has closed it."""
        self.file.close()
