"""Lengths of time take as long as they say when the wall clock is set; moments follow it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentq_nb import Actor, AgentqError, Queue, Retry, action
from agentq_nb._runtime.call_task import GRACE, GRACE_AFTER_CANCEL
from tests.unit.runtime.world import World, breathe, until, until_state

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("jump", [-3600, 3600], ids=["back", "forward"])]


async def ends_after(world: World, waiting: asyncio.Future[Any], seconds: float, jump: int) -> None:
    """What has just begun is still there right before its time is up, and is over then."""
    assert world.clock is not None
    await breathe()
    world.clock.jump(jump)
    await world.pass_by(seconds - 0.1)
    assert not waiting.done()
    await world.pass_by(0.2)
    await until(waiting.done)


class Sink(Actor):
    """Takes nothing by itself."""

    tasks = Queue(str)

    @action
    async def next(self, timeout: float) -> bool:
        return await self.queue.next(timeout=timeout) is None


async def test_send_that_waits_and_receipts(slow_world: World, jump: int) -> None:
    client = await slow_world.start(sink=Sink)
    handle = client.sink.get_or_create("x")
    receipt = await handle.send("tasks", "a")
    waits = [handle.send("tasks", "b", wait=True, timeout=5), receipt.result(timeout=5)]
    waiting = asyncio.gather(*waits)
    await ends_after(slow_world, waiting, 5, jump)
    assert [result.status for result in waiting.result()] == ["timed_out", "timed_out"]


async def test_next_with_a_timeout(slow_world: World, jump: int) -> None:
    client = await slow_world.start(sink=Sink)
    waiting = asyncio.ensure_future(client.sink.get_or_create("x").next(5))
    await ends_after(slow_world, waiting, 5, jump)
    assert waiting.result() is True


async def test_next_behind_another_receiver(slow_world: World, jump: int) -> None:
    class Two(Actor):
        tasks = Queue(str)

        async def run(self) -> None:
            async for _ in self.queue.iter():
                await asyncio.Event().wait()

        @action
        async def next(self, timeout: float) -> bool:
            return await self.queue.next(timeout=timeout) is None

    client = await slow_world.start(two=Two)
    handle = client.two.get_or_create("x")
    receipt = await handle.send("tasks", "a")
    await until(lambda: receipt.status())
    await breathe()
    waiting = asyncio.ensure_future(handle.next(5))
    await ends_after(slow_world, waiting, 5, jump)


async def test_action_timeout(slow_world: World, jump: int) -> None:
    class Slow(Actor, action_timeout=5):
        @action
        async def never(self) -> None:
            await asyncio.Event().wait()

    client = await slow_world.start(slow=Slow)
    waiting = asyncio.ensure_future(client.slow.get_or_create("x").never())
    await ends_after(slow_world, waiting, 5, jump)
    assert isinstance(waiting.exception(), AgentqError)


async def test_handler_timeout(slow_world: World, jump: int) -> None:
    stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    class Limited(Actor):
        tasks = Queue(str, handler_timeout=120, retry=Retry(attempts=1))

        async def run(self) -> None:
            async for _ in self.queue.iter():
                try:
                    await asyncio.Event().wait()
                finally:
                    stopped.set_result(None)

    client = await slow_world.start(limited=Limited)
    await client.limited.get_or_create("x").send("tasks", "a")
    await ends_after(slow_world, stopped, 120, jump)


async def test_a_call_that_does_not_stop_is_given_up_after_its_grace(slow_world: World, jump: int) -> None:
    class Stubborn(Actor, action_timeout=1):
        @action
        async def never(self) -> None:
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    if asyncio.current_task().cancelling() > 1:  # type: ignore[union-attr]
                        raise

    client = await slow_world.start(stubborn=Stubborn)
    waiting = asyncio.ensure_future(client.stubborn.get_or_create("x").never())
    await breathe()
    await slow_world.pass_by(1)
    await ends_after(slow_world, waiting, GRACE_AFTER_CANCEL, jump)
    assert isinstance(waiting.exception(), AgentqError)


async def test_stop_grants_its_grace(slow_world: World, jump: int) -> None:
    class Busy(Actor):
        tasks = Queue(str)

        async def run(self) -> None:
            async for _ in self.queue.iter():
                await asyncio.Event().wait()

    client = await slow_world.start(busy=Busy)
    receipt = await client.busy.get_or_create("x").send("tasks", "a")
    await until(receipt.status)
    await breathe()
    stopping = asyncio.ensure_future(slow_world.registry.stop())
    await ends_after(slow_world, stopping, GRACE, jump)


async def test_an_idle_actor_sleeps_after_its_time(slow_world: World, jump: int) -> None:
    class Idle(Actor, sleep_timeout=30):
        tasks = Queue(str)

        async def run(self) -> None:
            async for _ in self.queue.iter():
                pass

    client = await slow_world.start(idle=Idle)
    handle = client.idle.get_or_create("x")
    await (await handle.send("tasks", "a")).result(5)
    await breathe()
    assert slow_world.clock is not None
    slow_world.clock.jump(jump)
    await slow_world.pass_by(29)
    await until_state(handle, "awake")
    await slow_world.pass_by(2)
    await until_state(handle, "asleep")


async def test_run_is_started_again_after_its_pause(slow_world: World, jump: int) -> None:
    starts = 0

    class Broken(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            nonlocal starts
            starts += 1
            raise ValueError("cannot even start")

    client = await slow_world.start(broken=Broken)
    handle = client.broken.get_or_create("x")
    await handle.send("tasks", 1)
    await until(lambda: starts == 1)
    await breathe()
    assert slow_world.clock is not None
    slow_world.clock.jump(jump)
    await slow_world.pass_by(0.9)
    assert starts == 1
    assert (await handle.status()).restarts_at == pytest.approx(slow_world.clock.time() + 0.1)
    await slow_world.pass_by(0.2)
    await until(lambda: starts == 2)


async def test_uptime_counts_what_has_passed(slow_world: World, jump: int) -> None:
    await slow_world.start(sink=Sink)
    assert slow_world.clock is not None
    slow_world.clock.jump(jump)
    await slow_world.pass_by(10)
    assert (await slow_world.registry.status()).uptime == pytest.approx(10)
