from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from agentq_nb._store import EventLog, Row, Table, sql
from agentq_nb.errors import SqlRefused, StoreError
from tests.unit.store.helpers import append, event, files, queued, with_log, write

READS = [
    "select * from messages",
    "with x as (select 1 as a) from x",
    "values (1)",
    "from events",
    "describe events",
    "show tables",
    "summarize messages",
    "explain select * from results",
    "explain analyze select 1",
    "EXPLAIN (ANALYZE, FORMAT json) select 1",
    "explain(select 1)",
    "-- a plan\nexplain/* of */analyze/**/select 1 -- ;",
    "from (show tables)",
    "from events pivot (count(*) for kind in ('message.queued'))",
    "select query from (select 1 as query)",
    "select e.seq, j.key from events e, json_each(e.data) j, unnest([1, 2]) u(i), range(2)",
    "with query as (select 1) from query",
    "select 'drop table events; checkpoint()'",
    "/* a comment */ select 1 -- another",
]

HOSTILE = [
    "drop table events",
    "delete from events",
    "insert into events(seq) values (9)",
    "update events set seq = 0",
    "with gone as (delete from events returning *) select * from gone",
    "select 1; delete from events",
    "explain analyze delete from events",
    "explain analyze insert into events(seq) values (9)",
    "create table mine(i int)",
    "create temp table mine(i int)",
    "alter table events rename to gone",
    "copy events to '{folder}/stolen.csv'",
    "copy (select 1) to '{folder}/stolen.csv'",
    "explain analyze copy events to '{folder}/stolen.csv'",
    "export database '{folder}/stolen'",
    "attach '{folder}/other.duckdb'",
    "install httpfs",
    "load httpfs",
    "set threads = 9",
    "pragma enable_profiling",
    "reset threads",
    "call force_checkpoint()",
    "select * from force_checkpoint()",
    "select * from checkpoint()",
    'select * from "checkpoint" /* */ ()',
    "select * from query('delete from events')",
    "select * from (select * from query('select 1'))",
    "select * from json_execute_serialized_sql(json_serialize_sql('select 1'))",
    "select * from enable_logging()",
    "select * from truncate_duckdb_logs()",
    "select write_log('x')",
    "select * from read_csv('/etc/passwd')",
    "select * from read_text('/etc/passwd')",
    "select * from '/etc/passwd'",
    "select * from read_blob('{folder}/*')",
    "select * from glob('/*')",
    "select * from pandas_scan(1)",
    "select * from arrow_scan_dumb(1, 2, 3)",
    "select * from python_map_function(1, 2)",
    "select * from seen",
    "begin",
    "commit",
    "use memory",
    "prepare x as delete from events",
    "vacuum",
    "selekt 1",
    "",
]


def test_reads_are_answered_with_columns_and_rows(path: Path) -> None:
    write(path, queued("a"))

    async def use(log: EventLog) -> None:
        for query in READS:
            assert len(await log.sql(query)) > 0, query
        assert await log.sql("select ? + 1 as sum", [41]) == Table(["sum"], [(42,)])
        frame = (await log.sql("select message_id, 1 as one from events")).frame()
        assert frame.to_dict("list") == {"message_id": ["a"], "one": [1]}

    with_log(path, use)


def test_nothing_but_reads_is_accepted_and_nothing_changes(path: Path) -> None:
    write(path, queued("a"))
    seen = [1]  # what a replacement scan would find

    async def use(log: EventLog) -> None:
        for query in HOSTILE:
            with pytest.raises(SqlRefused):
                await log.sql(query.format(folder=path.parent))
        assert log.fetch("select seq, message_id from events") == [(1, "a")]
        assert [name for (name,) in log.fetch("select table_name from duckdb_tables()")] == ["events", "store_facts"]
        assert await append(log, queued("b")) is None

    with_log(path, use)
    assert seen == [1]
    assert files(path.parent).keys() == {path.name, path.name + ".guard"}


DOES_THINGS = [
    "select write_log('x')",
    "select system.main.\"write_log\" /* */ ('x')",
    "select 'x'.WRITE_LOG()",
    "select [write_log(each) for each in ['x']]",
    "select list_transform(['x'], lambda each: write_log(each))",
    "select columns(lambda name: write_log(name) is null) from events",
    "select 1 order by write_log('x')",
    "select 1 limit (select count(write_log('x')))",
    "select 1 qualify row_number() over (order by write_log('x')) = 1",
    "select sum(1) filter (write_log('x') is null)",
    "select * replace (write_log(kind) as kind) from events",
    "select distinct on (write_log('x')) 1",
    "from events join events other on write_log('x') is null",
    "from events pivot (count(write_log('x')) for kind in ('a'))",
    "unpivot (select write_log('x') as a) on a",
    "values (write_log('x'))",
    "select 1 union all select write_log('x')",
    "with found as (select write_log('x')) from found",
    "from range(write_log('x')::int)",
    "summarize select write_log('x')",
    "describe (from query('select 1'))",
    "from query('select 1')",
    "from system.main.query('select 1')",
    "from \"QUERY\" /* */ ('select 1')",
    "select (from query('select 1'))",
    "with recursive r as (select 1 as i union all select i + 1 from r, query('select 1') where i < 3) from r",
    "from json_execute_serialized_sql(json_serialize_sql('select 1'))",
    "select json_serialize_plan('select 1')",
    "from histogram_values(events, kind)",
    "from truncate_duckdb_logs()",
    "from create_external_resource('x')",
    "from add_grammar_extension('x')",
    "from duckdb_logs()",
]

