"""Queues on PostgreSQL as tests need them: in a schema of their own, and read and changed apart from brokers."""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from agentq_nb._brokers.postgres.address import parse_address

_schemas = itertools.count(1)


def new_schema() -> str:
    """A name for a schema that no other test has."""
    return f"test_{os.getpid()}_{next(_schemas)}"


def drop_schema(server: str, schema: str) -> None:
    """Drop a schema and that of its views, as far as they were made."""
    with psycopg.connect(server, autocommit=True) as connection:
        for _ in range(10):
            # What a host that was cut off had begun goes on in the server for a moment, and locks in another order.
            with suppress(psycopg.errors.DeadlockDetected):
                connection.execute(f"drop schema if exists {schema}, {schema}_views cascade".encode())
                return
    raise AssertionError(f"The schema {schema} is in use.")


@contextmanager
def own_queues(server: str) -> Generator[str]:
    """The address of queues in a schema that no other test has; dropped at the end."""
    schema = new_schema()
    yield f"{server}?schema={schema}"
    drop_schema(server, schema)


def ask(address: str, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """The rows of a query over the tables, which it calls ``agentq.NAME``."""
    at = parse_address(address)
    with psycopg.connect(at.conninfo, autocommit=True) as connection:
        return connection.execute(at.statement(query), parameters).fetchall()


def count(address: str, table: str) -> int:
    """How many rows a table has."""
    ((rows,),) = ask(address, f"select count(*) from agentq.{table}")
    return rows


def expire_sessions(address: str, session: str | None = None) -> None:
    """End the leases of a host for all others, as time does; by default those of every host.

    It may have to wait for a transaction of a host: not on that host's event loop.
    """
    at = parse_address(address)
    with psycopg.connect(at.conninfo, autocommit=True, options="-c lock_timeout=60s") as connection:
        query = "update agentq.sessions set until = 0 where session = coalesce(%s, session)"
        connection.execute(at.statement(query), [session])
