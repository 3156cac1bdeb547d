"""Actions called later: when they are due, after sleep and restart, and with what made them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, AgentqError, Queue, Retry, action
from tests.unit.runtime.world import World, breathe, until, until_state, until_status

pytestmark = pytest.mark.anyio


class Total(BaseModel):
    rung: int = 0


def ringing(log: list[Any], **options: Any) -> Any:
    class Ringing(Actor, **options):
        tasks = Queue(str, retry=Retry(attempts=1))
        state: Total

        async def run(self) -> None:
            async for message in self.queue.iter():
                await self.schedule.after(5, self.ring, message.body)
                if message.body == "bad":
                    raise ValueError

        @action
        async def ring(self, text: str) -> None:
            log.append(text)
            self.state.rung += 1

        @action
        async def rung(self) -> int:
            return self.state.rung

        @action
        async def plan(self, seconds: float, text: str) -> str:
            return await self.schedule.after(seconds, "ring", text)

        @action
        async def plan_at(self, when: Any, text: str) -> str:
            return await self.schedule.at(when, self.ring, text)

        @action
        async def drop(self, scheduled: str) -> bool:
            return await self.schedule.cancel(scheduled)

        @action
        async def plan_and_fail(self) -> None:
            await self.schedule.after(1, "ring", "never")
            raise ValueError

        @action
        async def plan_and_drop(self) -> bool:
            return await self.schedule.cancel(await self.schedule.after(1, "ring", "never"))

    return Ringing


async def test_after_and_at_call_the_action_when_it_is_due_and_not_before(slow_world: World) -> None:
    log: list[Any] = []
    client = await slow_world.start(bell=ringing(log))
    handle = client.bell.get_or_create("x")
    now = slow_world.clock.time()  # type: ignore[union-attr]
    await handle.plan(10, "after")
    await handle.plan_at(now + 20, "at")
    await handle.plan_at(datetime.fromtimestamp(now + 30, UTC), "at a datetime")
    await handle.plan_at(now - 100, "at once")
    await until(lambda: log == ["at once"])
    await slow_world.pass_by(9.9)
    assert log == ["at once"]
    for expected in ("after", "at", "at a datetime"):
        await slow_world.pass_by(10)
        await until(lambda expected=expected: log[-1] == expected)
    assert await handle.rung() == 4


async def test_a_schedule_survives_sleep_and_wakes_its_actor(slow_world: World) -> None:
    log: list[Any] = []
    client = await slow_world.start(bell=ringing(log, sleep_timeout=5))
    handle = client.bell.get_or_create("x")
    await handle.plan(100, "later")
    await slow_world.pass_by(10)
    await until_state(handle, "asleep")
    await slow_world.pass_by(91)
    await until(lambda: log == ["later"])


async def test_a_schedule_survives_restart_and_crash_and_what_was_missed_comes_at_once(slow_world: World) -> None:
    log: list[Any] = []
    client = await slow_world.start(bell=ringing(log))
    await client.bell.get_or_create("x").plan(50, "first")
    await client.bell.get_or_create("x").plan(100, "second")
    await client.bell.get_or_create("x").plan(200, "third")
    await slow_world.restart()
    await slow_world.pass_by(51)
    await until(lambda: log == ["first"])
    await slow_world.registry.stop()
    slow_world.clock.advance(100)  # type: ignore[union-attr]
    await slow_world.start()
    await until(lambda: log == ["first", "second"])
    await breathe()
    await slow_world.crash(bell=ringing(log))
    await slow_world.pass_by(100)
    await until(lambda: log == ["first", "second", "third"])


async def test_an_actor_without_run_is_woken_for_what_it_scheduled(slow_world: World) -> None:
    log: list[Any] = []

    class Bare(Actor, sleep_timeout=1):
        @action
        async def plan(self) -> None:
            await self.schedule.after(10, "ring")

        @action
        async def ring(self) -> None:
            log.append("rung")

    client = await slow_world.start(bare=Bare)
    await client.bare.get_or_create("x").plan()
    await slow_world.pass_by(3)
    await until_state(client.bare.get_or_create("x"), "asleep")
    await slow_world.pass_by(8)
    await until(lambda: log == ["rung"])


async def test_cancelling_drops_a_call_that_has_not_begun(slow_world: World) -> None:
    log: list[Any] = []
    client = await slow_world.start(bell=ringing(log))
    handle = client.bell.get_or_create("x")
    scheduled = await handle.plan(10, "dropped")
    assert await handle.drop(scheduled)
    assert not await handle.drop(scheduled)
    assert await handle.plan_and_drop()
    await slow_world.pass_by(20)
    assert log == []


async def test_a_call_that_has_begun_is_not_cancelled_and_the_answer_says_so(slow_world: World) -> None:
    inside, gate = asyncio.Event(), asyncio.Event()
    scheduled: list[str] = []
    log: list[str] = []

    class Slow(Actor):
        @action
        async def plan(self) -> None:
            scheduled.append(await self.schedule.after(1, "work"))

        @action
        async def work(self) -> None:
            inside.set()
            await gate.wait()
            log.append("worked")

        @action
        async def drop(self) -> bool:
            return await self.schedule.cancel(scheduled[0])

    client = await slow_world.start(slow=Slow)
    handle = client.slow.get_or_create("x")
    await handle.plan()
    await slow_world.pass_by(1)
    await inside.wait()
    assert not await handle.drop()
    gate.set()
    await until(lambda: log == ["worked"])


async def test_what_a_message_schedules_is_written_when_it_settles_and_not_when_it_fails(slow_world: World) -> None:
    log: list[Any] = []
    client = await slow_world.start(bell=ringing(log))
    handle = client.bell.get_or_create("x")
    bad = await handle.send("tasks", "bad")
    await until_status(bad, "failed")
    await (await handle.send("tasks", "good")).result(5)
    with pytest.raises(AgentqError):
        await handle.plan_and_fail()
    await slow_world.pass_by(20)
    await until(lambda: log == ["good"])


async def test_what_a_message_schedules_is_written_when_it_settles_with_the_end_of_its_call(slow_world: World) -> None:
    rung: list[str] = []

    class Taking(Actor):
        tasks = Queue(str)

        @action
        async def work(self) -> None:
            message = await self.queue.next()
            assert message is not None
            await self.schedule.after(1, self.ring, message.body)

        @action
        async def ring(self, text: str) -> None:
            rung.append(text)

    client = await slow_world.start(taking=Taking)
    handle = client.taking.get_or_create("x")
    await handle.send("tasks", "a")
    await handle.work()
    await slow_world.crash(taking=Taking)
    await slow_world.pass_by(1)
    await until(lambda: rung == ["a"])


async def test_a_scheduled_action_that_fails_is_tried_again_and_then_a_dead_letter(slow_world: World) -> None:
    tries: list[float] = []

    class Failing(Actor):
        @action
        async def plan(self) -> None:
            await self.schedule.after(1, "ring")

        @action
        async def ring(self) -> None:
            tries.append(slow_world.clock.time())
            raise ValueError("no bell")

    client = await slow_world.start(failing=Failing)
    handle = client.failing.get_or_create("x")
    await handle.plan()
    await slow_world.pass_by(10)
    assert [moment - tries[0] for moment in tries] == [0, 1, 3]
    status = await handle.status()
    assert [queue.dead for queue in status.queues] == [1]
    assert status.last_error is not None
    assert status.last_error["message"] == "no bell"


def hanging(tries: list[int], **options: Any) -> type[Actor]:
    """An actor whose scheduled action never ends; each call of it is added to ``tries``."""

    class Hanging(Actor, **options):
        @action
        async def plan(self) -> None:
            await self.schedule.after(1, "hang")

        @action
        async def hang(self) -> None:
            tries.append(len(tries))
            await asyncio.Event().wait()

    return Hanging


async def test_a_scheduled_action_has_its_time_limit_and_a_stop_releases_it(slow_world: World) -> None:
    tries: list[int] = []
    kind = hanging(tries, action_timeout=5)
    client = await slow_world.start(hanging=kind)
    handle = client.hanging.get_or_create("x")
    await handle.plan()
    await slow_world.pass_by(6.1)
    status = await handle.status()
    assert status.last_error is not None
    assert status.last_error["code"] == "action_timed_out"
    await slow_world.pass_by(1)
    assert len(tries) == 2
    stopping = asyncio.create_task(slow_world.registry.stop())
    await slow_world.pass_by(4)
    await slow_world.pass_by(7)
    await asyncio.wait_for(stopping, 5)
    await slow_world.start(hanging=kind)
    await slow_world.pass_by(3)
    await until(lambda: len(tries) == 3)


async def test_a_scheduled_action_that_a_stop_interrupts_comes_again_uncounted(slow_world: World) -> None:
    tries: list[int] = []
    kind = hanging(tries)
    client = await slow_world.start(hanging=kind)
    await client.hanging.get_or_create("x").plan()
    for number in range(1, 6):  # more often than a call may fail
        await slow_world.pass_by(2)
        assert len(tries) == number
        stopping = asyncio.create_task(slow_world.registry.stop())
        for _ in range(20):
            await slow_world.pass_by(1)
        await asyncio.wait_for(stopping, 5)
        client = await slow_world.start(hanging=kind)
    await slow_world.pass_by(2)
    await until(lambda: len(tries) == 6)
    assert (await client.hanging.get_or_create("x").status()).last_error is None


async def test_senseless_schedules_are_refused(world: World) -> None:
    client = await world.start(bell=ringing([]))
    handle = client.bell.get_or_create("x")
    for calling in (handle.plan(-1, "a"), handle.plan(float("nan"), "a"), handle.plan_at(float("inf"), "a")):
        with pytest.raises(AgentqError) as caught:
            await calling
        assert caught.value.full_code == "actor.validation_error"

    class Odd(Actor):
        @action
        async def plan(self, which: str) -> None:
            await self.schedule.after(1, which, *([object()] if which == "plan" else []))

    client = await world.start(odd=Odd)
    for name, code in (("nothing", "actor.action_not_found"), ("plan", "actor.validation_error")):
        with pytest.raises(AgentqError) as caught:
            await client.odd.get_or_create("x").plan(name)
        assert caught.value.full_code == code


async def test_a_scheduled_call_of_an_action_that_is_gone_is_a_dead_letter_that_names_it(slow_world: World) -> None:
    class Gone(Actor):
        other = Queue(str)

    client = await slow_world.start(bell=ringing([]))
    handle = client.bell.get_or_create("x")
    await handle.plan(10, "a")
    await slow_world.restart(bell=Gone)
    await slow_world.pass_by(11)
    status = await client.bell.get_or_create("x").status()
    assert [(queue.queue, queue.dead) for queue in status.queues if queue.dead] == [("$schedule", 1)]
    assert status.last_error is not None
    assert "ring" in status.last_error["message"]


async def test_a_call_that_is_planned_but_not_written_yet_is_listed_as_one_that_does_not_run(world: World) -> None:
    class Planning(Actor):
        @action
        async def plan(self) -> list[tuple[str, bool]]:
            await self.schedule.after(60, "plan")
            return [(each.action, each.running) for each in await self.schedule.list()]

    client = await world.start(planning=Planning)
    assert await client.planning.get_or_create("x").plan() == [("plan", False)]
