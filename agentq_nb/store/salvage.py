"""Going on after damage, once somebody accepted the loss: the damaged files are kept, what can be read goes on."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from agentq_nb.errors import StoreDamaged
from agentq_nb.naming import mint_id
from agentq_nb.store import schema
from agentq_nb.store.examine import Finding, attached, in_memory, quoted
from agentq_nb.store.guard import Guard


@dataclass(frozen=True, slots=True)
class Loss:
    """What was given up. ``expected`` and ``found`` count rows; the log goes on after number ``expected``."""

    expected: int
    found: int
    kept: tuple[Path, ...]


def give_up_what_is_lost(path: Path, guard: Guard, finding: Finding, damage: StoreDamaged) -> Loss:
    """Make a readable log of what is left. Until it is done, opening reports the same damage again."""
    kept = _keep_copies(path, guard)
    wal = schema.wal_of(path)
    if finding.problem is None:
        pass
    elif finding.wal_bytes is not None:
        os.truncate(wal, finding.wal_bytes)
    else:
        _rebuild(path, guard, finding)
    return Loss(damage.expected, damage.found, kept)


def _keep_copies(path: Path, guard: Guard) -> tuple[Path, ...]:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    kept: list[Path] = []
    for file in (path, schema.wal_of(path), guard.path):
        if file.exists():
            copy = path.with_name(f"{path.name}.damaged-{stamp}{file.name.removeprefix(path.name)}")
            shutil.copyfile(file, copy)
            os.chmod(copy, 0o600)
            schema.sync_file(copy)
            kept.append(copy)
    schema.sync_file(path.parent)
    return tuple(kept)


def _rebuild(path: Path, guard: Guard, finding: Finding) -> None:
    rebuilt = path.with_name(path.name + ".rebuilt")
    schema.remove_database(rebuilt)
    schema.create(rebuilt, finding.store_id or guard.facts.get("store") or mint_id())
    for start, stop in finding.readable:
        _copy_rows(path, rebuilt, start, stop)
    schema.remove_database(path)
    schema.move_into_place(rebuilt, path)


def _copy_rows(source: Path, target: Path, start: int, stop: int) -> None:
    with in_memory() as connection, attached(connection, source):
        connection.execute(f"attach {quoted(target)} as rebuilt")
        connection.execute(
            "insert into rebuilt.events select * from log.events where rowid >= ? and rowid < ?", [start, stop]
        )
        connection.execute("checkpoint rebuilt")
        connection.execute("detach rebuilt")


def accept(connection: duckdb.DuckDBPyConnection, loss: Loss, now: datetime) -> int:
    """Write down the loss, so that the gap it leaves is known. Returns the row's sequence number."""
    number = loss.expected + 1
    connection.execute(
        "insert into events values (?, ?, 'store.loss_accepted', null, null, null, "
        "json_object('expected', ?::bigint, 'found', ?::bigint, 'missing', ?::bigint))",
        [number, now, loss.expected, loss.found, loss.expected - loss.found],
    )
    return number
