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
        json_extract(
            data, [
                '$.queue', '$.body', '$.due', '$.options.priority', '$.options.idempotency_key', '$.options.origin',
                '$.options.after', '$.options.delay'
            ]
        ) as fields,
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
),
-- What messages were sent after. The text is searched first: parsing JSON is expensive.
before as (
    select message_id, unnest(json_extract_string(data, '$.options.after[*]')) as predecessor
    from events
    where kind = 'message.queued' and contains(data::varchar, '"after":')
),
chains as (
    select before.message_id, bool_and(done.message_id is not null) as freed, epoch(max(done.time)) as freed_at
    from before
    left join (select message_id, time from events where kind = 'message.completed') as done
        on done.message_id = before.predecessor
    group by before.message_id
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
        else case
            when not freed and (last_kind is null or last_kind = 'message.redelivered') then 'blocked'
            when (last_kind is null or (last_kind = 'message.redelivered' and last_data->>'$.revived' = 'true'))
                and coalesce(fields[3]::double, freed_at + fields[8]::double) > epoch(now()) then 'delayed'
            else 'queued'
        end
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
    coalesce(fields[6]->>'$', 'process') as origin,
    fields[7]::varchar[] as after,
    fields[2] as body,
    if(last_kind = 'message.completed', last_data->'$.reply', null) as reply,
    if(
        last_kind in ('message.failed', 'message.retried', 'message.expired', 'message.cancelled'),
        last_data->'$.error',
        null
    ) as error
from queued left join later using (message_id) left join chains using (message_id)
where not starts_with(fields[1]->>'$', '$');

-- What held queues up and for how long: pauses by hand, because messages failed one after the other, or because of a
-- provider's limit. Those in a row, without a message that succeeded between them, are one. Where queues that share a limit were paused together, `queue`
-- is null, `limit_name` is the limit, and `actor_id` is the actor that met it.
create view pauses as
with said as (
    select
        seq, epoch(time) as second, kind, actor_id, data,
        coalesce(data->>'$.limit', actor_id || ' ' || (data->>'$.queue')) as name,
        starts_with(kind, 'limit.') as by_provider
    from events where kind in ('queue.paused', 'queue.resumed', 'limit.paused', 'limit.resumed')
    union all
    select seq, epoch(time), kind, actor_id, null, name, false
    from (
        select distinct actor_id, actor_id || ' ' || (data->>'$.queue') as name from events where kind = 'queue.paused'
    )
    join events using (actor_id)
    where kind = 'actor.destroyed'
),
steps as (
    select
        *,
        (data->>'$.until')::double as until,
        coalesce((data->>'$.known')::boolean, true) as known,
        coalesce((data->>'$.since')::double, second) as began,
        lead(second) over (partition by by_provider, name order by seq) as next_at
    from said
),
joined as (
    select
        name, by_provider, began,
        last(actor_id order by seq) as actor_id,
        last(data order by seq) as data,
        last(until order by seq) as until,
        last(if(known, least(until, next_at), next_at) order by seq) as ended,
        last(next_at is not null or (known and coalesce(until <= epoch(now()), false)) order by seq) as is_over
    from steps
    where kind in ('queue.paused', 'limit.paused')
    group by name, by_provider, began
)
select
    make_timestamp((began * 1e6)::bigint) as began_at,
    if(is_over, make_timestamp((ended * 1e6)::bigint), null) as ended_at,
    round(if(is_over, ended, epoch(now())) - began, 3) as seconds,
    case when by_provider then 'provider' when data->>'$.reason' is null then 'by hand' else 'failures' end as cause,
    data->>'$.reason' as reason,
    actor_id,
    if(starts_with(name, actor_id || ' '), substr(name, length(actor_id) + 2), null) as queue,
    if(starts_with(name, actor_id || ' '), null, name) as limit_name,
    make_timestamp(try_cast(until * 1e6 as bigint)) as paused_until,
    (data->'$.queues')::varchar[] as shared_by
from joined;

create view queues as
with counted as (
    select
        actor_id,
        queue,
        count(*) filter (status = 'queued') as queued,
        count(*) filter (status = 'delayed') as delayed,
        count(*) filter (status = 'blocked') as blocked,
        count(*) filter (status = 'running') as running,
        count(*) filter (status = 'completed') as completed,
        count(*) filter (status = 'failed') as failed,
        count(*) filter (status = 'cancelled') as cancelled,
        count(*) filter (status = 'expired') as expired,
        min(created_at) filter (status in ('queued', 'delayed', 'blocked')) as oldest_waiting
    from messages
    group by actor_id, queue
),
in_force as (
    select * from pauses where ended_at is null
),
holding as (
    select actor_id, queue, cause, limit_name, reason, paused_until from in_force where queue is not null
    union all
    select counted.actor_id, counted.queue, cause, limit_name, reason, paused_until
    from in_force join counted on list_contains(shared_by, split_part(counted.actor_id, '/', 1) || ' ' || counted.queue)
    where in_force.queue is null
),
paused as (
    select
        actor_id,
        queue,
        if(
            bool_or(cause <> 'provider'), last(paused_until) filter (cause <> 'provider'), max(paused_until)
        ) as paused_until,
        string_agg(reason, '; ') as pause_reason,
        any_value(limit_name) as limited_by
    from holding
    group by actor_id, queue
)
select
    actor_id,
    queue,
    coalesce(queued, 0) as queued,
    coalesce(delayed, 0) as delayed,
    coalesce(blocked, 0) as blocked,
    coalesce(running, 0) as running,
    coalesce(completed, 0) as completed,
    coalesce(failed, 0) as failed,
    coalesce(cancelled, 0) as cancelled,
    coalesce(expired, 0) as expired,
    oldest_waiting,
    paused.queue is not null as paused,
    paused_until,
    pause_reason,
    limited_by
from counted full join paused using (actor_id, queue);

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

-- The requests of agents to the language models of `agent_os(llm=...)`. `actor_id` is the VM, `worker` the actor whose message
-- it was for. `input_tokens` include those that were read from, or written to, a cache. `cost` is in US dollars, null where
-- the model has no known price. `complete` says whether the whole answer reached the agent.
create view usage as
select
    time,
    data->>'$.llm' as llm,
    data->>'$.provider' as provider,
    data->>'$.model' as model,
    actor_id,
    data->>'$.session' as session_id,
    data->>'$.agent' as agent,
    data->>'$.worker' as worker,
    data->>'$.queue' as queue,
    data->>'$.message' as message_id,
    data->>'$.batch' as batch,
    (data->>'$.status')::integer as status,
    (data->>'$.complete')::boolean as complete,
    (data->>'$.input_tokens')::bigint as input_tokens,
    (data->>'$.output_tokens')::bigint as output_tokens,
    (data->>'$.cache_read_tokens')::bigint as cache_read_tokens,
    (data->>'$.cache_write_tokens')::bigint as cache_write_tokens,
    (data->>'$.cost')::double as cost,
    (data->>'$.seconds')::double as seconds
from events
where kind = 'llm.request';

create view results as
with metered as (
    select message_id, sum(input_tokens + output_tokens)::bigint as tokens, sum(cost) as cost
    from usage where message_id is not null group by message_id
)
select message_id, actor_id, actor, queue, status, attempts, reply, error, finished_at, tokens, cost
from messages left join metered using (message_id)
where status in ('completed', 'failed', 'cancelled', 'expired');
