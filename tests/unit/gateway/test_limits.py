"""What a server takes on at the same time, and how it refuses more: with a status, a body and a time to come again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from agentq_nb import Registry, create_client
from agentq_nb._gateway import http_handler, http_server, listener, load, websocket_handler
from agentq_nb._gateway.load import Limits, Load, OpenConnections
from agentq_nb._gateway.server import HttpServer
from agentq_nb.errors import Refused
from tests.unit.gateway.raw_client import TOKEN, Reply, ask, connect, exchange, read_reply
from tests.unit.gateway.websocket_client import TEXT, WebSocket, masked

pytestmark = pytest.mark.anyio

MAIN = "rvt-method=getOrCreate&rvt-key=main"
WAIT = f"/gateway/taskRunner/action/wait?{MAIN}"
CONNECT = f"/gateway/taskRunner/connect?{MAIN}"


class Server:
    """A server with limits of the test's own."""

    def __init__(self, server: HttpServer) -> None:
        self.url = server.url
        self.listener = server._listener
        self.load = self.listener.router.load

    async def freed(self) -> None:
        """Return once nothing is taken any more."""
        async with asyncio.timeout(10):
            while any(self.load.counts.values()) or self.load.bytes or self.load.unsent:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def taken(self, kind: load.Kind, count: int) -> None:
        """Return once so many places of a kind are taken."""
        async with asyncio.timeout(10):
            while self.load.counts[kind] != count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


Serve = Callable[..., Coroutine[Any, Any, Server]]


@pytest.fixture
def serve(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Serve:
    async def serve(**limits: int) -> Server:
        monkeypatch.setattr(Limits, "of_this_process", classmethod(lambda cls: Limits(**limits)))
        server = await registry.serve(port=0, token=TOKEN)
        assert isinstance(server, HttpServer)
        return Server(server)

    return serve


def head(url: str, path: str = WAIT, *, token: str | None = TOKEN, **fields: str) -> bytes:
    """Return the head of a POST."""
    fields = {"host": urlsplit(url).netloc, **({} if token is None else {"x-rivet-token": token}), **fields}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode()


def is_busy(reply: Reply, word: str) -> None:
    assert (reply.status, reply.code) == (503, "gateway.busy")
    assert int(reply.headers["retry-after"]) > 0
    assert word in reply.json["message"]


# --- sizes ------------------------------------------------------------------------------------------------------------


async def test_headers_that_are_too_large_are_refused(serve: Serve) -> None:
    server = await serve()
    for large in ({"x_large": "x" * http_server.MAX_HEADERS}, {"token": TOKEN, "path": WAIT + "&x=" + "x" * 70_000}):
        reply = await exchange(server.url, head(server.url, **large))
        assert (reply.status, reply.code) == (431, "gateway.headers_too_large")
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await exchange(server.url, head(server.url, x_large="x" * 300_000))
    await server.freed()


async def test_a_body_that_is_too_large_is_refused_unread(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_handler, "MAX_BODY", 1000)
    server = await serve()
    reply = await exchange(server.url, head(server.url, content_length="1001"))
    assert (reply.status, reply.code, reply.json["metadata"]["limit"]) == (413, "gateway.too_large", 1000)
    chunked = head(server.url, transfer_encoding="chunked") + b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\nx\r\n"
    reply = await exchange(server.url, chunked)
    assert (reply.status, reply.code) == (413, "gateway.too_large")
    assert reply.headers["connection"] == "close"
    await server.freed()


@pytest.mark.parametrize("framing", [{"content_length": "5"}, {"transfer_encoding": "chunked"}])
@pytest.mark.parametrize(("method", "path"), [("GET", "/health"), ("OPTIONS", WAIT)])
async def test_a_request_that_needs_no_token_has_no_body(
    serve: Serve, method: str, path: str, framing: dict[str, str]
) -> None:
    server = await serve()
    sent = head(server.url, path, token=None, **framing).replace(b"POST", method.encode())
    reply = await exchange(server.url, sent + b"5\r\nabcde\r\n")
    assert (reply.status, reply.code, reply.json["metadata"]["limit"]) == (413, "gateway.too_large", 0)


# --- slow clients -----------------------------------------------------------------------------------------------------


async def test_a_body_that_does_not_come_is_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "BODY_TIMEOUT", 0.3)
    server = await serve()
    reader, writer = await connect(server.url)
    writer.write(head(server.url, content_length="1000"))
    asked = asyncio.create_task(read_reply(reader))
    while not asked.done():
        with suppress(ConnectionError):
            writer.write(b"x")
            await writer.drain()
        await asyncio.sleep(0.02)
    reply = asked.result()
    assert (reply.status, reply.code) == (408, "gateway.too_slow")
    await server.freed()
    writer.close()


