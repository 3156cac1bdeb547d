"""Who is let in: the token, the server's names, and pages of other origins."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

import pytest

from agentq_nb import Registry
from tests.unit.gateway.raw_client import TOKEN, ask

pytestmark = pytest.mark.anyio

ADD = "/gateway/taskRunner/action/add?rvt-method=getOrCreate&rvt-key=main"


async def status(url: str, path: str = ADD, **headers: str) -> tuple[int, str]:
    reply = await ask(url, "POST", path, {"args": [1]}, token=None, **headers)
    return reply.status, "" if reply.status == 200 else reply.code


async def test_the_token_is_taken_wherever_the_client_puts_it(url: str, registry: Registry) -> None:
    assert await status(url, x_rivet_token=TOKEN) == (200, "")
    assert await status(url, authorization=f"Bearer {TOKEN}") == (200, "")
    assert await status(url, f"{ADD}&rvt-token={TOKEN}") == (200, "")
    assert await status(url, f"/gateway/taskRunner.main@{TOKEN}/action/add") == (200, "")


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        (ADD, {}, "gateway.no_token"),
        (ADD, {"cookie": f"token={TOKEN}; x-rivet-token={TOKEN}"}, "gateway.no_token"),
        (f"{ADD}&token={TOKEN}", {}, "gateway.no_token"),
        (f"{ADD}#rvt-token={TOKEN}", {}, "gateway.no_token"),
        (ADD, {"authorization": f"Basic {TOKEN}"}, "gateway.no_token"),
        (ADD, {"referer": f"http://x/?rvt-token={TOKEN}"}, "gateway.no_token"),
        (ADD, {"x_rivet_token": TOKEN + "x"}, "gateway.wrong_token"),
        (ADD, {"x_rivet_token": TOKEN[:-1]}, "gateway.wrong_token"),
        (ADD, {"x_rivet_token": ""}, "gateway.wrong_token"),
        (ADD, {"x_rivet_token": TOKEN.upper()}, "gateway.wrong_token"),
        (ADD, {"x_rivet_token": TOKEN, "authorization": "Bearer other"}, "gateway.wrong_token"),
        ("/gateway/taskRunner.main@/action/add", {}, "gateway.wrong_token"),
        ("/gateway/taskRunner.main@x/action/add", {"x_rivet_token": TOKEN}, "gateway.wrong_token"),
        ("/actors", {}, "gateway.no_token"),
        ("/nothing", {}, "gateway.no_token"),
    ],
)
async def test_without_the_token_nothing_is_done(
    url: str, path: str, headers: dict[str, str], code: str, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert await status(url, path.partition("#")[0] if "#" in path else path, **headers) == (401, code)
    assert (await registry.status()).actors == []
    assert TOKEN not in caplog.text


async def test_a_refused_request_is_answered_before_its_body_is_sent(url: str) -> None:
    reply = await ask(url, "POST", ADD, b"", token=None, expect="100-continue")
    assert (reply.status, reply.code) == (401, "gateway.no_token")
    assert reply.headers["connection"] == "close"


async def test_the_server_is_called_by_names_that_no_foreign_dns_can_point_here(url: str) -> None:
    port = urlsplit(url).port
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", f"kernel.localhost:{port}", "192.168.1.2"):
        assert await status(url, host=host, x_rivet_token=TOKEN) == (200, "")
    for host in (f"attacker.example:{port}", "localhost.attacker.example", "127.0.0.1.nip.io", "[::1"):
        assert await status(url, host=host, x_rivet_token=TOKEN) == (403, "gateway.host_refused")
        assert (await ask(url, "GET", "/health", token=None, host=host)).status == 403
    for host in ("", "a b", "localhost/x", "localhost@attacker.example"):
        assert (await ask(url, "GET", "/health", token=None, host=host)).status in (400, 403)


@pytest.mark.parametrize(
    "origin",
    [
        "https://attacker.example",
        "null",
        "http://localhost.attacker.example",
        "http://127.0.0.1.nip.io",
        "file://",
        "x",
        "http://localhost@attacker.example",
        "http://[::1",
        "chrome-extension://abc",
        "http://localhost/path",
    ],
)
async def test_a_page_of_a_foreign_origin_is_refused(url: str, origin: str) -> None:
    assert await status(url, origin=origin, x_rivet_token=TOKEN) == (403, "gateway.origin_refused")
    reply = await ask(url, "OPTIONS", ADD, token=None, origin=origin, access_control_request_method="POST")
    assert reply.status == 403
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("origin", ["http://localhost:5173", "http://127.0.0.1:3000", "https://[::1]"])
async def test_a_page_of_this_machine_may_ask_first_and_then_read_answers(url: str, origin: str) -> None:
    asked = await ask(url, "OPTIONS", ADD, token=None, origin=origin, access_control_request_method="POST")
    assert (asked.status, asked.body) == (204, b"")
    assert asked.headers["access-control-allow-origin"] == origin
    assert asked.headers["access-control-allow-credentials"] == "true"
    assert "POST" in asked.headers["access-control-allow-methods"]
    allowed = asked.headers["access-control-allow-headers"].split(", ")
    assert {"content-type", "x-rivet-encoding", "x-rivet-conn-params", "x-rivet-token", "traceparent"} <= set(allowed)
    answered = await ask(url, "POST", ADD, {"args": [1]}, origin=origin)
    assert answered.headers["access-control-allow-origin"] == origin
    refused = await ask(url, "POST", ADD, {"args": [1]}, token=None, origin=origin)
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, origin)


async def test_another_origin_may_call_when_it_is_named(registry: Registry) -> None:
    server = await registry.serve(port=0, token=TOKEN, origins=["https://app.example.org"])
    assert await status(server.url, origin="https://app.example.org", x_rivet_token=TOKEN) == (200, "")
    assert await status(server.url, host="app.example.org", x_rivet_token=TOKEN) == (200, "")
    assert await status(server.url, origin="https://other.example.org", x_rivet_token=TOKEN) == (
        403,
        "gateway.origin_refused",
    )
    assert await status(server.url, origin="https://app.example.org") == (401, "gateway.no_token")
