"""A wait that ends says why the work is not done: whoever waited for 30 seconds learns of the typing error at once."""

from __future__ import annotations

import asyncio

import pytest

from agentq_nb import Actor, Queue, Retry
from agentq_nb.errors import WaitTimedOut
from tests.unit.runtime.world import World

pytestmark = pytest.mark.anyio


class Mistyped(Actor):
    tasks = Queue(str)

    async def run(self) -> None:
        async for message in self.queue.iter():
            raise KeyError(message.body)


class Failing(Actor):
    tasks = Queue(str, retry=Retry(attempts=5, backoff=3600))

    async def run(self) -> None:
        async for message in self.queue.iter():
            raise ValueError(message.body)


class Broken(Actor):
    tasks = Queue(str)

    async def run(self) -> None:
        self.quue.next()  # type: ignore[attr-defined]


class Slow(Actor):
    tasks = Queue(str)

    async def run(self) -> None:
        async for _ in self.queue.iter():
            await asyncio.Event().wait()


async def test_the_last_error_of_the_handler_and_when_it_is_tried_again(world: World) -> None:
    client = await world.start(failing=Failing)
    result = await client.failing.get_or_create("x").send("tasks", "no such row", wait=True, timeout=1)
    assert result.status == "timed_out"
    assert result.reason is not None
    assert result.reason.startswith(
        "Its last attempt failed: ValueError: no such row. It is tried again in 60 min, at "
    )
    assert result.reason in repr(result)


async def test_it_is_known_after_a_restart_too(world: World) -> None:
    client = await world.start(failing=Failing)
    receipt = await client.failing.get_or_create("x").send("tasks", "no such row")
    await receipt.result(1)
    client = await world.restart()
    result = await client.receipt(receipt.id).result(0)
    assert result.reason is not None
    assert "ValueError: no such row" in result.reason


async def test_a_wrong_call_in_run(world: World) -> None:
    client = await world.start(broken=Broken)
    result = await client.broken.get_or_create("x").send("tasks", "a", wait=True, timeout=1)
    assert result.reason is not None
    assert result.reason.startswith("Not started: `run` of its actor failed. AttributeError: ")
    assert "quue" in result.reason


async def test_the_message_that_is_handled_and_those_that_wait(world: World) -> None:
    client = await world.start(slow=Slow)
    handle = client.slow.get_or_create("x")
    first, second = await handle.send("tasks", "a"), await handle.send("tasks", "b")
    waiting = await second.result(0.2)
    assert waiting.reason == f"Not started: its actor is handling message {first.id} of queue 'tasks'."
    running = await first.result(0.2)
    assert running.reason is not None
    assert running.reason.startswith("It has been running for ")
    await handle.pause("tasks")
    assert "is paused by hand" in str((await second.result(0)).reason)
    with pytest.raises(WaitTimedOut, match="is paused by hand"):
        (await second.result(0)).unwrap()


async def test_a_class_that_is_missing(world: World) -> None:
    client = await world.start(slow=Slow, failing=Failing)
    receipt = await client.slow.get_or_create("x").send("tasks", "a")
    client = await world.crash(failing=Failing)
    result = await client.receipt(receipt.id).result(0)
    assert result.reason is not None
    assert "no actor class is registered as 'slow'" in result.reason


async def test_what_is_settled_has_no_reason(world: World) -> None:
    class Quick(Actor):
        tasks = Queue(str)

        async def run(self) -> None:
            async for _ in self.queue.iter():
                pass

    client = await world.start(quick=Quick)
    result = await client.quick.get_or_create("x").send("tasks", "a", wait=True, timeout=30)
    assert (result.status, result.reason) == ("completed", None)


async def test_waking_that_fails_is_named_and_warned_of(world: World, caplog: pytest.LogCaptureFixture) -> None:
    class Unwakeable(Actor):
        tasks = Queue(str)

        async def on_wake(self) -> None:
            raise OSError("no such disk")

        async def run(self) -> None: ...

    client = await world.start(unwakeable=Unwakeable)
    result = await client.unwakeable.get_or_create("x").send("tasks", "a", wait=True, timeout=0.5)
    assert "its actor does not start. " in str(result.reason)
    assert "no such disk" in str(result.reason)
    assert "waking of 'unwakeable/x' failed: " in caplog.text
