-- The views for users: the same names and columns as those of the local store's `_store/views.sql`. Queues whose names start
-- with `$` are internal. What hosts write of themselves (sessions, transcripts, usage) is in their own files.

create function agentq.utc(moment float8) returns timestamp language sql immutable
as $$ select case when moment < 253402300800 then to_timestamp(moment) at time zone 'UTC' end $$;

-- JSON may name characters that no text can hold, which PostgreSQL refuses with an error.
create function agentq.field(data text, name text) returns text language plpgsql immutable as $$
begin
    return data::json->>name;
exception when others then
    return null;
end
$$;

create view agentq_views.actors as
select
    actor as actor_id,
    name,
    agentq.utc(created_at) as created_at,
    agentq.utc(destroyed_at) as destroyed_at,
    state is null as destroyed,
    null::json as input,
    agentq.utc(state_at) as state_at,
    convert_from(state, 'UTF8')::json as state
from agentq.actors
where created_at is not null or destroyed_at is not null;

create view agentq_views.messages as
select
    m.id as message_id,
    m.actor as actor_id,
    split_part(m.actor, '/', 1) as actor,
    m.queue,
    case when m.status = 'queued' and m.due > agentq.now() then 'delayed' else m.status end as status,
    case when m.settled is not null then m.attempts else m.ended + (m.status = 'running')::int end as attempts,
    agentq.utc(m.created_at) as created_at,
    agentq.utc(m.began_at) as started_at,
    agentq.utc(m.ended_at) as finished_at,
    m.began_at - m.created_at as waited_seconds,
    case when m.status in ('completed', 'failed') then m.seconds end as handled_seconds,
    m.priority,
    case when position('"idempotency_key"' in m.options) > 0 then agentq.field(m.options, 'idempotency_key') end
        as idempotency_key,
    case when position('"origin"' in m.options) > 0
        then coalesce(agentq.field(m.options, 'origin'), 'process') else 'process' end as origin,
    case when position('"after"' in m.options) > 0 then array(
        select d.predecessor from agentq.predecessors d where d.message = m.id order by d.number
    ) end as after,
    convert_from(m.body, 'UTF8')::json as body,
    convert_from(m.reply, 'UTF8')::json as reply,
    case when m.status <> 'running' then m.error::json end as error
from agentq.messages m
where left(m.queue, 1) <> '$';

-- Where queues that share a limit were paused together, `queue` is null and `limit_name` is the limit.
create view agentq_views.pauses as
select
    agentq.utc(began) as began_at,
    agentq.utc(over) as ended_at,
    round((coalesce(over, agentq.now()) - began)::numeric, 3)::float8 as seconds,
    cause,
    reason,
    actor as actor_id,
    queue,
    limit_name,
    agentq.utc(until) as paused_until,
    case when limit_name is not null then array(
        select distinct d.class || ' ' || d.queue from agentq.declared_limits d where d.name = limit_name order by 1
    ) end as shared_by
from (
    select
        began, coalesce(ended, case when until <= agentq.now() then until end) as over, until,
        case when stopped is null then 'by hand' else 'failures' end as cause, stopped as reason,
        actor, queue, null as limit_name
    from agentq.pauses
    union all
    select
        p.since, coalesce(p.ended, case when known.known and known.until <= agentq.now() then known.until end), known.until,
        'provider', agentq.field(p.pause, 'reason'),
        q.actor, q.queue, case when q.actor is null then p.name end
    from agentq.provider_pauses p
    cross join lateral (
        select (p.pause::json->>'known')::bool as known, (p.pause::json->>'until')::float8 as until
    ) known
    left join agentq.queues q on p.name = q.actor || ' ' || q.queue
) p;