EXPLAINING = [
    "explain {}",
    "explain analyze {}",
    "explain (analyze) {}",
    "EXPLAIN(ANALYZE, FORMAT JSON){}",
    "/**/ explain analyze {}",
    "-- a\n--explain select 1\n explain analyze {}",
    "\N{NO-BREAK SPACE}explain\N{NO-BREAK SPACE}analyze\N{NO-BREAK SPACE}{}",
    "explain analyze/**/{}",
    "explain analyze {}; -- select 1",
]


@pytest.mark.parametrize("query", DOES_THINGS)
def test_a_function_that_does_things_is_refused_wherever_it_is_called(path: Path, query: str) -> None:
    async def use(log: EventLog) -> None:
        with pytest.raises(SqlRefused, match="is not available here"):
            await log.sql(query)

    with_log(path, use)


def test_explaining_such_a_query_is_refused_however_it_is_written(path: Path) -> None:
    async def use(log: EventLog) -> None:
        for explaining in EXPLAINING:
            assert await log.sql(explaining.format("select 1")), explaining
            for query in DOES_THINGS:
                with pytest.raises(SqlRefused):
                    await log.sql(explaining.format(query))

    with_log(path, use)


@pytest.mark.parametrize(
    "query",
    [
        "explain (/*) select '*/ analyze) select * from query($$select 1$$) -- '",
        "explain (--) select 1\n analyze) select write_log('x')",
        "/* /* */ explain select 1 */ explain analyze select write_log('x')",
        "-- a\rexplain analyze select write_log('x')",
        "-- a\rexplain analyze select write_log('x') --\nexplain select 1",
        "\ufeffexplain analyze select write_log('x')",
        "\0explain analyze select 1",
        "; explain analyze select write_log('x')",
        "explain analyze explain analyze select 1",
        f"{'/**/' * 60}-- a\rexplain select 1",
        "/* a /* b */ c */ explain analyze select 1",
        "explain execute something",
        "explain analyze update events set seq = 0",
        "update extensions",
        "pivot events on kind",
        "select '\ud800'",
        f"select {'abs(' * 400}1{')' * 400}",
        f"select {' + '.join(['1'] * 5000)}",
    ],
    ids=lambda query: ascii(query)[:40],
)
def test_what_cannot_be_analysed_is_refused_as_sql(path: Path, query: str) -> None:
    async def use(log: EventLog) -> None:
        with pytest.raises(SqlRefused):
            await log.sql(query)

    with_log(path, use)


def test_every_function_that_duckdb_has_for_tables_is_allowed_by_name_or_refused(path: Path) -> None:
    """A new version of DuckDB may bring functions that do things: none of them runs before it was looked at."""

    async def use(log: EventLog) -> None:
        names = log.fetch("select distinct function_name from duckdb_functions() where function_type like 'table%'")
        assert len(names) > 100
        for (name,) in names:
            if name not in sql._TABLE_FUNCTIONS:
                with pytest.raises(SqlRefused, match="is not available here"):
                    await log.sql(f"from {name}('x')")

    with_log(path, use)


ENDLESS = "select count(*) from range(100000000) a, range(100000000) b where a.range + b.range = -1"


def test_cancelling_interrupts_the_query_and_closing_does_too(path: Path) -> None:
    async def use() -> None:
        log = EventLog.open(path)
        query = asyncio.create_task(log.sql(ENDLESS))
        await asyncio.sleep(0.2)
        query.cancel()
        with pytest.raises(asyncio.CancelledError):
            await query
        query = asyncio.create_task(log.sql(ENDLESS))
        await asyncio.sleep(0.2)
        log.close()
        with pytest.raises(StoreError, match=r"interrupted .* Run it again\."):
            await query

    asyncio.run(asyncio.wait_for(use(), 30))


def test_a_read_of_our_own_that_a_close_cuts_off_is_told_as_a_closed_log(path: Path) -> None:
    log = EventLog.open(path)
    with ThreadPoolExecutor(1) as threads:
        fetching = threads.submit(log.fetch, ENDLESS)
        time.sleep(0.2)
        log.close()
        with pytest.raises(StoreError, match="closed"):
            fetching.result()


