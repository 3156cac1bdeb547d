"""What a Python client does while its host is killed and started again, and when answers get lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import create_client
from agentq_nb.errors import HostUnreachable, Unavailable
from tests.unit.gateway.cutting_proxy import cutting_proxy
from tests.unit.gateway.other_process import OtherProcess
from tests.unit.gateway.raw_client import TOKEN

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["http", "socket"])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OtherProcess]:
    with OtherProcess.running(tmp_path, request.param) as process:
        yield process


@pytest.fixture
def over_http(tmp_path: Path) -> Iterator[OtherProcess]:
    with OtherProcess.running(tmp_path, "http") as process:
        yield process


async def start(other: OtherProcess) -> None:
    await asyncio.get_running_loop().run_in_executor(None, other.start)


async def test_waits_survive_a_kill_by_the_messages_id(other: OtherProcess) -> None:
    client = other.client()
    reviewer = client.reviewer.get_or_create("waits")
    batch = await reviewer.send_many("tasks", [{"prompt": "a"}, {"prompt": "b"}])
    await batch
    receipt = await reviewer.send("held", 2.0)
    held = await reviewer.send_many("held", ["x", "y"])
    waiting = [
        asyncio.create_task(receipt.result(timeout=120)),
        asyncio.create_task(client.receipt(receipt.id).result()),
        asyncio.create_task(reviewer.send("held", "asked", wait=True)),
    ]
    results: asyncio.Task[Any] = asyncio.create_task(held.results())
    await asyncio.sleep(0.5)
    other.kill()
    await asyncio.sleep(0.5)
    assert not any(task.done() for task in [*waiting, results])
    await start(other)
    first, same, asked = await asyncio.gather(*waiting)
    assert (first.response, first.attempts) == (2.0, 2)
    assert same == first
    assert asked.response == "asked"
    assert [result.response for result in await results] == ["x", "y"]
    assert [result.ok for result in await batch.results()] == [True, True]


async def test_a_send_while_the_host_is_gone_arrives_once_it_is_back(other: OtherProcess) -> None:
    reviewer = other.client().reviewer.get_or_create("gone")
    await reviewer.send("tasks", {"prompt": "before"}, wait=True)
    other.kill()
    sending = asyncio.create_task(reviewer.send("tasks", {"prompt": "meanwhile"}, wait=True))
    await asyncio.sleep(0.5)
    await start(other)
    assert (await sending).unwrap() == {"verdict": "MEANWHILE"}


async def test_a_wait_for_room_survives_a_kill(other: OtherProcess) -> None:
    reviewer = other.client().reviewer.get_or_create("room")
    await reviewer.send("one", "first")
    waiting = asyncio.create_task(reviewer.send("one", "second", timeout=120))
    await asyncio.sleep(0.5)
    other.kill()
    await start(other)
    await asyncio.sleep(0.5)
    assert not waiting.done()
    assert await reviewer.take() == "first"
    await waiting
    assert await reviewer.take() == "second"


async def test_events_go_on_after_a_restart(other: OtherProcess) -> None:
    reviewer = other.client().reviewer.get_or_create("events")
    seen: list[Any] = []
    reviewer.on("added", seen.append)
    await reviewer.add()
    async with asyncio.timeout(60):
        while not seen:  # noqa: ASYNC110  # an event that is broadcast during an outage is lost
            await asyncio.sleep(0.01)
    other.kill()
    await start(other)
    async with asyncio.timeout(60):
        while len(seen) < 2:  # the client may still be telling the new host what it wants
            await reviewer.add()
            await asyncio.sleep(0.2)
    assert seen[0] == {"value": 1}


async def test_a_call_to_a_host_that_stays_away_says_so(over_http: OtherProcess) -> None:
    reviewer = create_client(over_http.url, token=TOKEN).reviewer.get_or_create("away")
    receipt = await reviewer.send("held", 3600)
    over_http.kill()
    with pytest.raises(HostUnreachable):
        await receipt.result(timeout=0.5)


@pytest.mark.parametrize("is_killed", [False, True])
async def test_a_send_whose_answer_is_lost_makes_one_message(over_http: OtherProcess, is_killed: bool) -> None:
    async with cutting_proxy(over_http.port) as proxy:
        reviewer = create_client(proxy.url, token=TOKEN).reviewer.get_or_create("lost")
        await reviewer.status()
        before = proxy.passed
        proxy.cuts = 1
        sending = asyncio.create_task(reviewer.send("untaken", "x"))
        while proxy.passed == before or proxy.cuts:  # noqa: ASYNC110  # no event tells of it
            await asyncio.sleep(0.001)
        if is_killed:
            over_http.kill()
            await start(over_http)
        receipt = await sending
        assert await receipt.status() == "queued"
        (untaken,) = [queue for queue in (await reviewer.status()).queues if queue.queue == "untaken"]
        assert untaken.ready == 1


async def test_a_batch_whose_answer_is_lost_is_sent_once(over_http: OtherProcess) -> None:
    async with cutting_proxy(over_http.port) as proxy:
        reviewer = create_client(proxy.url, token=TOKEN).reviewer.get_or_create("lost")
        await reviewer.status()
        proxy.cuts = 1
        batch = await reviewer.send_many("untaken", ["x", "x"])
        assert len(batch) == 2
        (untaken,) = [queue for queue in (await reviewer.status()).queues if queue.queue == "untaken"]
        assert untaken.ready == 2


async def test_an_action_whose_answer_is_lost_is_not_repeated(over_http: OtherProcess) -> None:
    async with cutting_proxy(over_http.port) as proxy:
        reviewer = create_client(proxy.url, token=TOKEN).reviewer.get_or_create("lost")
        await reviewer.add()
        proxy.cuts = 1
        with pytest.raises(Unavailable, match="not known whether"):
            await reviewer.add()
        assert await reviewer.add() == 3


async def test_the_wait_of_an_ask_goes_on_when_its_answer_is_lost(over_http: OtherProcess) -> None:
    async with cutting_proxy(over_http.port) as proxy:
        reviewer = create_client(proxy.url, token=TOKEN).reviewer.get_or_create("lost")
        await reviewer.status()
        proxy.cuts = 1
        result = await reviewer.send("held", 0.3, wait=True, timeout=60)
        assert (result.response, result.attempts) == (0.3, 1)
