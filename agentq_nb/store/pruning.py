"""Dropping history: what is settled and old goes, what is live, dead or needed to go on stays.

What may go is looked for beside the writer, which takes as long as it takes. Then it is dropped in short slices, each
one transaction in the writer's thread, which looks once more at what came since: whatever has a new row stays.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import duckdb

_FINAL = "('message.completed', 'message.cancelled', 'message.expired')"

_FIND = f"""
create temp table prunable as
with settled as (
    select message_id from events
    where kind in {_FINAL} or kind in ('message.failed', 'message.redelivered')
    group by message_id
    having arg_max(kind, seq) in {_FINAL} and max(time) < $before
),
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
)
select 'message' as what, message_id as id, min(seq) as first, max(seq) as last, count(*) as rows
from events where message_id in (from settled) group by message_id
union all
select 'session', session_id, min(seq), max(seq), count(*)
from events where session_id in (from closed) group by session_id
union all
select 'row', null, seq, seq, 1 from (from states union all from pauses)
order by first
"""

_PAGE = 5000

Group = tuple[str, str, int, int, int]
"""What it is (message, session, row), its id, its first and last row, and how many it has. They go together."""


@dataclass(slots=True)
class Part:
    """What one slice drops. ``seen`` is the last row that was there when it was looked for."""

    seen: int
    groups: list[Group] = field(default_factory=list[Group])

    def ids(self, what: str) -> list[str]:
        return [group[1] for group in self.groups if group[0] == what]


class Search:
    """What may go, found on a cursor of its own and kept there. Blocks: for a thread beside the writer's."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, before: datetime) -> None:
        """Look for it. Raises duckdb.Error."""
        self._cursor = cursor
        self._next = 0
        self._page: list[Group] = []
        # One transaction, so that what came after ``seen`` is all that was not looked at.
        cursor.begin()
        ((self._seen,),) = cursor.execute("select coalesce(max(seq), 0) from events").fetchall()
        cursor.execute(_FIND, {"before": before})
        cursor.commit()

    def take(self, rows: int) -> Part | None:
        """The next groups, with so many rows together or one more group than that; None at the end."""
        part = Part(self._seen)
        while rows > 0 and (self._page or self._turn_page()):
            group = self._page.pop()
            part.groups.append(group)
            rows -= group[4]
        return part if part.groups else None

    def _turn_page(self) -> bool:
        query = "select what, id, first, last, rows from prunable where rowid >= ? and rowid < ? order by rowid desc"
        self._page = self._cursor.execute(query, [self._next, self._next + _PAGE]).fetchall()
        self._next += _PAGE
        return bool(self._page)


def drop(connection: duckdb.DuckDBPyConnection, part: Part, spared: Collection[str] = ()) -> tuple[int, Sequence[str]]:
    """Drop what still may go, in one transaction: the number of rows, and the ids of the messages that went.

    ``spared`` are messages not to be touched. Sequence numbers then have gaps; the count in ``store_facts``, changed in
    the same transaction, says that they are no damage. Raises duckdb.Error: nothing was dropped then.
    """
    first, last = min(group[2] for group in part.groups), max(group[3] for group in part.groups)
    connection.begin()
    try:
        dropped = 0
        gone: dict[str, list[str]] = {}
        for what in ("message", "session"):
            ids = part.ids(what)
            if not ids:
                continue
            column = f"{what}_id"
            of_these = f"{column} in (select unnest($ids::varchar[]))"
            newer = f"select distinct {column} from events where seq > $seen and {of_these}"
            came = {found for (found,) in connection.execute(newer, {"seen": part.seen, "ids": ids}).fetchall()}
            gone[what] = [one for one in ids if one not in came and (what == "session" or one not in spared)]
            dropped += _delete(connection, of_these, {"first": first, "last": last, "ids": gone[what]})
        rows = [group[2] for group in part.groups if group[0] == "row"]
        if rows:
            in_rows = "seq in (select unnest($ids::bigint[]))"
            dropped += _delete(connection, in_rows, {"first": first, "last": last, "ids": rows})
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
