"""Dropping history: what is settled and old goes, what is live, dead or needed to go on stays."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import duckdb

_FINAL = "('message.completed', 'message.cancelled', 'message.expired')"

_DROPPED = f"""
create temp table dropped as
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
select seq from events
where message_id in (select message_id from settled)
or session_id in (select session_id from closed)
or seq in (select seq from states)
or seq in (select seq from pauses)
"""


def prune(connection: duckdb.DuckDBPyConnection, before: datetime) -> int:
    """Drop history in one transaction. Returns how many rows went.

    Sequence numbers then have gaps; the count in ``store_facts`` says that they are no damage.
    """
    connection.begin()
    try:
        connection.execute(_DROPPED, {"before": before})
        connection.execute("delete from events where seq in (select seq from dropped)")
        ((rows,),) = connection.execute("select count(*) from dropped").fetchall()
        connection.execute("drop table dropped")
        connection.execute("update store_facts set pruned = pruned + ?", [rows])
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return rows


def shrink(connection: duckdb.DuckDBPyConnection, checkpoint: Callable[[], None]) -> None:
    """Give freed space back to the file system.

    DuckDB cuts a file only behind its last used block. So the table is written again, into the blocks that were freed
    at the front, and once more when the first copy had to go to the end. Each time is one transaction.
    """
    checkpoint()
    for _ in range(2):
        connection.begin()
        try:
            connection.execute("create table events_again as from events")
            connection.execute("drop table events")
            connection.execute("alter table events_again rename to events")
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        checkpoint()
        ((free, used),) = connection.execute("select free_blocks, used_blocks from pragma_database_size()").fetchall()
        if free <= used:
            return
