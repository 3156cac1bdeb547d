"""Cron schedules are replaced, listed and cancelled by their names, also while a call of theirs runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentq_nb import Actor, AgentqError, action, cron
from tests.unit.runtime.schedules import HOUR, TO_NEXT_HOUR, declaring, reporting
from tests.unit.runtime.world import World, breathe, until, until_status

pytestmark = pytest.mark.anyio


async def test_the_same_name_replaces_the_schedule(slow_world: World) -> None:
    log: list[Any] = []
    client = await slow_world.start(reporter=reporting(log))
    handle = client.reporter.get_or_create("x")
    await handle.plan("x", "0 * * * *", "old")
    await handle.plan("x", "30 * * * *", "new")
    assert [(each.name, each.expression, each.args) for each in await handle.planned()] == [
        ("x", "30 * * * *", ("new",))
    ]
    await slow_world.pass_by(2 * HOUR)
    await until(lambda: log == ["new", "new"])
    await slow_world.crash(reporter=reporting(log))
    await slow_world.pass_by(HOUR)
    await until(lambda: log == ["new"] * 3)


async def test_the_same_schedule_again_leaves_a_call_that_is_due(slow_world: World) -> None:
    log: list[Any] = []

    class Planning(Actor):
        async def on_wake(self) -> None:
            await self.schedule.cron("hourly", "0 * * * *", self.report, "due", tz="UTC")

        @action
        async def report(self, text: str) -> None:
            log.append(text)

    client = await slow_world.start(planning=Planning)
    await client.planning.create("x")
    await slow_world.registry.stop()
    slow_world.clock.advance(5 * HOUR)  # type: ignore[union-attr]
    await slow_world.start(planning=Planning)
    await until(lambda: log == ["due"])


async def test_other_arguments_for_the_same_times_keep_the_call_that_is_due(slow_world: World) -> None:
    log: list[Any] = []
    client = await slow_world.start(reporter=reporting(log))
    handle = client.reporter.get_or_create("x")
    await handle.plan("x", "0 * * * *", "old")
    before = (await handle.planned())[0].due
    await slow_world.pass_by(TO_NEXT_HOUR - 1)
    await handle.plan("x", "0 * * * *", "new")
    assert (await handle.planned())[0].due == before
    await slow_world.pass_by(1)
    await until(lambda: log == ["new"])


async def test_a_schedule_may_be_made_twice_in_one_call_and_the_last_one_counts(slow_world: World) -> None:
    client = await slow_world.start(reporter=reporting([]))
    handle = client.reporter.get_or_create("x")
    for planned in (await handle.plan_twice(), await handle.planned()):
        assert [(each.name, each.expression, each.args) for each in planned] == [("x", "0 9 * * *", ("second",))]


async def test_a_schedule_that_is_cancelled_ends_also_after_a_restart(slow_world: World) -> None:
    log: list[Any] = []
    client = await slow_world.start(reporter=reporting(log))
    handle = client.reporter.get_or_create("x")
    await handle.plan("x", "0 * * * *")
    assert await handle.drop("x")
    assert not await handle.drop("x")
    assert await handle.planned() == []
    await slow_world.crash(reporter=reporting(log))
    await slow_world.pass_by(3 * HOUR)
    assert log == []


@pytest.mark.parametrize("again", [False, True])
async def test_a_call_may_cancel_or_change_its_own_schedule(slow_world: World, again: bool) -> None:
    log: list[Any] = []

    class Once(Actor):
        @action
        async def begin(self) -> None:
            await self.schedule.cron("x", "0 * * * *", self.report, 1, tz="UTC")

        @action
        async def report(self, number: int) -> None:
            log.append(number)
            assert await self.schedule.cancel("x")
            assert not await self.schedule.cancel("x")
            if again and number == 1:
                await self.schedule.cron("x", "30 * * * *", self.report, 2, tz="UTC")

    client = await slow_world.start(once=Once)
    await client.once.get_or_create("x").begin()
    await slow_world.pass_by(TO_NEXT_HOUR)
    await until(lambda: log == [1])
    await slow_world.pass_by(3 * HOUR)
    assert log == ([1, 2] if again else [1])


async def test_a_call_that_changes_its_own_arguments_is_called_at_the_next_time(slow_world: World) -> None:
    log: list[Any] = []

    class Counting(Actor):
        @action
        async def count(self, number: int) -> None:
            log.append(number)
            await self.schedule.cron("x", "0 * * * *", self.count, number + 1, tz="UTC")

    client = await slow_world.start(counting=Counting)
    await client.counting.get_or_create("x").count(0)
    for count in (2, 3):
        await slow_world.pass_by(HOUR)
        await until(lambda count=count: len(log) == count)
    slow_world.clock.jump(-900)  # type: ignore[union-attr]
    await slow_world.pass_by(200)  # the last time comes again
    assert log == [0, 1, 2]
    await slow_world.pass_by(HOUR)
    await until(lambda: log == [0, 1, 2, 3])


async def test_a_schedule_that_is_replaced_while_its_call_runs_goes_on_as_the_new_one(slow_world: World) -> None:
    log: list[Any] = []
    gate = asyncio.Event()

    class Slow(Actor, action_timeout=None):
        @action
        async def plan(self, expression: str, text: str) -> None:
            await self.schedule.cron("x", expression, self.work, text, tz="UTC")

        @action
        async def work(self, text: str) -> None:
            log.append(text)
            await gate.wait()

        @action
        async def planned(self) -> list[Any]:
            return [(each.args, each.running) for each in await self.schedule.list()]

    client = await slow_world.start(slow=Slow)
    handle = client.slow.get_or_create("x")
    await handle.plan("0 * * * *", "old")
    await slow_world.pass_by(TO_NEXT_HOUR)
    await until(lambda: log == ["old"])
    await handle.plan("30 * * * *", "new")
    assert await handle.planned() == [(("old",), True), (("new",), False)]
    gate.set()
    await breathe()
    assert await handle.planned() == [(("new",), False)]
    await slow_world.pass_by(HOUR)
    assert log == ["old", "new"]


async def test_a_running_call_of_a_cancelled_schedule_is_not_repeated_after_a_crash(slow_world: World) -> None:
    log: list[Any] = []

    class Slow(Actor, action_timeout=None):
        @action
        async def plan(self) -> None:
            await self.schedule.cron("x", "0 * * * *", self.work, tz="UTC")

        @action
        async def drop(self) -> bool:
            return await self.schedule.cancel("x")

        @action
        async def work(self) -> None:
            log.append("begun")
            await asyncio.Event().wait()

    client = await slow_world.start(slow=Slow)
    await client.slow.get_or_create("x").plan()
    await slow_world.pass_by(TO_NEXT_HOUR)
    await until(lambda: log == ["begun"])
    assert await client.slow.get_or_create("x").drop()
    await slow_world.crash(slow=Slow)
    await slow_world.pass_by(3 * HOUR)
    assert log == ["begun"]


async def test_a_call_that_a_crash_cuts_off_is_repeated_and_its_schedule_goes_on(slow_world: World) -> None:
    log: list[Any] = []

    class Dying(Actor, action_timeout=None):
        @cron("0 * * * *", tz="UTC")
        async def work(self) -> None:
            log.append("begun")
            if len(log) == 1:
                await asyncio.Event().wait()

        @action
        async def touch(self) -> None: ...

    client = await slow_world.start(dying=Dying)
    await client.dying.get_or_create("x").touch()
    await slow_world.pass_by(TO_NEXT_HOUR)
    await until(lambda: len(log) == 1)
    await slow_world.crash(dying=Dying)
    await until(lambda: len(log) == 2)
    await slow_world.pass_by(HOUR)
    await until(lambda: len(log) == 3)


async def test_single_calls_are_listed_with_the_schedules_and_cancelled_by_their_id(slow_world: World) -> None:
    log: list[Any] = []
    client = await slow_world.start(reporter=reporting(log))
    handle = client.reporter.get_or_create("x")
    await handle.plan("hourly", "0 * * * *", "hourly", 3)
    single = await handle.later(60)
    large = await handle.later(120, "x" * 100_000)
    first, second, third = await handle.planned()
    assert (first.name, first.args, first.expression) == (single, ("single",), None)
    assert (second.name, second.args) == (large, ("x" * 100_000,))
    assert (third.name, third.args) == ("hourly", ("hourly", 3))
    assert first.due < second.due < third.due
    assert await handle.drop(large)
    assert await handle.drop(single)
    assert [each.name for each in await handle.planned()] == ["hourly"]
    assert not await handle.drop("nothing of this name")


async def test_what_a_message_or_call_schedules_is_written_with_it_or_not_at_all(slow_world: World) -> None:
    client = await slow_world.start(reporter=reporting([]))
    handle = client.reporter.get_or_create("x")
    await until_status(await handle.send("tasks", "bad"), "failed")
    with pytest.raises(AgentqError):
        await handle.plan_and_fail()
    assert await handle.planned() == []
    await (await handle.send("tasks", "good")).result(5)
    await slow_world.crash(reporter=reporting([]))
    (planned,) = await handle.planned()
    assert (planned.name, planned.args) == ("of a message", ("good",))


async def test_destroying_an_actor_ends_its_schedules(slow_world: World) -> None:
    log: list[Any] = []

    class Mortal(declaring(log)):  # type: ignore[misc]
        @action
        async def end(self) -> None:
            self.destroy()

    client = await slow_world.start(mortal=Mortal)
    handle = client.mortal.get_or_create("x")
    await handle.plan("by hand")
    await handle.end()
    await slow_world.pass_by(24 * HOUR)
    assert log == []
    assert [each.name for each in await handle.planned()] == ["report"]
