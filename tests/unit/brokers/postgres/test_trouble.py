"""What happens to queues in PostgreSQL when connections break and the server dies: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest

from agentq_nb._brokers.messages import Commit, Settlement, Take
from agentq_nb._brokers.postgres import connection as connection_module
from agentq_nb._brokers.postgres import session, upkeep
from agentq_nb._brokers.postgres.address import parse_address
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb._brokers.postgres.connection import Transaction, _Failed
from agentq_nb.errors import LeaseLost, Unavailable
from tests.postgres_server import Server
from tests.unit.brokers.conformance.words import ACTOR, HOST, drain, new_message, send, settle, soon, take_one, until
from tests.unit.brokers.postgres.hosts import crash_while_sending

pytestmark = pytest.mark.anyio


async def opened(server: Server, schema: str) -> PostgresBroker:
    return await PostgresBroker.open(f"{server.url}?schema={schema}")


async def test_a_server_that_dies_and_comes_back_has_everything_that_was_acknowledged_once(server: Server) -> None:
    """Senders wait meanwhile; a send that is repeated with its id makes one message."""
    broker = await opened(server, "restarted")
    acknowledged: list[int] = []

    async def sender(first: int) -> None:
        for number in range(first, first + 40):
            await broker.enqueue([new_message(number)])
            acknowledged.append(number)

    await crash_while_sending(server, [sender(first) for first in range(0, 400, 40)], acknowledged, 50)
    lease = await broker.acquire(ACTOR, HOST)
    assert lease is not None
    assert sorted(await drain(lease)) == sorted(acknowledged) == list(range(400))
    await broker.close()


async def test_waits_and_receivers_go_on_after_the_server_was_restarted(server: Server) -> None:
    broker, other = await opened(server, "waiting"), await opened(server, "waiting")
    message = await send(broker)
    waiting = asyncio.ensure_future(broker.wait(message, None))
    hint = asyncio.ensure_future(anext(other.ready_actors({"nobody": None})))
    await asyncio.sleep(0.1)
    await asyncio.to_thread(server.stop, signal.SIGQUIT)
    await asyncio.to_thread(server.start)
    lease = await other.acquire(ACTOR, HOST)
    assert lease is not None
    await settle(lease, await take_one(lease), reply=b"1")
    assert (await soon(waiting)).reply == b"1"
    assert not hint.done()
    hint.cancel()
    await broker.close()
    await other.close()


async def test_a_lease_whose_commit_was_cut_off_is_lost_and_the_work_goes_on_with_a_new_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off when the commit is on its way: whether it was written cannot be known."""
    broker = await opened(server, "cut")
    message = await send(broker, "x")
    lease = await broker.acquire(ACTOR, HOST)
    assert lease is not None
    delivery = await take_one(lease)
    once = broker.database._once

    async def cut(work: object, one_statement: bool) -> object:
        async def and_break(tx: Transaction) -> object:
            result = await work(tx)  # type: ignore[operator]
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("select pg_terminate_backend(%s)", [tx._connection.info.backend_pid])
            return result

        return await once(and_break, one_statement)

    monkeypatch.setattr(broker.database, "_once", cut)
    with pytest.raises((Unavailable, LeaseLost)):
        await lease.commit(Commit([Settlement(delivery, "completed", reply=b"1")]))
    monkeypatch.undo()
    assert lease.lost.is_set()
    again = await broker.acquire(ACTOR, HOST)
    assert again is not None
    repeated = await soon(again.turn(None, Take(None, 1, 0)))
    if repeated:
        assert [one.attempt for one in repeated] == [1]
        await settle(again, repeated[0], reply=b"1")
    assert (await broker.wait(message, 0)).reply == b"1"
    await broker.close()


