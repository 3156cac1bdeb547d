-- The views for users, all derived from `events`. Queues whose names start with `$` are internal.

create view actors as
select
    actor_id,
    split_part(actor_id, '/', 1) as name,
    max(time) filter (kind = 'actor.created') as created_at,
    max(time) filter (kind = 'actor.destroyed') as destroyed_at,
    arg_max(kind, seq) filter (kind in ('actor.created', 'actor.destroyed')) = 'actor.destroyed' as destroyed,
    (arg_max(data, seq) filter (kind = 'actor.created'))->'input' as input,
    max(time) filter (kind = 'actor.state') as state_at,
    case when arg_max(kind, seq) <> 'actor.destroyed'
        then (arg_max(data, seq) filter (kind = 'actor.state'))->'state' end as state
from events
where kind in ('actor.created', 'actor.state', 'actor.destroyed')
group by actor_id;

create view messages as
with queued as (
    select
        message_id, actor_id, time as created_at,
        json_extract(data, ['$.queue', '$.body', '$.due', '$.options.priority', '$.options.idempotency_key']) as fields,
        -- As versions 1 and 2 of the file have them.
        json_extract(data, ['$.priority', '$.key']) as former
    from events
    where kind = 'message.queued'
),
later as (
    select
        message_id,
        arg_max(data, seq) filter (kind = 'message.started') as last_start,
        max(time) filter (kind = 'message.started') as started_at,
        arg_max(kind, seq) filter (kind <> 'message.cancel_requested') as last_kind,
        arg_max(time, seq) filter (kind <> 'message.cancel_requested') as last_time,
        arg_max(data, seq) filter (kind <> 'message.cancel_requested') as last_data
    from events
    where kind in (
        'message.started', 'message.completed', 'message.failed', 'message.retried', 'message.released',
        'message.crashed', 'message.cancelled', 'message.expired', 'message.redelivered'
    )
    group by message_id
)
select
    message_id,
    actor_id,
    split_part(actor_id, '/', 1) as actor,
    fields[1]->>'$' as queue,
    case last_kind
        when 'message.completed' then 'completed'
        when 'message.failed' then 'failed'
        when 'message.cancelled' then 'cancelled'
        when 'message.expired' then 'expired'
        when 'message.started' then 'running'
        when 'message.retried' then
            if((last_data->>'$.due')::double > epoch(now()), 'delayed', 'queued')
        else if(last_kind is null and fields[3]::double > epoch(now()), 'delayed', 'queued')
    end as status,
    if(last_kind = 'message.redelivered', 0, coalesce((last_start->>'$.attempt')::integer, 0)) as attempts,
    created_at,
    started_at,
    if(last_kind in ('message.completed', 'message.failed', 'message.cancelled', 'message.expired'), last_time, null)
        as finished_at,
    epoch(started_at - created_at) as waited_seconds,
    if(last_kind in ('message.completed', 'message.failed'), epoch(last_time - started_at), null) as handled_seconds,
    coalesce(fields[4]::integer, former[1]::integer, 0) as priority,
    coalesce(fields[5], former[2])->>'$' as idempotency_key,
    fields[2] as body,
    if(last_kind = 'message.completed', last_data->'$.reply', null) as reply,
    if(last_kind in ('message.failed', 'message.retried', 'message.expired'), last_data->'$.error', null) as error
from queued left join later using (message_id)
where not starts_with(fields[1]->>'$', '$');

create view queues as
with paused as (
    select actor_id, queue, (said->>'$.until')::double as until
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
    and coalesce((said->>'$.until')::double > epoch(now()), true)
)
select
    actor_id,
    queue,
    count(*) filter (status = 'queued') as queued,
    count(*) filter (status = 'delayed') as delayed,
    count(*) filter (status = 'running') as running,
    count(*) filter (status = 'completed') as completed,
    count(*) filter (status = 'failed') as failed,
    count(*) filter (status = 'cancelled') as cancelled,
    count(*) filter (status = 'expired') as expired,
    min(created_at) filter (status in ('queued', 'delayed')) as oldest_waiting,
    bool_or(paused.queue is not null) as paused,
    make_timestamp(try_cast(max(paused.until) * 1e6 as bigint)) as paused_until
from messages full join paused using (actor_id, queue)
group by actor_id, queue;

create view attempts as
with steps as (
    select
        message_id, seq, time, kind, data,
        lead(kind) over following as next_kind,
        lead(time) over following as next_time,
        lead(data) over following as next_data
    from events
    where kind in (
        'message.started', 'message.completed', 'message.failed', 'message.retried', 'message.released',
        'message.crashed', 'message.cancelled', 'message.expired'
    )
    window following as (partition by message_id order by seq)
)
select
    steps.message_id,
    queued.actor_id,
    queued.data->>'$.queue' as queue,
    (steps.data->>'$.attempt')::integer as attempt,
    steps.time as started_at,
    if(next_kind = 'message.started', null, next_time) as ended_at,
    case
        when next_kind is null then 'running'
        when next_kind = 'message.started' then 'unknown'
        else split_part(next_kind, '.', 2)
    end as outcome,
    if(next_kind in ('message.failed', 'message.retried'), next_data->'$.error', null) as error
from steps
join events as queued on queued.message_id = steps.message_id and queued.kind = 'message.queued'
where steps.kind = 'message.started' and not starts_with(queued.data->>'$.queue', '$');

create view sessions as
select
    session_id,
    any_value(actor_id) as actor_id,
    (any_value(data) filter (kind = 'session.created'))->>'$.agent' as agent,
    min(time) filter (kind = 'session.created') as created_at,
    max(time) filter (kind = 'session.closed') as closed_at,
    if(count(*) filter (kind = 'session.closed') > 0, 'closed', 'open') as status,
    count(*) filter (kind = 'session.event') as events,
    count(*) filter (kind = 'session.event' and data->>'$.type' = 'prompt') as prompts,
    max(time) as last_event_at
from events
where kind in ('session.created', 'session.event', 'session.closed')
group by session_id;

-- An agent's answer is stored in pieces as it streams: pieces with nothing between them are one row here.
create view transcripts as
with pieces as (
    select
        session_id,
        actor_id,
        (data->>'$.index')::bigint as piece,
        time,
        data->>'$.type' as type,
        data->>'$.text' as text,
        json_merge_patch(data, '{"index": null, "type": null, "text": null}') as data
    from events
    where kind = 'session.event'
),
numbered as (
    select *, count_if(type <> 'text') over (partition by session_id order by piece) as others_so_far
    from pieces
)
select
    session_id,
    any_value(actor_id) as actor_id,
    min(piece) as index,
    min(time) as time,
    any_value(type) as type,
    string_agg(text, '' order by piece) as text,
    any_value(data) as data
from numbered
group by session_id, others_so_far, type = 'text';

create view results as
select message_id, actor_id, actor, queue, status, attempts, reply, error, finished_at
from messages
where status in ('completed', 'failed', 'cancelled', 'expired');
