"""Reading the log while it is written: trusted reads of our own, and people's SQL, which may only read.

Four things keep people's SQL from changing anything: DuckDB itself says what kind of statement it is; it runs in a
read-only transaction; the database was opened without access to files, with its settings locked; and functions that
take raw memory addresses, or do things rather than return them, are refused by name.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb

from agentq_nb.errors import SqlRefused, StoreError
from agentq_nb.tables import Table

_READS = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}

# They take addresses of memory, write to DuckDB's own log, or hide another query in a string.
_REFUSED_FUNCTIONS = {
    "arrow_scan",
    "arrow_scan_dumb",
    "checkpoint",
    "force_checkpoint",
    "json_execute_serialized_sql",
    "pandas_scan",
    "python_arrow_scan",
    "python_map_function",
    "query",
    "query_table",
    "truncate_duckdb_logs",
    "write_log",
}


class Readers:
    """Cursors of their own for those who read, from any thread, and a way to end them all."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._changed = threading.Condition()
        self._active: set[duckdb.DuckDBPyConnection] = set()
        self._closed = False

    @contextmanager
    def cursor(self) -> Generator[duckdb.DuckDBPyConnection]:
        """A cursor for one read."""
        with self._changed:
            if self._closed:
                raise StoreError("The log was closed.", code="closed")
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
        """Interrupt what still reads and wait for its end: the file is not closed before the last cursor is."""
        with self._changed:
            self._closed = True
            for cursor in self._active:
                cursor.interrupt()
            self._changed.wait_for(lambda: not self._active, timeout=10)
        del self._connection


def check_reads_only(cursor: duckdb.DuckDBPyConnection, query: str) -> None:
    """Raise SqlRefused unless ``query`` is one statement that only reads."""
    try:
        statements = cursor.extract_statements(query)
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        raise SqlRefused(f"This is not SQL that DuckDB understands: {error}") from None
    if len(statements) != 1:
        raise SqlRefused(f"One statement at a time, please; this is {len(statements)}.")
    kind = statements[0].type
    if kind not in _READS:
        raise SqlRefused(
            f"Only reads are accepted (SELECT, WITH, VALUES, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN); this is {kind.name}."
        )
    called = _functions(cursor, query) & _REFUSED_FUNCTIONS
    if called:
        raise SqlRefused(f"The function {', '.join(sorted(called))}() is not available here.")


def _functions(cursor: duckdb.DuckDBPyConnection, query: str) -> set[str]:
    """The names of all functions in a query, as DuckDB parses it."""
    stripped = query.lstrip()
    for word in ("explain", "analyze"):
        if stripped[: len(word)].lower() == word:
            stripped = stripped[len(word) :].lstrip()
    ((text,),) = cursor.execute("select json_serialize_sql(?)", [stripped]).fetchall()
    return set(_names(json.loads(text)))


def _names(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():  # pyright: ignore[reportUnknownVariableType]  # JSON
            if key == "function_name" and isinstance(value, str):
                yield value.lower()
            else:
                yield from _names(value)
    elif isinstance(node, list):
        for value in node:  # pyright: ignore[reportUnknownVariableType]
            yield from _names(value)


async def run_sql(readers: Readers, query: str, parameters: Sequence[Any]) -> Table:
    """Answer a person's query in a thread of its own. Cancelling the caller interrupts it."""
    begun: list[duckdb.DuckDBPyConnection] = []
    work = asyncio.get_running_loop().run_in_executor(None, _run, readers, query, parameters, begun)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        for cursor in begun:
            cursor.interrupt()
        await asyncio.wait([work])
        work.exception()
        raise


def _run(readers: Readers, query: str, parameters: Sequence[Any], begun: list[duckdb.DuckDBPyConnection]) -> Table:
    with readers.cursor() as cursor:
        begun.append(cursor)
        try:
            check_reads_only(cursor, query)
            cursor.execute("begin transaction read only")
            cursor.execute(query, parameters)
            described = cursor.description or ()
            return Table(
                [column[0] for column in described], cursor.fetchall(), [str(column[1]) for column in described]
            )
        except duckdb.InterruptException:
            raise StoreError("The query was interrupted.", code="interrupted") from None
        except duckdb.Error as error:
            raise SqlRefused(_explain(error)) from None
        finally:
            begun.clear()


def _explain(error: duckdb.Error) -> str:
    if "pytz" in str(error):
        return "Times with a time zone cannot be shown here; cast them: now()::timestamp."
    return str(error)
