"""The calls of Python clients as any program may send them: what is not right is refused, and nothing is done."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

import pytest

from agentq_nb import AgentqError, Registry, create_client
from agentq_nb._core.ids import mint_id
from agentq_nb._core.origin import current_origin
from agentq_nb._gateway import transport_calls as calls
from agentq_nb._host.registry_server import Server
from agentq_nb.errors import BodyTooLarge, Refused
from tests.unit.gateway.raw_client import TOKEN, Reply, ask

pytestmark = pytest.mark.anyio


async def call(url: str, name: str, asked: Any, **options: Any) -> Reply:
    return await ask(url, "POST", f"/transport/{name}", json.dumps(asked).encode(), **options)


def message(**changed: Any) -> dict[str, Any]:
    fields = {"id": mint_id(), "actor": "task_runner/main", "queue": "tasks", "body": '{"a": 1}', "options": {}}
    return {"message": {**fields, **changed}, "room_timeout": 0}


async def test_the_token_is_demanded(url: str) -> None:
    assert (await call(url, "describe", None, token=None)).code == "gateway.no_token"
    assert (await call(url, "describe", None, token="wrong-token-of-16-letters")).code == "gateway.wrong_token"


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("send", None),
        ("send", []),
        ("send", {"message": 1}),
        ("send", message(id="../x")),
        ("send", message(id="A" * 25)),
        ("send", message(options={"schedule": "x"})),
        ("send", message(options={"origin": "process"})),
        ("send", message(body=5)),
        (
            "send",
            {
                "message": {"id": mint_id(), "actor": "task_runner/main", "queue": "tasks", "body": "1"},
                "room_timeout": 0,
            },
        ),
        ("send_batch", {"batch": {"name": "b", "actor": "task_runner/main", "queue": "tasks", "bodies": []}}),
        ("status", {"a": 1}),
        ("status", "task_runner/%6dain"),
        ("act", ["task_runner/main", "add", "5", "{}", "null"]),
        ("act", ["task_runner/main", "add", "[1", "{}", "null"]),
        ("act", ["task_runner/main", "add", "[" * 100_000, "{}", "null"]),
        ("change", ["task_runner/main", "destroy", "x"]),
        ("batch_counts", ["b", [[0, 5, 0]]]),
        ("batch_counts", ["b", "x"]),
        ("poll", ["x", "y", 1]),
        ("wait", [1, 2, 3]),
    ],
)
async def test_calls_that_cannot_be_read_are_bad_requests(url: str, registry: Registry, name: str, asked: Any) -> None:
    reply = await call(url, name, asked)
    assert (reply.status, reply.code) == (400, "gateway.bad_request")
    assert len(await registry.messages()) == 0


async def test_bytes_that_are_no_json_are_a_bad_request_and_unknown_calls_are_not_found(url: str) -> None:
    for body in (b"", b"\xff\xfe", b"{", b"\x80\x05K\x01."):
        assert (await ask(url, "POST", "/transport/send", body)).code == "gateway.bad_request"
    assert (await call(url, "__class__", None)).status == 404
    assert (await ask(url, "GET", "/transport/send")).status == 405


async def test_a_client_that_lies_about_a_queue_is_not_believed(url: str, registry: Registry) -> None:
    assert (await call(url, "send", message(queue="typed", body='"x"'))).code == "actor.validation_error"
    assert (
        await call(url, "send", message(queue="short", body=json.dumps("x" * 100)))
    ).code == "queue.message_too_large"
    assert (await call(url, "send", message(queue="small", max_size=100))).status == 200
    assert (await call(url, "send", message(queue="small", max_size=100))).code == "queue.full"
    batch = {"name": "b", "actor": "task_runner/main", "queue": "small", "bodies": ["1", "2"], "options": {}}
    batch["max_size"] = 100
    assert (await call(url, "send_batch", {"batch": batch, "room_timeout": 0})).code == "queue.batch_too_large"
    assert (await call(url, "send", message(body="NaN"))).code == "actor.validation_error"
    assert (await registry.messages())["queue"].tolist() == ["small"]


async def test_a_message_that_is_sent_twice_is_one(url: str, registry: Registry) -> None:
    sent = message()
    assert (await call(url, "send", sent)).json == (await call(url, "send", sent)).json == sent["message"]["id"]
    assert len(await registry.messages()) == 1


async def test_what_a_client_sends_has_the_origin_of_its_way_or_of_what_it_acts_for(
    server: Server, registry: Registry
) -> None:
    client = create_client(server.url, token=TOKEN).task_runner.get_or_create("main")
    await client.send("tasks", "plain")
    await client.send_many("tasks", ["in a batch"])
    before = current_origin.set("webhook:github")
    try:
        await client.send("tasks", "for a webhook")
    finally:
        current_origin.reset(before)
    origins = await registry.sql("select body, origin from messages")
    found = {json.loads(body) if isinstance(body, str) else body: origin for body, origin in origins}
    assert found == {"plain": "http", "in a batch": "http", "for a webhook": "webhook:github"}


async def test_events_that_nobody_asks_for_are_bounded(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentq_nb._gateway.event_subscriptions._MOST_EVENTS", 5)
    assert (await call(url, "listen", ["s", "task_runner/main", "added", True])).status == 200
    handle = create_client().task_runner.get_or_create("main")
    for _ in range(8):
        await handle.add(1)
    found = (await call(url, "poll", ["s", 0, 1])).json
    known, events = found
    assert known
    assert [event[0] for event in events] == [4, 5, 6, 7, 8]
    assert [json.loads(event[3])["value"] for event in events] == [4, 5, 6, 7, 8]
    assert (await call(url, "poll", ["s", 8, 0])).json == [True, []]
    assert (await call(url, "poll", ["unknown", 0, 0])).json == [False, []]


async def test_a_client_that_asks_no_more_is_forgotten(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentq_nb._gateway.event_subscriptions._FORGOTTEN_AFTER", 0.05)
    await call(url, "listen", ["s", "task_runner/main", "added", True])
    answers = [(await call(url, "poll", ["s", 0, 0])).json]
    while answers[-1] != [False, []] and len(answers) < 200:
        await asyncio.sleep(0.06)
        answers.append((await call(url, "poll", ["s", 0, 0])).json)
    assert answers[-1] == [False, []]


async def test_waits_are_rows_of_short_ones(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("remote_waits", "transport_calls"):
        monkeypatch.setattr(f"agentq_nb._gateway.{module}.LONGEST_WAIT", 0.05)
    handle = create_client(server.url, token=TOKEN).task_runner.get_or_create("main")
    local = create_client().task_runner.get_or_create("main")
    await local.pause("tasks")
    waiting = [
        asyncio.create_task(handle.send("tasks", 1, wait=True, timeout=60)),
        asyncio.create_task((await handle.send("tasks", 2)).result()),
    ]
    batch = await handle.send_many("tasks", [3])
    rest: asyncio.Task[Any] = asyncio.create_task(batch.results())
    coming = asyncio.create_task(anext(aiter(batch)))
    await asyncio.sleep(0.4)
    assert not any(task.done() for task in [*waiting, rest, coming])
    await local.resume("tasks")
    assert [(await task).response for task in waiting] == [{"echo": 1}, {"echo": 2}]
    assert (await coming).response == {"echo": 3}
    assert [result.response for result in await rest] == [{"echo": 3}]


async def test_what_is_too_large_for_a_request_is_not_sent(server: Server, registry: Registry) -> None:
    handle = create_client(server.url, token=TOKEN).task_runner.get_or_create("main")
    with pytest.raises(BodyTooLarge):
        await handle.send_many("tasks", ["x" * 1_000_000] * 34)
    assert len(await registry.messages()) == 0


async def test_a_client_that_is_dropped_closes_its_connections_and_keeps_its_listeners(server: Server) -> None:
    client = create_client(server.url, token=TOKEN)
    seen: list[Any] = []
    client.task_runner.get_or_create("main").on("added", seen.append)
    await client.task_runner.get_or_create("main").add(1)
    del client
    gc.collect()
    local = create_client().task_runner.get_or_create("main")
    async with asyncio.timeout(30):
        while {"value": 3} not in seen:  # a poll that was cut may take a moment
            await asyncio.sleep(0.05)
            await local.add(1)
    assert seen[0] == {"value": 1}


async def test_a_host_of_another_version_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    client = create_client(server.url, token=TOKEN)
    real = calls.PROTOCOL
    monkeypatch.setattr("agentq_nb._gateway.transport_calls.PROTOCOL", real + 1)
    described = calls.HostDescription(real, 0.0, {})
    with pytest.raises(AgentqError, match="another version"):
        client._transport._note(described)  # type: ignore[attr-defined]  # the remote one


async def test_a_url_with_another_path_is_told_that_nothing_is_there(url: str) -> None:
    with pytest.raises(Refused, match="nothing at this path"):
        await create_client(f"{url}/gateway", token=TOKEN).task_runner.get_or_create("x").status()
