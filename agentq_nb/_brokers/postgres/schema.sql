-- Moments are seconds since 1970. Bodies, replies and states are JSON as bytes, since text cannot hold NUL.

create table agentq.version (version integer not null);

-- The database's clock, by which everything here is due. Tests replace it.
create function agentq.now() returns float8 language sql stable
as $$ select extract(epoch from statement_timestamp())::float8 $$;

-- One row for each broker that is connected. It is dead once ``until`` is past; ``orderly``: it did not crash.
create table agentq.sessions (
    session text primary key,
    facts text not null,
    until float8 not null,
    orderly boolean not null default false
);

-- ``epoch`` is the lease under which the actor runs; null: it runs nowhere. A null ``state``: it was not created.
-- ``home`` is the host that has its files, the only one that runs it; once they are ``given_up``, any other one does.
create table agentq.actors (
    actor text primary key,
    name text not null,
    state bytea,
    created_at float8,
    state_at float8,
    destroyed_at float8,
    epoch bigint,
    session text,
    host text,
    home text,
    home_name text,
    given_up boolean not null default false
);
create index on agentq.actors (session) where session is not null;
create index on agentq.actors (name) where state is not null;
create index on agentq.actors (actor) where home is not null;
create sequence agentq.epochs;

-- ``live`` and ``bytes`` are the unsettled messages and their bodies. ``settled`` numbers those that were settled.
-- ``paused`` is a user's pause or that of a queue that failures have ``stopped``, ``held`` one because of a provider's limit,
-- and ``probe`` the message that is tried while its end is unknown.
create table agentq.queues (
    actor text not null,
    queue text not null,
    name text not null,
    live bigint not null default 0,
    bytes bigint not null default 0,
    completed bigint not null default 0,
    expired bigint not null default 0,
    handled bigint not null default 0,
    settled bigint not null default 0,
    paused boolean not null default false,
    paused_until float8,
    stopped text,
    held text,
    held_until float8,
    probe text,
    primary key (actor, queue)
);
create index on agentq.queues (name) where live > 0;

-- Calls that wait for room in a full queue, in their order.
create table agentq.senders (
    sender bigint not null,
    actor text not null,
    queue text not null,
    session text not null,
    primary key (actor, queue, sender)
);
create sequence agentq.senders_in_line;

create sequence agentq.places cache 1;
create sequence agentq.starts cache 1;

-- The files whose queues were moved here, each by its id.
create table agentq.takeovers (store text primary key, at float8 not null);

-- ``place`` is its place in the order of sending, ``token`` the number of its latest start. ``due`` 0: at once.
-- ``key`` and ``digest`` are hashes of its idempotency key and of what it must be equal in. While it is ``blocked``, because
-- it waits for others, ``due`` and ``expires`` are seconds that count from the end of that. ``limits`` are the concurrency
-- limits in which it has a place while it runs, so that no place outlives an attempt.
create table agentq.messages (
    id text primary key,
    actor text not null,
    queue text not null,
    status text not null default 'queued',
    place bigint not null default nextval('agentq.places'),
    priority integer not null,
    due float8 not null,
    expires float8,
    created_at float8 not null,
    body bytea not null,
    options text not null,
    size integer not null,
    key bytea,
    digest bytea,
    schedule text,
    batch text,
    epoch bigint,
    token bigint,
    began_at float8,
    front boolean not null default false,
    in_order boolean not null default false,
    cancelling boolean not null default false,
    failures integer not null default 0,
    crashes integer not null default 0,
    ended integer not null default 0,
    suspicion integer not null default 0,
    attempts integer not null default 0,
    problem text,
    released_because text,
    reply bytea,
    error text,
    said text,
    ended_at float8,
    seconds float8,
    settled bigint,
    limits text[]
);
create index messages_waiting on agentq.messages (actor, front desc, priority desc, place) where status = 'queued';
create index messages_in_order on agentq.messages (actor, queue) where status = 'queued' and in_order;
create index messages_later on agentq.messages (due) where status = 'queued' and due > 0;
create index messages_expiring on agentq.messages (expires) where status = 'queued' and expires is not null;
create index messages_running on agentq.messages (epoch) where status = 'running';
create index messages_unsettled on agentq.messages (actor, queue, place)
    where status in ('queued', 'blocked', 'running');
