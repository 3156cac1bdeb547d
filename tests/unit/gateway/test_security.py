"""What an attacker tries: nothing of it reaches an actor, and nothing secret is logged."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from agentq_nb import Registry
from agentq_nb._gateway import access, listener
from agentq_nb._gateway.access import TokenAccess
from agentq_nb._gateway.request import Request
from agentq_nb._gateway.server import HttpServer
from agentq_nb._host.registry_server import Server
from agentq_nb.errors import Refused
from tests.unit.gateway.raw_client import TOKEN, ask, connect, exchange
from tests.unit.gateway.websocket_client import WebSocket

pytestmark = pytest.mark.anyio

MAIN = "rvt-method=getOrCreate&rvt-key=main"
ADD = f"/gateway/taskRunner/action/add?{MAIN}"
CONNECT = f"/gateway/taskRunner/connect?{MAIN}"
IDLE = int(os.environ.get("AGENTQ_IDLE_CONNECTIONS", "500"))


async def nothing_was_done(registry: Registry) -> bool:
    return (await registry.status()).actors == [] and len(await registry.messages()) == 0


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "token", "headers", "status"),
    [
        (CONNECT, None, {}, 401),
        (CONNECT, "wrong", {}, 401),
        (CONNECT, TOKEN + "x", {}, 401),
        (CONNECT, TOKEN, {"x_rivet_token": "wrong"}, 401),
        (f"/gateway/taskRunner.main@wrong/connect?{MAIN}", TOKEN, {}, 401),
        (CONNECT, None, {"cookie": f"rvt-token={TOKEN}"}, 401),
        (CONNECT, TOKEN, {"origin": "https://attacker.example"}, 403),
        (CONNECT, TOKEN, {"origin": "null"}, 403),
        (CONNECT, TOKEN, {"host": "attacker.example"}, 403),
    ],
)
async def test_a_websocket_is_let_in_as_a_request_is(
    url: str, registry: Registry, path: str, token: str | None, headers: dict[str, str], status: int
) -> None:
    websocket = await WebSocket.open(url, path, token=token, **headers)
    assert websocket.answer.status == status
    assert websocket.answer.headers["content-type"] == "application/json"
    websocket.close()
    assert await nothing_was_done(registry)


async def test_a_token_that_is_given_twice_must_be_right_both_times(url: str, registry: Registry) -> None:
    host = urlsplit(url).netloc
    for first, second in ((TOKEN, "wrong"), ("wrong", TOKEN), (TOKEN, TOKEN)):
        sent = f"POST {ADD} HTTP/1.1\r\nhost: {host}\r\nx-rivet-token: {first}\r\nx-rivet-token: {second}\r\n\r\n"
        assert (await exchange(url, sent.encode())).status == 401
    assert await nothing_was_done(registry)


async def test_every_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    compare_digest = hmac.compare_digest

    def compare(offered: bytes, token: bytes) -> bool:
        compared.append(offered)
        assert token == TOKEN.encode()
        return compare_digest(offered, token)

    monkeypatch.setattr(access.hmac, "compare_digest", compare)
    policy = TokenAccess(TOKEN, "127.0.0.1")
    wrong = [TOKEN[:-1], "", "x", TOKEN + "x", "é"]
    for token in wrong:
        with pytest.raises(Refused, match="not the server's token"):
            policy.check(_with_token(token))
    policy.check(_with_token(TOKEN))
    assert compared == [token.encode() for token in (*wrong, TOKEN)]


def _with_token(token: str) -> Request:
    return Request("POST", "/actors", "", {"host": "127.0.0.1", "x-rivet-token": token}, "http")


async def test_refusals_are_logged_without_anything_secret(
    url: str, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = [TOKEN, "nearly-" + TOKEN, "sk-in-a-body", "sk-in-a-key"]
    headers: Any
    with caplog.at_level(logging.DEBUG):
        for path, headers in (
            (f"{ADD}&rvt-token=nearly-{TOKEN}&x=sk-in-a-key", {}),
            (f"/gateway/sk-in-a-key@{TOKEN}x/action/add", {}),
            (ADD, {"authorization": f"Bearer nearly-{TOKEN}"}),
            (ADD, {"x_rivet_token": TOKEN, "host": "attacker.example"}),
            (ADD, {"x_rivet_token": TOKEN, "origin": "https://attacker.example"}),
        ):
            reply = await ask(url, "POST", path, b"sk-in-a-body", token=None, **headers)
            assert reply.status in (401, 403)
            assert not any(secret in reply.body.decode() for secret in secrets)
        head = f"POST {ADD} HTTP/1.1\r\nhost: localhost\r\nx-rivet-token: {TOKEN}\r\ncontent-length: 99999999\r\n\r\n"
        assert (await exchange(url, head.encode())).status == 413
        await WebSocket.open(url, CONNECT, token="nearly-" + TOKEN)
    refusals = [record.getMessage() for record in caplog.records if record.name == "agentq.gateway"]
    assert refusals == [
        *["A request over http was refused: 401 gateway.wrong_token"] * 3,
        "A request over http was refused: 403 gateway.host_refused",
        "A request over http was refused: 403 gateway.origin_refused",
        "A request over http was refused: 413 gateway.too_large",
        "A request over http was refused: 401 gateway.wrong_token",
    ]
    assert not any(secret in caplog.text for secret in secrets)
    assert await nothing_was_done(registry)


# --- names and paths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/gateway/taskRunner/action/../action/add",
        "/gateway/taskRunner/action/..%2f..%2fadd",
        "/gateway/..%2ftaskRunner/action/add",
        "/gateway/taskRunner/action/add%00",
        "/gateway/taskRunner%00/action/add",
        "/gateway/taskRunner/action/add%0d%0ax-injected:%201",
        "/gateway/taskRunner/action/__class__",
        "/gateway/taskRunner/action/destroy",
        "/gateway/taskRunner/action/save_state",
        "/gateway/taskRunner/action/%61dd/",
        "/gateway/taskRunner/action/",
        "/gateway//action/add",
        "/gateway/taskRunner.main/action/add",
        "/gateway/taskRunner.main~/action/add",
        "/gateway/taskRunner.~zz/action/add",
        "/gateway/taskRunner.main%2fother/action/add",
        "/gateway/task_runner\\..\\x/action/add",
        "/gateway/%ef%bc%b4askRunner/action/add",
        "/GATEWAY/taskRunner/action/add",
        "/gateway;x/taskRunner/action/add",
    ],
)
async def test_a_path_that_is_none_reaches_nothing(url: str, registry: Registry, path: str) -> None:
    reply = await ask(url, "POST", f"{path}?{MAIN}" if "." not in path else path, {"args": [1]})
    assert reply.status in (400, 404), reply.body
    assert "x-injected" not in reply.headers
    actors = [actor.actor_id for actor in (await registry.status()).actors]
    assert actors in ([], ["task_runner/main"])  # one that was made for an action that it has not
    assert all(actor.state is None or actor.queues == [] for actor in (await registry.status()).actors)


@pytest.mark.parametrize(
    "key", ["..", "../..", "/etc/passwd", "a\x00b", "a\nb", "\u202e", "a" * 3000, " ", "~", "%2F", "."]
)
async def test_any_key_is_only_a_key(url: str, registry: Registry, key: str, tmp_path: Path) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    path = f"/gateway/taskRunner/action/add?rvt-method=getOrCreate&rvt-key={quote(key, safe='')}"
    first, second = [await ask(url, "POST", path, {"args": [1]}) for _ in range(2)]
    if first.status == 200:
        assert (first.json, second.json) == ({"output": 1}, {"output": 2})
    else:
        assert (first.status, second.status) == (400, 400)
        assert await nothing_was_done(registry)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


# --- requests that proxies and servers read differently ---------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        "content-length: 12\r\ntransfer-encoding: chunked",
        "content-length: 12\r\ncontent-length: 5",
        "content-length: -1",
        "content-length: +12",
        "content-length: 0x0c",
        "content-length: 1 2",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
        "transfer-encoding: gzip, chunked",
        " folded: x",
        "x-name : y",
        "no colon",
        "x-null: a\x00b",
    ],
)
async def test_a_request_that_can_be_read_in_two_ways_is_not_carried_out(
    url: str, registry: Registry, lines: str
) -> None:
    head = f"POST {ADD} HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\nx-rivet-token: {TOKEN}\r\n{lines}\r\n\r\n"
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        async with asyncio.timeout(10):
            assert (await exchange(url, head.encode() + b'c\r\n{"args":[1]}\r\n0\r\n\r\n')).status >= 400
    assert await nothing_was_done(registry)
    assert (await ask(url, "GET", "/health")).status == 200


async def test_a_target_with_another_host_is_no_way_in(url: str, registry: Registry) -> None:
    for target in ("http://attacker.example/health", "//attacker.example/health", "*", "attacker.example:80"):
        sent = f"GET {target} HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\nx-rivet-token: {TOKEN}\r\n\r\n"
        assert (await exchange(url, sent.encode())).status in (400, 403, 404, 405)
    assert await nothing_was_done(registry)


async def test_nothing_of_a_request_is_reflected_in_headers(url: str) -> None:
    for ray in ("x" * 101, "é", "a\tb\x7f"):
        reply = await ask(url, "POST", "/nothing", {}, x_rivet_ray_id=ray)
        assert reply.status in (400, 404)
        assert "x-rivet-ray-id" not in reply.headers


# --- slow and many ----------------------------------------------------------------------------------------------------


async def test_headers_that_come_drop_by_drop_end_the_connection(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_IDLE_TIMEOUT", 0.3)
    server = await registry.serve(port=0, token=TOKEN)
    reader, writer = await connect(server.url)
    writer.write(b"POST / HTTP/1.1\r\n")
    ended = asyncio.create_task(reader.read(-1))
    async with asyncio.timeout(20):
        while not ended.done():
            with suppress(ConnectionError):
                writer.write(b"x: y\r\n")
                await writer.drain()
            await asyncio.sleep(0.02)
    assert ended.result() == b""
    writer.close()


async def test_many_idle_connections_hold_nobody_up_and_cost_little(server: Server) -> None:
    assert isinstance(server, HttpServer)
    opened, most = server._listener.open_connections, server._listener.router.load.limits.connections
    address = ("127.0.0.1", server.port)
    before = _memory()
    idle: list[socket.socket] = []
    try:
        for number in range(IDLE):
            connection = socket.create_connection(address, timeout=10)
            connection.sendall(b"GET /health HTTP/1.1\r\n" if number % 2 else b"")
            idle.append(connection)
            if not number % 200:
                await asyncio.sleep(0)
                begun = time.monotonic()
                assert (await ask(server.url, "POST", ADD, {"args": [1]})).status == 200
                assert time.monotonic() - begun < 5
        await _until(lambda: len(opened) >= min(IDLE, most) - 1)
        assert len(opened) <= most
        assert (await ask(server.url, "GET", "/health", token=None)).status == 200
        assert _memory() - before < 200 * 1024 * 1024
    finally:
        for connection in idle:
            connection.close()
    await _until(lambda: len(opened) == 0)


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)
