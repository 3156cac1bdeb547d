"""Requests to a server of a running host, over real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from agentq_nb import Registry, create_client
from agentq_nb._core.origin import HTTP
from agentq_nb._gateway import cbor
from agentq_nb._gateway.host_calls import HostCalls
from agentq_nb._host.registry_server import Server
from agentq_nb.errors import HostBlocked, PortInUse, ValidationFailed
from tests.unit.gateway.raw_client import TOKEN, ask, exchange

pytestmark = pytest.mark.anyio

MAIN = "rvt-namespace=default&rvt-method=getOrCreate&rvt-runner=default&rvt-key=main&rvt-crash-policy=sleep"


async def send(url: str, queue: str, body: Any, **options: Any) -> Any:
    return await ask(url, "POST", f"/gateway/taskRunner/queue/{queue}?{MAIN}", {"body": body, **options})


async def call(url: str, action: str, *args: Any, query: str = MAIN) -> Any:
    return await ask(url, "POST", f"/gateway/taskRunner/action/{action}?{query}", {"args": list(args)})


async def until(condition: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    """Return once the condition holds."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110  # the host tells of no such event
            await asyncio.sleep(0.01)


async def is_queued(registry: Registry) -> bool:
    return len(await registry.messages(queue="small")) > 0


async def is_awake() -> bool:
    return (await create_client().task_runner.get_or_create("main").status()).state == "awake"


async def test_a_message_is_durable_when_the_send_is_answered(url: str, registry: Registry) -> None:
    reply = await send(url, "tasks", {"prompt": "x"})
    assert (reply.status, reply.json) == (200, {"status": "completed"})
    frame = await registry.messages("task_runner/main")
    assert frame["body"].tolist() == [{"prompt": "x"}]


async def test_a_send_that_waits_gets_the_reply(url: str) -> None:
    reply = await send(url, "tasks", [1, None], wait=True, timeout=5000)
    assert reply.json == {"status": "completed", "response": {"echo": [1, None]}}


async def test_a_reply_of_null_is_not_the_same_as_none(url: str) -> None:
    assert (await send(url, "typed", 3, wait=True)).json == {"status": "completed", "response": 3}
    assert (await send(url, "typed", 0, wait=True)).json == {"status": "completed", "response": None}
    assert (await call(url, "maybe")).json == {"output": None}
    assert (await call(url, "nothing")).json == {"output": ["$Undefined", 0]}


async def test_a_wait_that_is_too_short_is_timed_out_and_the_message_stays(url: str, registry: Registry) -> None:
    reply = await send(url, "small", 1, wait=True, timeout=20)
    assert (reply.status, reply.json) == (200, {"status": "timedOut"})
    assert (await registry.messages(queue="small"))["status"].tolist() == ["queued"]


async def test_work_that_fails_reaches_the_client_as_an_error(url: str, registry: Registry) -> None:
    reply = await send(url, "typed", -1, wait=True)
    assert (reply.status, reply.code) == (400, "queue.failed")
    assert "no negative ones" in reply.json["message"]

    waiting = asyncio.create_task(send(url, "small", 1, wait=True))
    handle = create_client().task_runner.get_or_create("main")
    await until(lambda: is_queued(registry))
    assert await handle.purge("small") == 1
    assert (await waiting).code == "queue.cancelled"


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/gateway/taskRunner/queue/none?" + MAIN, {"body": 1}, 404, "queue.unknown"),
        ("/gateway/taskRunner/queue/typed?" + MAIN, {"body": "x"}, 400, "actor.validation_error"),
        ("/gateway/taskRunner/queue/short?" + MAIN, {"body": "x" * 100}, 400, "queue.message_too_large"),
        ("/gateway/other/queue/tasks?" + MAIN, {"body": 1}, 404, "actor.unknown"),
        ("/gateway/other/action/add?" + MAIN, {"args": []}, 404, "actor.unknown"),
        ("/gateway/taskRunner/action/none?" + MAIN, {"args": []}, 404, "actor.action_not_found"),
        ("/gateway/taskRunner/action/_mark?" + MAIN, {"args": []}, 404, "actor.action_not_found"),
        ("/gateway/taskRunner/action/on_create?" + MAIN, {"args": [1]}, 404, "actor.action_not_found"),
        ("/gateway/taskRunner/action/add?" + MAIN, {"args": ["x"]}, 400, "actor.validation_error"),
        ("/gateway/taskRunner/action/add?" + MAIN, {"args": 1}, 400, "gateway.bad_request"),
        ("/gateway/taskRunner/action/add?rvt-method=get&rvt-key=never", {"args": [1]}, 404, "actor.not_found"),
        ("/gateway/taskRunner/queue/tasks?rvt-method=get&rvt-key=never", {"body": 1}, 404, "actor.not_found"),
        ("/gateway/taskRunner.never/action/add", {"args": [1]}, 404, "actor.not_found"),
        (
            "/gateway/taskRunner/action/add?rvt-key=a&rvt-key=b&rvt-method=get",
            {"args": [1]},
            400,
            "gateway.bad_request",
        ),
        ("/gateway/taskRunner/action/add?rvt-method=get&rvt-key=%ff", {"args": [1]}, 400, "gateway.bad_request"),
        ("/gateway/taskRunner/action/add?" + MAIN + "&rvt-input=*", {"args": [1]}, 400, "gateway.bad_request"),
        ("/gateway/taskRunner/action/%ff?" + MAIN, {"args": [1]}, 400, "gateway.bad_request"),
        ("/gateway/taskRunner/action/add?" + MAIN, b"{", 400, "gateway.bad_request"),
        ("/gateway/taskRunner/action/add?" + MAIN, b"[]", 400, "gateway.bad_request"),
        ("/gateway/taskRunner/queue/tasks?" + MAIN, b"{}", 400, "gateway.bad_request"),
        ("/nothing/here", {}, 404, "gateway.no_route"),
        ("/gateway/a/b/c/d", {}, 404, "gateway.no_route"),
        ("//gateway/taskRunner/queue/tasks?" + MAIN, {"body": 1}, 404, "gateway.no_route"),
        ("/gateway/../health", {}, 404, "gateway.no_route"),
        ("/health", {}, 405, "gateway.wrong_method"),
    ],
)
async def test_what_cannot_be_done_is_a_structured_error(
    url: str, path: str, body: Any, status: int, code: str, registry: Registry
) -> None:
    reply = await ask(url, "POST", path, body)
    assert (reply.status, reply.code) == (status, code)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-rivet-error"] == code
    assert len(await registry.messages()) == 0


