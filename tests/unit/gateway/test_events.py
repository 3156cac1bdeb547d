"""/events: what the log has, in order and without a gap, also for a client that comes back after a restart."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from agentq_nb import Registry, create_client
from agentq_nb._gateway import event_stream, http_handler
from agentq_nb._gateway.server import HttpServer
from agentq_nb._host.registry_server import Server
from tests.unit.gateway.raw_client import TOKEN, ask, connect

pytestmark = pytest.mark.anyio


class Event(NamedTuple):
    number: int | None
    kind: str
    facts: Any


class Stream:
    """One client that listens: reads chunks as they come."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._text = ""
        self.head = ""

    async def open(self) -> None:
        self.head = (await self._reader.readuntil(b"\r\n\r\n")).decode()

    async def block(self) -> str:
        """The next block of lines, a comment perhaps."""
        async with asyncio.timeout(30):
            while "\n\n" not in self._text:
                size = int((await self._reader.readuntil(b"\r\n")).decode(), 16)
                if size == 0:
                    raise EOFError
                self._text += (await self._reader.readexactly(size)).decode()
                await self._reader.readexactly(2)
        block, _, self._text = self._text.partition("\n\n")
        return block

    async def event(self) -> Event:
        while True:
            lines = dict(line.split(": ", 1) for line in (await self.block()).split("\n"))
            if "event" in lines:
                number = int(lines["id"]) if "id" in lines else None
                return Event(number, lines["event"], json.loads(lines["data"]))

    async def until(self, kind: str) -> list[Event]:
        """All events up to the first of this kind."""
        events = [await self.event()]
        while events[-1].kind != kind:
            events.append(await self.event())
        return events


@asynccontextmanager
async def listening(url: str, path: str = "/events", **headers: str) -> AsyncIterator[Stream]:
    reader, writer = await connect(url)
    fields = {"host": urlsplit(url).netloc, "authorization": f"Bearer {TOKEN}", **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
    stream = Stream(reader)
    try:
        await stream.open()
        yield stream
    finally:
        writer.close()


async def test_messages_and_broadcasts_come_as_they_happen_and_without_bodies(url: str, registry: Registry) -> None:
    handle = create_client().task_runner.get_or_create("main")
    await handle.echo("awake")
    async with listening(url) as stream:
        assert "200 OK" in stream.head
        assert "content-type: text/event-stream" in stream.head.lower()
        assert await stream.block() == "retry: 2000"
        receipt = await handle.send("tasks", {"prompt": "a secret prompt"})
        await receipt.result(timeout=30)
        events = await stream.until("message.completed")
        assert [event.kind for event in events] == ["message.queued", "message.started", "message.completed"]
        assert all(event.facts["message"] == receipt.id for event in events)
        assert all(event.facts["actor"] == "task_runner/main" for event in events)
        assert events[0].facts["data"] == {"queue": "tasks"}
        assert "a secret prompt" not in str(events)
        await handle.add(3)
        said = (await stream.until("broadcast"))[-1]
        assert said == Event(
            None, "broadcast", {"actor": "task_runner/main", "event": "added", "payload": {"value": 3}}
        )
        await handle.pause("tasks")
        assert (await stream.until("queue.paused"))[-1].facts["data"]["queue"] == "tasks"


async def test_a_client_that_comes_back_gets_all_that_it_missed_also_after_a_restart(
    url: str, server: Server, registry: Registry
) -> None:
    handle = create_client().task_runner.get_or_create("main")
    await (await handle.send("tasks", 0)).result(timeout=30)
    async with listening(url, "/events?after=0") as stream:
        seen = await stream.until("message.completed")
    last = seen[-1].number
    sent = [(await handle.send("tasks", number)).id for number in range(1, 4)]
    await registry.stop()
    await registry.start()
    sent.append((await handle.send("tasks", 4)).id)
    again = await registry.serve(port=0, token=TOKEN)
    async with listening(again.url, last_event_id=str(last)) as stream:
        missed: list[Event] = []
        for _ in range(4):
            missed += await stream.until("message.completed")
    numbers = [event.number for event in (*seen, *missed) if event.number is not None]
    assert numbers == sorted(set(numbers))
    assert {event.facts["message"] for event in missed if event.kind == "message.completed"} == set(sent)
    assert "host.started" in {event.kind for event in missed}


async def test_two_clients_get_every_event_once_under_load(url: str, registry: Registry) -> None:
    handle = create_client().task_runner.get_or_create("main")

    async def settled_ids(count: int) -> list[str]:
        async with listening(url, "/events?after=0") as stream:
            return [(await stream.until("message.completed"))[-1].facts["message"] for _ in range(count)]

    clients = [asyncio.create_task(settled_ids(200)) for _ in range(2)]
    sent = [(await handle.send("tasks", number)).id for number in range(200)]
    for client in clients:
        assert sorted(await client) == sorted(sent)


async def test_a_client_without_the_token_or_with_a_bad_id_is_refused(url: str) -> None:
    assert (await ask(url, "GET", "/events", token=None)).code == "gateway.no_token"
    for bad in ("x", "-1", "1e3", "9" * 30):
        assert (await ask(url, "GET", "/events", last_event_id=bad)).code == "gateway.bad_request", bad
    async with listening(url, "/events?after=999999999") as stream:
        assert await stream.block() == "retry: 2000"


async def test_a_silent_host_sends_heartbeats(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT", 0.5)
    async with listening(url) as stream:
        await stream.block()
        assert await stream.block() == ": heartbeat"
        assert await stream.block() == ": heartbeat"


async def test_streams_end_cleanly_when_the_server_closes_and_when_the_host_stops(
    url: str, server: Server, registry: Registry
) -> None:
    async with listening(url) as stream:
        await stream.block()
        await server.close()
        with pytest.raises(EOFError):
            await stream.event()


async def test_a_client_that_does_not_read_is_cut_off_and_the_others_go_on(
    url: str, server: HttpServer, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_handler, "_READ_TIMEOUT", 0.5)
    streams = server._listener.streams
    await create_client().task_runner.get_or_create("main").echo("awake")
    parts = urlsplit(url)
    idle = socket.create_connection((parts.hostname or "", parts.port or 0))
    idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    idle.sendall(f"GET /events HTTP/1.1\r\nhost: {parts.netloc}\r\nx-rivet-token: {TOKEN}\r\n\r\n".encode())
    async with listening(url) as quick:
        await quick.block()
        async with asyncio.timeout(30):
            while len(streams) < 2:  # noqa: ASYNC110  # the listener tells of no such event
                await asyncio.sleep(0.01)
            number = 0
            while len(streams) == 2:
                number += 1
                registry.host.broadcast("task_runner/main", "large", {"text": "x" * 200_000, "number": number})
                assert (await quick.until("broadcast"))[-1].facts["payload"]["number"] == number
        registry.host.broadcast("task_runner/main", "last", None)
        assert (await quick.until("broadcast"))[-1].facts["event"] == "last"
    idle.close()


async def test_streams_have_a_limit_and_a_place_is_free_again_when_one_ends(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "_MOST_STREAMS", 1)
    async with listening(url) as stream:
        await stream.block()
        refused = await ask(url, "GET", "/events")
        assert (refused.status, refused.code) == (503, "gateway.too_many_streams")
    async with asyncio.timeout(10):
        while True:
            async with listening(url) as stream:
                if "200 OK" in stream.head:
                    break
