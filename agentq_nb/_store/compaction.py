"""Compaction: return the space of deleted rows to the file system, where that pays.

DuckDB frees a group of rows (122,880) when its last row is deleted, and truncates the file after its last used block.
Its own handling of half-empty groups, at a checkpoint, blocks the database for a second and more, so that is disabled
(``schema.CONFIG``). Instead the remaining rows are moved to the end of the table, a slice in each transaction: every
group that is emptied is freed, and moved rows go to the first free blocks. If killed at any moment, each row exists
exactly once.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

SMALLEST_GAIN = 4 << 20
"""Bytes that a file must shrink by."""
CHECKPOINT_ROWS = 20_000
CHECKPOINT_CHARACTERS = 4 << 20
"""How much is moved between two checkpoints: more makes each take longer, less makes many small groups of rows."""
_SLICE_CHARACTERS = 1 << 20


@dataclass(frozen=True, slots=True)
class Gain:
    """The sizes, in bytes, to compare: ``total`` of the file, and ``needed`` by the remaining rows."""

    total: int
    needed: int

    @property
    def pays(self) -> bool:
        """Whether the file would shrink to less than half, and by at least ``SMALLEST_GAIN``."""
        return self.total - self.needed > max(self.total // 2, SMALLEST_GAIN)


def estimate(connection: duckdb.DuckDBPyConnection) -> Gain:
    """Estimate the gain. Reads little but the database's metadata; on any cursor."""
    ((block, total, used),) = connection.execute(
        "select block_size, total_blocks, used_blocks from pragma_database_size()"
    ).fetchall()
    ((stored,),) = connection.execute(
        "select coalesce(sum(count), 0) from pragma_storage_info('events') "
        "where column_name = 'seq' and segment_type <> 'VALIDITY'"
    ).fetchall()
    ((rows,),) = connection.execute("select count(*) from events").fetchall()
    share = rows / stored if stored else 1
    return Gain(total * block, int(used * block * min(1, share)))


def next_rows(connection: duckdb.DuckDBPyConnection, after: int, last: int, rows: int) -> tuple[int, int, int] | None:
    """Return the end of the next slice, its rows and its characters; None after the last row. On any cursor."""
    found = connection.execute(
        "select seq, length(data) from events where seq > ? and seq <= ? order by seq limit ?", [after, last, rows]
    ).fetchall()
    characters = taken = 0
    for _, length in found:
        characters += length or 0
        taken += 1
        if characters >= _SLICE_CHARACTERS:
            break
    return (found[taken - 1][0], taken, characters) if found else None


def move(connection: duckdb.DuckDBPyConnection, after: int, until: int) -> None:
    """Move the rows after ``after``, up to ``until``, to the table's end in one transaction. Raises duckdb.Error."""
    connection.begin()
    try:
        between = "from events where seq > ? and seq <= ?"
        connection.execute(f"create temp table moved as select * {between}", [after, until])
        connection.execute(f"delete {between}", [after, until])
        connection.execute("insert into events from moved")
        connection.execute("drop table moved")
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
