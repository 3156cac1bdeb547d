"""Open a checked log for writing, verify that it is unchanged, and create its journal."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import duckdb

from agentq_nb._store import schema
from agentq_nb._store.group_commit import insert
from agentq_nb._store.guard import Guard
from agentq_nb._store.journal import Frame, Journal, journal_of, unfinished_journal_of
from agentq_nb._store.open_store import Prepared
from agentq_nb._store.salvage import accept
from agentq_nb._store.schema import utc
from agentq_nb.errors import StoreDamaged


def connect(path: Path, guard: Guard, prepared: Prepared) -> tuple[duckdb.DuckDBPyConnection, int, list[str]]:
    """Open a checked log for writing, verify that it is unchanged, and insert the rows of its journal.

    Raises StoreDamaged, duckdb.Error, OSError; then it can be tried again.
    """
    if prepared.wal_bytes is not None:
        os.truncate(schema.wal_of(path), prepared.wal_bytes)
    connection = schema.open_database(path)
    try:
        notices = list(prepared.notices)
        last = _last(connection)
        if prepared.last is not None and last != prepared.last:
            raise StoreDamaged(
                f"{path} changed while it was being opened, so something else writes to it. {prepared.kept or path} "
                "holds what it was. End the other program, and look at both files with %agentq doctor before you continue.",
                expected=prepared.last,
                found=last,
            )
        migrated = schema.bring_up_to_date(connection)
        if migrated is not None:
            notices.append(f"{path.name} was brought from schema {migrated} to {schema.version()}.")
        if prepared.loss is None:
            _insert_missing(connection, prepared.frames)
        else:
            lost = accept(connection, prepared.loss, prepared.frames, utc(time.time()))
            kept = ", ".join(file.name for file in prepared.loss.kept)
            notices.append(f"{lost} rows were given up; the damaged files are kept: {kept}.")
        last = _last(connection)
        ((store_id,),) = connection.execute("select store_id from store_facts").fetchall()
    except BaseException:
        close_after_failure(connection, path)
        raise
    guard.identity = {"schema": schema.version(), "store": store_id}
    if prepared.kept is not None:
        prepared.kept.unlink(missing_ok=True)
    return connection, last, notices


def close_after_failure(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Close a log that could not be opened. Without space, DuckDB creates a write-ahead log and leaves it empty."""
    connection.close()
    wal = schema.wal_of(path)
    with suppress(OSError):
        if not wal.stat().st_size:
            wal.unlink()


def _last(connection: duckdb.DuckDBPyConnection) -> int:
    ((last,),) = connection.execute("select coalesce(max(seq), 0) from events").fetchall()
    return last


def _insert_missing(connection: duckdb.DuckDBPyConnection, frames: Sequence[Frame]) -> None:
    """Insert the rows of the journal that are not in the database, all or nothing."""
    if not frames:
        return
    connection.begin()
    try:
        insert(connection, frames)
        connection.commit()
    except BaseException:
        with suppress(duckdb.Error):
            connection.rollback()
        raise


def begin_journal(
    connection: duckdb.DuckDBPyConnection, path: Path, store_id: str, last: int
) -> tuple[Journal | None, str | None]:
    """Create a new journal that replaces any other, whose rows are all in the database; or return None and a notice.

    Its name is durable before the database says that it is in use, and only then may rows be written to it: so a
    missing journal that was in use can be told from one that never existed.
    """
    ((replaced,),) = connection.execute("select journal from store_facts").fetchall()
    unfinished = unfinished_journal_of(path)
    journal: Journal | None = None
    try:
        unfinished.unlink(missing_ok=True)
        journal = Journal(unfinished, store_id, last + 1, replaced)
        journal.take_name(journal_of(path))
    except OSError as error:
        if journal is not None:
            journal.close()
            unfinished.unlink(missing_ok=True)
        if replaced:
            set_journal(connection, "")
        journal_of(path).unlink(missing_ok=True)
        return None, (
            f"There is no journal beside {path.name} ({error.strerror or error}), so each send takes longer. With "
            f"{Journal.size() >> 20} MiB of free space there will be one at the next start."
        )
    set_journal(connection, journal.id)
    return journal, None


def set_journal(connection: duckdb.DuckDBPyConnection, journal: str) -> None:
    """Record durably which journal is in use; empty: none."""
    connection.execute("update store_facts set journal = ?", [journal])
