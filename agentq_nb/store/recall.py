"""What a host has to know again when it opens the log: what is live, in the fewest rows that say so."""

from __future__ import annotations

from typing import Any

# Final unless the message was put back later. Almost no message ever is, so those few are looked at one by one.
_SETTLED = """
select message_id from events
where kind in ('message.completed', 'message.failed', 'message.cancelled', 'message.expired')
and message_id not in (select message_id from events where kind = 'message.redelivered')
union all
select message_id from events
where kind in (
    'message.completed', 'message.failed', 'message.cancelled', 'message.expired', 'message.redelivered'
)
and message_id in (select message_id from events where kind = 'message.redelivered')
group by message_id
having arg_max(kind, seq) <> 'message.redelivered'
"""

# An anti-join against the settled ones: a million rows with one per cent live are read in about a tenth of a second.
LIVE_ROWS = f"""
select seq, epoch(time), kind, actor_id, message_id, data from events
where starts_with(kind, 'message.') and message_id not in ({_SETTLED})
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

_DEAD = """
select message_id from events
where message_id in (select message_id from events where kind = 'message.failed')
and kind in (
    'message.completed', 'message.failed', 'message.cancelled', 'message.expired', 'message.redelivered'
)
group by message_id
having arg_max(kind, seq) = 'message.failed'
"""

DEAD_COUNTS = f"""
select actor_id, data->>'$.queue', message_id from events
where kind = 'message.queued' and message_id in ({_DEAD})
order by seq
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

LAST_HOST_EVENT = """
select arg_max(kind, seq) from events where kind in ('host.started', 'host.stopped') and seq <= ?
"""

Rows = list[tuple[Any, ...]]
