"""Users' SQL over queues in PostgreSQL: the views have the columns that the local store's have, and nothing is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from agentq_nb import RateLimit
from agentq_nb._brokers.changes import Cancel, Pause, Redeliver, Resume
from agentq_nb._brokers.local.history import LocalHistory
from agentq_nb._brokers.postgres.address import parse_address
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb._brokers.postgres.sql_text import user_query
from agentq_nb._core.result_table import Table
from agentq_nb.errors import SqlRefused, StoreError, Unavailable, ValidationFailed
from tests.unit.brokers.conformance.words import ACTOR, acquire, send, settle, take_one
from tests.unit.brokers.limited import meets_limit
from tests.unit.brokers.postgres_setting import PostgresSetting
from tests.unit.brokers.settings import LocalSetting, Setting

pytestmark = pytest.mark.anyio

VIEWS = ("actors", "messages", "queues", "pauses", "attempts", "results", "events")
OWN = {
    "sessions": Table(["session_id", "actor_id"], [("s", "vm/main")], ["VARCHAR", "VARCHAR"]),
    "usage": Table(
        ["message_id", "input_tokens", "output_tokens", "cost"], [], ["VARCHAR", "BIGINT", "BIGINT", "DOUBLE"]
    ),
}


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalSetting]:
    setting = await LocalSetting.open(tmp_path)
    yield setting
    await setting.close()


async def theirs(local: LocalSetting, query: str) -> Table:
    await local.broker.flushed()
    return await LocalHistory(lambda: local.broker.log, local.broker.prune).sql(query)


async def test_every_view_has_the_columns_and_types_that_the_local_store_has(
    setting: PostgresSetting, local: LocalSetting
) -> None:
    for view in VIEWS:
        here = await setting.broker.history.sql(f"select * from {view}")
        there = await theirs(local, f"select * from {view}")
        assert here.columns == there.columns, view
        assert list(here.types) == list(there.types), view


async def work(setting: Setting) -> dict[str, str]:
    """Messages that are retried, released, fail, are cancelled and redelivered; and pauses. Returns ids by name."""
    broker, ids = setting.broker, dict[str, str]()
    for name in ("retried", "dies", "goes", "again"):
        ids[name] = await send(broker, name)
        setting.clock.advance(1)
    lease = await acquire(setting)
    for name, outcome, facts in (
        ("retried", "again", {"error": {"message": "first"}, "front": True}),
        ("retried", "released", {}),
        ("retried", "completed", {"reply": b"[1]"}),
        ("dies", "dead", {"error": {"message": "no"}}),
        ("goes", "released", {}),
    ):
        delivery = await take_one(lease)
        assert delivery.id == ids[name]
        setting.clock.advance(2)
        await settle(lease, delivery, outcome, **facts)  # type: ignore[arg-type]
    await broker.change(ACTOR, Cancel(ids["goes"]))
    await broker.change(ACTOR, Redeliver(ids["dies"]))
    setting.clock.advance(1)
    await broker.change(ACTOR, Pause("tasks", None))
    setting.clock.advance(3)
    await broker.change(ACTOR, Resume("tasks"))
    setting.clock.advance(1)
    await broker.change(ACTOR, Pause("tasks", None))
    return ids


@pytest.mark.parametrize(
    ("view", "columns"),
    [
        ("attempts", "message_id, queue, attempt, started_at, ended_at, outcome, error"),
        ("messages", "message_id, status, finished_at, handled_seconds, body, reply, error"),
        ("queues", "queue, queued, delayed, running, completed, failed, cancelled, expired, paused, pause_reason"),
        ("pauses", "began_at, ended_at, cause, reason, actor_id, queue, paused_until"),
    ],
)
async def test_what_happened_is_what_the_local_store_shows(
    setting: PostgresSetting, local: LocalSetting, view: str, columns: str
) -> None:
    ids, local_ids = await work(setting), await work(local)
    names = {message: name for known in (ids, local_ids) for name, message in known.items()}
    order = {"attempts": "started_at", "messages": "created_at", "queues": "queue", "pauses": "began_at"}[view]
    query = f"select {columns} from {view} order by {order}"
    found = [
        [tuple(names.get(value, value) if isinstance(value, str) else value for value in row) for row in table]
        for table in (await setting.broker.history.sql(query), await theirs(local, query))
    ]
    plain = [[tuple("".join(v.split()) if isinstance(v, str) else v for v in row) for row in rows] for rows in found]
    assert plain[0] == plain[1]


async def test_a_pause_of_a_limit_and_messages_that_wait_for_others_are_shown_as_the_local_store_does(
    setting: PostgresSetting, local: LocalSetting
) -> None:
    queries = [
        "select cause, reason, queue, limit_name, paused_until, shared_by, ended_at from pauses",
        "select queue, queued, blocked, paused, paused_until, pause_reason, limited_by from queues",
    ]
    for each in (setting, local):
        await each.broker.limits.declare("worker", {"tasks": [RateLimit(9, per=60, name="api")]})
        first = await send(each.broker, "first")
        await send(each.broker, "second", after=[first])
        lease = await acquire(each)
        await meets_limit(lease, await take_one(lease), until=each.clock.time() + 10**9, limit="api")
    for query in queries:
        assert (await setting.broker.history.sql(query)).rows == (await theirs(local, query)).rows, query
    for each, ask in ((setting, setting.broker.history.sql), (local, lambda query: theirs(local, query))):
        ids = (await ask("select message_id from messages where body::varchar like '%first%'")).rows
        assert (await ask("select status, after from messages where after is not null")).rows == [
            ("blocked", [ids[0][0]])
        ], each


async def test_an_actors_state_and_times_are_shown(setting: PostgresSetting) -> None:
    from agentq_nb._brokers.messages import Commit

    lease = await acquire(setting)
    await lease.commit(Commit(state=b'{"n": "a\\u0000"}'))
    setting.clock.advance(5)
    await lease.commit(Commit(state=b'{"n": 2}'))
    query = "select actor_id, name, created_at < state_at, destroyed, state from actors"
    assert (await setting.broker.history.sql(query)).rows == [(ACTOR, ACTOR.split("/")[0], True, False, '{"n": 2}')]
    await lease.commit(Commit(destroy=True))
    found = await setting.broker.history.sql("select destroyed, destroyed_at is not null, state from actors")
    assert found.rows == [(True, True, None)]


async def test_a_body_and_a_key_that_no_text_can_hold_do_not_break_the_views(setting: PostgresSetting) -> None:
    await send(setting.broker, {"text": "a\u0000b"}, idempotency_key="a\u0000", origin="http")
    found = await setting.broker.history.sql("select body, idempotency_key, origin from messages")
    assert found.rows[0][0].replace(" ", "") == '{"text":"a\\u0000b"}'
    await setting.broker.history.sql("select * from events")


@pytest.mark.parametrize(
    "query",
    [
        "delete from messages",
        "insert into {schema}.version values (7)",
        "with gone as (delete from {schema}.messages returning 1) select * from gone",
        "select 1; delete from {schema}.messages",
        "select 1; commit; delete from {schema}.messages",
        "commit",
        "begin",
        "set transaction read write",
        "select set_config('transaction_read_only', 'off', true)",
        "select nextval('{schema}.places')",
        "explain analyze delete from {schema}.messages",
        "select pg_terminate_backend(1)",
        'select "pg_cancel_backend"(1)',
        'select U&"pg\\005fcancel_backend"(1)',
        "select * from dblink('', 'delete from messages')",
        "copy {schema}.messages to '/tmp/x'",
        "do $$ begin delete from {schema}.messages; end $$",
        "(delete from {schema}.messages)",
        "/* select */ delete from {schema}.messages",
        "select * into other from messages",
        "select id from {schema}.messages for update",
        "explain (analyze) create table {schema}.other as select 1",
        "selec 1",
        "select nothing from messages",
        "",
    ],
)
async def test_anything_but_a_read_is_refused_and_changes_nothing(setting: PostgresSetting, query: str) -> None:
    schema = setting.broker.database.address.schema
    await send(setting.broker, "kept")
    with pytest.raises(SqlRefused) as refused:
        await setting.broker.history.sql(query.replace("{schema}", schema))
    assert refused.value.full_code == "store.sql_refused"
    with psycopg.connect(parse_address(setting.url).conninfo) as connection:
        counted = f"select (select count(*) from {schema}.messages), (select count(*) from {schema}.version)"
        assert connection.execute(counted.encode()).fetchone() == (1, 1)


async def test_a_runaway_query_is_ended_and_the_server_works_on_nothing(postgres_url: str) -> None:
    broker = await PostgresBroker.open(f"{postgres_url}?schema=runaway&sql_timeout=0.3")
    try:
        with pytest.raises(StoreError, match=r"no answer after 0\.3 seconds") as ended:
            await broker.history.sql("select count(*) from generate_series(1, 1000000000000)")
        assert ended.value.full_code == "store.interrupted"
        with pytest.raises(StoreError, match=r"no answer after 0\.3 seconds"):
            # It changes the timeout of later statements only.
            await broker.history.sql("select set_config('statement_timeout', '0', true), pg_sleep(600)")
        assert (await broker.history.sql("select 1")).rows == [(1,)]
    finally:
        await broker.close()


async def test_cancelling_the_caller_ends_the_query_on_the_server(setting: PostgresSetting) -> None:
    asked = asyncio.ensure_future(setting.broker.history.sql("select pg_sleep(600) /* mine */"))
    running = "select count(*) from pg_stat_activity where query like '%/* mine%' and pid <> pg_backend_pid()"
    with psycopg.connect(setting.url.partition("?")[0], autocommit=True) as connection:
        async with asyncio.timeout(30):
            while connection.execute(running).fetchone() == (0,):  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.01)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert connection.execute(f"{running} and state = 'active'").fetchone() == (0,)


async def test_too_many_rows_are_refused_before_they_fill_the_memory(
    setting: PostgresSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentq_nb._brokers.postgres.sql._MOST_ROWS", 1500)
    with pytest.raises(StoreError, match="more than 1,500 rows"):
        await setting.broker.history.sql("select * from generate_series(1, 100000000)")
    assert len(await setting.broker.history.sql("select * from generate_series(1, 1500)")) == 1500


async def test_a_server_that_cannot_be_reached_is_unavailable(setting: PostgresSetting) -> None:
    history = setting.broker.history
    history._database.address = parse_address("postgresql://nobody:hidden@127.0.0.1:1/none")
    history._database.run = lambda work, **options: asyncio.sleep(0)  # type: ignore[method-assign,assignment]  # only the query's own connection is of interest
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1/none") as error:
        await history.sql("select 1")
    assert "hidden" not in str(error.value)


async def test_parameters_are_given_in_order_or_by_name(setting: PostgresSetting) -> None:
    ask = setting.broker.history.sql
    assert (await ask("select ? || ?::text as x, '?' as y -- ?", ["a", 1])).rows == [("a1", "?")]
    assert (await ask("select $a::int + $a::int + $b", {"a": 2, "b": 3, "more": 4})).rows == [(7,)]
    assert (await ask("select 1 where $x is null or $x = 'a'", {"x": "a"})).rows == [(1,)]
    assert (await ask("select 1 where $x is null", {"x": None})).rows == [(1,)]
    assert (await ask("select '{\"k\": 1}'::jsonb ?? 'k', ?::text", ["v"])).rows == [(True, "v")]
    assert (await ask("select '{\"k\": 1}'::jsonb ? 'k', $$ ? $$")).rows == [(True, " ? ")]
    assert (await ask("select 1 where 'x' = any(?)", [["x", "y"]])).rows == [(1,)]
    with pytest.raises(SqlRefused, match="2 parameters, and 1 values"):
        await ask("select ?, ?", ["a"])
    with pytest.raises(SqlRefused, match=r"\$b has no value"):
        await ask("select $a, $b", {"a": 1})


async def test_values_have_the_types_that_dataframes_are_made_by(setting: PostgresSetting) -> None:
    table = await setting.broker.history.sql(
        """
        select count(*) as n, 1.5::float8 as x, true as b, '{"a": [1, null]}'::jsonb as j, null::int as i,
            timestamptz '2026-01-01 12:00+02' as t, array['a', null] as l, 2.5 as d, 'é' as s
        """
    )
    assert list(table.types) == [
        *("BIGINT", "DOUBLE", "BOOLEAN", "JSON", "INTEGER", "TIMESTAMP", "VARCHAR[]", "DECIMAL", "VARCHAR")
    ]
    frame = table.frame()
    assert str(frame["t"][0]) == "2026-01-01 10:00:00+00:00"
    assert frame["j"][0] == {"a": [1, None]}
    assert [str(frame[name].dtype) for name in ("n", "x", "b", "i", "d")] == [
        *("int64", "float64", "bool", "Int64", "float64")
    ]
    assert table.rows[0][6] == ["a", None]


async def test_what_the_host_wrote_in_its_own_file_can_be_joined(setting: PostgresSetting) -> None:
    asked: list[str] = []

    async def own(view: str) -> Table:
        asked.append(view)
        return OWN[view]

    message = await send(setting.broker, "x")
    lease = await acquire(setting)
    await settle(lease, await take_one(lease))
    OWN["usage"].rows.append((message, 10, 5, 0.25))
    ask = setting.broker.history.sql
    joined = await ask("select s.session_id, m.status from messages m, sessions s", (), own)
    assert joined.rows == [("s", "completed")]
    assert asked == ["sessions"]
    assert (await ask("select tokens, cost from results", (), own)).rows == [(15, 0.25)]
    assert (await ask("select tokens from results")).rows == [(None,)]
    table = await setting.broker.history.results(None, None, None, datetime.fromtimestamp(0, UTC), own)
    assert table.rows[0][-2:] == (15, 0.25)


async def test_tables_that_were_dropped_are_made_again_though_the_schema_of_their_views_is_left(
    postgres_url: str,
) -> None:
    for _ in range(2):
        broker = await PostgresBroker.open(f"{postgres_url}?schema=dropped")
        assert (await broker.history.sql("select count(*) from events")).rows == [(0,)]
        await broker.close()
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("drop schema dropped cascade")


def test_names_in_texts_and_comments_are_no_names() -> None:
    query = user_query("select 'sessions', $$usage$$ /* transcripts */ -- results\n from \"Sessions\"", ())
    assert query.names == {"select", "from", "Sessions"}


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "1e9", "nan"])
def test_a_timeout_of_queries_is_a_number_of_seconds(seconds: str) -> None:
    assert parse_address("postgresql://host/db?sql_timeout=2.5").sql_timeout == 2.5
    with pytest.raises(ValidationFailed, match="sql_timeout"):
        parse_address(f"postgresql://host/db?sql_timeout={seconds}")
