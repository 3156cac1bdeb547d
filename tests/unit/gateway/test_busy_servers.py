"""A server that takes no more requests for a while: the client asks again, for nothing was done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from agentq_nb import create_client
from agentq_nb.errors import Refused
from tests.unit.gateway.cutting_proxy import read_message

pytestmark = pytest.mark.anyio

BUSY = json.dumps({"group": "gateway", "code": "busy", "message": "Come again.", "metadata": {"status": 503}}).encode()
DESCRIBED = json.dumps([1, 0.0, {}]).encode()


@pytest.fixture
async def refusals() -> AsyncIterator[list[str]]:
    """The url of a server, and a word for each time that it is to say that it is busy."""
    left: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        status, body = ("503 Service Unavailable", BUSY) if left.pop(1) == "busy" else ("200 OK", DESCRIBED)
        writer.write(f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        left.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        yield left
        server.close()


async def test_a_busy_server_is_asked_again(refusals: list[str]) -> None:
    url = refusals[0]
    refusals += ["busy", "busy", "ready"]
    await create_client(url)._transport.ready()
    assert refusals == [url]


async def test_a_server_that_stays_busy_says_so(refusals: list[str]) -> None:
    url = refusals[0]
    refusals += ["busy"] * 1000
    client = create_client(url)
    client._transport._remote._patience = 0.3  # type: ignore[attr-defined]  # the remote one
    with pytest.raises(Refused, match="Come again"):
        await client._transport.ready()
    assert len(refusals) < 1000
