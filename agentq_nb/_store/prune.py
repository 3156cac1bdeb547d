"""Prune history: delete what is settled and old; keep what is live, dead, or needed to continue.

The rows to delete are searched for alongside the writer, however long that takes. Then they are deleted in short
slices, each one transaction in the writer's thread, which checks again for newer rows: anything that got a new row
stays.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import duckdb

from agentq_nb._core.message_status import PRUNABLE, kinds, sql_list

_PRUNABLE = sql_list(kinds(PRUNABLE))

_BUNDLE_ROWS = 1000
"""Rows per bundle, or one group of rows more than that."""

_FIND = f"""
create temp table prunable as
with ended as materialized (
    select message_id, arg_max(kind, seq) as last_kind, max(time) as ended_at from events
    where kind in {_PRUNABLE} or kind in ('message.failed', 'message.redelivered')
    group by message_id
),
of_batches as materialized (
    select message_id, data->>'$.batch' as batch from events
    where (select count(*) from events where kind = 'batch.sent') > 0
    and kind = 'message.queued' and data->>'$.batch' is not null
),
-- A batch is pruned as a whole: its rows are what tells which of its items are done.
unfinished as materialized (
    select distinct batch from of_batches left join ended using (message_id)
    where last_kind is null or last_kind = 'message.redelivered' or ended_at >= $before
),
old as materialized (
    select message_id from ended
    where last_kind in {_PRUNABLE} and ended_at < $before
    and message_id not in (select message_id from of_batches where batch in (from unfinished))
),
-- What messages were sent after that may still be handled. The text is searched first: parsing JSON is expensive.
needed as (
    select unnest(json_extract_string(data, '$.options.after[*]')) from events
    where kind = 'message.queued' and contains(data::varchar, '"after":')
    and message_id not in (from old)
    and message_id not in (select message_id from ended where last_kind = 'message.completed')
),
settled as (from old where message_id not in (from needed)),
closed as (
    select session_id from events where session_id is not null
    group by session_id
    having arg_max(kind, seq) filter (kind in ('session.created', 'session.closed')) = 'session.closed'
    and max(time) < $before
),
states as (
    select seq from (
        select seq, kind, time, lead(kind) over (partition by actor_id order by seq) as later_kind
        from events where kind in ('actor.state', 'actor.destroyed')
    )
    where kind = 'actor.state' and later_kind is not null and time < $before
),
pauses as (
    select seq from (
        select seq, time, lead(seq) over (partition by actor_id, data->>'$.queue' order by seq) as later
        from events where kind in ('queue.paused', 'queue.resumed')
    )
    where later is not null and time < $before
),
limits as (
    select seq from (
        select seq, time, lead(seq) over (
            partition by data->>'$.limit', kind in ('limit.paused', 'limit.resumed') order by seq
        ) as later
        from events where kind in ('limit.paused', 'limit.resumed', 'limit.changed', 'limit.reset')
    )
    where later is not null and time < $before
),
-- Those that still count in a window stay, whatever becomes of their messages.
starts as (
    select seq from events
    where kind = 'limit.started' and time < $before
    and (data->>'$.until')::double < epoch(least($before::timestamp, now()::timestamp))
),
found as (
    select 'message' as what, message_id as id, min(seq) as first, max(seq) as last, count(*) as rows
    from events where message_id in (from settled) group by message_id
    union all
    select 'session', session_id, min(seq), max(seq), count(*)
    from events where session_id in (from closed) group by session_id
    union all
    select 'row', seq::varchar, seq, seq, 1 from (from states union all from pauses union all from limits union all from starts)
),
numbered as (select *, sum(rows) over (order by first, what rows unbounded preceding) // {_BUNDLE_ROWS} as number from found)
select what, string_agg(id, chr(10)) as ids, min(first) as first, max(last) as last, sum(rows)::bigint as rows
from numbered group by number, what
order by first
"""

_PAGE = 50

Bundle = tuple[str, str, int, int, int]
"""Kind (message, session, row), ids (one per line), first and last row, number of rows.

All rows of one id are in one bundle. The ids are one string, which DuckDB joins and splits without Python's lock:
thousands of Python strings for each slice would delay the loop.
"""


class Newer:
    """The ids that got rows since the search. Only for the writer's thread."""

    def __init__(self, seen: int) -> None:
        self._seen = seen
        self._ids: set[str] = set()

    def ids(self, connection: duckdb.DuckDBPyConnection) -> set[str]:
        """Return all of them; only rows since the last call are read. Raises duckdb.Error."""
        query = "select seq, message_id, session_id from events where seq > ?"
        for seq, message, session in connection.execute(query, [self._seen]).fetchall():
            self._seen = max(self._seen, seq)
            self._ids.update(one for one in (message, session) if one is not None)
        return self._ids


@dataclass(slots=True)
class Part:
    """The bundles to delete in one slice, unless they got newer rows."""

    newer: Newer
    bundles: list[Bundle] = field(default_factory=list[Bundle])

    def ids(self, what: str) -> list[str]:
        return [one for bundle in self.bundles if bundle[0] == what for one in bundle[1].split("\n")]


class Search:
    """The search for rows to delete, on its own cursor, which keeps the result. Blocks: not for the writer's thread."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, before: datetime) -> None:
        """Run the search. Raises duckdb.Error."""
        self._cursor = cursor
        self._next = 0
        self._page: list[Bundle] = []
        # One transaction, so that exactly the rows after the last one it sees were not searched.
        cursor.begin()
        ((seen,),) = cursor.execute("select coalesce(max(seq), 0) from events").fetchall()
        cursor.execute(_FIND, {"before": before})
        cursor.commit()
        self._newer = Newer(seen)

    def take(self, rows: int) -> Part | None:
        """Return the next bundles, with at least ``rows`` rows together if there are as many; None at the end."""
        part = Part(self._newer)
        while rows > 0 and (self._page or self._turn_page()):
            bundle = self._page.pop()
            part.bundles.append(bundle)
            rows -= bundle[4]
        return part if part.bundles else None

    def _turn_page(self) -> bool:
        query = "select what, ids, first, last, rows from prunable where rowid >= ? and rowid < ? order by rowid desc"
        self._page = self._cursor.execute(query, [self._next, self._next + _PAGE]).fetchall()
        self._next += _PAGE
        return bool(self._page)


def drop(connection: duckdb.DuckDBPyConnection, part: Part, spared: Collection[str] = ()) -> tuple[int, Sequence[str]]:
    """Delete what may still go, in one transaction; return the number of rows, and the ids of deleted messages.

    ``spared`` are messages to keep. Sequence numbers then have gaps; the count in ``store_facts``, changed in the same
    transaction, shows that they are not damage. Raises duckdb.Error: then nothing was deleted.
    """
    first, last = min(bundle[2] for bundle in part.bundles), max(bundle[3] for bundle in part.bundles)
    connection.begin()
    try:
        dropped = 0
        newer = part.newer.ids(connection)
        gone: dict[str, list[str]] = {}
        for what in ("message", "session"):
            ids = part.ids(what)
            if not ids:
                continue
            column = f"{what}_id"
            of_these = f"{column} in (select unnest(string_split($ids::varchar, chr(10))))"
            gone[what] = [one for one in ids if one not in newer and one not in spared]
            dropped += _delete(connection, of_these, {"first": first, "last": last, "ids": "\n".join(gone[what])})
        rows = part.ids("row")
        if rows:
            in_rows = "seq in (select unnest(string_split($ids::varchar, chr(10)))::bigint)"
            dropped += _delete(connection, in_rows, {"first": first, "last": last, "ids": "\n".join(rows)})
        connection.execute("update store_facts set pruned = pruned + ?", [dropped])
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return dropped, gone.get("message", [])


def _delete(connection: duckdb.DuckDBPyConnection, condition: str, parameters: dict[str, object]) -> int:
    if not parameters["ids"]:
        return 0
    query = f"delete from events where seq between $first and $last and {condition}"
    ((rows,),) = connection.execute(query, parameters).fetchall()
    return int(rows)