async def test_a_client_that_does_not_read_its_response_is_cut_off(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "BODY_TIMEOUT", 0.5)
    server = await serve()
    reader, writer = await connect(server.url)
    body = b'{"args":["%b"]}' % (b"x" * 20_000_000)
    sent = head(server.url, f"/gateway/taskRunner/action/echo?{MAIN}", content_length=str(len(body)))
    writer.write(sent + body)
    await writer.drain()
    await server.taken("requests", 1)
    await server.freed()
    async with asyncio.timeout(10):
        with suppress(ConnectionError):
            assert len(await reader.read(-1)) < len(body)
    writer.close()


async def test_a_websocket_that_does_not_read_is_closed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_handler, "_MAX_UNSENT", 1_000_000)
    server = await serve()
    websocket = await WebSocket.open(server.url, CONNECT)
    for number in range(100):
        with suppress(ConnectionError):
            await websocket.send("ActionRequest", id=number, name="echo", args=["x" * 200_000])
    await server.taken("websockets", 0)
    await server.freed()
    assert (server.load.bytes, server.load.unsent) == (0, 0)
    websocket.close()


# --- how many ---------------------------------------------------------------------------------------------------------


async def test_requests_beyond_the_limit_are_refused_until_others_are_answered(serve: Serve) -> None:
    server = await serve(requests=2)
    under_way = [asyncio.create_task(ask(server.url, "POST", WAIT, {"args": [0.5]})) for _ in range(2)]
    await server.taken("requests", 2)
    is_busy(await ask(server.url, "POST", WAIT, {"args": [0]}), "2 requests under way")
    assert (await ask(server.url, "GET", "/health", token=None)).status == 200
    assert [reply.status for reply in await asyncio.gather(*under_way)] == [200, 200]
    assert (await ask(server.url, "POST", WAIT, {"args": [0]})).status == 200
    await server.freed()


@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_beyond_the_limit_of_all_together_are_refused(serve: Serve, chunked: bool) -> None:
    server = await serve(bytes=10_000)
    reader, writer = await connect(server.url)
    writer.write(head(server.url, content_length="9000") + b"x")
    await server.taken("requests", 1)
    is_busy(await ask(server.url, "POST", WAIT, b"x" * 2000, chunked=chunked), "MiB of requests")
    assert (await ask(server.url, "POST", WAIT, {"args": [0]}, chunked=chunked)).status == 200
    writer.close()
    await server.freed()
    assert await reader.read(-1) == b""


async def test_waits_leave_room_for_other_requests(serve: Serve) -> None:
    server = await serve(waits=2)
    small = f"/gateway/taskRunner/queue/typed?{MAIN}"
    handle = f"/gateway/taskRunner/queue/small?{MAIN}"
    waiting = asyncio.create_task(ask(server.url, "POST", handle, {"body": 1, "wait": True, "timeout": 20000}))
    other = handle.replace("main", "other")
    also = asyncio.create_task(ask(server.url, "POST", other, {"body": 1, "wait": True, "timeout": 20000}))
    await server.taken("waits", 2)
    is_busy(await ask(server.url, "POST", small, {"body": 1, "wait": True}), "2 requests that wait")
    assert (await ask(server.url, "POST", small, {"body": 1})).json == {"status": "completed"}
    waiting.cancel()
    await server.taken("waits", 1)
    assert (await ask(server.url, "POST", small, {"body": 1, "wait": True})).status == 200
    also.cancel()
    await server.freed()


async def test_waits_of_python_clients_leave_room_for_other_requests(serve: Serve) -> None:
    server = await serve(waits=2)
    client = create_client(server.url, token=TOKEN)
    runner = client.task_runner.get_or_create("main")
    receipt = await runner.send("small", 1)  # nothing takes it
    runner.on("added", print)
    waiting = asyncio.create_task(receipt.result())
    await server.taken("waits", 2)
    third = asyncio.create_task(runner.send("typed", 7, wait=True))
    assert await runner.send("typed", 1)
    assert await runner.echo("here") == "here"
    assert not third.done()
    waiting.cancel()
    assert (await third).unwrap() == 7


async def test_websockets_beyond_the_limit_are_refused_before_they_open(serve: Serve) -> None:
    server = await serve(websockets=1)
    first = await WebSocket.open(server.url, CONNECT)
    assert first.answer.status == 101
    is_busy((await WebSocket.open(server.url, CONNECT)).answer, "1 WebSockets open")
    first.close()
    await server.taken("websockets", 0)
    assert (await WebSocket.open(server.url, CONNECT)).answer.status == 101


