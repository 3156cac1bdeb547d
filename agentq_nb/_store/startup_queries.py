"""Queries that restore a host's state when it opens the log, reading as few rows as possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from agentq_nb._core.message_status import STATUS_AFTER, sql_list

_FINAL = sql_list(STATUS_AFTER)
_FINAL_OR_BACK = sql_list([*STATUS_AFTER, "message.redelivered"])

# Files of versions 1 and 2 have it beside the body.
_KEY = "coalesce(data->>'$.options.idempotency_key', data->>'$.key')"

ANY_REDELIVERED = "select 1 from events where kind = 'message.redelivered' limit 1"

ANY_FAILED = "select 1 from events where kind = 'message.failed' limit 1"

# Valid when no message was ever redelivered.
_SETTLED = f"select message_id from events where kind in {_FINAL}"

# Settled unless redelivered later. Few messages ever are, so only those are examined one by one.
_SETTLED_SOME_BACK = f"""
select message_id from events
where kind in {_FINAL} and message_id not in (select message_id from events where kind = 'message.redelivered')
union all
select message_id from events
where kind in {_FINAL_OR_BACK}
and message_id in (select message_id from events where kind = 'message.redelivered')
group by message_id
having arg_max(kind, seq) <> 'message.redelivered'
"""


# The whole text is measured first; for most rows nothing more is needed.
_WITHOUT_LARGE_BODY = """
case when kind = 'message.queued' and strlen(data) > {largest} and strlen((data->'$.body')::varchar) > {largest}
then json_merge_patch(data, json_object('body', null, 'size', strlen((data->'$.body')::varchar)))
else data end
"""

# DuckDB extracts the body from the row's text, so Python's lock is held only to copy it.
BODY = """
select encode((data->'$.body')::varchar) from events
where seq >= $1 and message_id = $2 and kind = 'message.queued'
limit 1
"""


def live_rows(*, some_back: bool, largest_body: int | None = None) -> str:
    """Return the query for all rows of unsettled messages. ``some_back``: some message was redelivered.

    A body of more than ``largest_body`` bytes is replaced by its ``size``.

    The sent rows are joined with the settled ones first, and all other rows only with the few that remain: that takes
    half the time of doing both at once.
    """
    data = "data" if largest_body is None else _WITHOUT_LARGE_BODY.format(largest=largest_body)
    return f"""
