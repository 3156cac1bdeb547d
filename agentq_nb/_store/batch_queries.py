"""Queries for batches: the rows that were sent under a name, their results and their bodies."""

from __future__ import annotations

from agentq_nb._core.message_status import STATUS_AFTER, sql_list

_FINAL_OR_BACK = sql_list([*STATUS_AFTER, "message.redelivered"])

# What was sent to batches, to one or to all.
BATCH_EVENTS = """
select seq, epoch(time), actor_id, data from events
where kind = 'batch.sent' and ($name is null or data->>'$.batch' = $name)
order by seq
"""

# The number of each row, its message, and what settled it last, if anything did; in the order in which they were settled.
BATCH_ROWS = f"""
with sent as materialized (
    select message_id, (data->>'$.row')::integer as row from events
    where seq >= $first and kind = 'message.queued' and actor_id = $actor and data->>'$.batch' = $name
),
settled as (
    select message_id, arg_max(kind, seq) as last_kind, max(seq) as settled_at from events
    where seq >= $first and kind in {_FINAL_OR_BACK} and message_id in (select message_id from sent)
    group by message_id
)
select row, message_id, last_kind from sent left join settled using (message_id)
order by settled_at nulls last, row
"""

# The body of each row from a number on, in their order.
BATCH_CONTENTS = """
select (data->>'$.row')::integer as row, encode((data->'$.body')::varchar) from events
where seq >= $first and kind = 'message.queued' and actor_id = $actor and data->>'$.batch' = $name
and (data->>'$.row')::integer >= $since
order by row
"""

# What settled these messages last, their last start, and how long that attempt took.
RESULTS = f"""
select
    message_id,
    arg_max(kind, seq) filter (kind <> 'message.started') as last_kind,
    arg_max(data, seq) filter (kind <> 'message.started') as last_data,
    arg_max(data, seq) filter (kind = 'message.started') as last_start,
    epoch(max(time) filter (kind <> 'message.started') - max(time) filter (kind = 'message.started')) as seconds
from events
where seq >= $first and (kind = 'message.started' or kind in {_FINAL_OR_BACK})
and message_id in (select unnest($messages::varchar[]))
group by message_id
"""

BODIES = """
select message_id, encode((data->'$.body')::varchar) from events
where seq >= $first and kind = 'message.queued' and message_id in (select unnest($messages::varchar[]))
"""

# The body of each of these messages, and its options as it was sent.
SENT = """
select message_id, encode((data->'$.body')::varchar), (data->'$.options')::varchar from events
where seq >= $first and kind = 'message.queued' and message_id in (select unnest($messages::varchar[]))
"""

# The tokens, and the cost in US dollars, of the requests to language models that were made for these messages.
USAGE = """
select
    data->>'$.message' as message_id,
    sum((data->>'$.input_tokens')::bigint + (data->>'$.output_tokens')::bigint)::bigint,
    sum((data->>'$.cost')::double)
from events
where seq >= $first and kind = 'llm.request' and data->>'$.message' in (select unnest($messages::varchar[]))
group by 1
"""

PLACES = """
select seq, actor_id, data->>'$.queue', message_id from events
where seq >= $first and kind = 'message.queued' and message_id in (select unnest($messages::varchar[]))
order by seq
"""