create index messages_dead on agentq.messages (actor, queue) where status = 'failed';
create index messages_keys on agentq.messages (actor, queue, key)
    where key is not null and status in ('queued', 'blocked', 'running', 'completed');
create index messages_schedules on agentq.messages (actor, schedule, place) where schedule is not null;
create index messages_ended on agentq.messages (ended_at) where ended_at is not null;
create index messages_suspect on agentq.messages (actor) where suspicion > 0 and status in ('queued', 'running');
create index messages_limited on agentq.messages (id) where status = 'running' and limits is not null;
create index messages_of_batches on agentq.messages (batch)
    where batch is not null and status in ('queued', 'blocked', 'running');
create index messages_settled on agentq.messages (actor, queue, settled) where settled is not null;

-- The messages that a message was sent after, in the order given.
create table agentq.predecessors (
    message text not null references agentq.messages on delete cascade,
    number integer not null,
    predecessor text not null,
    primary key (message, number)
);
create index predecessors_of on agentq.predecessors (predecessor);

-- ``view`` has the numbers of the rows that the batch consists of, ``total`` how many it ever had.
create table agentq.batches (
    name text primary key,
    number bigint generated always as identity,
    actor text not null,
    queue text not null,
    created_at float8 not null,
    facts text not null,
    view integer[] not null,
    total integer not null
);

-- A row whose message is gone was pruned. ``content`` is a hash of its body as a JSON value.
create table agentq.batch_rows (
    batch text not null references agentq.batches,
    number integer not null,
    message text not null,
    content bytea not null,
    replaced boolean not null default false,
    primary key (batch, number)
);
create index batch_rows_message on agentq.batch_rows (message);

-- The limits that the hosts' classes declare for their queues. ``declared`` is JSON; without a ``name`` each queue has its own.
create table agentq.declared_limits (
    session text not null references agentq.sessions on delete cascade,
    class text not null,
    queue text not null,
    number integer not null,
    name text,
    declared text not null,
    primary key (session, class, queue, number)
);
create index on agentq.declared_limits (name);

-- A row for each limit with a name, which whatever starts under it locks, and for those of single queues that a user changed.
-- ``agreed`` is what was declared last, which all hosts go by. A change lasts as long as the limit is ``declared`` as it was
-- then. ``held`` and ``probe`` are as in queues.
create table agentq.limits (
    name text primary key,
    agreed text,
    declared text,
    count integer,
    per float8,
    held text,
    held_until float8,
    probe text
);

-- Starts that may count in windows, until the moment ``until``. One of a call that has not begun is at infinity.
create table agentq.limit_starts (
    name text not null,
    at float8 not null,
    token bigint not null,
    until float8 not null,
    primary key (name, at, token)
);
create index on agentq.limit_starts (token);
create index on agentq.limit_starts using brin (at);

-- What holds places of concurrency limits besides running messages: calls, and threads that outlive their attempt.
create table agentq.limited_work (
    work text primary key,
    session text not null,
    token bigint not null,
    limits text[] not null
);
create index on agentq.limited_work (session);

-- Queues whose next message, at ``place``, waits for these limits. No ``session``: their actor sleeps. ``called``: since when
-- it is the turn of that message; ``until``: it need not be looked at before.
create table agentq.limit_waits (
    actor text not null,
    queue text not null,
    place bigint not null,
    limits text[] not null,
    session text,
    called float8,
    until float8,
    primary key (actor, queue)
);

-- The pauses because of providers' limits, by the name of the limit or of the queue. Those in a row are one.
create table agentq.provider_pauses (
    name text not null,
    since float8 not null,
    pause text not null,
    ended float8,
    primary key (name, since)
);

-- Attempts after which their messages went back into the queue. The latest attempt is in the message's own row.
create table agentq.attempts (
    message text not null references agentq.messages on delete cascade,
    token bigint not null,
    attempt integer not null,
    began_at float8 not null,
    ended_at float8 not null,
    outcome text not null,
    error text,
    primary key (message, token)
);