async def test_a_full_queue_says_so_as_rivetkit_does(url: str) -> None:
    assert (await send(url, "small", 1)).status == 200
    reply = await send(url, "small", 2)
    assert (reply.status, reply.code) == (400, "queue.full")
    assert reply.json["message"].startswith("Queue is full. Limit is 1 message")
    assert reply.json["metadata"]["limit"] == 1


async def test_an_unexpected_error_keeps_its_text_to_itself(url: str) -> None:
    reply = await call(url, "fail", "otherwise")
    assert (reply.status, reply.code) == (500, "rivetkit.internal_error")
    assert reply.json == {"group": "rivetkit", "code": "internal_error", "message": "An internal error occurred"}
    own = await call(url, "fail", "user")
    assert (own.status, own.code, own.json["message"]) == (400, "user.own", "Not this one.")
    assert own.json["metadata"] == {"pair": ["$$x", 1]}


async def test_an_action_of_a_declared_name_is_found_in_camel_case(url: str, registry: Registry) -> None:
    assert (await call(url, "ingestIssue", "a")).status == 200
    assert (await registry.messages(queue="small"))["body"].tolist() == [{"title": "a"}]


async def test_actors_are_created_found_and_called_by_their_id(url: str) -> None:
    new = {"name": "taskRunner", "key": r"a\/b/c", "input": "oWV2YWx1ZQc="}
    created = await ask(url, "POST", "/actors?namespace=default", new)
    wire_id = created.json["actor"]["actor_id"]
    assert created.json["actor"] == {"actor_id": "taskRunner.a~252Fb.c", "name": "taskRunner", "key": r"a\/b/c"}
    again = await ask(url, "POST", "/actors?namespace=default", new)
    assert (again.status, again.code) == (400, "actor.duplicate_key")
    ensured = await ask(url, "PUT", "/actors?namespace=default", new)
    assert (ensured.json["created"], ensured.json["actor"]["actor_id"]) == (False, wire_id)
    by_id = await ask(url, "GET", f"/actors?actor_ids={wire_id}&namespace=default")
    by_key = await ask(url, "GET", "/actors?name=taskRunner&key=a%5C%2Fb%2Fc&namespace=default")
    assert by_id.json == by_key.json == {"actors": [created.json["actor"]]}
    assert (await ask(url, "GET", "/actors?actor_ids=taskRunner.other")).json == {"actors": []}
    assert (await ask(url, "POST", f"/gateway/{wire_id}/action/add", {"args": [1]})).json == {"output": 8}
    python = create_client().task_runner.get(["a/b", "c"])
    assert await python.add(0) == 8


