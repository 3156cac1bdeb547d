"""What a host has to know again when it opens the log: what is live, in the fewest rows that say so."""

from __future__ import annotations

from typing import Any

_FINAL = "('message.completed', 'message.failed', 'message.cancelled', 'message.expired')"
_FINAL_OR_BACK = (
    "('message.completed', 'message.failed', 'message.cancelled', 'message.expired', 'message.redelivered')"
)

ANY_REDELIVERED = "select 1 from events where kind = 'message.redelivered' limit 1"

ANY_FAILED = "select 1 from events where kind = 'message.failed' limit 1"

# Final for good: nothing was ever put back.
_SETTLED = f"select message_id from events where kind in {_FINAL}"

# Final unless the message was put back later. Few messages ever are, so those few are looked at one by one.
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


def live_rows(*, some_back: bool) -> str:
    """All rows of messages that are not settled. ``some_back``: some message was put back after it was settled.

    The sent ones are held against the settled ones first, and the rest of the rows only against the few that are left:
    half the time of doing both at once.
    """
    return f"""
with live as materialized (
    select message_id from events sent
    anti join ({_SETTLED_SOME_BACK if some_back else _SETTLED}) settled using (message_id)
    where sent.kind = 'message.queued'
)
select seq, epoch(time), kind, actor_id, message_id, data from events
where message_id in (from live)
order by seq
"""


ACTOR_ROWS = """
select
    actor_id,
    (arg_max(data, seq) filter (kind = 'actor.created'))->'$.input',
    (arg_max(data, seq) filter (kind = 'actor.state' and seq > born))->'$.state'
from (
    select
        *, coalesce(max(seq) filter (kind = 'actor.destroyed') over (partition by actor_id), 0) as born
    from events where kind in ('actor.created', 'actor.state', 'actor.destroyed')
)
where seq > born
group by actor_id
order by min(seq)
"""

_DEAD = f"""
select message_id from events
where message_id in (from failed) and kind in {_FINAL_OR_BACK}
group by message_id
having arg_max(kind, seq) = 'message.failed'
"""

DEAD_COUNTS = f"""
with failed as materialized (select distinct message_id from events where kind = 'message.failed')
select actor_id, data->>'$.queue', message_id from events
where kind = 'message.queued' and message_id in ({_DEAD})
order by seq
"""

PAUSES = """
select actor_id, queue, (said->>'$.until')::double
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

# Messages with a key are few or many; the text is searched first because parsing JSON is what costs.
COMPLETED_KEYS = """
with keyed as (
    select seq, actor_id, data, message_id from events
    where kind = 'message.queued' and contains(data::varchar, '"key"')
),
ended as (
    select message_id, arg_max(kind, seq) as last_kind from events
    where kind in (
        'message.completed', 'message.failed', 'message.cancelled', 'message.expired', 'message.redelivered'
    )
    and message_id in (select message_id from keyed)
    group by message_id
)
select actor_id, data->>'$.queue', data->>'$.key', message_id, data->'$.body'
from keyed left join ended using (message_id)
where data->>'$.key' is not null
and coalesce(last_kind not in ('message.failed', 'message.cancelled', 'message.expired'), true)
order by seq
"""

MESSAGE_ROWS = """
select seq, epoch(time), kind, actor_id, message_id, data from events where message_id = ? order by seq
"""

LAST_HOST_EVENTS = """
select seq, kind from events where kind in ('host.started', 'host.stopped') and seq <= ? order by seq desc limit 2
"""

Rows = list[tuple[Any, ...]]