with live as materialized (
    select message_id from events sent
    anti join ({_SETTLED_SOME_BACK if some_back else _SETTLED}) settled using (message_id)
    where sent.kind = 'message.queued'
)
select seq, epoch(time), kind, actor_id, message_id, {data} from events
where message_id in (from live)
order by seq
"""


# Reads only small columns: finding the latest states would otherwise read every state there ever was.
LATEST_STATES = """
select actor_id, case when state > destroyed then state end
from (
    select
        actor_id, min(seq) as first, max(seq) as last,
        max(seq) filter (kind = 'actor.state') as state,
        coalesce(max(seq) filter (kind = 'actor.destroyed'), 0) as destroyed
    from events where kind in ('actor.created', 'actor.state', 'actor.destroyed')
    group by actor_id
)
where last > destroyed
order by first
"""

# The range lets DuckDB skip groups of rows that contain none of them.
_AT_PLACES = "seq between $first and $last and seq in (select unnest($places::bigint[]))"

STATES = f"select seq, data->'$.state' from events where {_AT_PLACES}"

_SENT_ROWS = f"""
select seq, epoch(time), kind, actor_id, message_id, {_WITHOUT_LARGE_BODY} from events
where {_AT_PLACES} order by seq
"""


def sent_rows(largest_body: int) -> str:
    """Return the query for rows by sequence number. A body above ``largest_body`` bytes is replaced by its ``size``."""
    return _SENT_ROWS.format(largest=largest_body)


def span(places: Sequence[int]) -> dict[str, Any]:
    """Return the parameters of a query for rows by their sequence numbers, which are in ascending order."""
    return {"first": places[0], "last": places[-1], "places": list(places)}


_DEAD = f"""
select message_id from events
where message_id in (from failed) and kind in {_FINAL_OR_BACK}
group by message_id
having arg_max(kind, seq) = 'message.failed'
"""

# Messages whose last event is a failure, filtered by the given conditions.
DEAD_LETTERS = f"""
with failed as materialized (
    select distinct message_id from events
    where kind = 'message.failed' and ($actor is null or actor_id = $actor)
    and ($name is null or split_part(actor_id, '/', 1) = $name)
),
dead as materialized (
    select message_id, max(seq) as failed_at from events
    where message_id in (from failed) and kind in {_FINAL_OR_BACK}
    group by message_id
    having arg_max(kind, seq) = 'message.failed'
),
meant as materialized (
    select dead.message_id from events failure join dead on failure.seq = dead.failed_at
    where ($since is null or epoch(failure.time) >= $since)
    and ($error is null or contains(lower(concat_ws(' ',
        concat_ws(': ', nullif(failure.data->>'$.error.type', 'str'), failure.data->>'$.error.message'),
        concat_ws('.', failure.data->>'$.error.group', failure.data->>'$.error.code')
    )), lower($error)))
)
select seq, actor_id, data->>'$.queue', message_id from events sent
where kind = 'message.queued' and message_id in (from meant)
and if($queue is null, not starts_with(data->>'$.queue', '$'), data->>'$.queue' = $queue)
order by seq
"""

DEAD_COUNTS = f"""
with failed as materialized (select distinct message_id from events where kind = 'message.failed')
select actor_id, data->>'$.queue', message_id from events
where kind = 'message.queued' and message_id in ({_DEAD})
order by seq
"""

PAUSES = """
select actor_id, queue, (said->>'$.until')::double, said->>'$.reason'
from (
    select
        actor_id, data->>'$.queue' as queue,
        max(seq) as said_at, arg_max(kind, seq) as last_kind, arg_max(data, seq) as said
    from events where kind in ('queue.paused', 'queue.resumed')
    group by actor_id, queue
)
left join (
    select actor_id, max(seq) as destroyed_at from events where kind = 'actor.destroyed' group by actor_id
) using (actor_id)
where last_kind = 'queue.paused' and said_at > coalesce(destroyed_at, 0)
order by said_at
"""

LIMIT_ROWS = """
select kind, data, epoch(time) from events
where kind in ('limit.paused', 'limit.resumed', 'limit.changed', 'limit.reset')
order by seq
"""

LIMIT_STARTS = """
select actor_id, data->>'$.queue', data->'$.limits', (data->>'$.at')::double, data->>'$.start'
from events where kind = 'limit.started' and time >= $1 order by seq
"""

# The number of a key is computed here, so that neither keys nor bodies are fetched. The text is searched first, since
# parsing JSON is the expensive part.
COMPLETED_KEYS = f"""
with completed as (select message_id from events where kind = 'message.completed'),
keyed as (
    select seq, actor_id, data->>'$.queue' as queue, {_KEY} as key from events
    where kind = 'message.queued' and contains(data::varchar, 'key"') and message_id in (from completed)
)
select ('0x' || md5(concat_ws(chr(31), actor_id, queue, key))[:15])::bigint, seq
from keyed where key is not null
"""

# Completed is final; an expired message may have been put back.
SETTLED_COUNTS = """
with settled as (
    select message_id, 'completed' as status from events where kind = 'message.completed' and seq <= $last
    union all
    select message_id, 'expired' from events
    where message_id in (select message_id from events where kind = 'message.expired' and seq <= $last)
    and kind in ('message.expired', 'message.redelivered') and seq <= $last
    group by message_id
    having arg_max(kind, seq) = 'message.expired'
)
select actor_id, data->>'$.queue' as queue, status, count(*)
from events join settled using (message_id)
where kind = 'message.queued'
group by actor_id, queue, status
"""

# A row by its sequence number, or the row of a message that was written there or later.
KEYED_MESSAGE = f"""
select message_id, actor_id, data->>'$.queue', {_KEY}, data->'$.body', data->'$.options.after' from events
where seq = $first and kind = 'message.queued'
"""
KEYED_MESSAGE_FROM = f"""
select message_id, actor_id, data->>'$.queue', {_KEY}, data->'$.body', data->'$.options.after' from events
where seq >= $first and message_id = $message and kind = 'message.queued'
limit 1
"""

KNOWN_IDS = """
select distinct message_id from events where message_id in (select unnest($1::varchar[]))
"""

MESSAGE_ROWS = """
select seq, epoch(time), kind, actor_id, message_id, data from events where message_id = ? order by seq
"""

# What is known of messages that others wait for: actor, queue, last kind, its time, its error and its reply.
_PREDECESSORS = """
with known as (
    select
        message_id,
        any_value(actor_id) as actor_id,
        any_value(data->>'$.queue') filter (kind = 'message.queued') as queue,
        arg_max(kind, seq) filter (kind <> 'message.queued') as last_kind,
        epoch(max(time)) as ended_at,
        arg_max(data, seq) filter (kind <> 'message.queued') as said
    from events
    where message_id in (select unnest($messages::varchar[])) and (kind in {kinds} or kind = 'message.queued')
    group by message_id
)
select message_id, actor_id, queue, last_kind, ended_at, (said->'$.error')::varchar, {reply} from known
"""
PREDECESSORS = _PREDECESSORS.format(reply="null", kinds=_FINAL_OR_BACK)
PREDECESSOR_REPLIES = _PREDECESSORS.format(reply="encode((said->'$.reply')::varchar)", kinds=_FINAL_OR_BACK)

# Messages that were cancelled because of one that they waited for, and that are still cancelled: the place where each was
# sent, and what it was sent after.
CANCELLED_DEPENDENTS = f"""
with cancelled as materialized (
    select distinct message_id from events
    where kind = 'message.cancelled' and data->>'$.error.code' = 'predecessor_failed'
),
still as materialized (
    select message_id from events
    where message_id in (from cancelled) and kind in {_FINAL_OR_BACK}
    group by message_id
    having arg_max(kind, seq) = 'message.cancelled'
    and arg_max(data, seq)->>'$.error.code' = 'predecessor_failed'
)
select seq, message_id, data->'$.options.after' from events
where kind = 'message.queued' and message_id in (from still)
order by seq
"""

LAST_HOST_EVENTS = """
select seq, kind from events where kind in ('host.started', 'host.stopped') and seq <= ? order by seq desc limit 2
"""

Rows = list[tuple[Any, ...]]

_STATES_AT_ONCE = 200


def pages(places: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield sequence numbers of states, in ascending order, in groups that are read at once."""
    ascending = sorted(places)
    for start in range(0, len(ascending), _STATES_AT_ONCE):
        yield ascending[start : start + _STATES_AT_ONCE]


def closed_cleanly(events: Rows) -> bool:
    """Whether the last host stopped, or there was none; ``events`` are (sequence number, kind), newest first."""
    return [kind for _, kind in events[:1]] in ([], ["host.stopped"])


def last_life(events: Rows) -> tuple[int, bool]:
    """Return the sequence number at which the last host started, and whether that start followed a crash."""
    began = next((seq for seq, kind in events if kind == "host.started"), 0)
    return began, [kind for _, kind in events] == ["host.started", "host.started"]
