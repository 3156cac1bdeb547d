"""Queues on PostgreSQL through pgbouncer in transaction mode, which keeps neither LISTEN nor prepared statements."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress

import pytest

from agentq_nb._brokers.messages import Take
from agentq_nb._brokers.postgres import notifications
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb.errors import Unavailable
from tests.pooler import HOW_TO_GET_POOLER, pooler_program, running_pooler
from tests.postgres_server import Server
from tests.requirements import missing
from tests.unit.brokers.conformance.words import ACTOR, HOST, bodies, drain, new_message, send, settle, soon, take_one
from tests.unit.brokers.postgres.hosts import crash_while_sending

pytestmark = pytest.mark.anyio

Join = Callable[[], Awaitable[PostgresBroker]]


@pytest.fixture(scope="module")
def pooled_url(server: Server) -> Iterator[str]:
    with running_pooler(pooler_program() or missing(HOW_TO_GET_POOLER), server) as url:
        yield url


@pytest.fixture
async def join(pooled_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Join]:
    """Open brokers on a schema of the test's own."""
    url = f"{pooled_url}?schema=pooled_{abs(hash(request.node.name)) % 10**9}"
    async with AsyncExitStack() as stack:

        async def join() -> PostgresBroker:
            broker = await PostgresBroker.open(url)
            stack.push_async_callback(broker.close)
            return broker

        yield join


async def test_hosts_share_the_work_and_every_message_is_settled_once(join: Join) -> None:
    """Each statement is repeated more often than those that psycopg prepares, and the server's processes change."""
    brokers = [await join(), await join()]
    actors = [f"worker/{number}" for number in range(8)]

    async def work(broker: PostgresBroker, actor: str) -> list[int]:
        lease = await broker.acquire(actor, broker.session)
        assert lease is not None
        seen: list[int] = []
        for number in range(20):
            message = await send(broker, number, actor=actor)
            delivery = await take_one(lease)
            await settle(lease, delivery, reply=b"1")
            assert (await broker.wait(message, 10)).reply == b"1"
            seen += bodies([delivery])
        await lease.release()
        return seen

    works = [work(brokers[number % 2], actor) for number, actor in enumerate(actors)]
    assert await asyncio.gather(*works) == [list(range(20))] * len(actors)


async def test_what_another_host_sends_is_found_without_notifications(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "POLL", 0.2)
    sender, other = await join(), await join()
    lease = await other.acquire(ACTOR, HOST)
    assert lease is not None
    receiving = asyncio.ensure_future(lease.turn(None, Take(None)))
    hint = asyncio.ensure_future(anext(other.ready_actors({"other": None})))
    await asyncio.sleep(0.1)
    message = await send(sender, "hello")
    await send(sender, actor="other/main")
    waiting = asyncio.ensure_future(sender.wait(message, None))
    (delivery,) = await soon(receiving)
    await settle(lease, delivery, reply=b"1")
    assert (await soon(waiting)).reply == b"1"
    assert await soon(hint) == "other/main"


async def test_sessions_are_renewed_as_often_as_wanted(join: Join) -> None:
    def renew(broker: PostgresBroker) -> list[bool]:
        assert broker._renewal is not None
        with broker._renewal._connect() as connection:
            return [broker._renewal._renewed(connection) for _ in range(50)]

    brokers = [await join() for _ in range(4)]
    renewed = await asyncio.gather(*(asyncio.to_thread(renew, broker) for broker in brokers))
    assert renewed == [[True] * 50] * 4


async def test_a_server_that_dies_behind_it_and_comes_back_has_everything_that_was_acknowledged(
    join: Join, server: Server
) -> None:
    """A pooler waits between its tries to reach the server: senders may have to repeat, with the same id."""
    broker = await join()
    acknowledged: list[int] = []

    async def sender(first: int) -> None:
        for number in range(first, first + 20):
            message = new_message(number)
            while number not in acknowledged:
                with suppress(Unavailable):
                    await broker.enqueue([message])
                    acknowledged.append(number)

    await crash_while_sending(server, [sender(first) for first in range(0, 200, 20)], acknowledged, 20)
    lease = await broker.acquire(ACTOR, HOST)
    assert lease is not None
    assert sorted(await drain(lease)) == list(range(200))
