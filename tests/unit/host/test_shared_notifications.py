"""Notifications and warnings about queues on PostgreSQL: each event once over all hosts, also if hosts die."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from agentq_nb import Actor, Queue, RateLimited, Registry, Retry, create_client, setup
from agentq_nb._actor.failure_record import FAILURES
from agentq_nb._brokers.postgres.address import parse_address
from agentq_nb._host.notice_channels import channels_of
from agentq_nb._policies import notices
from agentq_nb._policies.notices import BUDGET_SPENT, budget_spent
from tests.postgres_server import HOW_TO_GET_IT, Server, programs, running_server
from tests.unit.host.receiver import Receiver, receiving
from tests.unit.host.shared_host import SharedHost, Worker

pytestmark = pytest.mark.anyio

FAILED = "1 message of worker, queue 'risky', failed"


class Stopping(Actor):
    tasks = Queue(str, retry=Retry(attempts=1), stop_after=3)
    limited = Queue(str)

    @tasks.handler
    async def work(self, text: str) -> None:
        raise ValueError(text)

    @limited.handler
    async def ask(self, text: str) -> None:
        raise RateLimited("slow down", retry_after=3600)


@pytest.fixture(autouse=True)
def _short_window(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hosts of this process gather events for a moment only; their file is in a folder of the test."""
    monkeypatch.setattr(notices, "WINDOW", 0.2)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def store(postgres_url: str, tmp_path: Path) -> Iterator[str]:
    schema = f"notices_{os.getpid()}_{tmp_path.name[-20:].lower().replace('-', '_')}"
    yield f"{postgres_url}?schema={schema}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"drop schema if exists {schema} cascade".encode())


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def other_receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


class Others:
    """Hosts in other processes."""

    def __init__(self, store: str, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._running: list[SharedHost] = []

    async def start(self, name: str, notify: Receiver | None = None) -> SharedHost:
        """A host with a folder of this name, which wakes worker/main if no other has."""
        url = None if notify is None else notify.url
        host = await asyncio.to_thread(SharedHost, self._store, self._folder / name, url)
        self._running.append(host)
        return host

    async def kill(self, host: SharedHost) -> None:
        self._running.remove(host)
        await asyncio.to_thread(host.kill)

    async def stop(self) -> None:
        for host in self._running:
            host.signal(signal.SIGCONT)
            await asyncio.to_thread(host.stop)
        self._running.clear()


@pytest.fixture
async def others(store: str, tmp_path: Path) -> AsyncIterator[Others]:
    others = Others(store, tmp_path)
    yield others
    await others.stop()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  # the receiver is in another thread
            await asyncio.sleep(0.05)


def execute(store: str, statement: str) -> list[Any]:
    address = parse_address(store)
    with psycopg.connect(address.conninfo) as connection:
        done = connection.execute(address.statement(statement))
        return done.fetchall() if done.description else []


async def notifying(store: str, hosts: int = 1) -> None:
    """Return once so many hosts are known to send notifications."""
    async with asyncio.timeout(60):
        while len(execute(store, "select host from agentq.notifiers")) < hosts:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.05)


def worker(store: str | None = None) -> Any:
    """A handle of this process's host, or of a client without a host, where that has no classes."""
    client = create_client() if store is None else create_client(store)
    return client.worker.get_or_create("main")


async def fail(handle: Any) -> None:
    result = await handle.send("risky", "fail", wait=True, timeout=60)
    assert result.status == "failed"


# --- one host -----------------------------------------------------------------------------------------------------------


