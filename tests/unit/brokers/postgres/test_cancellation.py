"""Calls of the PostgreSQL broker that are cancelled, or whose answer is lost: they end, and what they have reserved is free again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest

from agentq_nb._brokers.messages import Commit
from agentq_nb._brokers.postgres.address import parse_address
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb._brokers.postgres.connection import Database, Transaction
from agentq_nb._brokers.postgres.notifications import POLL
from agentq_nb.errors import Unavailable
from tests.unit.brokers.conformance.words import ACTOR, HOST, drain, send, soon, until
from tests.unit.brokers.postgres_setting import PostgresSetting

pytestmark = pytest.mark.anyio

TURNS = 6
"""Turns of the loop in which a task that waits for a connection has it."""


async def nothing(tx: Transaction) -> None:
    await tx.ask("select 1")


async def transaction(database: Database) -> None:
    await database.run(nothing)


async def statement(database: Database) -> None:
    await database.run_statement("select 1")


@pytest.mark.parametrize("run", [transaction, statement])
@pytest.mark.parametrize("turns", range(TURNS))
async def test_a_transaction_that_is_cancelled_as_it_gets_its_connection_is_cancelled(
    postgres_url: str,
    turns: int,
    run: Callable[[Database], Coroutine[Any, Any, None]],
) -> None:
    """Until Python 3.12, asyncio.wait_for forgets a cancellation that comes together with what it waits for."""
    database = Database(parse_address(postgres_url))
    await database.open()
    async with AsyncExitStack() as stack:
        for _ in range(7):
            await stack.enter_async_context(database._pool.connection())
        async with database._pool.connection():
            task = asyncio.create_task(run(database))
            while not database._pool._waiting:  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
    await database.close()


async def test_an_actor_whose_acquisition_was_cancelled_is_woken_by_its_messages(
    setting: PostgresSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database has given the lease: nothing here knows of it."""
    broker = setting.broker
    await send(broker, "waiting")
    run = broker.database.run
    given = asyncio.Event()

    async def run_without_answer(*args: object, **options: object) -> object:
        await run(*args, **options)  # type: ignore[arg-type]
        given.set()
        return await asyncio.Event().wait()

    monkeypatch.setattr(broker.database, "run", run_without_answer)
    acquiring = asyncio.ensure_future(broker.acquire(ACTOR, "host-1"))
    await soon(given.wait())
    acquiring.cancel()
    await asyncio.wait([acquiring])
    assert acquiring.cancelled()
    monkeypatch.undo()
    await is_woken(setting)


async def test_an_actor_whose_acquisition_was_cut_off_is_woken_by_its_messages(
    setting: PostgresSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease is written, and the connection breaks before the answer."""
    broker = setting.broker
    await send(broker, "waiting")
    run = broker.database.run

    async def run_and_break(*args: object, **options: object) -> object:
        await run(*args, **options)  # type: ignore[arg-type]
        raise Unavailable("The connection broke.")

    monkeypatch.setattr(broker.database, "run", run_and_break)
    with pytest.raises(Unavailable):
        await broker.acquire(ACTOR, "host-1")
    monkeypatch.undo()
    await is_woken(setting)


async def is_woken(setting: PostgresSetting) -> None:
    """See that the actor is free after a while, and that its message is there."""
    hint = asyncio.ensure_future(anext(setting.broker.ready_actors({"worker": None})))
    await asyncio.sleep(0.1)
    assert not hint.done()
    setting.clock.advance(POLL)
    assert await soon(hint) == ACTOR
    lease = await setting.broker.acquire(ACTOR, "host-1")
    assert lease is not None
    assert await drain(lease) == ["waiting"]


async def test_a_lease_in_use_stays_when_unused_ones_are_ended(setting: PostgresSetting) -> None:
    await send(setting.broker, "first")
    lease = await setting.broker.acquire(ACTOR, "host-1")
    assert lease is not None
    await setting.broker._upkeep.end_unused()
    assert await drain(lease) == ["first"]


async def test_of_two_acquisitions_answered_in_the_other_order_the_later_one_holds_the_actor(
    setting: PostgresSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = setting.broker
    await send(broker, "waiting")
    acquire = broker._acquire
    released = asyncio.Event()

    async def acquire_slowly(*asked: Any) -> object:
        answer = await acquire(*asked)
        written.set()
        await released.wait()
        return answer

    written = asyncio.Event()
    monkeypatch.setattr(broker, "_acquire", acquire_slowly)
    first = asyncio.ensure_future(broker.acquire(ACTOR, "host-1"))
    await soon(written.wait())
    monkeypatch.undo()
    later = await broker.acquire(ACTOR, "host-1")
    released.set()
    assert await soon(first) is None
    assert later is not None
    assert await drain(later) == ["waiting"]


async def test_a_session_that_ends_while_its_row_is_locked_is_ended_all_the_same(setting: PostgresSetting) -> None:
    """A renewal, for example, locks it for a moment; passing it over would leave what runs to the end of the lease."""
    broker = await PostgresBroker.open(setting.url, clock=setting.clock)
    lease = await broker.acquire(ACTOR, "host-2")
    assert lease is not None
    address = parse_address(setting.url)
    with psycopg.connect(address.conninfo) as connection:
        connection.execute(
            address.statement("select 1 from agentq.sessions where session = %s for update"), [broker.session]
        )
        closing = asyncio.ensure_future(broker.close())
        await asyncio.sleep(0.3)
        connection.rollback()
    await soon(closing)
    assert await setting.broker.acquire(ACTOR, "host-1") is not None


async def test_a_release_that_is_cancelled_gives_the_actor_up_all_the_same(
    setting: PostgresSetting, postgres_url: str
) -> None:
    """It waits behind another call of the lease when it is cancelled. What was committed before is written, too."""
    await send(setting.broker, 1)
    lease = await setting.broker.acquire(ACTOR, HOST)
    assert lease is not None
    schema = parse_address(setting.url).schema
    with psycopg.connect(postgres_url) as connection:
        connection.execute(f"select 1 from {schema}.actors for update".encode())
        before = asyncio.ensure_future(lease.unsettled("tasks"))
        await asyncio.sleep(0)
        lease.commit_soon(Commit(state=b"7"))
        releasing = asyncio.ensure_future(lease.release())
        await asyncio.sleep(0)
        releasing.cancel()
        await asyncio.wait([releasing])
    await soon(before)
    await until(lambda: owner(setting) is None)
    again = await setting.broker.acquire(ACTOR, "other")
    assert again is not None
    assert again.state == b"7"


def owner(setting: PostgresSetting) -> int | None:
    """The number of the actor's lease."""
    row = setting.clock._execute("select epoch from {schema}.actors").fetchone()
    assert row is not None
    return row[0]
