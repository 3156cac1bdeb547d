"""More at once than one host has connections for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from agentq_nb._brokers.postgres.address import parse_address
from agentq_nb._brokers.postgres.connection import Database, Transaction

pytestmark = pytest.mark.anyio

_CONNECTIONS = b"""
select count(*) from pg_stat_activity where application_name = 'agentq' and datname = current_database()
"""


@pytest.fixture
def address(postgres_url: str) -> Iterator[str]:
    """A database of the test's own: connections to it are the test's."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("create database load")
        yield f"{postgres_url.rpartition('/')[0]}/load"
        connection.execute("drop database load with (force)")


@pytest.fixture
async def database(address: str) -> AsyncIterator[Database]:
    database = Database(parse_address(address))
    await database.open()
    yield database
    await database.close()


async def test_what_waits_for_its_turn_neither_fails_nor_opens_connections(database: Database, address: str) -> None:
    async def work(tx: Transaction) -> None:
        await tx.row("select pg_sleep(0.4)")

    waiting = [asyncio.create_task(database.run(work, patience=1.0)) for _ in range(64)]
    most = 0
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
        while not all(task.done() for task in waiting):
            found = await connection.execute(_CONNECTIONS)
            most = max(most, (await found.fetchone() or (0,))[0])
            await asyncio.sleep(0.02)
    await asyncio.gather(*waiting)
    assert 2 <= most <= 8


async def test_looks_of_a_host_that_meet_need_one_connection(database: Database) -> None:
    opened = database._pool.get_stats()["connections_num"]
    found = await asyncio.gather(*(database.look(lambda tx: tx.row("select pg_sleep(0.01), 1")) for _ in range(5)))
    assert [row and row[1] for row in found] == [1] * 5
    assert database._pool.get_stats()["connections_num"] == opened


async def test_a_look_does_not_wait_for_one_that_is_held_up(database: Database) -> None:
    go_on = asyncio.Event()

    async def held_up(tx: Transaction) -> None:
        await tx.row("select 1")
        await go_on.wait()

    first = asyncio.create_task(database.look(held_up))
    assert await database.look(lambda tx: tx.row("select 1")) == (1,)
    assert not first.done()
    go_on.set()
    await first
