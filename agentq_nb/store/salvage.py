"""Going on after damage, once the loss was accepted: the damaged files are kept, what can be read goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from agentq_nb.errors import StoreDamaged, StoreError
from agentq_nb.naming import mint_id
from agentq_nb.store import schema
from agentq_nb.store.backlog import insert
from agentq_nb.store.examine import Finding, attached, in_memory, quoted
from agentq_nb.store.guard import Guard
from agentq_nb.store.journal_scan import Frame


@dataclass(frozen=True, slots=True)
class Loss:
    """What is given up. ``expected`` is the last sequence number that is known to have been written."""

    expected: int
    kept: tuple[Path, ...]


def give_up_what_is_lost(path: Path, guard: Guard, finding: Finding, damage: StoreDamaged) -> Loss:
    """Make a readable database of what is left. Until the loss is written down, opening reports the same damage again.

    Raises StoreError when there is no room; nothing is left behind then.
    """
    kept = _keep_copies(path, guard)
    try:
        if finding.problem is None:
            pass
        elif finding.wal_bytes is not None:
            os.truncate(schema.wal_of(path), finding.wal_bytes)
        else:
            _rebuild(path, guard, finding)
    except (OSError, duckdb.Error) as error:
        _remove(kept)
        schema.remove_database(_unfinished(path))
        raise _no_room(path, path.stat().st_size if path.exists() else 0, error) from error
    return Loss(damage.expected, kept)


def _keep_copies(path: Path, guard: Guard) -> tuple[Path, ...]:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    files = [file for file in (*schema.files_of(path), guard.path) if file.exists()]
    kept: list[Path] = []
    try:
        for file in files:
            copy = path.with_name(f"{path.name}.damaged-{stamp}{file.name.removeprefix(path.name)}")
            kept.append(copy)
            shutil.copyfile(file, copy)
            os.chmod(copy, 0o600)
            schema.sync_file(copy)
        schema.sync_file(path.parent)
    except OSError as error:
        _remove(kept)
        raise _no_room(path, sum(file.stat().st_size for file in files), error) from error
    return tuple(kept)


def _remove(files: Sequence[Path]) -> None:
    for file in files:
        with suppress(OSError):
            file.unlink(missing_ok=True)


def _no_room(path: Path, needed: int, error: Exception) -> StoreError:
    return StoreError(
        f"The damaged files beside {path.name} cannot be kept: {str(error).partition(chr(10))[0]}. Nothing was changed. "
        f"Make room for {needed:,} bytes in {path.parent}, and try again.",
        code="disk_full",
        metadata={"path": str(path), "bytes": needed},
    )


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + ".rebuilt.new")


def _rebuilt(path: Path) -> Path:
    return path.with_name(path.name + ".rebuilt")


def _rebuild(path: Path, guard: Guard, finding: Finding) -> None:
    unfinished = _unfinished(path)
    schema.remove_database(unfinished)
    schema.create(unfinished, finding.store_id or guard.facts.get("store") or mint_id())
    _copy_rows(path, unfinished, finding)
    schema.move_into_place(unfinished, _rebuilt(path))
    finish_rebuilding(path)


def finish_rebuilding(path: Path) -> None:
    """Put a rebuilt database into its place, where one is complete: also after a kill in the middle of that.

    The old write-ahead log and copy of a checkpoint belong to the old database, so they go first. From its going to the renaming, the rebuilt
    database under its own name is what says how to go on.
    """
    rebuilt = _rebuilt(path)
    if rebuilt.exists():
        schema.wal_of(path).unlink(missing_ok=True)
        schema.checkpoint_of(path).unlink(missing_ok=True)
        schema.move_into_place(rebuilt, path)


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
    """Rows given up before, which rows of the database tell by themselves."""
    ((missing,),) = connection.execute(
        "select coalesce(sum((data->>'$.missing')::bigint), 0) from rebuilt.events where kind = 'store.loss_accepted'"
    ).fetchall()
    return missing


def accept(connection: duckdb.DuckDBPyConnection, loss: Loss, frames: Sequence[Frame], now: datetime) -> int:
    """Take in what the journal has, and write down the loss, so that the gap it leaves is known. Returns its size."""
    connection.begin()
    try:
        _take_in(connection, frames)
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


def _take_in(connection: duckdb.DuckDBPyConnection, frames: Sequence[Frame]) -> None:
    """Rows of the journal that are not in the database, from holes in it too."""
    if not frames:
        return
    connection.execute("create temp table from_journal as from events limit 0")
    insert(connection, frames, "from_journal")
    connection.execute("insert into events from from_journal where seq not in (select seq from events)")
    connection.execute("drop table from_journal")
