"""A Python client in another process than its host: over HTTP with a token, and over the host's local socket."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from agentq_nb import AgentqError, Result, create_client, gather
from agentq_nb._client.client import Client
from agentq_nb._gateway.client_loop import client_loop
from agentq_nb.errors import (
    ActionNotFound,
    ActorDuplicate,
    ActorNotFound,
    ActorUnknown,
    BatchUnknown,
    HostBlocked,
    HostUnreachable,
    InternalError,
    MessageFailed,
    MessageTooLarge,
    MessageUnknown,
    NoHost,
    QueueFull,
    QueueUnknown,
    Refused,
    UserError,
    ValidationFailed,
)
from tests.unit.gateway.host_program import Review, Reviewer, Task
from tests.unit.gateway.other_process import OtherProcess

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["http", "socket"])
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherProcess]:
    """One host for all tests here: each uses actors of its own."""
    with OtherProcess.running(tmp_path_factory.mktemp("host"), request.param) as process:
        yield process


@pytest.fixture
def client(other: OtherProcess) -> Client:
    return other.client()


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # no event tells of it
            await asyncio.sleep(0.01)


def verdict(result: Result[Any]) -> str:
    """The verdict in a plain reply."""
    return cast("dict[str, str]", result.unwrap())["verdict"]


# --- messages ---------------------------------------------------------------------------------------------------------


async def test_sends_waits_and_receipts(client: Client) -> None:
    reviewer = client.reviewer.get_or_create("sends")
    result = await reviewer.send("tasks", {"prompt": "ab", "size": 2}, wait=True, timeout=30)
    assert (result.status, result.response) == ("completed", {"verdict": "ABAB"})
    receipt = await reviewer.send("tasks", {"prompt": "c"})
    assert (await receipt).response == {"verdict": "C"}
    assert await receipt.status() == "completed"
    again = client.receipt(receipt.id)
    assert (await again.result(timeout=0)).attempts == 1


async def test_classes_that_the_caller_gives_are_those_of_bodies_and_replies(other: OtherProcess) -> None:
    typed = other.client(use={"reviewer": Reviewer}).reviewer.get_or_create("typed")
    assert (await typed.send("tasks", Task(prompt="x"), wait=True)).unwrap() == Review(verdict="X")
    by_class = other.client().actor(Reviewer).get_or_create("typed")
    assert (await by_class.send(Reviewer.tasks, Task(prompt="y"), wait=True)).unwrap() == Review(verdict="Y")
    plain = other.client().reviewer.get_or_create("typed")
    assert (await plain.send(Reviewer.tasks, Task(prompt="z"), wait=True)).unwrap() == {"verdict": "Z"}


async def test_a_wait_that_is_too_short_is_timed_out_and_says_why(client: Client) -> None:
    reviewer = client.reviewer.get_or_create("short")
    result = await reviewer.send("held", 3600, wait=True, timeout=0.05)
    assert result.status == "timed_out"
    assert result.reason is not None
    receipt = client.receipt(result.message_id)
    assert (await receipt.result(timeout=0.05)).status == "timed_out"
    assert await receipt.status() == "running"
    assert await receipt.cancel()
    assert (await receipt).status == "cancelled"
    assert not await receipt.cancel()


async def test_failed_work_is_a_result_as_in_the_hosts_own_process(client: Client) -> None:
    result = await client.reviewer.get_or_create("fails").send("held", "fail", wait=True)
    assert result.status == "failed"
    with pytest.raises(MessageFailed, match="it fails"):
        result.unwrap()


async def test_an_idempotency_key_names_one_message(client: Client) -> None:
    reviewer = client.reviewer.get_or_create("keys")
    first = await reviewer.send("tasks", {"prompt": "a"}, idempotency_key="k")
    assert (await reviewer.send("tasks", {"prompt": "a"}, idempotency_key="k")).id == first.id


async def test_a_full_queue_raises_or_waits_in_turn(client: Client) -> None:
    reviewer = client.reviewer.get_or_create("full")
    await reviewer.send("untaken", 1)
    await reviewer.send("untaken", 2)
    with pytest.raises(QueueFull) as caught:
        await reviewer.send("untaken", 3)
    assert caught.value.metadata["limit"] == 2

    await reviewer.send("one", "first")
    with pytest.raises(QueueFull, match=r"within 0\.05 s"):
        await reviewer.send("one", "x", timeout=0.05)
    second = asyncio.create_task(reviewer.send("one", "second", timeout=60))
    await asyncio.sleep(0.1)
    assert not second.done()
    assert await reviewer.take() == "first"
    await second
    assert await reviewer.take() == "second"


async def test_a_large_reply_comes_whole(client: Client) -> None:
    result = await client.reviewer.get_or_create("large").send("tasks", {"prompt": "x" * 1000, "size": 8000}, wait=True)
    assert len(verdict(result)) == 8_000_000


async def test_a_hundred_waits_at_once(client: Client) -> None:
    reviewers = [client.reviewer.get_or_create(f"many{number}") for number in range(100)]
    receipts = await asyncio.gather(*(each.send("held", 0.5) for each in reviewers))
    begun = time.monotonic()
    results = await gather(receipts, timeout=60)
    assert [result.response for result in results] == [0.5] * 100
    assert time.monotonic() - begun < 30


# --- errors -----------------------------------------------------------------------------------------------------------


async def test_errors_are_of_the_same_classes_as_in_the_hosts_own_process(client: Client) -> None:
    reviewer = client.reviewer.get_or_create("errors")
    for kind, call in {
        QueueUnknown: lambda: reviewer.send("task", 1),
        ActorUnknown: lambda: client.revewer.get_or_create("x").send("tasks", 1),
        ActorNotFound: lambda: client.reviewer.get("never").status_of_nothing(),
        ActionNotFound: lambda: reviewer.ad(),
        MessageUnknown: lambda: client.receipt("0" * 25).status(),
        BatchUnknown: lambda: client.batch("none"),
        MessageTooLarge: lambda: reviewer.send("tasks", {"prompt": "x" * 2_000_000}),
        InternalError: lambda: reviewer.fail("badly"),
    }.items():
        with pytest.raises(kind):
            await call()
    with pytest.raises(ValidationFailed, match="prompt: Field required"):
        await reviewer.send("tasks", {"size": 2})
    with pytest.raises(ValidationFailed, match="argument number"):
        await reviewer.add("many")
    with pytest.raises(UserError, match="Not this one") as caught:
        await reviewer.fail("user")
    assert (caught.value.full_code, caught.value.metadata) == ("user.own", {"number": 7})


async def test_an_unexpected_error_keeps_its_text_at_home_over_http(client: Client, other: OtherProcess) -> None:
    with pytest.raises(InternalError) as caught:
        await client.reviewer.get_or_create("secret").fail("badly")
    assert ("hunter2" in str(caught.value)) is (other.way == "socket")


async def test_a_wrong_token_is_refused(other: OtherProcess) -> None:
    if other.way == "http":
        for token in ("wrong-token-of-16-letters", None):
            with pytest.raises(Refused) as caught:
                await create_client(other.url, token=token).reviewer.get_or_create("x").status()
            assert caught.value.status == 401


async def test_the_token_may_come_from_the_environment(other: OtherProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    if other.way == "http":
        monkeypatch.setenv("AGENTQ_TOKEN", "a-token-for-tests-only")
        assert (await create_client(other.url).reviewer.get_or_create("env").add(2)) == 2


async def test_a_blocked_host_is_named_and_waits_outlive_it(client: Client) -> None:
    reviewer = client.reviewer.get_or_create("blocked")
    receipt = await reviewer.send("held", 1.0)
    blocking = asyncio.create_task(reviewer.block(7.0))
    await asyncio.sleep(0.3)
    waiting = asyncio.create_task(receipt.result(timeout=60))
    with pytest.raises(HostBlocked):
        await reviewer.send("tasks", {"prompt": "x"})
    await blocking
    assert (await waiting).status == "completed"


# --- actors -----------------------------------------------------------------------------------------------------------


async def test_actors_are_created_once_with_their_input(client: Client) -> None:
    handle = await client.reviewer.create("made", {"value": 40})
    assert await handle.add(2) == 42
    with pytest.raises(ActorDuplicate):
        await client.reviewer.create("made")
    assert await client.reviewer.get_or_create("other", {"value": 1}).add() == 2
    assert await client.reviewer.get("made").add() == 43


async def test_values_of_actions_keep_their_kind(client: Client) -> None:
    value = {"b": b"\x00\xff", "s": {1, 2}, "n": 2**80, "d": datetime(2026, 1, 2, tzinfo=UTC), "l": ["$x", 1], "f": 0.5}
    assert await client.reviewer.get_or_create("values").echo(value) == value
    assert await client.reviewer.get_or_create("values").echo(None) is None


async def test_a_handle_shows_the_actions_of_the_host(client: Client) -> None:
    handle = client.reviewer.get_or_create("shown")
    assert "add" in dir(handle)
    assert "reviewer" in dir(client)
    assert handle.add.__doc__ == "Add a number."
    assert "reviewer" in repr(client)


async def test_queues_are_paused_resumed_purged_and_messages_cancelled_and_redelivered(client: Client) -> None:
    reviewer = client.reviewer.get_or_create("changed")
    await reviewer.pause("held")
    receipt = await reviewer.send("held", "x")
    queue = next(queue for queue in (await reviewer.status()).queues if queue.queue == "held")
    assert (queue.paused, queue.ready) == (True, 1)
    assert await reviewer.purge("held") == 1
    assert (await receipt).status == "cancelled"
    assert await reviewer.redeliver(receipt.id)
    assert await reviewer.resume("held")
    assert not await reviewer.resume("held")
    assert (await receipt).response == "x"
    with pytest.raises(ValidationFailed):
        await reviewer.pause("held", until=time.time() - 10)
    await reviewer.pause("held", until=time.time() + 0.2)
    assert (await reviewer.send("held", "y", wait=True, timeout=30)).response == "y"


# --- events -----------------------------------------------------------------------------------------------------------


async def test_events_reach_the_loop_that_listens(client: Client) -> None:
    reviewer = client.reviewer.get_or_create("events")
    seen: list[tuple[int, int]] = []
    stop = reviewer.on("added", lambda event: seen.append((event["value"], threading.get_ident())))
    await asyncio.gather(*(reviewer.add() for _ in range(20)))
    await until(lambda: len(seen) == 20)
    assert [value for value, _ in seen] == list(range(1, 21))
    assert {thread for _, thread in seen} == {threading.get_ident()}
    stop()
    stop()
    await reviewer.add()
    again: list[Any] = []
    reviewer.on("added", again.append)
    await reviewer.add()
    await until(lambda: again)
    assert (again, len(seen)) == ([{"value": 22}], 20)


# --- batches ----------------------------------------------------------------------------------------------------------


async def test_batches_are_sent_waited_for_and_found_again(client: Client, tmp_path: Path) -> None:
    reviewer = client.reviewer.get_or_create("batches")
    name = "words"
    batch = await reviewer.send_many("tasks", [{"prompt": text} for text in "abc"], name=name)
    assert (len(batch), batch.added) == (3, 3)
    assert {result.row async for result in batch} == {0, 1, 2}
    assert [verdict(result) for result in await batch.results()] == ["A", "B", "C"]
    frame = await batch.frame()
    assert frame["verdict"].tolist() == ["A", "B", "C"]
    assert frame["prompt"].tolist() == ["a", "b", "c"]
    more = await reviewer.send_many("tasks", [{"prompt": text} for text in "abcd"], name=name)
    assert (more.added, len(more)) == (1, 4)
    found = await client.batch(name)
    await found
    assert (await found.progress()).done == 4
    assert str(found.progress()) == "4 of 4 done"
    assert [verdict(result) for result in await found.results()] == ["A", "B", "C", "D"]
    assert await found.redo() == 4
    with pytest.raises(ValidationFailed, match=r"Body 1 .*prompt"):
        await reviewer.send_many("tasks", [{"prompt": "x"}, {}])


async def test_batches_are_cancelled_and_retried(client: Client) -> None:
    reviewer = client.reviewer.get_or_create("retried")
    batch = await reviewer.send_many("held", ["fail", "x", 3600])
    coming = aiter(batch)
    assert {(await anext(coming)).status for _ in range(2)} == {"completed", "failed"}
    assert [failure.row for failure in await batch.failures()] == [0]
    assert await batch.retry_failed() == 1
    assert [result.status for result in await batch.results(timeout=0.1)][2] == "timed_out"
    assert await batch.cancel() >= 1
    await batch
    assert batch.progress().cancelled >= 1


async def test_a_large_batch(client: Client) -> None:
    bodies = [{"prompt": str(number)} for number in range(3000)]
    batch = await client.reviewer.get_or_create("large-batch").send_many("tasks", bodies)
    assert [verdict(result) for result in await batch.results(timeout=120)] == [each["prompt"] for each in bodies]


# --- ways to call it --------------------------------------------------------------------------------------------------


def test_synchronous_code_is_as_short(client: Client) -> None:
    reviewer = client.reviewer.get_or_create("sync")
    assert client.run(reviewer.send("tasks", {"prompt": "a"}, wait=True)).unwrap() == {"verdict": "A"}
    assert client.run(reviewer.add(3)) == 3
    batch = client.run(reviewer.send_many("tasks", [{"prompt": "b"}]))
    assert [result.ok for result in client.run(batch.results())] == [True]


def test_one_client_serves_several_loops_and_threads(client: Client) -> None:
    def work(number: int) -> None:
        asyncio.run(client.reviewer.get_or_create("loops").add(number))  # type: ignore[arg-type]  # a coroutine

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asyncio.run(client.reviewer.get_or_create("loops").add(0)) == 6


async def test_a_wait_that_is_given_up_is_ended_at_the_host_too(client: Client) -> None:
    reviewer = client.reviewer.get_or_create("given-up")
    receipt = await reviewer.send("held", 3600)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await receipt
    await receipt.cancel()
    assert (await receipt.result(timeout=30)).status == "cancelled"


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:6420",
        "ftp://x",
        "",
        5,
        "http://x/?a=1",
        "http://x:99999",
        "http://[::1",
        "http://a b/",
        "http://u:p@x",
    ],
)
def test_what_is_no_url_is_refused(url: Any) -> None:
    with pytest.raises(ValidationFailed, match="like 'http://"):
        create_client(url)


def test_a_url_and_a_store_are_too_much(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        create_client("http://127.0.0.1:6420", store=tmp_path / "x")


async def test_a_host_that_is_not_there_is_named(tmp_path: Path) -> None:
    for client in (create_client("http://127.0.0.1:9"), create_client(store=tmp_path / "none.duckdb")):
        with pytest.raises(HostUnreachable) as caught:
            await client.reviewer.get_or_create("x").send("tasks", 1)
        assert isinstance(caught.value, NoHost)
        assert isinstance(caught.value, AgentqError)
        assert "no actors yet" in repr(client)


def test_a_client_that_the_garbage_collector_finds_inside_a_call_of_its_thread_blocks_nothing() -> None:
    portal = client_loop()
    client = create_client("http://127.0.0.1:9", token="t" * 20)
    gone = weakref.ref(client)

    def collect() -> None:
        nonlocal client
        with portal._lock:  # as a call holds it, in which the collector may run
            del client
            gc.collect()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert gone() is None
