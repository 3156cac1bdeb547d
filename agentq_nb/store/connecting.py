"""Opening for writing what was checked before, and seeing that it is all there still."""

from __future__ import annotations

import time
from pathlib import Path

import duckdb

from agentq_nb.errors import StoreDamaged, StoreError, StoreInUse, StoreReadOnly
from agentq_nb.store import schema
from agentq_nb.store.examine import held_by_other, is_lock_conflict
from agentq_nb.store.guard import Guard
from agentq_nb.store.opening import Prepared
from agentq_nb.store.salvage import accept
from agentq_nb.store.times import utc


def connect(path: Path, guard: Guard, prepared: Prepared) -> tuple[duckdb.DuckDBPyConnection, int, list[str]]:
    """Open for writing what was checked, and see that all of it is there still."""
    try:
        connection = schema.open_database(path)
    except duckdb.Error as error:
        raise _cannot_open(path, error) from error
    try:
        notices = list(prepared.notices)
        last = connection.execute("select coalesce(max(seq), 0) from events").fetchall()[0][0]
        if prepared.last is not None and last != prepared.last:
            raise StoreDamaged(
                f"{path} changed while it was being opened. {prepared.kept or path} holds what it was.",
                expected=prepared.last,
                found=last,
            )
        if prepared.loss is not None:
            last = accept(connection, prepared.loss, utc(time.time()))
            lost = prepared.loss.expected - prepared.loss.found
            notices.append(
                f"{lost} rows were given up; the damaged files are kept: {', '.join(file.name for file in prepared.loss.kept)}."
            )
        migrated = schema.bring_up_to_date(connection)
        if migrated is not None:
            notices.append(f"{path.name} was brought from schema {migrated} to {schema.version()}.")
        ((store_id,),) = connection.execute("select store_id from store_facts").fetchall()
    except BaseException as error:
        connection.close()
        if isinstance(error, duckdb.Error):
            raise _cannot_open(path, error) from error
        raise
    guard.identity = {"schema": schema.version(), "store": store_id}
    if prepared.kept is not None:
        prepared.kept.unlink(missing_ok=True)
    return connection, last, notices


def _cannot_open(path: Path, error: duckdb.Error) -> StoreError:
    text = str(error)
    if "different configuration" in text:
        return StoreInUse(f"{path} is open in this very process, by other code that uses duckdb. Close it there first.")
    if is_lock_conflict(error):
        return held_by_other(path, error)
    if "ermission" in text or "ead-only" in text:
        return StoreReadOnly(f"{path} cannot be written: {text}")
    return StoreError(f"{path} cannot be opened: {text}")