def test_an_interrupt_at_any_moment_of_a_query_is_told_as_one(path: Path) -> None:
    told = 0

    async def use(log: EventLog) -> None:
        nonlocal told
        begun: list[duckdb.DuckDBPyConnection] = []

        async def interrupt() -> None:
            while True:
                for cursor in list(begun):
                    cursor.interrupt()
                await asyncio.sleep(0)

        interrupting = asyncio.create_task(interrupt())
        for _ in range(300):
            read = asyncio.to_thread(sql._run, log._readers, "select count(*) from messages", (), begun)
            (answer,) = await asyncio.gather(read, return_exceptions=True)
            told += isinstance(answer, StoreError) and answer.code == "interrupted"
            assert isinstance(answer, (Table, StoreError))
        interrupting.cancel()

    with_log(path, use)
    assert told


def test_reading_goes_on_beside_writing(path: Path) -> None:
    async def use(log: EventLog) -> None:
        async def read() -> int:
            counts = [(await log.sql("select count(*) from messages")).rows[0][0] for _ in range(20)]
            assert counts == sorted(counts)
            return counts[-1]

        async def write_some() -> None:
            for number in range(200):
                assert await append(log, queued(f"m{number}")) is None

        await asyncio.gather(read(), read(), write_some())
        assert await read() == 200

    with_log(path, use)


def test_an_export_is_a_whole_copy_that_other_programs_open_while_the_log_goes_on(path: Path, tmp_path: Path) -> None:
    async def use(log: EventLog) -> None:
        await append(log, queued("a"), queued("b"))
        reader = asyncio.create_task(log.sql(ENDLESS))
        await asyncio.sleep(0.1)
        await log.export(tmp_path / "copy.duckdb")
        reader.cancel()
        assert await append(log, queued("c")) is None
        with pytest.raises(StoreError, match="exists already"):
            await log.export(tmp_path / "copy.duckdb")
        with pytest.raises(StoreError):
            await log.export(tmp_path / "nowhere" / "copy.duckdb")
        lock = "import duckdb, sys; duckdb.connect(sys.argv[1])"
        command = [sys.executable, "-c", lock, str(path)]
        other = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        assert "Could not set lock" in other.stderr  # copying did not cost us DuckDB's own lock

    with_log(path, use)
    with duckdb.connect(str(tmp_path / "copy.duckdb"), read_only=True) as copy:
        assert copy.execute("select message_id from messages order by 1").fetchall() == [("a",), ("b",)]
    assert {file.name for file in tmp_path.iterdir() if file.is_file()} == {"copy.duckdb"}
    assert (tmp_path / "copy.duckdb").stat().st_mode & 0o777 == 0o600


def _duckdb_gives_times_with_a_zone() -> bool:
    """Version 2.0.0 needs pytz for that."""
    try:
        return bool(duckdb.connect().execute("select now()").fetchall())
    except duckdb.InvalidInputException:
        return False


def test_times_with_a_zone_are_given_or_refused_with_a_hint_where_duckdb_cannot_give_them(path: Path) -> None:
    async def use(log: EventLog) -> None:
        if _duckdb_gives_times_with_a_zone():
            ((given,),) = (await log.sql("select now()")).rows
            assert abs(given.timestamp() - time.time()) < 60
        else:
            with pytest.raises(SqlRefused, match="::timestamp"):
                await log.sql("select now()")
        ((now, shown),) = (await log.sql("select epoch(now()), now()::timestamp")).rows
        assert abs(now - time.time()) < 60
        assert shown.tzinfo is None

    with_log(path, use)


def test_pruning_and_exporting_go_on_beside_a_reader_that_has_the_table_open(path: Path, tmp_path: Path) -> None:
    endless = "select count(*) from events a, range(100000000) b, range(100000) c where a.seq + b.range + c.range = -1"

    async def use(log: EventLog) -> None:
        await append(log, *(row for number in range(500) for row in (queued(f"m{number}"), done(f"m{number}"))), time=1)
        reader = asyncio.create_task(log.sql(endless))
        await asyncio.sleep(0.2)
        await append(log, queued("live"))
        await log.export(tmp_path / "before.duckdb")
        assert await log.prune(1000) == 1000
        await log.export(tmp_path / "after.duckdb")
        assert await append(log, queued("more")) is None
        assert not reader.done()
        reader.cancel()
        assert log.fetch("select message_id from messages order by 1") == [("live",), ("more",)]

    with_log(path, use)
    EventLog.open(path).close()
    for name, count in (("before", 501), ("after", 1)):
        with duckdb.connect(str(tmp_path / f"{name}.duckdb"), read_only=True) as copy:
            assert copy.execute("select count(*) from messages").fetchall() == [(count,)]


def done(message: str) -> Row:
    return event("message.completed", message)


def test_now_in_a_query_is_utc_as_the_times_of_the_log_are(path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from tests.unit.store.helpers import queued, with_log, write\n"
        f"path = Path({str(path)!r})\n"
        "write(path, queued('m'))\n"
        "query = \"select count(*) from messages where created_at between now() - interval '1 hour' and now()\"\n"
        "print(with_log(path, lambda log: log.sql(query)).rows)\n"
    )
    for zone in ("America/New_York", "Asia/Tokyo"):
        environment = {**os.environ, "TZ": zone}
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert ran.stdout.strip() == "[(1,)]"
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
