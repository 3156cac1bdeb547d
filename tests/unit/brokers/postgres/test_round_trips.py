"""How often the broker waits for the server, counted between the two: on a network each time costs what its latency is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest
from psycopg import conninfo

from agentq_nb._brokers.messages import Commit, Settlement, Take
from agentq_nb._brokers.postgres.broker import PostgresBroker
from tests.unit.brokers.conformance.words import ACTOR, HOST, new_message, send, settle, take_one

pytestmark = pytest.mark.anyio


class Counter:
    """Stands between a program and the server. A round trip: what is sent after the server has answered."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._trips: list[int] = []
        self._connections = set[asyncio.Task[None]]()

    async def start(self) -> int:
        """Return the port to connect to."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def of(self, call: Callable[[], Awaitable[object]]) -> int:
        """Return how many round trips a call makes at least: what runs beside it may need a connection at that moment."""
        least = 100
        for _ in range(4):
            before = list(self._trips)
            await call()
            before += [0] * (len(self._trips) - len(before))
            least = min(least, max(after - earlier for earlier, after in zip(before, self._trips, strict=True)))
        return least

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(asyncio.create_task(self._pass_on(reader, writer)))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, answered = len(self._trips), True
        self._trips.append(0)

        async def asked() -> None:
            nonlocal answered
            while data := await reader.read(65536):
                self._trips[number] += answered
                answered = False
                to_server.write(data)
            to_server.close()

        async def answer() -> None:
            nonlocal answered
            while data := await from_server.read(65536):
                answered = True
                writer.write(data)
            writer.close()

        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        with suppress(ConnectionError):
            await asyncio.gather(asked(), answer())


@pytest.fixture
async def counter(postgres_url: str) -> AsyncIterator[Counter]:
    counter = Counter(int(str(conninfo.conninfo_to_dict(postgres_url)["port"])))
    yield counter
    await counter.close()


@pytest.fixture
async def broker(store: str, postgres_url: str, counter: Counter) -> AsyncIterator[PostgresBroker]:
    port = conninfo.conninfo_to_dict(postgres_url)["port"]
    broker = await PostgresBroker.open(store.replace(f":{port}/", f":{await counter.start()}/"))
    yield broker
    await broker.close()


async def test_a_lone_message_is_sent_in_one(broker: PostgresBroker, counter: Counter) -> None:
    assert await counter.of(lambda: broker.enqueue([new_message("x")])) == 1


async def test_a_message_with_a_key_is_sent_in_two(broker: PostgresBroker, counter: Counter) -> None:
    keys = iter("abcd")
    assert await counter.of(lambda: broker.enqueue([new_message("x", idempotency_key=next(keys))])) == 2


async def test_a_message_is_settled_and_the_next_one_taken_in_two(broker: PostgresBroker, counter: Counter) -> None:
    for number in range(5):
        await send(broker, number)
    lease = await broker.acquire(ACTOR, HOST)
    assert lease is not None
    held = [await take_one(lease)]

    async def turn() -> None:
        held[:] = await lease.turn(Commit([Settlement(held[0], "completed", reply=b"1")]), Take(None, 1, 0))

    assert await counter.of(turn) == 2


async def test_messages_are_settled_in_two(broker: PostgresBroker, counter: Counter) -> None:
    for number in range(4):
        await send(broker, number)
    lease = await broker.acquire(ACTOR, HOST)
    assert lease is not None
    held = list(await lease.turn(None, Take(None, 4, 0)))
    assert await counter.of(lambda: settle(lease, held.pop(), reply=b"1")) == 2