async def test_everything_that_is_told_of_a_file_is_told_of_a_server(store: str, receiver: Receiver) -> None:
    async with setup(use={"worker": Worker, "stopping": Stopping}, store=store, notify=receiver.url) as registry:
        await notifying(store)
        await fail(worker())
        await (await worker().send_many("risky", ["a", "b"], name="night")).results()
        stopping = create_client().stopping.get_or_create("s")
        await stopping.send_many("tasks", list("abcdef"))
        await stopping.send("limited", "a")
        await registry.host.log.of("vm/a").append(BUDGET_SPENT, budget_spent("night", "20.14 of 20 USD are spent."))
        await until(lambda: len(receiver.taken) >= 6)
    assert sorted(receiver.titles) == [
        FAILED,
        "3 messages of stopping, queue 'tasks', failed",
        "Batch 'night' is done",
        "Budget 'night' is spent",
        "Queue 'tasks' of stopping/s has stopped",
        "The provider's limit of stopping/s, queue 'limited', is reached",
    ]
    texts = {word["title"].removeprefix("agentq: "): word["message"] for word in receiver.taken}
    assert texts["Batch 'night' is done"].startswith("2 rows: 2 completed, 0 failed, 0 cancelled.")
    assert "ValueError" in texts[FAILED]
    assert "it fails" not in str(receiver.taken)
    assert execute(store, "select * from agentq.notable_events") == []
    async with setup(use={"worker": Worker}, store=store, notify=receiver.url):
        await (await worker().send_many("risky", ["a"], name="later")).results()
        await until(lambda: "Batch 'later' is done" in receiver.titles)
    assert len(receiver.taken) == 7


async def test_failures_and_stopped_queues_are_logged_where_they_happened(
    store: str, caplog: pytest.LogCaptureFixture
) -> None:
    FAILURES._counts.clear()  # of many alike only some are logged
    with caplog.at_level(logging.WARNING, "agentq"):
        async with setup(use={"stopping": Stopping}, store=store):
            stopping = create_client().stopping.get_or_create("s")
            await stopping.send_many("tasks", list("abcdef"))
            await until(lambda: any("has stopped" in said for said in caplog.messages))
    failed = [said for said in caplog.messages if said.startswith("Message ")]
    assert len(failed) == 3
    assert "of 'stopping/s', queue 'tasks', failed: ValueError: a" in failed[0]
    (stopped,) = [said for said in caplog.messages if "has stopped" in said]
    assert "%agentq resume stopping/s tasks" in stopped


async def test_a_host_that_stops_first_tells_what_is_left(store: str, receiver: Receiver) -> None:
    async with setup(use={"worker": Worker}, store=store, notify=receiver.url):
        await notifying(store)
        await fail(worker())
    assert receiver.titles == [FAILED]


async def test_what_happens_while_it_is_off_is_not_told(store: str, receiver: Receiver) -> None:
    async with setup(use={"worker": Worker}, store=store, notify=receiver.url) as registry:
        await notifying(store)
        registry.lifecycle.notify_settings.channels = ()
        await until(lambda: not execute(store, "select * from agentq.notifiers"))
        await fail(worker())
        registry.lifecycle.notify_settings.channels = channels_of(receiver.url)
        await notifying(store)
        await (await worker().send_many("risky", ["a"], name="one")).results()
        await until(lambda: receiver.taken)
    assert receiver.titles == ["Batch 'one' is done"]


async def test_events_of_another_server_of_the_same_file_are_not_mixed_up(
    store: str, receiver: Receiver, postgres_url: str
) -> None:
    """Its tables begin to count from 1 as well."""
    async with setup(use={"worker": Worker}, store=store, notify=receiver.url):
        await notifying(store)
        await fail(worker())
    schema = parse_address(store).schema
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"drop schema {schema} cascade".encode())
        connection.execute(f"drop schema if exists {schema}_views cascade".encode())
    async with setup(use={"worker": Worker}, store=store, notify=receiver.url):
        await notifying(store)
        await (await worker().send_many("risky", ["a"], name="one")).results()
    assert receiver.titles == [FAILED, "Batch 'one' is done"]


# --- several hosts ------------------------------------------------------------------------------------------------------


async def test_the_host_that_settled_it_tells_it_and_no_other_one(
    store: str, others: Others, receiver: Receiver, other_receiver: Receiver
) -> None:
    await others.start("other", other_receiver)
    async with setup(store=store, notify=receiver.url):
        await notifying(store, 2)
        await fail(worker(store))
        await (await worker(store).send_many("risky", ["a"], name="one")).results()
        await until(lambda: len(other_receiver.taken) == 2)
    assert other_receiver.titles == [FAILED, "Batch 'one' is done"]
    assert receiver.titles == []


