"""Queues that are full, in messages or in bytes, and sends that wait for room; and a store that has reached its limit."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Actor, AgentqError, Queue, action, setup
from agentq_nb._brokers.local.store_limit import StoreLimit
from agentq_nb._policies.admission import RESERVE
from agentq_nb.errors import MessageTooLarge, QueueFull, StoreFull, WaitWouldDeadlock
from tests.unit.fake_clock import FakeClock
from tests.unit.runtime.world import World, queue_of, until

pytestmark = pytest.mark.anyio


class Inbox(Actor):
    """It takes messages only when it is told to."""

    letters = Queue(str, max_size=2, on_full="wait")
    parcels = Queue(str, max_bytes=100)
    stones = Queue(str, max_size=1)

    @action
    async def take_one(self, queue: str) -> str | None:
        message = await self.queue.try_next(queue)
        return None if message is None else message.body

    @action
    async def pass_on(self, queue: str, body: str) -> str:
        return (await self.queue.push(queue, body)).id


async def full(world: World) -> Any:
    handle = (await world.start(inbox=Inbox)).inbox.get_or_create("x")
    for body in ("a", "b"):
        await handle.send("letters", body)
    return handle


async def waiting_senders(handle: Any, number: int) -> None:
    async def come() -> bool:
        return (await queue_of(handle, "letters")).waiting_senders == number

    await until(come)


async def test_sends_wait_in_order_and_are_shown_in_status(world: World) -> None:
    handle = await full(world)
    senders: list[Any] = []
    for body in ("c", "d", "e"):
        senders.append(asyncio.ensure_future(handle.send("letters", body)))
        await waiting_senders(handle, len(senders))
    senders[1].cancel()
    await waiting_senders(handle, 2)
    assert [await handle.take_one("letters") for _ in range(2)] == ["a", "b"]
    receipts = [await senders[0], await senders[2]]
    assert [await handle.take_one("letters") for _ in range(3)] == ["c", "e", None]
    assert [(await receipt.result()).status for receipt in receipts] == ["completed", "completed"]


async def test_a_push_waits_too(world: World) -> None:
    handle = await full(world)
    pushing = asyncio.ensure_future(handle.pass_on("letters", "c"))
    await waiting_senders(handle, 1)
    assert await handle.take_one("letters") == "a"
    await pushing
    assert await handle.take_one("letters") == "b"
    assert await handle.take_one("letters") == "c"


async def test_a_send_waits_at_most_its_timeout(slow_world: World) -> None:
    handle = await full(slow_world)
    sending = [
        asyncio.ensure_future(handle.send("letters", "c", timeout=5)),
        asyncio.ensure_future(handle.send("letters", "d", wait=True, timeout=5)),
    ]
    await slow_world.pass_by(5)
    for sender in sending:
        with pytest.raises(QueueFull, match=r"Limit is 2 messages\. Nothing was sent.* within 5 s\. Send again"):
            await sender
    assert (await queue_of(handle, "letters")).waiting_senders == 0
    assert (await queue_of(handle, "letters")).ready == 2


async def test_the_wait_for_room_is_part_of_the_wait_for_the_result(slow_world: World) -> None:
    handle = await full(slow_world)
    sending = asyncio.ensure_future(handle.send("letters", "c", wait=True, timeout=5))
    await slow_world.pass_by(3)
    assert await handle.take_one("letters") == "a"
    await slow_world.pass_by(2)
    assert (await sending).status == "timed_out"


async def test_a_timeout_where_nothing_waits_is_a_type_error(world: World) -> None:
    handle = (await world.start(inbox=Inbox)).inbox.get_or_create("x")
    with pytest.raises(TypeError, match="timeout is for waiting"):
        await handle.send("stones", "a", timeout=5)


async def test_other_queues_raise_at_once(world: World) -> None:
    handle = (await world.start(inbox=Inbox)).inbox.get_or_create("x")
    await handle.send("stones", "a")
    with pytest.raises(QueueFull, match=r"Limit is 1 message\. .*raise max_size in its Queue"):
        await handle.send("stones", "b")


async def test_the_bytes_of_a_queue_are_bounded(world: World) -> None:
    handle = (await world.start(inbox=Inbox)).inbox.get_or_create("x")
    await handle.send("parcels", "x" * 58)
    with pytest.raises(QueueFull, match=r"Limit is 100 bytes.*raise max_bytes in its Queue"):
        await handle.send("parcels", "y" * 58)
    with pytest.raises(MessageTooLarge, match="raise max_bytes in its Queue"):
        await handle.send("parcels", "z" * 99)
    await handle.send("parcels", "y" * 38)


def test_queues_are_bounded_at_one_gibibyte_by_default() -> None:
    assert Queue(str).max_bytes == 1024**3
    assert Queue(str, max_bytes=None).max_bytes is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"on_full": "drop"}, r"Queue\(on_full=\.\.\.\) must be \"raise\" or \"wait\", not 'drop'"),
        ({"on_full": None}, "on_full"),
        ({"on_full": ["wait"]}, "on_full"),
        ({"max_bytes": 0}, r"Queue\(max_bytes=\.\.\.\) must be a whole number from 1 up, not 0"),
        ({"max_bytes": "1 GiB"}, "max_bytes"),
        ({"max_bytes": True}, "max_bytes"),
        ({"handler_timeout": 0}, "handler_timeout"),
    ],
)
def test_values_that_do_not_fit_are_refused_where_they_are_declared(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Queue(str, **options)


# --- waits that could never end ---------------------------------------------------------------------------------------


class Chain(Actor):
    """Its handler sends on to the queue that its message names, of this actor or of another."""

    links = Queue(str, max_size=2, on_full="wait")
    stop = Queue(str)

    async def run(self) -> None:
        async for message in self.queue.iter("links", completable=True):
            other, _, body = message.body.partition(" ")
            if other == "hold":
                await self.queue.next("stop")
            elif other:
                try:
                    await self.actors.chain.get_or_create(other).send("links", body)
                except WaitWouldDeadlock as error:
                    await message.fail(error)
                    continue
            await message.complete()


async def test_a_handler_that_waits_for_room_in_its_own_queue_is_told_at_once(world: World) -> None:
    handle = (await world.start(chain=Chain)).chain.get_or_create("a")
    await handle.pause("links")
    first = await handle.send("links", "a again")
    await handle.send("links", "")
    await handle.resume("links")
    result = await first.result(timeout=10)
    assert result.error is not None
    assert result.error["code"] == "wait_would_deadlock"
    assert result.error["message"].startswith("Nothing was sent: waiting for room in the full queue, to send message ")
    assert 'on_full="raise"' in result.error["message"]


async def test_two_handlers_that_wait_for_room_in_each_others_queues_are_told(world: World) -> None:
    client = await world.start(chain=Chain)
    handles = {name: client.chain.get_or_create(name) for name in "ab"}
    receipts: dict[str, Any] = {}
    for name, handle in handles.items():
        await handle.pause("links")
        receipts[name] = await handle.send("links", f"{'b' if name == 'a' else 'a'} ")
        await handle.send("links", "")
    for handle in handles.values():
        await handle.resume("links")
    results = [await receipt.result(timeout=10) for receipt in receipts.values()]
    assert sorted(result.status for result in results) == ["completed", "failed"]
    (failed,) = [result for result in results if result.error]
    assert failed.error["code"] == "wait_would_deadlock"


async def test_a_handler_waits_for_room_that_another_actor_makes(world: World) -> None:
    client = await world.start(chain=Chain)
    a, b = client.chain.get_or_create("a"), client.chain.get_or_create("b")
    await b.send("links", "hold")
    await b.send("links", "")
    sent = await a.send("links", "b ")

    async def waits() -> bool:
        return (await queue_of(b, "links")).waiting_senders == 1

    await until(waits)
    await b.send("stop", "")
    assert (await sent.result(timeout=10)).status == "completed"


# --- the store --------------------------------------------------------------------------------------------------------


@pytest.mark.file_only
async def test_a_store_at_its_limit_refuses_sends_and_settles_what_it_has(world: World) -> None:
    handle = (await world.start(inbox=Inbox)).inbox.get_or_create("x")
    setup(store=world.store, max_store_bytes=4 * 1024 * 1024)
    sent: list[Any] = []

    async def fill() -> None:
        for number in range(100):
            actor = handle if number == 0 else world.registry.lifecycle.host.client.inbox.get_or_create(str(number))
            sent.append(await actor.send("stones", "x" * 500_000, idempotency_key="k"))

    with pytest.raises(StoreFull) as refused:
        await fill()
    assert refused.value.full_code == "store.full"
    assert f"max_store_bytes={4 * 1024 * 1024} bytes" in refused.value.message
    assert "%agentq prune" in refused.value.message
    assert 3 <= len(sent) <= 8
    status = await world.registry.status()
    assert "max_store_bytes" in (status.trouble or "")
    assert (await handle.send("stones", "x" * 500_000, idempotency_key="k")).id == sent[0].id
    assert await handle.take_one("stones") == "x" * 500_000
    assert (await sent[0].result(timeout=10)).status == "completed"
    setup(store=world.store, max_store_bytes=1024**3)
    await handle.send("stones", "there is room again")
    assert (await world.registry.status()).trouble is None
    assert [(await receipt.status()) for receipt in sent[1:]] == ["queued"] * (len(sent) - 1)


@pytest.mark.parametrize("limit", [0, -1, 1.5, "1 GB", True])
async def test_a_limit_that_is_no_number_of_bytes_is_refused(world: World, limit: Any) -> None:
    with pytest.raises(AgentqError, match="max_store_bytes is a whole number of bytes from 1 up") as refused:
        setup(store=world.store, max_store_bytes=limit)
    assert refused.value.full_code == "actor.validation_error"


class Files:
    """A log of some size."""

    path = Path("/work.duckdb")

    def __init__(self, used: int) -> None:
        self.used, self.measured = used, 0

    def bytes_used(self) -> int:
        self.measured += 1
        return self.used


async def test_the_files_are_measured_seldom_and_not_at_all_without_a_limit() -> None:
    files, clock, free = Files(0), FakeClock(), [1 << 40]
    limit = StoreLimit(clock, lambda _: free[0])
    limit.check(files, 100)
    assert files.measured == 0
    limit.bytes = 1000
    for _ in range(9):
        limit.check(files, 100)
    assert files.measured == 1
    files.used = 900
    with pytest.raises(StoreFull):
        limit.check(files, 100)
    files.used = 500
    limit.check(files, 100)
    clock.advance(1)
    free[0] = RESERVE + 50
    with pytest.raises(StoreFull, match=f"the disk of /work.duckdb has {RESERVE + 50} bytes left"):
        limit.check(files, 100)
    assert "bytes left" in (limit.trouble(files) or "")
    limit.check(files, 10)
    clock.advance(1)
    free[0] = RESERVE + 500
    assert limit.trouble(files) is None
