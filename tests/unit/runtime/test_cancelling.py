"""Cancelling and time limits: queued, running, stubborn; and who comes after."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentq_nb import Actor, AgentqError, Queue, Retry, action
from tests.unit.runtime.world import World, breathe, until, until_status

pytestmark = pytest.mark.anyio


class Work(Actor):
    """Handles for ever, until told to stop."""

    tasks = Queue(str, retry=Retry(attempts=2, backoff=1000))
    seen: list[Any]

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            self.seen.append((message.body, message.attempt))
            if message.body != "quick":
                await asyncio.Event().wait()
            await message.complete()


@pytest.fixture
def work() -> type[Work]:
    made: type[Work] = type("Work", (Work,), {})
    made.seen = []
    return made


async def test_cancelling_a_queued_message_settles_it_for_good(world: World, work: type[Work]) -> None:
    client = await world.start(work=work)
    handle = client.work.get_or_create("x")
    await handle.send("tasks", "slow")
    queued = await handle.send("tasks", "quick")
    assert await queued.cancel()
    result = await queued.result()
    assert result.status == "cancelled"
    with pytest.raises(AgentqError) as caught:
        result.unwrap()
    assert caught.value.full_code == "queue.cancelled"
    assert not await queued.cancel(), "it is settled already"
    client = await world.crash()
    assert await client.receipt(queued.id).status() == "cancelled"


async def test_cancelling_a_running_message_stops_its_handler_and_the_next_one_comes(
    world: World, work: type[Work]
) -> None:
    client = await world.start(work=work)
    handle = client.work.get_or_create("x")
    running = await handle.send("tasks", "slow")
    behind = await handle.send("tasks", "quick")
    await until(lambda: work.seen)
    assert await handle.cancel(running.id)
    assert (await running.result(5)).status == "cancelled"
    assert (await behind.result(5)).status == "completed"
    assert work.seen == [("slow", 1), ("quick", 1)]


async def test_a_handler_that_catches_the_cancellation_and_goes_on_has_not_settled_by_that(slow_world: World) -> None:
    seen: list[str] = []
    release = asyncio.Event()

    class Stubborn(Actor):
        tasks = Queue(str)

        async def run(self) -> None:
            async for message in self.queue.iter():
                seen.append(message.body)
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    seen.append("caught")

    client = await slow_world.start(stubborn=Stubborn)
    handle = client.stubborn.get_or_create("x")
    first = await handle.send("tasks", "first")
    second = await handle.send("tasks", "second")
    await until(lambda: seen == ["first"])
    assert await first.cancel()
    assert (await first.result(5)).status == "cancelled"
    await until(lambda: seen == ["first", "caught", "second"])
    await slow_world.pass_by(20)
    assert seen == ["first", "caught", "second"], "the next message is not stopped for the first one's sake"
    release.set()
    assert (await second.result(5)).attempts == 1


async def test_a_handler_that_ignores_the_cancellation_is_given_up_after_5_s(slow_world: World) -> None:
    seen: list[str] = []
    late: list[str] = []
    release = asyncio.Event()

    class Deaf(Actor):
        tasks = Queue(str)

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                seen.append(message.body)
                while message.body == "deaf" and not release.is_set():
                    try:
                        await release.wait()
                    except asyncio.CancelledError:
                        continue
                try:
                    await message.complete()
                except AgentqError as error:
                    late.append(error.full_code)

    client = await slow_world.start(deaf=Deaf)
    handle = client.deaf.get_or_create("x")
    deaf = await handle.send("tasks", "deaf")
    behind = await handle.send("tasks", "behind")
    await until(lambda: seen)
    assert await deaf.cancel()
    await slow_world.pass_by(4.9)
    assert await deaf.status() == "running"
    await slow_world.pass_by(0.2)
    assert (await deaf.result(5)).status == "cancelled"
    assert (await behind.result(5)).status == "completed"
    release.set()
    await until(lambda: late)
    await handle.send("tasks", "after")
    await until(lambda: seen == ["deaf", "behind", "after"])
    assert late == ["queue.already_completed"]


async def test_a_call_that_was_given_up_receives_nothing_any_more(slow_world: World) -> None:
    taken: list[tuple[int, str]] = []
    lives = 0
    release = asyncio.Event()

    class Undead(Actor):
        tasks = Queue(str)

        async def run(self) -> None:
            nonlocal lives
            lives += 1
            life = lives
            async for message in self.queue.iter():
                taken.append((life, message.body))
                while message.body == "deaf" and not release.is_set():
                    try:
                        await release.wait()
                    except asyncio.CancelledError:
                        continue

    client = await slow_world.start(undead=Undead)
    handle = client.undead.get_or_create("x")
    deaf = await handle.send("tasks", "deaf")
    await until(lambda: taken)
    await deaf.cancel()
    await slow_world.pass_by(5.1)
    release.set()
    await breathe()
    for number in range(5):
        receipt = await handle.send("tasks", str(number))
        assert (await receipt.result(5)).status == "completed"
    assert {life for life, _ in taken[1:]} == {2}


async def test_completing_in_spite_of_a_cancellation_counts_as_completed(world: World) -> None:
    started = asyncio.Event()

    class Diligent(Actor):
        tasks = Queue(str, reply=str)

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                started.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    await message.complete("just done")

    client = await world.start(diligent=Diligent)
    receipt = await client.diligent.get_or_create("x").send("tasks", "a")
    await started.wait()
    await receipt.cancel()
    result = await receipt.result(5)
    assert (result.status, result.response) == ("completed", "just done")


async def test_cancel_and_complete_at_the_same_moment_have_one_outcome(world: World) -> None:
    class Echo(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                await message.complete(message.body)

    client = await world.start(echo=Echo)
    handle = client.echo.get_or_create("x")
    for number in range(30):
        receipt = await handle.send("tasks", number)
        for _ in range(number % 6):
            await asyncio.sleep(0)
        await receipt.cancel()
        result = await receipt.result(5)
        assert result.status in ("completed", "cancelled")
        assert await client.receipt(receipt.id).status() == result.status
    client = await world.crash()
    after = await client.echo.get_or_create("x").send("tasks", 99, wait=True, timeout=5)
    assert after.status == "completed"


async def test_a_message_cancelled_while_it_waits_for_its_next_attempt_does_not_come(slow_world: World) -> None:
    attempts: list[int] = []

    class Failing(Actor):
        tasks = Queue(str, retry=Retry(backoff=10))

        async def run(self) -> None:
            async for message in self.queue.iter():
                attempts.append(message.attempt)
                raise ValueError

    client = await slow_world.start(failing=Failing)
    receipt = await client.failing.get_or_create("x").send("tasks", "a")
    await until_status(receipt, "delayed")
    assert await receipt.cancel()
    await slow_world.pass_by(30)
    assert attempts == [1]


async def test_a_cancelled_message_can_be_redelivered(world: World, work: type[Work]) -> None:
    client = await world.start(work=work)
    handle = client.work.get_or_create("x")
    slow = await handle.send("tasks", "slow")
    quick = await handle.send("tasks", "quick")
    await quick.cancel()
    assert await handle.redeliver(quick.id)
    await slow.cancel()
    assert (await quick.result(5)).status == "completed"


async def test_handler_timeout_stops_the_handler_and_fails_the_attempt(slow_world: World) -> None:
    attempts: list[int] = []

    class Limited(Actor):
        tasks = Queue(str, handler_timeout=3, retry=Retry(attempts=2, backoff=10))

        async def run(self) -> None:
            async for message in self.queue.iter():
                attempts.append(message.attempt)
                await asyncio.Event().wait()

    client = await slow_world.start(limited=Limited)
    receipt = await client.limited.get_or_create("x").send("tasks", "a")
    await until(lambda: attempts == [1])
    await slow_world.pass_by(2.9)
    assert await receipt.status() == "running"
    await slow_world.pass_by(0.2)
    await until_status(receipt, "delayed")
    await slow_world.pass_by(10)
    await until(lambda: attempts == [1, 2])
    await slow_world.pass_by(3)
    result = await receipt.result(5)
    assert result.status == "failed"
    assert result.error["code"] == "handler_timed_out"


async def test_handler_timeout_of_one_message_leaves_the_next_one_its_full_time(slow_world: World) -> None:
    seen: list[str] = []
    gate = asyncio.Event()

    class Limited(Actor):
        tasks = Queue(str, handler_timeout=3)

        async def run(self) -> None:
            async for message in self.queue.iter():
                seen.append(message.body)
                await gate.wait()
                gate.clear()

    client = await slow_world.start(limited=Limited)
    handle = client.limited.get_or_create("x")
    await handle.send("tasks", "a")
    second = await handle.send("tasks", "b")
    await until(lambda: seen == ["a"])
    await slow_world.pass_by(2.5)
    gate.set()
    await until(lambda: seen == ["a", "b"])
    await slow_world.pass_by(2.5)
    assert await second.status() == "running"
    gate.set()
    assert (await second.result(5)).status == "completed"
    assert seen == ["a", "b"], "it was not handled a second time"


async def test_a_caller_that_is_cancelled_puts_back_what_its_action_held_uncounted(world: World) -> None:
    held = asyncio.Event()

    class Taker(Actor):
        tasks = Queue(str, retry=Retry(backoff=1000))

        @action
        async def hold(self) -> None:
            await self.queue.next()
            held.set()
            await asyncio.Event().wait()

        @action
        async def take(self) -> Any:
            message = await self.queue.next(timeout=3)
            return None if message is None else [message.body, message.attempt]

    class Caller(Actor):
        tasks = Queue(str)

        async def run(self) -> None:
            async for _ in self.queue.iter():
                await self.actors.taker.get_or_create("t").hold()

    client = await world.start(taker=Taker, caller=Caller)
    taker = client.taker.get_or_create("t")
    await taker.send("tasks", "a")
    calling = await client.caller.get_or_create("c").send("tasks", "go")
    await held.wait()
    await calling.cancel()
    assert (await calling.result(5)).status == "cancelled"
    assert await taker.take() == ["a", 1]
