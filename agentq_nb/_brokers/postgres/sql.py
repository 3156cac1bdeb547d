"""Users' SQL over the views: in a read-only transaction on a connection of its own, ended after a while.

PostgreSQL keeps a query from writing: the transaction is read-only and undone at its end, and the server takes one
statement at a time. What the host's own file has is copied into temporary tables first, if the query names it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.adapt import Loader
from psycopg.errors import AmbiguousParameter, IndeterminateDatatype, QueryCanceled, ReadOnlySqlTransaction
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.string import StrDumper

from agentq_nb._brokers.postgres.address import Address, views_of
from agentq_nb._brokers.postgres.connection import Row
from agentq_nb._brokers.postgres.sql_text import UserQuery
from agentq_nb._core.result_table import Table, TablePages
from agentq_nb._core.threads import in_long_thread
from agentq_nb.errors import SqlRefused, StoreError, Unavailable

_MOST_ROWS = 1_000_000
_AT_ONCE = 1000
_VIEWS = ("actors", "messages", "queues", "pauses", "attempts", "results")
_PAGE = 500
"""How many rows of a view are read at once to be copied."""

# The types that PostgreSQL names otherwise than DuckDB, whose names are the ones that DataFrames are made by.
_TYPES = {
    "bool": "BOOLEAN",
    "int2": "SMALLINT",
    "int4": "INTEGER",
    "int8": "BIGINT",
    "float4": "FLOAT",
    "float8": "DOUBLE",
    "numeric": "DECIMAL",
    "text": "VARCHAR",
    "varchar": "VARCHAR",
    "bpchar": "VARCHAR",
    "name": "VARCHAR",
    "json": "JSON",
    "jsonb": "JSON",
    "bytea": "BLOB",
    "timestamptz": "TIMESTAMP",
}
_AS_STORED = {"VARCHAR": "text", "JSON": "json", "BIGINT": "bigint", "DOUBLE": "float8", "INTEGER": "integer"}


class OwnTable(NamedTuple):
    """Rows of the host's own file that a query names, as DuckDB returns them."""

    name: str
    table: Table


class _Text(Loader):
    """Leaves JSON as text."""

    def load(self, data: Any) -> str:
        return bytes(data).decode()


class _Moment(TimestamptzLoader):
    """Makes times as all are here: in UTC, without a time zone."""

    def load(self, data: Any) -> Any:
        return super().load(data).astimezone(UTC).replace(tzinfo=None)


def reading_connection(address: Address) -> psycopg.Connection[Row]:
    """Connect, to read values as :class:`Table` has them."""
    connection = psycopg.connect(address.slow_conninfo, cursor_factory=psycopg.RawCursor)
    for kind in ("json", "jsonb"):
        connection.adapters.register_loader(kind, _Text)
    connection.adapters.register_loader("timestamptz", _Moment)
    return connection