create function agentq.keep_attempt() returns trigger language plpgsql as $$
begin
    insert into agentq.attempts (message, token, attempt, began_at, ended_at, outcome, error)
    values (
        old.id, old.token, case when old.status = 'running' then old.ended + 1 else old.attempts end, old.began_at,
        coalesce(old.ended_at, agentq.now()),
        case
            when old.status <> 'running' then old.status
            when new.failures > old.failures then 'retried'
            when new.ended > old.ended then 'crashed'
            else 'released'
        end,
        case when old.status = 'running' then new.error else old.error end
    )
    on conflict do nothing;
    return null;
end
$$;
create trigger keep_attempt after update on agentq.messages for each row
when (new.status in ('queued', 'blocked') and old.status not in ('queued', 'blocked') and old.token is not null)
execute function agentq.keep_attempt();

-- Pauses by hand and because of failures (``stopped``). Two in a row are one. ``until`` is when it ends by itself, ``ended``
-- when it was ended.
create table agentq.pauses (
    number bigint generated always as identity primary key,
    actor text not null,
    queue text not null,
    stopped text,
    began float8 not null,
    until float8,
    ended float8
);
create index on agentq.pauses (actor, queue) where ended is null;

create function agentq.keep_pause() returns trigger language plpgsql as $$
begin
    update agentq.pauses p
    set until = new.paused_until, stopped = coalesce(new.stopped, p.stopped)
    where p.actor = new.actor and p.queue = new.queue and p.ended is null and coalesce(p.until > agentq.now(), true)
      and new.paused;
    update agentq.pauses p
    set ended = least(p.until, agentq.now())
    where p.actor = new.actor and p.queue = new.queue and p.ended is null and (p.until <= agentq.now() or not new.paused);
    if new.paused and coalesce(new.paused_until > agentq.now(), true) and not exists (
        select from agentq.pauses p where p.actor = new.actor and p.queue = new.queue and p.ended is null
    ) then
        insert into agentq.pauses (actor, queue, stopped, began, until)
        values (new.actor, new.queue, new.stopped, agentq.now(), new.paused_until);
    end if;
    return null;
end
$$;
create trigger keep_pause after update of paused, paused_until, stopped on agentq.queues for each row
execute function agentq.keep_pause();
create trigger keep_first_pause after insert on agentq.queues for each row when (new.paused)
execute function agentq.keep_pause();

-- Calls to actors that other hosts run. ``caller`` is the session that asks, ``session`` the one that has taken the call.
-- ``asked``, ``answer`` and ``error`` are JSON.
create table agentq.requests (
    id text primary key,
    actor text not null,
    name text not null,
    verb text not null,
    asked bytea not null,
    origin text not null,
    caller text not null,
    created_at float8 not null,
    session text,
    withdrawn boolean not null default false,
    answer bytea,
    error bytea,
    ended_at float8
);
create index requests_open on agentq.requests (session) where ended_at is null;
create index requests_ended on agentq.requests (ended_at) where ended_at is not null;

-- The sessions that listen to events of actors.
create table agentq.listeners (
    session text not null,
    actor text not null,
    event text not null,
    primary key (session, actor, event)
);

-- Events on their way to their listeners. They need not survive a crash of the server.
create sequence agentq.event_numbers cache 1;
create unlogged table agentq.events (
    number bigint primary key default nextval('agentq.event_numbers'),
    actor text not null,
    event text not null,
    payload bytea not null,
    session text not null,
    created_at float8 not null
);

-- The hosts that send notifications, each until it may be taken for gone; and the events that they are to notify of, each with
-- the host that caused it or took it over. Hosts keep the ``id``, which no other server has. ``fields`` is JSON.
create table agentq.notifiers (host text primary key, until float8 not null);
create table agentq.notable_events (
    id text primary key default gen_random_uuid(),
    number bigint generated always as identity,
    host text not null,
    at float8 not null,
    kind text not null,
    actor text not null,
    fields text not null
);

-- The latest description of each actor class, for clients that have no host.
create table agentq.classes (
    name text primary key,
    description bytea not null
);
