"""The log's database schema: tables, version, migrations, DuckDB settings, and the names of its files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import duckdb

from agentq_nb.errors import StoreError

TABLES = """
create table events(
    seq BIGINT, time TIMESTAMP, kind VARCHAR, actor_id VARCHAR, message_id VARCHAR, session_id VARCHAR, data JSON
);
create table store_facts(
    schema_version INTEGER, store_id VARCHAR, views VARCHAR, journal VARCHAR, pruned BIGINT
);
"""

Migration: TypeAlias = Callable[[duckdb.DuckDBPyConnection], Any]


def _count_what_was_pruned(connection: duckdb.DuckDBPyConnection) -> None:
    """Migrate to version 2: record which journal is in use, and how many rows were pruned."""
    connection.execute("alter table store_facts add column journal VARCHAR default ''")
    connection.execute("alter table store_facts add column pruned BIGINT default 0")
    connection.execute(
        "update store_facts set pruned = coalesce("
        "(select sum((data->>'$.rows')::bigint) from events where kind = 'store.pruned'), 0)"
    )


def _leave_rows_as_they_are(_connection: duckdb.DuckDBPyConnection) -> None:
    """Migrate to version 3: a send's options are one object. Older rows stay; older code cannot read new rows."""


def _leave_rows_before_chains(_connection: duckdb.DuckDBPyConnection) -> None:
    """Migrate to version 4: messages may wait for others. Older code would hand them out at once."""


MIGRATIONS: list[Migration] = [_count_what_was_pruned, _leave_rows_as_they_are, _leave_rows_before_chains]
"""The first migrates version 1 to 2, and so on. All run inside one transaction."""

_VIEWS = Path(__file__).with_name("views.sql")

CONFIG: dict[str, Any] = {
    # With fewer threads to wake each commit is about a tenth cheaper.
    "threads": 1,
    # A checkpoint may tear when power is lost: only ``checkpoint`` makes them, so that they can be undone.
    "wal_autocheckpoint": "1000TB",
    "wal_autocheckpoint_entries": 0,
    # Otherwise a checkpoint rewrites groups of rows half emptied by deletes, which blocks the database for seconds.
    "max_vacuum_tasks": 0,
    # Users' queries can read the log and nothing else.
    "enable_external_access": False,
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
}


def version() -> int:
    """Return the schema version that this code writes."""
    return 1 + len(MIGRATIONS)


def open_database(path: Path) -> duckdb.DuckDBPyConnection:
    """Connect to a database, with settings locked except those for memory and threads.

    ``now()`` is UTC in its queries, as all times of the log are.
    """
    connection = duckdb.connect(str(path), config=CONFIG)
    try:
        # The setting belongs to an extension, which is loaded only with a connection.
        connection.execute("set global TimeZone = 'UTC'")
        connection.execute("pragma disable_checkpoint_on_shutdown")
        # To read one long row of a compressed block, DuckDB decompresses the whole block: 0.5 s where rows have 1 MB.
        connection.execute("set global zstd_min_string_length = 4294967295")
        # In a notebook, DuckDB would show the progress of slow queries in the running cell.
        connection.execute("set enable_progress_bar = false")
        connection.execute("set allowed_configs = ['memory_limit', 'threads']")
        connection.execute("set lock_configuration = true")
    except BaseException:
        connection.close()
        raise
    return connection


def create(path: Path, store_id: str) -> None:
    """Create a complete, empty log at ``path``, which must not exist. It appears whole or not at all."""
    unfinished = remove_unfinished(path)
    with open_database(unfinished) as connection:
        os.chmod(unfinished, 0o600)
        connection.begin()
        connection.execute(TABLES)
        connection.execute("insert into store_facts values (?, ?, '', '', 0)", [version(), store_id])
        _replace_views(connection)
        connection.commit()
        connection.execute("checkpoint")
    move_into_place(unfinished, path)


def remove_unfinished(path: Path) -> Path:
    """Remove what an interrupted creation left behind. Returns the name it uses."""
    unfinished = path.with_name(path.name + ".new")
    remove_database(unfinished)
    return unfinished


def move_into_place(finished: Path, path: Path) -> None:
    """Rename a closed database to its real name, durably and atomically."""
    sync_file(finished)
    os.replace(finished, path)
    sync_file(path.parent)


def sync_file(path: Path) -> None:
    """Make a file, or the names in a folder, durable. Never for an open database (its lock would be lost)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def files_of(path: Path) -> list[Path]:
    """Return the paths of the files that hold a log's rows, whether they exist or not."""
    return [path, wal_of(path), path.with_name(path.name + ".journal"), checkpoint_of(path)]


def remove_database(path: Path) -> None:
    """Remove a closed database, with its write-ahead log and the copy of an unfinished checkpoint."""
    path.unlink(missing_ok=True)
    wal_of(path).unlink(missing_ok=True)
    checkpoint_of(path).unlink(missing_ok=True)


def wal_of(path: Path) -> Path:
    """Return the path of a database's write-ahead log."""
    return path.with_name(path.name + ".wal")


def checkpoint_of(path: Path) -> Path:
    """Return the path of the copy that exists while a checkpoint may be unfinished (see ``checkpoint``)."""
    return path.with_name(path.name + ".checkpoint")


def bring_up_to_date(connection: duckdb.DuckDBPyConnection) -> int | None:
    """Migrate an older log, all or nothing, and replace its views if they are not this version's.

    Returns the version that it was migrated from, else None.
    """
    found, views = connection.execute("select schema_version, views from store_facts").fetchall()[0]
    if found == version() and views == _views_digest():
        return None
    connection.begin()
    try:
        pending: Sequence[Migration] = MIGRATIONS[found - 1 :]
        if pending:
            _drop_views(connection)
        for migration in pending:
            migration(connection)
        connection.execute("update store_facts set schema_version = ?", [version()])
        _replace_views(connection)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return None if found == version() else int(found)


def _replace_views(connection: duckdb.DuckDBPyConnection) -> None:
    _drop_views(connection)
    connection.execute(_VIEWS.read_text(encoding="utf-8"))
    connection.execute("update store_facts set views = ?", [_views_digest()])


def _drop_views(connection: duckdb.DuckDBPyConnection) -> None:
    for (name,) in connection.execute("select view_name from duckdb_views() where not internal").fetchall():
        connection.execute(f'drop view "{name}"')


def _views_digest() -> str:
    return hashlib.sha256(_VIEWS.read_bytes()).hexdigest()[:16]


_EPOCH = datetime(1970, 1, 1)


def utc(seconds: float) -> datetime:
    """Return seconds since 1970 as the log stores a time."""
    return _EPOCH + timedelta(seconds=seconds)


Row: TypeAlias = str
"""``kind``, ``actor_id``, ``message_id``, ``session_id`` and ``data``, separated by tabs; an empty field is NULL.

``data`` is a JSON object. Compact JSON holds neither tabs nor line breaks, and ids escape them.
"""


def row(
    kind: str,
    actor_id: str | None = None,
    message_id: str | None = None,
    session_id: str | None = None,
    data: str = "{}",
) -> Row:
    """Make a row. Raises ``store.bad_row`` when ``data`` is not JSON."""
    try:
        json.loads(data)
    except ValueError as error:
        raise StoreError(
            f"A row of kind {kind!r} was not written, since its data is not JSON: {error}.", code="bad_row"
        ) from None
    return f"{kind}\t{actor_id or ''}\t{message_id or ''}\t{session_id or ''}\t{data}"
