"""Read the log while it is being written: trusted queries of our own, and users' SQL, which may only read.

Four things keep users' SQL from changing anything: DuckDB itself says what kind of statement it is; it runs in a
read-only transaction; the database was opened without access to files, with its settings locked; and DuckDB itself says
which functions it calls: as a table only those known to read, otherwise none with side effects.
What DuckDB cannot parse into a tree is refused.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias, TypeVar, cast

import duckdb

from agentq_nb._core.result_table import Table
from agentq_nb._core.threads import in_long_thread
from agentq_nb.errors import SqlRefused, StoreError

T = TypeVar("T")

Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]
"""Values for a query's ``?``, in order, or for its ``$name``, by name."""

_BLANK = r"(?>\s|--[^\n]*\n|/\*.*?\*/)*+"  # with comments, unless they are nested

# DuckDB can serialize only the query that is explained.
_EXPLAIN = re.compile(
    rf"{_BLANK}explain\b{_BLANK}(analyze\b|\(\s*(?:analyze|format)\b[\w\s,]*\))?(.*)", re.IGNORECASE | re.DOTALL
)

# Functions that may be read as tables, as an allowlist: future versions of DuckDB may add some with side effects.
_TABLE_FUNCTIONS = {
    "duckdb_columns",
    "duckdb_constraints",
    "duckdb_databases",
    "duckdb_dependencies",
    "duckdb_functions",
    "duckdb_indexes",
    "duckdb_keywords",
    "duckdb_memory",
    "duckdb_schemas",
    "duckdb_settings",
    "duckdb_tables",
    "duckdb_types",
    "duckdb_views",
    "generate_series",
    "icu_calendar_names",
    "json_each",
    "json_tree",
    "pg_timezone_names",
    "pragma_collations",
    "pragma_database_size",
    "pragma_metadata_info",
    "pragma_platform",
    "pragma_show",
    "pragma_storage_info",
    "pragma_table_info",
    "pragma_version",
    "range",
    "repeat",
    "repeat_row",
    "unnest",
}

# They write to DuckDB's own log, or hide another query in a string.
_REFUSED_FUNCTIONS = {"json_serialize_plan", "write_log"}


class Readers:
    """Provides a cursor for each read, from any thread, and can interrupt them all."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._changed = threading.Condition()
        self._active: set[duckdb.DuckDBPyConnection] = set()
        self._closed = False

    @contextmanager
    def cursor(self) -> Generator[duckdb.DuckDBPyConnection]:
        """Open a cursor for one read."""
        with self._changed:
            if self._closed:
                raise StoreError(
                    "The file was closed when its host was stopped. Start it again: %agentq start", code="closed"
                )
            cursor = self._connection.cursor()
            self._active.add(cursor)
        try:
            yield cursor
        finally:
            cursor.close()
            with self._changed:
                self._active.discard(cursor)
                self._changed.notify_all()

    def close(self) -> None:
        """Interrupt all reads and wait for their end: the file is not closed before the last cursor is."""
        with self._changed:
            self._closed = True
            for cursor in self._active:
                cursor.interrupt()
            self._changed.wait_for(lambda: not self._active, timeout=10)
        del self._connection


_IN_USE = """
select coalesce(sum(memory_usage_bytes), 0), current_setting('threads') from duckdb_memory() where tag <> 'BASE_TABLE'
"""
_LITTLE_MEMORY = (32 << 20, 64 << 20, 256 << 20)
"""Bytes for anything but cached blocks of the file. The first value is enough unless rows are very large."""
_MOST_THREADS = 4


def read_alone(connection: duckdb.DuckDBPyConnection, read: Callable[[], T], *, least: int = 0) -> T:
    """Run ``read``, which may read much of the file, while nothing else reads or writes it. Raises what it raises.

    DuckDB caches every block that it has read while there is memory for it: all history, though hardly any of it is
    live. So its memory is limited, to at least ``least`` bytes. It may use several processors meanwhile.
    """
    ((used, threads),) = connection.execute(_IN_USE).fetchall()
    try:
        connection.execute(f"set threads = {min(_MOST_THREADS, os.cpu_count() or 1)}")
        for memory in _LITTLE_MEMORY:
            if memory >= least:
                connection.execute(f"set memory_limit = '{used + memory}B'")
                with suppress(duckdb.OutOfMemoryException):
                    return read()
        connection.execute("reset memory_limit")
        return read()
    finally:
        connection.execute(f"set threads = {threads}")
        connection.execute("reset memory_limit")


def checked(cursor: duckdb.DuckDBPyConnection, query: str) -> str:
    """Return the query to run instead of ``query``: the same, made only of checked parts.

    Raises SqlRefused unless it is one statement that only reads.
    """
    kind = _kind(cursor, query)
    if kind == "SELECT":
        _check_functions(cursor, query)
        return query
    if kind != "EXPLAIN":
        raise _not_a_read(kind)
    found = _EXPLAIN.fullmatch(query)
    if found is None:
        raise SqlRefused("EXPLAIN, EXPLAIN ANALYZE and their options are accepted only at the start of the query.")
    options, explained = found.groups(default="")
    inner = _kind(cursor, explained)
    if inner != "SELECT":
        raise _not_a_read(f"EXPLAIN of {inner}")
    _check_functions(cursor, explained)
    # The text before it is dropped, so that nothing depends on parsing comments exactly as DuckDB does.
    return f"explain {options} {explained}"


def _kind(cursor: duckdb.DuckDBPyConnection, query: str) -> str:
    """Return DuckDB's name for the kind of statement. Raises SqlRefused unless it is exactly one."""
    try:
        query.encode()
        statements = cursor.extract_statements(query)
    except duckdb.InterruptException:
        raise
    except (duckdb.Error, UnicodeEncodeError) as error:
        raise SqlRefused(f"This is not SQL that DuckDB understands: {error}") from None
    if len(statements) != 1:
        raise SqlRefused(f"One statement at a time, please; this is {len(statements)}.")
    try:
        return statements[0].type.name
    except ValueError:  # a kind that DuckDB's Python client has no name for
        return "something else"