async def test_a_handshake_that_is_none_takes_no_place(serve: Serve) -> None:
    server = await serve(websockets=1)
    for _ in range(3):
        assert (await WebSocket.open(server.url, CONNECT, sec_websocket_version="1")).answer.status in (400, 426)
        assert (await WebSocket.open(server.url, CONNECT, upgrade="other")).answer.status in (400, 426)
        assert (await WebSocket.open(server.url, CONNECT, token=None)).answer.status == 401
    assert (await WebSocket.open(server.url, CONNECT)).answer.status == 101


async def test_an_action_beyond_the_limit_is_refused_and_its_websocket_stays_open(serve: Serve) -> None:
    server = await serve(requests=2)
    websocket = await WebSocket.open(server.url, CONNECT)
    assert (await websocket.told())[0] == "Init"
    for number in range(3):
        await websocket.send("ActionRequest", id=number, name="wait", args=[0.5])
    tag, error = await websocket.told()
    assert (tag, error["group"], error["code"], error["actionId"]) == ("Error", "gateway", "busy", ["$BigInt", "2"])
    assert {(await websocket.told())[0] for _ in range(2)} == {"ActionResponse"}
    await websocket.send("ActionRequest", id=4, name="wait", args=[0])
    assert (await websocket.told())[1] == {"id": ["$BigInt", "4"], "output": "done"}
    websocket.close()
    await server.freed()


async def test_a_frame_that_is_too_large_ends_its_websocket(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MAX_FRAME", 1000)
    server = await serve()
    whole = await WebSocket.open(server.url, CONNECT)
    await whole.frame(b"x" * 1001, TEXT)
    assert (await whole.closed())[0] == 1009
    parts = await WebSocket.open(server.url, CONNECT)
    for opcode in (TEXT, 0, 0):
        parts.writer.write(masked(b"x" * 500, opcode, final=False))
    assert (await parts.closed())[0] == 1009
    whole.close()
    parts.close()
    await server.freed()


# --- connections ------------------------------------------------------------------------------------------------------


async def test_a_connection_beyond_the_limit_ends_the_one_that_is_idle_longest(serve: Serve) -> None:
    server = await serve(connections=3)
    first, second, third = [await connect(server.url) for _ in range(3)]
    async with asyncio.timeout(10):
        while len(server.listener.open_connections) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    first[1].write(head(server.url, content_length="11") + b'{"args":[1')  # at work while its body comes
    await server.taken("requests", 1)
    assert (await ask(server.url, "GET", "/health")).status == 200
    assert await second[0].read(-1) == b""
    third[1].write(f"GET /health HTTP/1.1\r\nhost: {urlsplit(server.url).netloc}\r\n\r\n".encode())
    assert (await read_reply(third[0])).status == 200
    for _, writer in (first, second, third):
        writer.close()


async def test_when_all_connections_work_another_is_told_so(serve: Serve) -> None:
    server = await serve(connections=2)
    under_way = [asyncio.create_task(ask(server.url, "POST", WAIT, {"args": [0.5]})) for _ in range(2)]
    await server.taken("requests", 2)
    reply = await exchange(server.url, b"")
    assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "gateway.busy", "5")
    assert [each.status for each in await asyncio.gather(*under_way)] == [200, 200]
    async with asyncio.timeout(10):  # the server may hear later than the clients that their responses are sent
        while (reply := await ask(server.url, "POST", WAIT, {"args": [0]})).status == 503:  # noqa: ASYNC110  # no event tells of it
            await asyncio.sleep(0.01)
    assert reply.status == 200


def test_a_process_that_may_open_few_files_gets_smaller_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load.resource, "getrlimit", lambda _: (1024, 4096))
    limits = Limits.of_this_process()
    assert (limits.connections, limits.waits, limits.websockets) == (256, 128, 128)
    monkeypatch.setattr(load.resource, "getrlimit", lambda _: (1_000_000, 1_000_000))
    assert Limits.of_this_process() == Limits()


def test_a_place_that_is_refused_takes_nothing() -> None:
    taken = Load(Limits(requests=1, bytes=10))
    with pytest.raises(Refused):
        taken.enter("requests", 11)
    place = taken.enter("requests", 10)
    with pytest.raises(Refused):
        place.grow(1)
    place.leave()
    place.leave()
    assert (taken.bytes, taken.counts["requests"]) == (0, 0)


def test_what_ends_a_request_is_called_once() -> None:
    ended: list[str] = []
    closed: list[str] = []
    connections = OpenConnections[str](1, closed.append)
    assert connections.admit()
    connections.rest("a")
    connections.work("a", lambda: ended.append("a"))
    assert not connections.admit()
    connections.rest("a")
    connections.closed("a")
    assert ended == ["a"]
    connections.rest("b")
    assert connections.admit()
    assert closed == ["b"]
    connections.closed("b")
    assert len(connections) == 0