async def test_a_slash_in_a_name_or_key_is_no_separator(url: str, registry: Registry) -> None:
    for key in ("a%2Fb", "a%2Cb", "..%2F..", "%2e%2e"):
        path = f"/gateway/taskRunner/action/add?rvt-method=getOrCreate&rvt-key={key}"
        assert (await ask(url, "POST", path, {"args": [1]})).json == {"output": 1}
    status = await registry.status()
    assert {actor.actor_id for actor in status.actors} == {
        "task_runner/a%2Fb",
        "task_runner/a/b",
        "task_runner/..%2F..",
        "task_runner/..",
    }
    assert (await ask(url, "POST", f"/gateway/taskRunner/queue/tasks%2Fx?{MAIN}", {"body": 1})).code == "queue.unknown"
    assert (await ask(url, "POST", f"/gateway/task%2FRunner/queue/tasks?{MAIN}", {"body": 1})).code == "actor.unknown"


async def test_every_encoding_is_understood_in_chunks_too(url: str) -> None:
    path = f"/gateway/taskRunner/queue/tasks?{MAIN}"
    bare = b"\x04\x00" + b"\x02\x61a" + b"\x00" + b"\x01\x01" + b"\x00"
    answered = await ask(url, "POST", path, bare, chunked=True, x_rivet_encoding="bare")
    assert answered.body == b"\x04\x00\x09completed\x01" + b"\x08\xa1\x64echo\x61a"
    assert answered.headers["content-type"] == "application/octet-stream"
    written = cbor.encode({"body": "a", "wait": True})
    answered = await ask(url, "POST", path, written, chunked=True, x_rivet_encoding="cbor")
    assert cbor.decode(answered.body) == {"status": "completed", "response": {"echo": "a"}}
    assert (await ask(url, "POST", path, b"", x_rivet_encoding="xml")).code == "gateway.bad_request"
    assert (await ask(url, "POST", path, b"\x03\x00", x_rivet_encoding="bare")).code == "gateway.bad_request"


async def test_health_and_metadata_need_no_token(url: str) -> None:
    assert (await ask(url, "GET", "/health", token=None)).json == {"status": "ok"}
    assert (await ask(url, "GET", "/metadata?namespace=default", token=None)).json["runtime"] == "agentq_nb"


async def test_a_request_that_is_no_http_ends_its_connection_only(url: str) -> None:
    for nonsense in (b"\x00" * 100 + b"\r\n\r\n", b"POST\r\n\r\n", b"GET / HTTP/9\r\n\r\n"):
        assert (await exchange(url, nonsense)).status == 400
    assert (await ask(url, "GET", "/health")).status == 200


async def test_a_blocked_loop_is_said_after_a_while_and_nothing_is_done(
    url: str, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = HostCalls(registry, HTTP, patience=0.05)
    released = threading.Event()
    answers: list[Any] = []

    def from_outside() -> None:
        async def run() -> None:
            async def never(host: Any) -> None:
                answers.append("began")

            with pytest.raises(HostBlocked) as caught:
                await calls.run(never)
            answers.append(caught.value)
            answers.append((await ask(url, "GET", "/health")).status)

        asyncio.run(run())
        released.set()

    thread = threading.Thread(target=from_outside)
    thread.start()
    released.wait(30)  # this blocks the host's loop, as a cell does
    thread.join()
    for _ in range(3):
        await asyncio.sleep(0)
    error, health = answers
    assert error.full_code == "host.blocked"
    assert "%agentq start --background" in error.message
    assert health == 200


async def test_a_client_that_goes_away_ends_its_wait_and_not_the_work(url: str, registry: Registry) -> None:
    waiting = asyncio.create_task(send(url, "small", 1, wait=True))
    await until(lambda: is_queued(registry))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert (await registry.messages(queue="small"))["status"].tolist() == ["queued"]


async def test_a_server_ends_with_its_host_and_frees_its_port(registry: Registry, server: Server) -> None:
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(PortInUse, match=f"port {port}"):
        await registry.serve(port=port)
    threads = threading.active_count()
    await registry.stop()
    assert threading.active_count() < threads
    with pytest.raises(ConnectionError):
        await ask(server.url, "GET", "/health")
    await registry.start()
    again = await registry.serve(port=port)
    assert again.url == server.url
    assert again.token != TOKEN
    assert len(again.token) >= 32
    assert again.token not in repr(again)
    await again.close()
    await again.close()


async def test_calls_on_their_way_are_answered_when_the_server_closes(url: str, server: Server) -> None:
    answer = asyncio.create_task(call(url, "wait", 0.2))
    await until(is_awake)
    await server.close()
    assert (await answer).json == {"output": "done"}


@pytest.mark.parametrize("options", [{"port": -1}, {"port": 70000}, {"token": "short"}, {"origins": ["example.org"]}])
async def test_options_out_of_range_are_refused(registry: Registry, options: dict[str, Any]) -> None:
    with pytest.raises(ValidationFailed):
        await registry.serve(**{"port": 0, **options})