create view agentq_views.queues as
with counted as (
    select
        actor as actor_id,
        queue,
        count(*) filter (where status = 'queued' and due <= agentq.now()) as queued,
        count(*) filter (where status = 'queued' and due > agentq.now()) as delayed,
        count(*) filter (where status = 'blocked') as blocked,
        count(*) filter (where status = 'running') as running,
        count(*) filter (where status = 'completed') as completed,
        count(*) filter (where status = 'failed') as failed,
        count(*) filter (where status = 'cancelled') as cancelled,
        count(*) filter (where status = 'expired') as expired,
        min(created_at) filter (where status = 'queued') as oldest_waiting
    from agentq.messages
    where left(queue, 1) <> '$'
    group by actor, queue
),
in_force as (
    select * from agentq_views.pauses where ended_at is null
),
holding as (
    select actor_id, queue, cause, limit_name, reason, paused_until from in_force where queue is not null
    union all
    select counted.actor_id, counted.queue, cause, limit_name, reason, paused_until
    from in_force join counted on split_part(counted.actor_id, '/', 1) || ' ' || counted.queue = any(shared_by)
    where in_force.queue is null
),
paused as (
    select
        actor_id,
        queue,
        case
            when bool_or(cause <> 'provider') then max(paused_until) filter (where cause <> 'provider')
            else max(paused_until)
        end as paused_until,
        string_agg(reason, '; ' order by cause) as pause_reason,
        max(limit_name) as limited_by
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
    agentq.utc(oldest_waiting) as oldest_waiting,
    paused.queue is not null as paused,
    paused_until,
    pause_reason,
    limited_by
from counted full join paused using (actor_id, queue);

create view agentq_views.attempts as
select
    a.message as message_id,
    m.actor as actor_id,
    m.queue,
    a.attempt,
    agentq.utc(a.began_at) as started_at,
    agentq.utc(a.ended_at) as ended_at,
    a.outcome,
    case when a.outcome in ('retried', 'failed') then a.error::json end as error
from agentq.attempts a join agentq.messages m on m.id = a.message
where left(m.queue, 1) <> '$'
union all
select
    m.id, m.actor, m.queue,
    case when m.settled is not null then m.attempts else m.ended + 1 end,
    agentq.utc(m.began_at), agentq.utc(m.ended_at), m.status,
    case when m.status = 'failed' then m.error::json end
from agentq.messages m
where m.status <> 'queued' and m.token is not null and left(m.queue, 1) <> '$'
  and not exists (select from agentq.attempts a where a.message = m.id and a.token = m.token);

-- What agents cost is in the file of the host that ran them.
create view agentq_views.results as
select
    message_id, actor_id, actor, queue, status, attempts, reply, error, finished_at, null::bigint as tokens,
    null::float8 as cost
from agentq_views.messages
where finished_at is not null;

-- What is known to have happened; only the local store records each event. `seq` numbers the rows of one query.
create view agentq_views.events as
select row_number() over (order by time, step, message_id) as seq, time, kind, actor_id, message_id, null::text as session_id, data
from (
    select
        created_at as time, 0 as step, 'message.queued' as kind, actor_id, message_id,
        json_build_object('queue', queue, 'body', body) as data
    from agentq_views.messages
    union all
    select started_at, 1, 'message.started', actor_id, message_id, json_build_object('attempt', attempt)
    from agentq_views.attempts
    union all
    select ended_at, 2, 'message.' || outcome, actor_id, message_id, json_build_object('error', error)
    from agentq_views.attempts where outcome in ('retried', 'released', 'crashed')
    union all
    select
        finished_at, 3, 'message.' || status, actor_id, message_id,
        case when error is null then json_build_object('reply', reply) else json_build_object('error', error) end
    from agentq_views.results
    union all
    select began_at, 4, 'queue.paused', actor_id, null, json_build_object('queue', queue, 'reason', reason)
    from agentq_views.pauses
    union all
    select ended_at, 5, 'queue.resumed', actor_id, null, json_build_object('queue', queue)
    from agentq_views.pauses where ended_at is not null
    union all
    select created_at, 6, 'actor.created', actor_id, null, '{}'::json
    from agentq_views.actors where created_at is not null
    union all
    select destroyed_at, 7, 'actor.destroyed', actor_id, null, '{}'::json
    from agentq_views.actors where destroyed
) known;
