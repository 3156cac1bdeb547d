"""What the status, the dashboard and the events of a host show of the queues that another host works on."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from agentq_nb import create_client, setup
from agentq_nb._core.clock import SystemClock
from agentq_nb._display.document import as_text, document_of
from agentq_nb._host.registry import Registry
from agentq_nb._notebook.dashboard.overview import Overview
from agentq_nb._notebook.dashboard.static_view import as_plain, of_dashboard
from tests.unit.gateway.raw_client import TOKEN
from tests.unit.gateway.test_events import listening
from tests.unit.host.shared_host import Caller, SharedHost

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address with a schema of its own; the file of the host in this process is in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    schema = f"statuses_{os.getpid()}_{tmp_path.name[-20:].lower().replace('-', '_')}"
    yield f"{postgres_url}?schema={schema}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"drop schema if exists {schema} cascade".encode())


@pytest.fixture
async def other(store: str, tmp_path: Path) -> AsyncIterator[SharedHost]:
    """Another program, which has the class of workers and runs worker/main. worker/paused sleeps, and has a message."""
    other = await asyncio.to_thread(SharedHost, store, tmp_path / "other")
    client = create_client(store)
    main, paused = client.worker.get_or_create("main"), client.worker.get_or_create("paused")
    await main.send("tasks", "wake up", wait=True, timeout=60)
    await paused.pause("tasks")
    await paused.send("tasks", "later")
    yield other
    other.signal(signal.SIGCONT)
    await asyncio.to_thread(other.stop)


@pytest.fixture
async def registry(store: str, other: SharedHost) -> AsyncIterator[Registry]:
    """A host of this process, which has another class."""
    async with setup(use={"caller": Caller}, store=store) as registry:
        yield registry


def shown_as(value: object) -> str:
    """What a terminal shows, also ``%agentq status`` and ``agentq watch``."""
    document = document_of(value)
    assert document is not None
    return as_text(document)


def name_of(other: SharedHost) -> str:
    return f"{socket.gethostname()}, process {other.process}"


async def test_the_status_names_the_host_that_runs_an_actor(registry: Registry, other: SharedHost) -> None:
    status = await registry.status()
    found = {actor.actor_id: actor for actor in status.actors}
    assert (found["worker/main"].state, found["worker/main"].host) == ("awake", name_of(other))
    assert (found["worker/paused"].state, found["worker/paused"].host) == ("asleep", None)
    assert [queue.completed for queue in found["worker/main"].queues] == [1]
    assert [queue.ready for queue in found["worker/paused"].queues] == [1]
    assert status.waiting_for == []
    shown = shown_as(status)
    assert name_of(other) in shown
    assert "run the cells that define" not in shown


async def test_the_status_of_an_actor_names_its_host(registry: Registry, other: SharedHost) -> None:
    worker = create_client().worker
    running, sleeping = await worker.get("main").status(), await worker.get("paused").status()
    assert (running.state, running.host) == ("awake", name_of(other))
    assert (sleeping.state, sleeping.host) == ("asleep", None)
    assert name_of(other) in shown_as(running)


async def test_the_dashboard_shows_all_queues_and_which_host_runs_their_actors(
    registry: Registry, other: SharedHost
) -> None:
    shown = await Overview(registry, SystemClock()).look()
    main, paused = shown["queues"]["worker/main tasks"], shown["queues"]["worker/paused tasks"]
    assert (main["completed"], main["host"]) == (1, name_of(other))
    assert (paused["ready"], paused["paused"], paused["host"]) == (1, True, None)
    host = shown["host"]["it"]
    assert (host["awake"], host["actors"], host["waiting_for"]) == (1, 2, [])
    assert shown["actors"] == {}
    assert f"tasks (on {name_of(other)})" in as_plain(of_dashboard(shown, 0.0))


async def test_why_a_message_waits_is_known_without_its_class(
    registry: Registry, other: SharedHost, store: str
) -> None:
    sent = await create_client(store).worker.get("paused").send("tasks", "more")
    result = await create_client().receipt(sent.id).result(0.1)
    assert "is paused by hand" in str(result.reason)
    assert "no actor class" not in str(result.reason)


async def test_work_waits_for_its_class_once_the_host_that_has_it_is_gone(
    registry: Registry, other: SharedHost
) -> None:
    other.kill()
    status = await registry.status()
    found = {actor.actor_id: actor for actor in status.actors}
    assert (found["worker/paused"].state, found["worker/main"].host) == ("waiting for its class", None)
    assert status.waiting_for == ["worker"]


async def test_the_stream_of_a_host_has_its_own_broadcasts_and_no_messages_of_the_server(
    registry: Registry, other: SharedHost, store: str
) -> None:
    server = await registry.serve(port=0, token=TOKEN)
    client = create_client()
    async with listening(server.url) as stream:
        await create_client(store).worker.get("main").send("tasks", "there", wait=True, timeout=60)
        await client.caller.get_or_create("mine").say("here")
        events = await stream.until("broadcast")
    assert events[-1].facts == {"actor": "caller/mine", "event": "said", "payload": "here"}
    assert not [event.kind for event in events if event.kind.startswith(("message.", "queue."))]
