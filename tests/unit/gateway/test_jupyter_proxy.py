"""The server behind a real Jupyter server with jupyter-server-proxy, as on JupyterHub and Binder."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from agentq_nb import Registry, create_client
from agentq_nb._gateway.server import proxy_url
from tests.browser.serving import JupyterServer
from tests.unit.gateway.deliveries import SECRET, encoded, github_signature
from tests.unit.gateway.raw_client import TOKEN, Reply, ask
from tests.unit.gateway.test_events import listening
from tests.unit.gateway.test_http import MAIN

pytestmark = pytest.mark.anyio

PREFIX = "/user/ann/"


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    class UnderPrefix(JupyterServer):
        @property
        def url(self) -> str:
            return super().url + PREFIX.rstrip("/")

    home = tmp_path_factory.mktemp("home")
    options = [f"--ServerApp.base_url={PREFIX}", "--ServerApp.allow_remote_access=True"]
    with UnderPrefix(tmp_path_factory.mktemp("root"), home, "server", options=options) as server:
        yield server


@pytest.fixture(autouse=True)
def in_jupyter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", PREFIX)
    monkeypatch.delenv("JUPYTERHUB_PUBLIC_URL", raising=False)


@pytest.fixture
async def path(registry: Registry) -> str:
    server: Any = await registry.serve(port=0, token=TOKEN)
    assert server.proxy_url == f"/user/ann/proxy/{server.port}"
    return server.proxy_url


async def through(
    jupyter: JupyterServer, method: str, path: str, body: Any = b"", *, token: str | None = TOKEN, **headers: Any
) -> Reply:
    """Ask by the public name, with Jupyter's token and the server's."""
    origin = jupyter.url.removesuffix(PREFIX.rstrip("/"))
    fields: dict[str, Any] = {"host": "hub.example.org", "authorization": f"token {jupyter.token}", **headers}
    return await ask(origin, method, path, body, token=token, **fields)


async def test_sends_and_actions_pass_through_under_the_public_name(
    jupyter: JupyterServer, path: str, registry: Registry
) -> None:
    assert (await through(jupyter, "GET", f"{path}/health")).json == {"status": "ok"}
    sent = await through(
        jupyter, "POST", f"{path}/gateway/taskRunner/queue/tasks?{MAIN}", {"body": {"a": 1}, "wait": True}
    )
    assert sent.json == {"status": "completed", "response": {"echo": {"a": 1}}}
    slashes = "rvt-method=getOrCreate&rvt-key=a%2Fb"
    assert (
        await through(jupyter, "POST", f"{path}/gateway/taskRunner/action/add?{slashes}", {"args": [2]})
    ).status == 200
    assert "task_runner/a%2Fb" in {actor.actor_id for actor in (await registry.status()).actors}
    assert b"agentq_uptime_seconds" in (await through(jupyter, "GET", f"{path}/metrics")).body


async def test_the_servers_token_is_needed_there_too(jupyter: JupyterServer, path: str) -> None:
    refused = await through(
        jupyter, "POST", f"{path}/gateway/taskRunner/action/add?{MAIN}", {"args": [1]}, token="wrong"
    )
    assert (refused.status, refused.code) == (401, "gateway.wrong_token")


async def test_a_page_of_jupyter_may_call_and_a_foreign_one_may_not(jupyter: JupyterServer, path: str) -> None:
    where = f"{path}/gateway/taskRunner/action/add?{MAIN}"
    own = await through(jupyter, "POST", where, {"args": [1]}, origin="https://hub.example.org")
    assert own.json == {"output": 1}
    foreign = await through(jupyter, "POST", where, {"args": [1]}, origin="https://evil.example")
    assert foreign.status == 403


async def test_a_signed_delivery_comes_through(jupyter: JupyterServer, path: str, registry: Registry) -> None:
    registry.webhook("github", to="task_runner", queue="tasks", secret=SECRET)
    body = encoded({"action": "opened"})
    reply = await through(
        jupyter,
        "POST",
        f"{path}/webhook/github",
        body,
        x_hub_signature_256=github_signature(body),
        x_rivet_token="none",
    )
    assert reply.status == 202
    result = await create_client().receipt(reply.json["message_id"]).result(timeout=30)
    assert result.unwrap() == {"echo": {"action": "opened"}}


async def test_events_stream_through_as_they_happen(jupyter: JupyterServer, path: str) -> None:
    origin = jupyter.url.removesuffix(PREFIX.rstrip("/"))
    fields = {"accept": "text/event-stream", "authorization": f"token {jupyter.token}", "x_rivet_token": TOKEN}
    async with listening(origin, f"{path}/events", **fields) as stream:
        assert await stream.block() == "retry: 2000"
        await create_client().task_runner.get_or_create("main").send("tasks", 1)
        assert (await stream.until("message.completed"))[-1].facts["actor"] == "task_runner/main"


async def test_a_websocket_connects_through_it(jupyter: JupyterServer, path: str) -> None:
    parts = urlsplit(jupyter.url)
    protocols = ["rivet", "rivet_encoding.json", f"rivet_token.{TOKEN}"]
    url = f"ws://{parts.netloc}{path}/gateway/taskRunner/connect?{MAIN}"
    request = HTTPRequest(url, headers={"Authorization": f"token {jupyter.token}"})
    async with asyncio.timeout(30):
        connection = await websocket_connect(request, subprotocols=protocols)
        first = json.loads(await connection.read_message() or "null")
    assert first["body"]["tag"] == "Init"
    connection.close()


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, None),
        ({"JUPYTERHUB_SERVICE_PREFIX": "/user/ann/"}, "/user/ann/proxy/6420"),
        (
            {"JUPYTERHUB_SERVICE_PREFIX": "/user/ann/", "JUPYTERHUB_PUBLIC_URL": "https://hub.example.org/user/ann/"},
            "https://hub.example.org/user/ann/proxy/6420",
        ),
        ({"JPY_PARENT_PID": "nonsense"}, None),
        ({"JPY_PARENT_PID": "41"}, None),
        ({"JPY_PARENT_PID": "42"}, "http://localhost:8888/base/proxy/6420"),
    ],
)
def test_the_url_is_built_from_what_jupyter_tells(
    environment: dict[str, str], url: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "jpserver-42.json").write_text('{"url": "http://localhost:8888/base/", "base_url": "/base/"}')
    assert proxy_url(6420, environment) == url


async def test_the_proxys_header_opens_nothing_outside_jupyter(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("JUPYTERHUB_SERVICE_PREFIX", "JUPYTERHUB_PUBLIC_URL", "JPY_PARENT_PID"):
        monkeypatch.delenv(name, raising=False)
    server = await registry.serve(port=0, token=TOKEN)
    reply = await ask(server.url, "GET", "/actors?actor_ids=a", host="evil.example", x_proxycontextpath="/proxy/1")
    assert (reply.status, reply.code) == (403, "gateway.host_refused")
