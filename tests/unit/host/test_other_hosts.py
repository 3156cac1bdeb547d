"""Two programs on the same queues: calls, events and cancellations reach actors that the other one runs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentq_nb import create_client, setup
from agentq_nb._host.registry import Registry
from agentq_nb.errors import (
    Aborted,
    ActionNotFound,
    ActorDuplicate,
    ActorUnknown,
    InternalError,
    Unavailable,
    UserError,
    ValidationFailed,
)
from tests.unit.host.shared_host import Caller, SharedHost, Where, Worker, requests_gone, running_host

pytestmark = pytest.mark.anyio


@pytest.fixture
async def other(store: str, tmp_path: Path) -> AsyncIterator[SharedHost]:
    """Another program that runs worker/main."""
    async with running_host(store, tmp_path / "other") as other:
        worker = create_client(store).worker.get_or_create("main")
        assert (await worker.send("tasks", "wake up", wait=True, timeout=60)).response == other.process
        yield other


@pytest.fixture
async def registry(store: str, other: SharedHost) -> AsyncIterator[Registry]:
    """A host of this process, which leaves worker/main where it is."""
    async with setup(use={"worker": Worker, "caller": Caller}, store=store) as registry:
        yield registry


async def lines(path: Path, count: int) -> list[str]:
    """The lines of a file, once there are so many."""
    async with asyncio.timeout(30):
        while not path.exists() or len(path.read_text().split()) < count:  # noqa: ASYNC110  # another process writes it
            await asyncio.sleep(0.02)
    return path.read_text().split()


async def test_an_action_runs_where_the_actor_is_awake_and_its_result_has_the_declared_type(
    registry: Registry, other: SharedHost, store: str
) -> None:
    worker = create_client().worker.get_or_create("main")
    assert await worker.where() == Where(process=other.process)
    assert [await worker.add(2), await worker.add(number=3)] == [2, 5]
    assert await create_client().worker.get_or_create("mine").where() == Where(process=os.getpid())
    await requests_gone(store)


async def test_errors_of_actions_come_back_as_they_are_raised(registry: Registry) -> None:
    worker = create_client().worker.get_or_create("main")
    with pytest.raises(UserError, match="Not this one") as raised:
        await worker.fail("user")
    assert (raised.value.code, raised.value.metadata) == ("own", {"number": 7})
    with pytest.raises(InternalError, match="it fails"):
        await worker.fail("internal")
    with pytest.raises(ActionNotFound):
        await worker.nothing()
    with pytest.raises(ValidationFailed, match="number"):
        await worker.add("many")


async def test_arguments_may_be_large_and_those_that_cannot_be_sent_are_refused(registry: Registry, store: str) -> None:
    worker = create_client().worker.get_or_create("main")
    assert await worker.size(b"\0" * 20_000_000) == 20_000_000
    assert await worker.echo(["a\0b", "\ud800", 2**70, b"\0", ["$Set", 1]]) == [
        "a\0b",
        "\ud800",
        2**70,
        b"\0",
        ["$Set", 1],
    ]
    with pytest.raises(ValidationFailed, match="arguments of action `echo`"):
        await worker.echo(int)
    await requests_gone(store)


async def test_a_result_that_cannot_be_sent_is_said_and_what_the_action_changed_is_kept(registry: Registry) -> None:
    worker = create_client().worker.get_or_create("main")
    with pytest.raises(ValidationFailed, match="result of action `fail`"):
        await worker.fail("unfit")
    assert await worker.add(1) == 101


async def test_actors_are_created_where_their_class_is(store: str, other: SharedHost) -> None:
    async with setup(use={"caller": Caller}, store=store):
        client = create_client()
        with pytest.raises(ActorDuplicate):
            await client.worker.create("main", input=7)
        made = await client.worker.create("made", input=7)
        assert await made.add(1) == 8
        assert (await made.where())["process"] == other.process
        with pytest.raises(ActorUnknown):
            await client.nothing.get_or_create("main").where()


async def test_the_caller_learns_of_a_killed_host_and_the_action_is_not_run_again(
    registry: Registry, other: SharedHost, tmp_path: Path, store: str
) -> None:
    worker, file = create_client().worker.get_or_create("main"), tmp_path / "lines"
    assert await worker.add(1) == 1
    calling = asyncio.ensure_future(worker.slow(str(file)))
    assert await lines(file, 1) == ["begun"]
    await asyncio.to_thread(other.kill)
    with pytest.raises(Unavailable, match="not repeated automatically"):
        await asyncio.wait_for(calling, 60)
    assert await worker.where() == Where(process=os.getpid())
    assert await worker.add(1) == 2  # what the killed action had changed was not written
    assert file.read_text().split() == ["begun"]
    await requests_gone(store)


async def test_a_host_that_stalls_past_its_lease_answers_nothing_and_writes_nothing(
    registry: Registry, other: SharedHost, tmp_path: Path
) -> None:
    worker, file = create_client().worker.get_or_create("main"), tmp_path / "lines"
    calling = asyncio.ensure_future(worker.slow(str(file), 1.0))
    assert await lines(file, 1) == ["begun"]
    other.signal(signal.SIGSTOP)
    other.expire()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(calling, 60)
    assert await worker.add(1) == 1
    other.signal(signal.SIGCONT)
    assert (await lines(file, 2))[1] in ("done", "cancelled")
    assert await worker.add(1) == 2


async def test_a_call_that_a_blocked_host_does_not_take_in_time_was_not_made(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, file = create_client().worker.get_or_create("main"), tmp_path / "lines"
    blocking = asyncio.ensure_future(worker.block(str(file), 4.0))
    assert await lines(file, 1) == ["begun"]
    monkeypatch.setattr("agentq_nb._brokers.postgres.pending_calls.PATIENCE", 0.5)
    with pytest.raises(Unavailable, match=r"may be blocked.*Nothing was done"):
        await worker.add(1)
    await blocking
    monkeypatch.undo()
    assert await worker.add(1) == 1


async def test_under_a_kill_every_call_runs_at_most_once_and_what_was_answered_is_kept(
    store: str, tmp_path: Path
) -> None:
    hosts = [await asyncio.to_thread(SharedHost, store, tmp_path / str(number)) for number in range(2)]
    client = create_client(store)
    workers = [client.worker.get_or_create(f"w{number}") for number in range(4)]
    answered: list[list[int]] = [[] for _ in workers]
    unknown: list[list[int]] = [[] for _ in workers]
    over = asyncio.Event()

    async def call_all(place: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            try:
                await workers[place].note(number)
                answered[place].append(number)
            except (Unavailable, Aborted):
                unknown[place].append(number)
            await asyncio.sleep(0.01)

    async def more(count: int) -> None:
        enough = sum(map(len, answered)) + count
        async with asyncio.timeout(60):
            while sum(map(len, answered)) < enough:  # noqa: ASYNC110  # results have no common event
                await asyncio.sleep(0.02)

    calling = [asyncio.ensure_future(call_all(place)) for place in range(len(workers))]
    await more(20)
    running = (await workers[0].where())["process"]
    victim = next(host for host in hosts if host.process == running)
    hosts.remove(victim)
    await asyncio.to_thread(victim.kill)
    await more(20)
    over.set()
    async with asyncio.timeout(60):
        await asyncio.gather(*calling)
    for place, worker in enumerate(workers):
        kept = await worker.notes()
        assert kept == sorted(set(kept))
        assert set(answered[place]) <= set(kept) <= {*answered[place], *unknown[place]}
    await asyncio.to_thread(hosts[0].stop)


async def test_an_actor_that_gives_up_stops_the_action_that_it_called(registry: Registry, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    assert await create_client().caller.get_or_create("a").give_up("main", str(file)) == "given up"
    assert await lines(file, 2) == ["begun", "cancelled"]


async def test_an_interrupted_cell_ends_the_wait_and_not_the_action(registry: Registry, tmp_path: Path) -> None:
    worker, file = create_client().worker.get_or_create("main"), tmp_path / "lines"
    calling = asyncio.ensure_future(worker.slow(str(file), 1.0))
    assert await lines(file, 1) == ["begun"]
    calling.cancel()
    assert await lines(file, 2) == ["begun", "done"]
    assert await worker.add(1) == 2


async def test_a_host_that_stops_tells_the_caller(registry: Registry, other: SharedHost, tmp_path: Path) -> None:
    worker, file = create_client().worker.get_or_create("main"), tmp_path / "lines"
    calling = asyncio.ensure_future(worker.slow(str(file)))
    assert await lines(file, 1) == ["begun"]
    await asyncio.to_thread(other.stop)
    with pytest.raises(Aborted):
        await asyncio.wait_for(calling, 30)
    assert await worker.where() == Where(process=os.getpid())


async def test_events_reach_listeners_of_another_host_in_order_however_large(registry: Registry) -> None:
    worker = create_client().worker.get_or_create("main")
    heard: list[int] = []
    added: list[int] = []
    worker.on("numbered", lambda payload: heard.append(payload["number"]))
    stop = worker.on("added", added.append)
    await worker.broadcast_many(50, 10_000)
    async with asyncio.timeout(30):
        while len(heard) < 50:  # noqa: ASYNC110  # a listener has no event
            await asyncio.sleep(0.02)
    assert heard == list(range(50))
    await worker.add(1)
    handled: list[str] = []
    worker.on("handled", handled.append)
    await worker.send("tasks", "x", wait=True, timeout=30)
    async with asyncio.timeout(30):
        while not (handled and added):  # noqa: ASYNC110  # a listener has no event
            await asyncio.sleep(0.02)
    assert (handled, added) == (["x"], [1])
    stop()


async def test_a_message_in_flight_elsewhere_is_cancelled(registry: Registry, tmp_path: Path) -> None:
    worker, file = create_client().worker.get_or_create("main"), tmp_path / "lines"
    receipt = await worker.send("long", str(file))
    assert await lines(file, 1) == ["begun"]
    assert await worker.cancel(receipt.id)
    assert await lines(file, 2) == ["begun", "cancelled"]
    assert (await receipt.result(30)).status == "cancelled"
