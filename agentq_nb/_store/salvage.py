"""Salvage a damaged log once the loss was accepted: keep the damaged files, continue with the readable rows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from agentq_nb._core.ids import mint_id
from agentq_nb._store import schema
from agentq_nb._store.group_commit import insert
from agentq_nb._store.guard import Guard
from agentq_nb._store.inspect_store import Finding, attached, examine, in_memory, quoted
from agentq_nb._store.journal import Frame
from agentq_nb._store.open_errors import bytes_to_open, cannot_open, is_full, no_room
from agentq_nb.errors import StoreDamaged, StoreError, StoreNotOurs


@dataclass(frozen=True, slots=True)
class Loss:
    """The accepted loss. ``expected`` is the last sequence number known to have been written."""

    expected: int
    kept: tuple[Path, ...]


def give_up_what_is_lost(path: Path, guard: Guard, finding: Finding, damage: StoreDamaged) -> Loss:
    """Make a readable database of what is left. Until the loss is recorded, opening reports the same damage again.

    Raises StoreError when there is no room; then nothing was changed and nothing is left behind.
    """
    kept: list[Path] = []
    try:
        _keep_copies(path, guard, kept)
        rebuilds = finding.problem is not None and finding.wal_bytes is None
        if rebuilds:
            _rebuild(path, guard, finding)
        # What is left may look complete without its lost end: the guard knows better, also after a kill.
        guard.expect(damage.expected)
    except (OSError, duckdb.Error) as error:
        _remove(kept)
        with suppress(OSError):
            remove_unfinished_rebuilding(path)
            schema.remove_database(_rebuilt(path))
        raise _cannot_go_on(path, guard, error) from error
    if rebuilds:
        _finish_rebuilding(path)
    elif finding.wal_bytes is not None:
        os.truncate(schema.wal_of(path), finding.wal_bytes)
    return Loss(damage.expected, tuple(kept))


def _keep_copies(path: Path, guard: Guard, kept: list[Path]) -> None:
    """Copy the damaged files, durably. Each copy's path is added to ``kept`` before it is made."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    for file in _files(path, guard):
        copy = path.with_name(f"{path.name}.damaged-{stamp}{file.name.removeprefix(path.name)}")
        kept.append(copy)
        shutil.copyfile(file, copy)
        os.chmod(copy, 0o600)
        schema.sync_file(copy)
    schema.sync_file(path.parent)


def _files(path: Path, guard: Guard) -> list[Path]:
    return [file for file in (*schema.files_of(path), guard.path) if file.exists()]


def _remove(files: Sequence[Path]) -> None:
    for file in files:
        with suppress(OSError):
            file.unlink(missing_ok=True)


def _cannot_go_on(path: Path, guard: Guard, error: OSError | duckdb.Error) -> StoreError:
    if not is_full(error):
        return cannot_open(path, error)
    # For copies of all files, and another database.
    needed = bytes_to_open(path) + sum(2 * file.stat().st_size for file in _files(path, guard))
    return no_room(path, f"The damaged files beside {path.name} cannot be kept, so nothing was changed", error, needed)


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + ".rebuilt.new")


def _rebuilt(path: Path) -> Path:
    return path.with_name(path.name + ".rebuilt")


def _rebuild(path: Path, guard: Guard, finding: Finding) -> None:
    """Make a database of the readable rows, under a name of its own."""
    unfinished = _unfinished(path)
    schema.remove_database(unfinished)
    schema.create(unfinished, finding.store_id or guard.facts.get("store") or mint_id())
    _copy_rows(path, unfinished, finding)
    schema.move_into_place(unfinished, _rebuilt(path))


def _finish_rebuilding(path: Path) -> None:
    """Move the rebuilt database into place, after removing the old one's write-ahead log and checkpoint copy."""
    schema.wal_of(path).unlink(missing_ok=True)
    schema.checkpoint_of(path).unlink(missing_ok=True)
    schema.move_into_place(_rebuilt(path), path)


def go_on_rebuilding(path: Path) -> None:
    """Use a database that an earlier, killed attempt rebuilt; remove it if it is obsolete.

    Its rows were read while the old write-ahead log existed, which may be gone since. But a copy may have been put back
    meanwhile: the database with more rows is the better one.
    """
    rebuilt = _rebuilt(path)
    if not rebuilt.exists():
        return
    if _readable_rows(rebuilt) > _readable_rows(path):
        _finish_rebuilding(path)
    else:
        schema.remove_database(rebuilt)


def _readable_rows(path: Path) -> int:
    if not path.exists() or not path.stat().st_size:
        return -1
    try:
        return examine(path).rows
    except StoreNotOurs:
        return -1


def remove_unfinished_rebuilding(path: Path) -> None:
    """Remove an unfinished rebuilt database, left by a kill."""
    schema.remove_unfinished(_unfinished(path))
    schema.remove_database(_unfinished(path))


def remove_rebuilt(path: Path) -> None:
    """Remove a rebuilt database that is obsolete, since the log itself opens whole."""
    schema.remove_database(_rebuilt(path))


def _copy_rows(source: Path, target: Path, finding: Finding) -> None:
    for start, stop in finding.readable:
        with in_memory() as connection, attached(connection, source):
            connection.execute(f"attach {quoted(target)} as rebuilt")
            connection.execute(
                "insert into rebuilt.events select * from log.events where rowid >= ? and rowid < ?", [start, stop]
            )
            connection.execute("checkpoint rebuilt")
            connection.execute("detach rebuilt")
    with in_memory() as connection:
        connection.execute(f"attach {quoted(target)} as rebuilt")
        pruned = finding.accounted - finding.rows
        connection.execute("update rebuilt.store_facts set pruned = ?", [max(0, pruned - _given_up(connection))])
        connection.execute("checkpoint rebuilt")


def _given_up(connection: duckdb.DuckDBPyConnection) -> int:
    """Return the rows given up before, which the database's own rows record."""
    ((missing,),) = connection.execute(
        "select coalesce(sum((data->>'$.missing')::bigint), 0) from rebuilt.events where kind = 'store.loss_accepted'"
    ).fetchall()
    return missing


def accept(connection: duckdb.DuckDBPyConnection, loss: Loss, frames: Sequence[Frame], now: datetime) -> int:
    """Insert the journal's rows, and record the loss, so that its gap is known. Return the number of lost rows."""
    connection.begin()
    try:
        _insert_missing(connection, frames)
        ((last, accounted),) = connection.execute(_ACCOUNTED).fetchall()
        expected = max(loss.expected, last)
        missing = expected - accounted
        connection.execute(
            "insert into events values (?, ?, 'store.loss_accepted', null, null, null, "
            "json_object('expected', ?::bigint, 'found', ?::bigint, 'missing', ?::bigint))",
            [expected + 1, now, expected, accounted, missing],
        )
        connection.commit()
    except BaseException:
        with suppress(duckdb.Error):
            connection.rollback()
        raise
    return missing


_ACCOUNTED = """
select
    coalesce(max(seq), 0),
    count(*) + coalesce(sum((data->>'$.missing')::bigint) filter (kind = 'store.loss_accepted'), 0)::bigint
        + (select pruned from store_facts)
from events
"""


def _insert_missing(connection: duckdb.DuckDBPyConnection, frames: Sequence[Frame]) -> None:
    """Insert the rows of the journal that are missing in the database, also those within gaps."""
    if not frames:
        return
    connection.execute("create temp table from_journal as from events limit 0")
    insert(connection, frames, "from_journal")
    connection.execute("insert into events from from_journal where seq not in (select seq from events)")
    connection.execute("drop table from_journal")