async def test_a_send_whose_acknowledgement_was_lost_is_repeated_and_makes_one_message(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone, so that it is one statement; its repetition finds that it was written."""
    broker = await opened(server, "unheard")
    message, once, lost = new_message("x"), broker.database._once, list[bool]()

    async def lose(work: object, one_statement: bool) -> object:
        outcome = await once(work, one_statement)
        if not lost:
            lost.append(one_statement)
            raise _Failed(psycopg.OperationalError("the connection was cut"), unwritten=False)
        return outcome

    monkeypatch.setattr(broker.database, "_once", lose)
    assert [sent.id for sent in await soon(broker.enqueue([message]))] == [message.id]
    assert lost == [True]
    with psycopg.connect(server.url, autocommit=True) as connection:
        counted = connection.execute("select live, bytes from unheard.queues").fetchall()
    assert counted == [(1, len(message.body))]
    lease = await broker.acquire(ACTOR, HOST)
    assert lease is not None
    assert await drain(lease) == ["x"]
    await broker.close()


async def test_connections_that_the_server_has_closed_are_replaced(server: Server) -> None:
    broker = await opened(server, "closed")
    await send(broker, 0)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'agentq'")
    await asyncio.gather(*(send(broker, number) for number in range(1, 20)))
    lease = await broker.acquire(ACTOR, HOST)
    assert lease is not None
    assert sorted(await drain(lease)) == list(range(20))
    assert broker.trouble is None
    await broker.close()


async def test_a_server_that_has_become_read_only_is_unavailable_and_says_why(server: Server) -> None:
    broker = await opened(server, "reading")
    broker.database.patience = 0.2
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("alter database test set default_transaction_read_only = on")
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'agentq'")
        try:
            with pytest.raises(Unavailable, match=r"read-only"):
                await send(broker)
            assert "read-only" in (broker.trouble or "")
        finally:
            connection.execute("set default_transaction_read_only = off")
            connection.execute("alter database test set default_transaction_read_only = off")
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'agentq'"
            )
    await send(broker, "again")
    lease = await broker.acquire(ACTOR, HOST)
    assert lease is not None
    assert await drain(lease) == ["again"]
    await broker.close()


async def test_a_send_that_was_refused_while_the_server_was_gone_can_be_repeated_as_it_is(server: Server) -> None:
    broker = await opened(server, "gone")
    await send(broker, "before")
    broker.database.patience = 0.2
    message = new_message("refused")
    await asyncio.to_thread(server.stop, signal.SIGQUIT)
    try:
        for _ in range(2):
            with pytest.raises(Unavailable, match="refused"):
                await broker.enqueue([message])
        with pytest.raises(Unavailable, match="refused"):
            await broker.acquire(ACTOR, HOST)
        assert "refused" in (broker.trouble or "")
    finally:
        await asyncio.to_thread(server.start)
    broker.database.patience = 10.0
    await broker.enqueue([message])
    await broker.enqueue([message])
    assert broker.trouble is None
    lease = await broker.acquire(ACTOR, HOST)
    assert lease is not None
    assert await drain(lease) == ["before", "refused"]
    await broker.close()


@pytest.fixture
def role(server: Server) -> Iterator[str]:
    """A user without rights, who may open three connections: what an idle host needs. Yields the address."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("create role weak login connection limit 3")
        for schema in ("weak", "weak_views"):
            connection.execute(f"create schema {schema} authorization weak".encode())
        yield f"postgresql://weak@127.0.0.1:{server.port}/test?schema=weak"
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'weak'")
        connection.execute("drop schema weak, weak_views cascade")
        connection.execute("revoke all on database test from weak")
        connection.execute("drop role weak")


async def test_a_host_that_gets_no_further_connections_works_with_those_it_has(
    server: Server, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = await PostgresBroker.open(role)
    try:
        await asyncio.gather(*(send(broker, number) for number in range(30)))
        lease = await broker.acquire(ACTOR, HOST)
        assert lease is not None
        statuses = asyncio.gather(*(broker.status() for _ in range(10)))
        assert len(await drain(lease)) == 30
        assert all(await statuses)
        monkeypatch.setattr(connection_module, "PATIENCE", 0.0)  # else the first one may close a connection meanwhile
        with psycopg.connect(server.url, autocommit=True) as connection:
            connected = "select count(*) from pg_stat_activity where usename = 'weak'"
            await until(lambda: connection.execute(connected).fetchone() == (3,))
        with pytest.raises(Unavailable, match="too many connections"):
            await PostgresBroker.open(role)
    finally:
        await broker.close()


async def test_a_host_that_gets_no_connection_says_so_and_goes_on_when_there_is_one(server: Server, role: str) -> None:
    broker = await PostgresBroker.open(role)
    await send(broker, "before")
    broker.database.patience = 0.2
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("alter role weak connection limit 0")
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'weak'")
        with pytest.raises(Unavailable, match="too many connections"):
            await send(broker)
        assert "too many connections" in (broker.trouble or "")
        connection.execute("alter role weak connection limit 3")
    broker.database.patience = 10.0
    await send(broker, "after")
    lease = await broker.acquire(ACTOR, HOST)
    assert lease is not None
    assert await drain(lease) == ["before", "after"]
    await broker.close()


async def test_a_user_who_may_not_create_tables_is_told_so(server: Server, role: str) -> None:
    elsewhere = role.replace("schema=weak", "schema=weak_elsewhere")
    with pytest.raises(Unavailable, match="permission denied for database test"):
        await PostgresBroker.open(elsewhere)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("grant create on database test to weak")
        broker = await PostgresBroker.open(elsewhere)
        await send(broker)
        await broker.close()
        connection.execute("drop schema weak_elsewhere, weak_elsewhere_views cascade")


async def test_rights_that_were_taken_away_are_trouble_until_they_are_given_back(server: Server, role: str) -> None:
    broker = await PostgresBroker.open(role)
    lease = await broker.acquire(ACTOR, HOST)
    message = await send(broker, "before")
    assert lease is not None
    held = await take_one(lease)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("revoke insert, update on weak.messages from weak")
        with pytest.raises(Unavailable, match="permission denied for table messages"):
            await send(broker)
        assert "permission denied" in (broker.trouble or "")
        with pytest.raises(Unavailable, match="permission denied for table messages"):
            await settle(lease, held)
        assert lease.lost.is_set()
        connection.execute("grant insert, update on weak.messages to weak")
    again = await broker.acquire(ACTOR, HOST)
    assert again is not None
    delivery = await take_one(again)
    assert (delivery.id, delivery.attempt) == (message, 1)
    await settle(again, delivery, reply=b"1")
    await send(broker, "after")
    assert await drain(again) == ["after"]
    assert broker.trouble is None
    await broker.close()


async def test_a_host_that_stops_in_the_middle_of_a_transaction_holds_nobody_up_for_long(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has locked is its own actor's row, which the next host of the actor needs."""
    monkeypatch.setattr(session, "STALLED", 0.5)
    monkeypatch.setattr(upkeep, "POLL", 0.2)
    stalled, other = await opened(server, "stalled"), await opened(server, "stalled")
    assert await stalled.acquire(ACTOR, "stalled") is not None
    locked, over = asyncio.Event(), asyncio.Event()

    async def lock(tx: Transaction) -> None:
        await tx.rows("select 1 from agentq.actors where actor = %(actor)s for update", actor=ACTOR)
        locked.set()
        await over.wait()

    try:
        working = asyncio.ensure_future(stalled.database.run(lock))
        await locked.wait()
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("update stalled.sessions set until = 0 where session = %s", [stalled.session])
        async with asyncio.timeout(30):
            acquired = None
            while acquired is None:
                await asyncio.sleep(0.1)
                with suppress(Unavailable):  # on a busy machine its own transactions may stall for half a second
                    acquired = await other.acquire(ACTOR, "other")
        over.set()
        with pytest.raises(Unavailable):  # it was undone; the host cannot know
            await soon(working)
    finally:
        over.set()
        await stalled.close()
        await other.close()


async def test_a_session_is_renewed_as_soon_as_there_is_a_connection_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Little may be left of it: the usual time between two renewals could be too long."""
    monkeypatch.setattr(session, "RENEWAL", 0.01)
    connect = session.Renewal._connect
    connections: list[object] = []

    def connected(renewal: session.Renewal) -> psycopg.Connection[tuple[object, ...]]:
        if connections:
            monkeypatch.setattr(session, "RENEWAL", 3600.0)
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("update renewed.sessions set until = until + 1000")
        connections.append(connect(renewal))
        return connections[-1]  # type: ignore[return-value]  # what connect returns

    monkeypatch.setattr(session.Renewal, "_connect", connected)
    broker = await opened(server, "renewed")
    is_renewed = "select until < extract(epoch from now()) + 100 from renewed.sessions"
    with psycopg.connect(server.url, autocommit=True) as connection:
        ended = (
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where query like '%update renewed.sessions set until =%' and pid <> pg_backend_pid()"
        )
        await until(lambda: connection.execute(ended).fetchone() is not None)  # once it has begun to renew
        await until(lambda: len(connections) >= 2)  # once there were four, for a reason that is not known
        await until(lambda: connection.execute(is_renewed).fetchone() == (True,))
    await broker.close()


async def test_connections_notice_a_network_that_lets_nothing_through_in_seconds(server: Server) -> None:
    address = parse_address(f"{server.url}?keepalives_idle=7")
    with psycopg.connect(address.conninfo) as connection:
        endpoint = socket.socket(fileno=os.dup(connection.fileno()))
    with endpoint:
        assert endpoint.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert endpoint.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
            assert endpoint.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 3
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert endpoint.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000