async def test_a_host_tells_what_happens_on_hosts_that_send_no_notifications(
    store: str, others: Others, receiver: Receiver
) -> None:
    await others.start("other")
    async with setup(store=store, notify=receiver.url):
        await notifying(store)
        await fail(worker(store))
        await (await worker(store).send_many("risky", ["a"], name="one")).results()
        await until(lambda: len(receiver.taken) == 2)
    assert sorted(receiver.titles) == [FAILED, "Batch 'one' is done"]


async def test_what_a_client_without_a_host_ends_is_told(store: str, receiver: Receiver) -> None:
    async with setup(use={"worker": Worker}, store=store, notify=receiver.url):
        await notifying(store)
        handle = worker(store)
        await handle.pause("risky")
        batch = await handle.send_many("risky", ["a", "b"], name="given up")
        await batch.cancel()
        await until(lambda: receiver.taken)
    assert receiver.titles == ["Batch 'given up' is done"]
    assert "2 cancelled" in receiver.taken[0]["message"]


@pytest.mark.parametrize("later", [0.0, 0.4, 1.2])
async def test_what_a_killed_host_did_not_tell_is_told_by_the_next_one_in_its_folder_and_once(
    store: str, others: Others, receiver: Receiver, other_receiver: Receiver, later: float
) -> None:
    """It may have been killed before it read the event, or before it wrote down or sent what it made of it."""
    other = await others.start("other", other_receiver)
    async with setup(store=store, notify=receiver.url):
        await notifying(store, 2)
        await fail(worker(store))
        await (await worker(store).send_many("risky", ["a"], name="one")).results()
        await asyncio.sleep(later)
        await others.kill(other)
        await others.start("other", other_receiver)
        await until(lambda: len(other_receiver.taken) >= 2)
        await others.stop()
    assert sorted(other_receiver.titles) == [FAILED, "Batch 'one' is done"]
    assert receiver.titles == []


async def test_what_a_host_did_not_tell_that_never_returns_is_told_by_another(
    store: str, others: Others, receiver: Receiver, other_receiver: Receiver
) -> None:
    other = await others.start("other", other_receiver)
    async with setup(store=store, notify=receiver.url):
        await notifying(store, 2)
        await worker(store).send("risky", "a", wait=True, timeout=60)
        other.signal(signal.SIGSTOP)
        execute(
            store,
            "insert into agentq.notable_events (host, at, kind, actor, fields) select host, agentq.now(), "
            """'message.failed', 'worker/main', '{"queue": "risky", "type": "ValueError"}' """
            f"from agentq.notifiers where host like '%{os.sep}other{os.sep}%'",
        )
        await others.kill(other)
        execute(store, f"update agentq.notifiers set until = 0 where host like '%{os.sep}other{os.sep}%'")
        await until(lambda: receiver.taken)
    assert (receiver.titles, other_receiver.titles) == ([FAILED], [])


# --- the server is away -------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Server]:
    found = programs()
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(HOW_TO_GET_IT)
    with running_server(found, {"synchronous_commit": "on"}) as server:
        yield server


async def test_what_happens_in_the_host_is_told_while_the_server_is_away_and_the_rest_afterwards(
    server: Server, receiver: Receiver
) -> None:
    async with setup(use={"worker": Worker}, store=server.url, notify=receiver.url) as registry:
        await notifying(server.url)
        await fail_unseen(registry)
        await asyncio.to_thread(server.stop, signal.SIGQUIT)
        await registry.host.log.of("vm/a").append(BUDGET_SPENT, budget_spent("night", "20.14 of 20 USD are spent."))
        await until(lambda: "Budget 'night' is spent" in receiver.titles)
        await asyncio.to_thread(server.start)
        await until(lambda: len(receiver.taken) == 2)
    assert sorted(receiver.titles) == [FAILED, "Budget 'night' is spent"]


async def fail_unseen(registry: Registry) -> None:
    """Have a message fail whose event the host has not read yet."""
    broker = registry.lifecycle.shared_broker
    assert broker is not None
    handlers, broker.notifications.handlers = broker.notifications.handlers, {}
    broker.notable_events._look_again = float("inf")
    await fail(worker())
    broker.notifications.handlers = handlers
    broker.notable_events._look_again = 0.0