def _not_a_read(kind: str) -> SqlRefused:
    return SqlRefused(
        f"Only reads are accepted (SELECT, WITH, VALUES, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN of these); this is {kind}."
    )


def _check_functions(cursor: duckdb.DuckDBPyConnection, query: str) -> None:
    """Raise SqlRefused if a SELECT calls a function it may not, or if DuckDB cannot say which it calls."""
    ((text,),) = cursor.execute("select json_serialize_sql(?)", [query]).fetchall()
    try:
        parsed = json.loads(text)
        if parsed.get("error") is not False:
            raise SqlRefused(f"DuckDB cannot say which functions this query calls: {parsed.get('error_message')}")
        refused = {name for name, from_table in _calls(parsed["statements"]) if not _allowed(name, from_table)}
    except RecursionError:
        raise SqlRefused("This query is nested too deeply. Take it apart, with WITH for instance.") from None
    if refused:
        raise SqlRefused(f"The function {', '.join(sorted(refused))}() is not available here.")


def _allowed(name: str, from_table: bool) -> bool:
    return name in _TABLE_FUNCTIONS if from_table else name not in _REFUSED_FUNCTIONS


def _calls(node: Any, from_table: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield the name of every function in a parsed query, and whether it is used as a table."""
    if isinstance(node, dict):
        parsed = cast("dict[str, Any]", node)
        name = parsed.get("function_name")
        if isinstance(name, str):
            yield name.lower(), from_table
        is_table = parsed.get("type") == "TABLE_FUNCTION"
        for key, value in parsed.items():
            yield from _calls(value, is_table and key == "function")
    elif isinstance(node, list):
        for value in cast("list[Any]", node):
            yield from _calls(value)


async def run_sql(readers: Readers, query: str, parameters: Parameters) -> Table:
    """Run a user's query in a thread. Cancelling the caller interrupts it."""
    begun: list[duckdb.DuckDBPyConnection] = []
    work = asyncio.ensure_future(in_long_thread(_run, readers, query, parameters, begun))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        for cursor in begun:
            cursor.interrupt()
        await asyncio.wait([work])
        work.exception()
        raise


def _run(readers: Readers, query: str, parameters: Parameters, begun: list[duckdb.DuckDBPyConnection]) -> Table:
    with readers.cursor() as cursor:
        begun.append(cursor)
        try:
            allowed = checked(cursor, query)
            cursor.execute("begin transaction read only")
            cursor.execute(allowed, parameters)
            described = cursor.description or ()
            return Table(
                [column[0] for column in described], cursor.fetchall(), [str(column[1]) for column in described]
            )
        except duckdb.InterruptException:
            raise StoreError(
                "The query was interrupted before it had an answer. Run it again.", code="interrupted"
            ) from None
        except duckdb.Error as error:
            raise SqlRefused(_explain(error)) from None
        finally:
            begun.clear()


def _explain(error: duckdb.Error) -> str:
    if "pytz" in str(error):
        return "Times with a time zone cannot be shown here; cast them: now()::timestamp."
    return str(error)
