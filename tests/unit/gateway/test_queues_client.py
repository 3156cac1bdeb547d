"""``create_client("postgresql://...")``: a client that has no host, and needs none to send."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentq_nb import create_client, setup
from agentq_nb.errors import ActorNotFound, ActorUnknown, Unavailable, ValidationFailed, WaitTimedOut
from tests.postgres_queues import ask
from tests.unit.host.shared_host import SharedHost, Where, Worker, requests_gone, running_host

pytestmark = pytest.mark.anyio


@pytest.fixture
async def host(store: str, tmp_path: Path) -> AsyncIterator[SharedHost]:
    async with running_host(store, tmp_path / "host") as host:
        yield host


async def test_messages_are_sent_before_any_host_runs_and_handled_once_one_does(store: str) -> None:
    client = create_client(store, use={"worker": Worker})
    worker = client.worker.get_or_create("main")
    receipt = await worker.send("tasks", "early")
    batch = await worker.send_many("tasks", ["a", "b", "c"], name="letters")
    assert (await worker.status()).queues[0].ready == 4
    with pytest.raises(WaitTimedOut, match="has not been woken"):
        (await worker.send("tasks", "late", wait=True, timeout=0.2)).unwrap()
    with pytest.raises(ActorUnknown):
        await create_client(store).worker.get_or_create("main").send("tasks", "no class is known yet")
    assert ask(store, "select count(*) from agentq.actors where epoch is not null") == [(0,)]
    async with setup(use={"worker": Worker}, store=store):
        assert (await receipt.result(timeout=30)).response == os.getpid()
        assert [result.response for result in await batch.results()] == [os.getpid()] * 3
    found = await create_client(store).batch("letters")
    assert len(await found.results()) == 3
    # What a host has published stays known.
    assert await create_client(store).worker.get_or_create("main").send("tasks", "later")


async def test_actions_events_status_and_cancellation_go_to_the_host_and_nothing_awake_is_taken_from_it(
    store: str, host: SharedHost, tmp_path: Path
) -> None:
    client, file = create_client(store), tmp_path / "lines"
    with pytest.raises(ActorNotFound):
        await client.worker.get("main").where()
    worker = client.worker.get_or_create("main", input=5)
    heard: list[int] = []
    stop = worker.on("added", heard.append)
    assert await worker.add(2) == 7
    assert await worker.where() == {"process": host.process}
    async with asyncio.timeout(10):
        while heard != [7]:  # noqa: ASYNC110  # a listener has no event
            await asyncio.sleep(0.01)
    stop()
    receipt = await worker.send("long", str(file))
    async with asyncio.timeout(10):
        while not file.exists():  # noqa: ASYNC110  # another process writes it
            await asyncio.sleep(0.01)
    assert (await worker.status()).state == "awake"
    await worker.pause("tasks")
    assert "paused" in ((await worker.send("tasks", "x", wait=True, timeout=0.2)).reason or "")
    assert await worker.resume("tasks")
    assert await receipt.cancel()
    assert (await receipt.result(timeout=30)).status == "cancelled"
    typed = create_client(store=store, use={"worker": Worker})
    assert Where(**await typed.actor(Worker).get_or_create("main").where()).process == host.process
    await requests_gone(store)


async def test_the_client_learns_of_a_killed_host(store: str, host: SharedHost, tmp_path: Path) -> None:
    worker, file = create_client(store).worker.get_or_create("main"), tmp_path / "lines"
    calling = asyncio.ensure_future(worker.slow(str(file)))
    async with asyncio.timeout(30):
        while not file.exists():  # noqa: ASYNC110  # another process writes it
            await asyncio.sleep(0.01)
    await asyncio.to_thread(host.kill)
    with pytest.raises(Unavailable, match="not repeated automatically"):
        await asyncio.wait_for(calling, 60)
    assert file.read_text() == "begun\n"


async def test_an_action_that_no_host_takes_says_that_nothing_was_done(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentq_nb._brokers.postgres.pending_calls.PATIENCE", 0.3)
    worker = create_client(store, use={"worker": Worker}).worker.get_or_create("main")
    with pytest.raises(Unavailable, match=r"Start one that knows its class\. Nothing was done"):
        await worker.add(1)
    await requests_gone(store)


def test_code_that_cannot_await_uses_run(store: str, tmp_path: Path) -> None:
    host = SharedHost(store, tmp_path / "host")
    client = create_client(store)
    worker = client.worker.get_or_create("main")
    assert "worker" in dir(client)
    assert client.run(worker.add(3)) == 3
    assert client.run(worker.send("tasks", "x", wait=True, timeout=30)).response == host.process
    host.stop()


async def test_a_client_that_is_not_used_any_more_leaves_nothing_behind(store: str) -> None:
    client = create_client(store, use={"worker": Worker})
    await client.worker.get_or_create("main").send("tasks", "x")
    assert ask(store, "select facts::json ->> 'client' from agentq.sessions") == [("true",)]
    del client
    gc.collect()
    async with asyncio.timeout(20):
        while ask(store, "select session from agentq.sessions"):  # noqa: ASYNC110  # the client's thread does it
            await asyncio.sleep(0.05)


WITHOUT = """
import sys
sys.modules["psycopg"] = None
from agentq_nb import create_client
try:
    create_client("postgresql://test@127.0.0.1:1/test")
except Exception as error:
    print(error.full_code, error.message)
"""


def test_without_the_extra_the_error_says_what_to_install() -> None:
    said = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True).stdout
    assert said.startswith("actor.validation_error Queues on PostgreSQL need psycopg")
    assert "pip install 'agentq-nb[postgres]'" in said


async def test_a_server_that_is_not_there_is_said_with_what_to_do_and_without_the_password() -> None:
    client = create_client("postgresql://test:secret@127.0.0.1:1/test", use={"worker": Worker})
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1/test.*Nothing was done. Check the address") as refused:
        await client.worker.get_or_create("main").send("tasks", "x")
    assert "secret" not in f"{refused.value} {client!r}"
    assert "worker" in dir(client)


def test_addresses_that_are_none_and_tokens_are_refused() -> None:
    with pytest.raises(ValidationFailed):
        create_client("postgresql://localhost/test?nonsense=1")
    with pytest.raises(TypeError, match="PGPASSWORD"):
        create_client("postgresql://localhost/test", token="x")
