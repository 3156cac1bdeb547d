"""Examine a log without changing it: which rows can be read, and which are missing.

DuckDB opens a file with rows missing, silently, when a length in its write-ahead log is damaged or that log is gone. So
rows are numbered without gaps, and counted here. The file is attached read-only to an in-memory database: the
write-ahead log is replayed into memory, and nothing is written.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from agentq_nb._store import schema
from agentq_nb._store.group_commit import insert
from agentq_nb._store.journal import Frame
from agentq_nb._store.open_errors import held_by_other, is_lock_conflict
from agentq_nb._store.sql import read_alone
from agentq_nb.errors import StoreNotOurs

# The hashes make DuckDB read every block, and so verify each block's checksum. Reading the data separately takes half
# the memory.
_ROWS = """
select count(*), coalesce(max(seq), 0), bit_xor(hash(seq, time, kind, actor_id, message_id, session_id))
from log.events where rowid >= ? and rowid < ?
"""
_DATA = "select bit_xor(hash(data)) from log.events where rowid >= ? and rowid < ?"
_GIVEN_UP = """
select coalesce(sum((data->>'$.missing')::bigint), 0)::bigint
from log.events where kind = 'store.loss_accepted' and rowid >= ? and rowid < ?
"""
_ALL = (0, 1 << 60)
# Before version 2 of the schema only these rows say how many rows were pruned.
_PRUNED_BEFORE = "select coalesce(sum((data->>'$.rows')::bigint), 0) from log.events where kind = 'store.pruned'"
_DIFFERENT = """
select 1 from log.events as stored join of_journal as written using (seq)
where row(stored.time, stored.kind, stored.actor_id, stored.message_id, stored.session_id)
    is distinct from row(written.time, written.kind, written.actor_id, written.message_id, written.session_id)
limit 1
"""
_VECTOR = 2048
_ROW_GROUP = 122_880


@dataclass(frozen=True, slots=True)
class Finding:
    """The content of a log. ``problem`` is DuckDB's error if it cannot be read; ``readable``: the ranges that can."""

    schema_version: int = 0
    store_id: str = ""
    rows: int = 0
    last: int = 0
    """The highest sequence number."""
    accounted: int = 0
    """Rows present, pruned or given up before. Equal to ``last`` when there is no gap."""
    journal: str = ""
    """The id of the database's journal; empty if it has none."""
    differs: bool = False
    """The journal contradicts the database about rows that are in both."""
    problem: str | None = None
    readable: tuple[tuple[int, int], ...] = ()
    unreadable: int = 0
    """Rows in ranges that cannot be read."""
    wal_bytes: int | None = None
    """Bytes of the write-ahead log that can be replayed, when that is not all of it."""

    def complete(self, mark: int | None) -> bool:
        """Whether nothing is unreadable or missing, up to the guard's mark."""
        return self.problem is None and self.accounted == self.last and self.last >= (mark or 0)


def examine(path: Path, frames: Sequence[Frame] = ()) -> Finding:
    """Examine the database at ``path``, and compare it with its journal's frames. Raises StoreInUse, StoreNotOurs."""
    with in_memory() as connection:
        try:
            return _look(connection, path, frames)
        except duckdb.Error as error:
            if is_lock_conflict(error):
                raise held_by_other(path, error) from None
            problem = str(error).partition("\n")[0]
        wal = schema.wal_of(path)
        shortened = _with_less_wal(connection, path, wal, problem, frames) if wal.exists() else None
    return shortened or _by_ranges(path, problem)


@contextmanager
def in_memory() -> Generator[duckdb.DuckDBPyConnection]:
    """Open an in-memory database, to which others can be attached."""
    with duckdb.connect(config={"threads": 1, "autoinstall_known_extensions": False}) as connection:
        connection.execute("set enable_progress_bar = false")  # it would print into the running cell
        yield connection


@contextmanager
def attached(connection: duckdb.DuckDBPyConnection, path: Path) -> Generator[None]:
    """Attach the database at ``path`` as ``log``, read-only."""
    connection.execute(f"attach {quoted(path)} as log (read_only)")
    try:
        yield
    finally:
        with suppress(duckdb.Error):
            connection.execute("detach log")


def quoted(path: Path) -> str:
    """Return the path as an SQL string literal."""
    return "'" + str(path).replace("'", "''") + "'"


def _look(connection: duckdb.DuckDBPyConnection, path: Path, frames: Sequence[Frame]) -> Finding:
    with attached(connection, path):
        finding = _identity(path, connection)
        rows, last, accounted = read_alone(connection, lambda: _read(connection, _ALL))
        known = [frame for frame in frames if frame.first <= last]
        differs = bool(known) and _differs(connection, known)
    return replace(finding, rows=rows, last=last, accounted=finding.accounted + accounted, differs=differs)


def _read(connection: duckdb.DuckDBPyConnection, rows: tuple[int, int]) -> tuple[int, int, int]:
    """Read every byte of a range of rows: return their number, highest sequence number, and number accounted for."""
    ((number, last, _),) = connection.execute(_ROWS, rows).fetchall()
    ((given_up,),) = connection.execute(_GIVEN_UP, rows).fetchall()
    connection.execute(_DATA, rows).fetchall()
    return number, last, number + given_up