class QueryConnection:
    """The connection of one query."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._open: psycopg.Connection[Row] | None = None

    async def answer(self, query: UserQuery, own: Sequence[OwnTable]) -> Table:
        """Return the rows. Cancelling ends the query. Raises SqlRefused, StoreError and Unavailable."""
        work = asyncio.ensure_future(in_long_thread(self._answer, query, own))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await in_long_thread(self._cancel)
            await asyncio.wait([work])
            work.exception()
            raise

    def _cancel(self) -> None:
        if self._open is not None:
            with suppress(psycopg.Error):
                self._open.cancel_safe(timeout=5)

    def _answer(self, query: UserQuery, own: Sequence[OwnTable]) -> Table:
        try:
            with self._connected() as connection:
                self._begin(connection, own)
                try:
                    return self._rows(connection, query)
                except (IndeterminateDatatype, AmbiguousParameter):
                    # What only stands beside "is null", say, has no type of its own.
                    connection.rollback()
                    connection.adapters.register_dumper(str, StrDumper)
                    self._begin(connection, own)
                    return self._rows(connection, query._replace(text=_with_types(query)))
                finally:
                    self._open = None
                    connection.rollback()
        except ReadOnlySqlTransaction as error:
            raise SqlRefused(f"Only reads are accepted: {_line(error)}") from None
        except QueryCanceled:
            raise StoreError(
                f"The query was ended: it had no answer after {self._address.sql_timeout:g} seconds, or was interrupted. "
                "Ask for less, or give it longer with sql_timeout=SECONDS in the address.",
                code="interrupted",
            ) from None
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            text = self._address.hide(_line(error))
            raise Unavailable(f"The queues on PostgreSQL ({self._address.shown}) cannot be read: {text}") from None
        except psycopg.Error as error:
            raise SqlRefused(_line(error)) from None

    def _connected(self) -> psycopg.Connection[Row]:
        self._open = reading_connection(self._address)
        return self._open

    def _begin(self, connection: psycopg.Connection[Row], own: Iterable[OwnTable]) -> None:
        """Begin the transaction that only reads."""
        connection.execute(
            "select set_config('statement_timeout', $1, true), set_config('search_path', $2, true),"
            " set_config('timezone', 'UTC', true)",
            [str(round(1000 * self._address.sql_timeout)), f"pg_temp, {views_of(self._address.schema)}"],
        )
        for table in own:
            _copy(connection, table)
        if any(table.name == "usage" for table in own):
            connection.execute(self._address.statement(_RESULTS_WITH_COST))
        connection.execute("set transaction read only")

    def _rows(self, connection: psycopg.Connection[Row], query: UserQuery) -> Table:
        rows: list[Row] = []
        with connection.cursor() as cursor:
            # Streaming takes one statement only, and stops where there are too many rows.
            for row in cursor.stream(query.text.encode(), query.values, size=_AT_ONCE):
                rows.append(row)
                if len(rows) > _MOST_ROWS:
                    raise StoreError(
                        f"The query has more than {_MOST_ROWS:,} rows. Ask for less, or write a copy: "
                        "await registry.export(PATH)",
                        code="too_many_rows",
                    )
            described = [(column.name, column.type_code) for column in cursor.description or ()]
        if not rows:
            described = _described(connection, query)
        return Table([name for name, _ in described], rows, [type_name(connection, oid) for _, oid in described])


def _described(connection: psycopg.Connection[Row], query: UserQuery) -> list[tuple[str, int]]:
    """Return the columns of a query and their types, without running it: a stream without rows has none."""
    connection.pgconn.prepare(b"", query.text.encode())
    found = connection.pgconn.describe_prepared(b"")
    return [((found.fname(place) or b"").decode(), found.ftype(place)) for place in range(found.nfields)]


_RESULTS_WITH_COST = """
create temporary view results as
select
    r.message_id, r.actor_id, r.actor, r.queue, r.status, r.attempts, r.reply, r.error, r.finished_at, u.tokens, u.cost
from agentq_views.results r
left join (
    select message_id, sum(input_tokens + output_tokens)::bigint as tokens, sum(cost) as cost
    from pg_temp.usage where message_id is not null group by message_id
) u using (message_id)
"""


def _copy(connection: psycopg.Connection[Row], own: OwnTable) -> None:
    """Put rows of the host's file into a table that ends with the transaction."""
    columns = [
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(_AS_STORED.get(kind, kind.lower())))  # type: ignore[arg-type]  # types are ours
        for name, kind in zip(own.table.columns, own.table.types, strict=True)
    ]
    name = sql.Identifier("pg_temp", own.name)
    connection.execute(
        sql.SQL("create temporary table {} ({}) on commit drop").format(name, sql.SQL(", ").join(columns))
    )
    with connection.cursor() as cursor, cursor.copy(sql.SQL("copy {} from stdin").format(name)) as copy:
        for row in own.table.rows:
            copy.write_row([value.replace("\0", "") if isinstance(value, str) else value for value in row])


def _with_types(query: UserQuery) -> str:
    """Return the query with a type for its parameters that are null."""
    text = query.text
    for number in range(len(query.values), 0, -1):
        if query.values[number - 1] is None:
            text = text.replace(f"${number}", f"${number}::text")
    return text


def type_name(connection: psycopg.Connection[Row], oid: int) -> str:
    """Return DuckDB's name of a type; empty if it is not known."""
    found = connection.adapters.types.get(oid)
    if found is None:
        return ""
    name = _TYPES.get(found.name, found.name.upper())
    return f"{name}[]" if found.array_oid == oid else name


def _line(error: psycopg.Error) -> str:
    return error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__


@contextmanager
def snapshot(address: Address) -> Generator[Iterator[TablePages]]:
    """Yield the views one after the other: each is to be read before the next. Raises Unavailable."""
    try:
        with reading_connection(address) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            yield (_view(connection, address, name) for name in _VIEWS)
    except psycopg.Error as error:
        text = address.hide(" ".join(str(error).split()))
        raise Unavailable(f"The queues on PostgreSQL ({address.shown}) cannot be read: {text}") from None


def _view(connection: psycopg.Connection[Row], address: Address, name: str) -> TablePages:
    cursor = connection.cursor(name)
    cursor.execute(address.statement(f"select * from agentq_views.{name}"))
    described = cursor.description or ()
    return TablePages(
        name,
        [column.name for column in described],
        [type_name(connection, column.type_code) for column in described],
        _pages(cursor),
    )


def _pages(cursor: psycopg.ServerCursor[Row]) -> Iterator[list[Row]]:
    with cursor:
        while rows := cursor.fetchmany(_PAGE):
            yield rows
