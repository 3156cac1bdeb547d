"""``send_many`` to a full queue with ``on_full="wait"``: all at once, in the order of all who wait, or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Actor, Queue, create_client, current_registry, setup
from agentq_nb.errors import BatchTooLarge, BatchUnknown, QueueFull, Unavailable, WaitWouldDeadlock

pytestmark = pytest.mark.anyio


class Narrow(Actor):
    """Handles one message each time the test lets it."""

    tasks = Queue(Any, max_size=4, max_bytes=1000, on_full="wait")
    refusing = Queue(Any, max_size=4)
    tickets: asyncio.Semaphore
    handled: list[Any]

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            await self.tickets.acquire()
            self.handled.append(message.body)
            await message.complete(message.body)


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Any]:
    Narrow.tickets, Narrow.handled = asyncio.Semaphore(0), []
    async with setup(use={"narrow": Narrow}, store=tmp_path / "narrow.agentq.duckdb"):
        yield create_client().narrow.get_or_create("n")


async def waiting(worker: Any, number: int) -> None:
    async with asyncio.timeout(10):
        while (await queue_status(worker)).waiting_senders != number:  # noqa: ASYNC110  # nor is this
            await asyncio.sleep(0.002)


async def queue_status(worker: Any) -> Any:
    return next(queue for queue in (await worker.status()).queues if queue.queue == "tasks")


async def handle(number: int) -> None:
    before = len(Narrow.handled)
    for _ in range(number):
        Narrow.tickets.release()
    async with asyncio.timeout(10):
        while len(Narrow.handled) < before + number:  # noqa: ASYNC110  # what it waits for is no event
            await asyncio.sleep(0.002)


async def test_a_batch_waits_until_all_of_it_has_room(worker: Any) -> None:
    await worker.send_many("tasks", [1, 2, 3, 4], name="first")
    sending = asyncio.ensure_future(worker.send_many("tasks", [5, 6, 7], name="second"))
    await waiting(worker, 1)
    await handle(2)
    await asyncio.sleep(0.02)
    assert not sending.done()
    assert (await queue_status(worker)).live == 2, "no part of it was sent"
    await handle(1)
    batch = await asyncio.wait_for(sending, 10)
    assert batch.added == 3
    await handle(4)
    assert [result.response for result in await batch.results(timeout=10)] == [5, 6, 7]
    assert Narrow.handled == [1, 2, 3, 4, 5, 6, 7]


async def test_single_senders_and_batches_are_served_in_the_order_they_came(worker: Any) -> None:
    await worker.send_many("tasks", [0, 0, 0, 0], name="first")
    sends: list[asyncio.Future[Any]] = []
    for number, send in enumerate(
        [
            lambda: worker.send("tasks", "a"),
            lambda: worker.send_many("tasks", ["b1", "b2", "b3"], name="b"),
            lambda: worker.send("tasks", "c"),
            lambda: worker.send_many("tasks", ["d1", "d2"], name="d"),
            lambda: worker.send("tasks", "e"),
        ]
    ):
        sends.append(asyncio.ensure_future(send()))
        await waiting(worker, number + 1)
    await handle(12)
    await asyncio.wait_for(asyncio.gather(*sends), 10)
    assert Narrow.handled == [0, 0, 0, 0, "a", "b1", "b2", "b3", "c", "d1", "d2", "e"]


async def test_one_that_is_cancelled_or_times_out_has_sent_nothing_and_lets_the_others_go_on(worker: Any) -> None:
    await worker.send_many("tasks", [0, 0, 0, 0], name="first")
    cancelled = asyncio.ensure_future(worker.send_many("tasks", ["a1", "a2"], name="a"))
    await waiting(worker, 1)
    with pytest.raises(QueueFull, match=r"within 0\.05 s"):
        await worker.send_many("tasks", ["b1", "b2"], name="b", timeout=0.05)
    last = asyncio.ensure_future(worker.send_many("tasks", ["c"], name="c"))
    await waiting(worker, 2)
    cancelled.cancel()
    await waiting(worker, 1)
    await handle(1)
    await asyncio.wait_for(last, 10)
    await handle(4)
    assert Narrow.handled == [0, 0, 0, 0, "c"]

    async def live() -> int:
        return next(queue.live for queue in (await worker.status()).queues if queue.queue == "tasks")

    async with asyncio.timeout(10):
        while await live():  # noqa: ASYNC110  # the last one is settled after its handler has ended
            await asyncio.sleep(0.002)


async def test_other_calls_that_name_the_batch_do_not_wait_for_its_room(worker: Any) -> None:
    registry = current_registry()
    assert registry is not None
    await worker.send_many("tasks", [0, 0, 0, 0], name="first")
    sending = asyncio.ensure_future(worker.send_many("tasks", ["a"], name="second"))
    await waiting(worker, 1)
    with pytest.raises(BatchUnknown):
        await asyncio.wait_for(registry.batch("second"), 10)
    await handle(5)
    await asyncio.wait_for(sending, 10)
    assert len(await registry.batch("second")) == 1


async def test_what_the_batch_has_already_needs_no_room(worker: Any) -> None:
    await worker.send_many("tasks", [1, 2], name="half")
    await handle(2)
    await worker.send_many("tasks", [3, 4, 5], name="other")
    batch = await asyncio.wait_for(worker.send_many("tasks", [1, 2, 3], name="half"), 10)
    assert batch.added == 1


@pytest.mark.parametrize("bodies", [range(5), ["x" * 600] * 2])
async def test_a_batch_that_could_never_fit_is_refused_at_once(worker: Any, bodies: Any) -> None:
    for queue in ("tasks", "refusing")[: 2 if bodies == range(5) else 1]:
        with pytest.raises(BatchTooLarge, match="even while that is empty"):
            await asyncio.wait_for(worker.send_many(queue, bodies, name="never"), 10)


async def test_a_queue_that_refuses_never_waits(worker: Any) -> None:
    await worker.send_many("refusing", [1, 2, 3], name="first")
    with pytest.raises(QueueFull, match="Limit is 4"):
        await worker.send_many("refusing", [4, 5], name="second")
    with pytest.raises(TypeError, match="on_full"):
        await worker.send_many("refusing", [4, 5], name="second", timeout=1)


async def test_a_handler_that_waits_for_room_that_only_it_could_make_is_told(worker: Any, tmp_path: Path) -> None:
    caught: list[BaseException] = []

    class Selfish(Actor):
        tasks = Queue(Any, max_size=2, on_full="wait")

        async def run(self) -> None:
            async for _ in self.tasks.iter():
                try:
                    await create_client().selfish.get_or_create("s").send_many("tasks", [1, 2], name="own")
                except WaitWouldDeadlock as error:
                    caught.append(error)
                return

    registry = current_registry()
    assert registry is not None
    await registry.deploy("selfish", Selfish)
    await create_client().selfish.get_or_create("s").send("tasks", 0)
    async with asyncio.timeout(10):
        while not caught:  # noqa: ASYNC110  # what it waits for is no event
            await asyncio.sleep(0.002)


async def test_the_end_of_the_host_ends_the_wait(worker: Any) -> None:
    registry = current_registry()
    assert registry is not None
    await worker.send_many("tasks", [0, 0, 0, 0], name="first")
    sending = asyncio.ensure_future(worker.send_many("tasks", ["a"], name="second"))
    await waiting(worker, 1)
    await registry.stop()
    with pytest.raises(Unavailable, match="nothing was sent"):
        await asyncio.wait_for(sending, 10)