def _differs(connection: duckdb.DuckDBPyConnection, frames: Sequence[Frame]) -> bool:
    connection.execute("create or replace temp table of_journal as from log.events limit 0")
    try:
        insert(connection, frames, "of_journal")
        return bool(connection.execute(_DIFFERENT).fetchall())
    finally:
        connection.execute("drop table of_journal")


def _identity(path: Path, connection: duckdb.DuckDBPyConnection) -> Finding:
    """Return what the database says of itself, with the number of pruned rows as ``accounted``."""
    tables = {
        name
        for (name,) in connection.execute(
            "select table_name from duckdb_tables() where database_name = 'log'"
        ).fetchall()
    }
    if not {"events", "store_facts"} <= tables:
        raise not_ours(path)
    ((version, store_id),) = connection.execute("select schema_version, store_id from log.store_facts").fetchall()
    if version < 2:
        ((pruned,),) = connection.execute(_PRUNED_BEFORE).fetchall()
        return Finding(version, store_id, accounted=pruned)
    if version > schema.version():
        return Finding(version, store_id)
    ((journal, pruned),) = connection.execute("select journal, pruned from log.store_facts").fetchall()
    return Finding(version, store_id, accounted=pruned, journal=journal)


def not_ours(path: Path) -> StoreNotOurs:
    """Return the error for a file that another program made."""
    return StoreNotOurs(
        f"{path} is not a file that agentq_nb made; it was left as it is. Choose another file with store=PATH "
        f"(%agentq start --store PATH).",
        metadata={"path": str(path)},
    )


def _with_less_wal(
    connection: duckdb.DuckDBPyConnection, path: Path, wal: Path, problem: str, frames: Sequence[Frame]
) -> Finding | None:
    """Examine the log with as much of its write-ahead log as can be replayed; None: that is not what is broken."""
    content = wal.read_bytes()
    folder = trial_of(path)
    remove_trial(path)
    folder.mkdir(mode=0o700)
    try:
        trial = folder / "log.duckdb"
        _link_or_copy(path, trial)

        def replays(length: int) -> bool:
            schema.wal_of(trial).write_bytes(content[:length])
            with suppress(duckdb.Error), attached(connection, trial):
                return True
            return False

        if replays(len(content)) or not replays(0):
            return None
        # A cut inside an entry drops that entry without an error, so any cut before the first broken entry replays.
        # DuckDB says where that entry is; if not, bisect.
        said = re.search(r"entry at byte position (\d+)", problem)
        good, bad = int(said[1]) if said else 0, len(content)
        if not said or not replays(good):
            good = 0
            while bad - good > 1:
                middle = (good + bad) // 2
                good, bad = (middle, bad) if replays(middle) else (good, middle)
            replays(good)
        try:
            found = _look(connection, trial, frames)
        except duckdb.Error:
            return None
    finally:
        remove_trial(path)
    return replace(found, problem=problem, wal_bytes=good)


def trial_of(path: Path) -> Path:
    """Return the folder in which a shortened write-ahead log is tried."""
    return path.with_name(path.name + ".trial")


def remove_trial(path: Path) -> None:
    """Remove the trial folder, also one left by a killed process."""
    shutil.rmtree(trial_of(path), ignore_errors=True)


def _link_or_copy(path: Path, to: Path) -> None:
    try:
        os.link(path, to)
    except OSError:
        shutil.copyfile(path, to)


def _by_ranges(path: Path, problem: str) -> Finding:
    """Examine a log with unreadable blocks: find the readable ranges of rows by bisection."""
    try:
        with in_memory() as connection, attached(connection, path):
            finding = _identity(path, connection)
            ((end,),) = connection.execute("select coalesce(max(rowid), -1) + 1 from log.events").fetchall()
    except (duckdb.Error, StoreNotOurs):
        return Finding(problem=problem)
    readable: list[tuple[int, int]] = []
    rows, last, accounted = 0, 0, finding.accounted
    pending = [(start, min(start + _ROW_GROUP, end)) for start in range(0, end, _ROW_GROUP)]
    while pending:
        start, stop = pending.pop(0)
        found = _read_range(path, start, stop)
        if found is not None:
            readable.append((start, stop))
            rows, last, accounted = rows + found[0], max(last, found[1]), accounted + found[2]
        elif stop - start > _VECTOR:
            middle = start + -(-(stop - start) // 2 // _VECTOR) * _VECTOR
            pending[:0] = [(start, middle), (middle, stop)]
    unreadable = end - sum(stop - start for start, stop in readable)
    return replace(
        finding,
        rows=rows,
        last=last,
        accounted=accounted,
        problem=problem,
        readable=tuple(readable),
        unreadable=unreadable,
    )


def _read_range(path: Path, start: int, stop: int) -> tuple[int, int, int] | None:
    # With a new connection each time: a wrong checksum can make DuckDB refuse everything else in that database.
    with suppress(duckdb.Error), in_memory() as connection, attached(connection, path):
        return _read(connection, (start, stop))
    return None
