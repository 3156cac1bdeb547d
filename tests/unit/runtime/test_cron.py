"""Cron schedules: on time, once for what was missed, through sleep, restarts, crashes, redefinition and set clocks."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, AgentqError, Queue, Retry, action, cron
from tests.unit.runtime.world import World, breathe, until, until_state, until_status

pytestmark = pytest.mark.anyio

HOUR, DAY = 3600.0, 86400.0

# The fake clock begins on Tuesday, 2023-11-14 at 22:13:20 UTC.
TO_NEXT_HOUR = 46 * 60 + 40
TO_NINE = TO_NEXT_HOUR + 10 * HOUR


class Total(BaseModel):
    runs: int = 0


def reporting(log: list[Any], **options: Any) -> Any:
    """An actor whose schedules are made by calls."""

    class Reporting(Actor, **options):
        tasks = Queue(str, retry=Retry(attempts=1))
        state: Total

        async def run(self) -> None:
            async for message in self.queue.iter():
                await self.schedule.cron("of a message", "0 * * * *", self.report, message.body, tz="UTC")
                if message.body == "bad":
                    raise ValueError

        @action
        async def report(self, text: str = "", number: int = 0) -> None:
            log.append(text)
            self.state.runs += 1

        @action
        async def runs(self) -> int:
            return self.state.runs

        @action
        async def plan(self, name: str, expression: str, *args: Any, action: str = "report", tz: Any = "UTC") -> None:
            await self.schedule.cron(name, expression, action, *args, tz=tz)

        @action
        async def plan_twice(self) -> list[Any]:
            await self.schedule.cron("x", "0 * * * *", self.report, "first", tz="UTC")
            await self.schedule.cron("x", "0 9 * * *", self.report, "second", tz="UTC")
            return list(await self.schedule.list())

        @action
        async def plan_and_fail(self) -> None:
            await self.schedule.cron("x", "0 * * * *", self.report, tz="UTC")
            raise ValueError

        @action
        async def later(self, seconds: float, text: str = "single") -> str:
            return await self.schedule.after(seconds, "report", text)

        @action
        async def planned(self) -> list[Any]:
            return list(await self.schedule.list())

        @action
        async def drop(self, name: str) -> bool:
            return await self.schedule.cancel(name)

    return Reporting


def declaring(log: list[Any], expression: str | None = "0 * * * *", **options: Any) -> Any:
    """An actor whose schedule is declared, or was."""

    class Declaring(Actor, **options):
        if expression is not None:

            @cron(expression, tz="UTC")
            @action
            async def report(self) -> None:
                log.append("declared")

        else:

            @action
            async def report(self) -> None:
                log.append("by hand")

        @action
        async def planned(self) -> list[Any]:
            return list(await self.schedule.list())

        @action
        async def plan(self, name: str) -> None:
            await self.schedule.cron(name, "0 9 * * *", "report", tz="UTC")

        @action
        async def drop(self, name: str) -> bool:
            return await self.schedule.cancel(name)

    return Declaring


async def refused(call: Any, code: str = "actor.validation_error") -> str:
    with pytest.raises(AgentqError) as error:
        await call
    assert error.value.full_code == code
    return str(error.value)


# --- on time ----------------------------------------------------------------------------------------------------------


async def test_an_action_is_called_at_each_time_and_not_before(slow_world: World) -> None:
    log: list[Any] = []
    client = await slow_world.start(reporter=reporting(log))
    handle = client.reporter.get_or_create("x")
    await handle.plan("hourly", "0 * * * *", "hourly")
    await slow_world.pass_by(TO_NEXT_HOUR - 1)
    assert log == []
    await slow_world.pass_by(1)
    await until(lambda: log == ["hourly"])
    await slow_world.pass_by(HOUR - 1)
    assert log == ["hourly"]
    await slow_world.pass_by(1)
    await until(lambda: log == ["hourly", "hourly"])
    assert await handle.runs() == 2


async def test_the_zone_decides_what_the_hour_is(slow_world: World) -> None:
    log: list[Any] = []
    client = await slow_world.start(reporter=reporting(log))
    handle = client.reporter.get_or_create("x")
    await handle.plan("berlin", "0 9 * * mon-fri", tz="Europe/Berlin")
    await handle.plan("tokyo", "0 9 * * mon-fri", tz="Asia/Tokyo")
    planned = await handle.planned()
    assert [
        (each.name, each.tz, datetime.fromtimestamp(each.due, ZoneInfo(each.tz)).isoformat()) for each in planned
    ] == [
        ("tokyo", "Asia/Tokyo", "2023-11-15T09:00:00+09:00"),
        ("berlin", "Europe/Berlin", "2023-11-15T09:00:00+01:00"),
    ]


async def test_a_schedule_wakes_its_sleeping_actor_each_time(slow_world: World) -> None:
    log: list[Any] = []
    client = await slow_world.start(reporter=reporting(log, sleep_timeout=5))
    handle = client.reporter.get_or_create("x")
    await handle.plan("hourly", "0 * * * *", "hourly")
    for count in (1, 2, 3):
        await slow_world.pass_by(60)
        await until_state(handle, "asleep")
        await slow_world.pass_by(HOUR - 60)
        await until(lambda count=count: len(log) == count)


async def test_a_declared_schedule_begins_with_its_actor_and_wakes_it(slow_world: World) -> None:
    log: list[Any] = []
    client = await slow_world.start(reporter=declaring(log, sleep_timeout=5))
    handle = client.reporter.get_or_create("x")
    await slow_world.pass_by(2 * HOUR)
    assert log == []  # the actor does not exist yet
    (planned,) = await handle.planned()
    assert (planned.name, planned.action, planned.args, planned.declared) == ("report", "report", (), True)
    assert (planned.expression, planned.tz, planned.running) == ("0 * * * *", "UTC", False)
    for count in (1, 2):
        await slow_world.pass_by(HOUR)
        await until(lambda count=count: len(log) == count)
        await slow_world.pass_by(10)
        await until_state(handle, "asleep")


async def test_cron_alone_makes_an_action_and_goes_above_or_below_it() -> None:
    class Both(Actor):
        @action(thread=True)
        @cron("0 9 * * *")
        def below(self) -> None: ...

        @cron("0 10 * * *", tz="UTC")
        async def alone(self, number: int = 1) -> None: ...

    class Inheriting(Both):
        @action
        async def below(self) -> None: ...  # type: ignore[override]

    assert {name: schedule.expression for name, schedule in Both.declared.crons.items()} == {
        "below": "0 9 * * *",
        "alone": "0 10 * * *",
    }
    assert Both.declared.actions["below"].thread
    assert set(Inheriting.declared.crons) == {"alone"}


# --- missed, and late -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("crashed", [False, True])
async def test_what_was_missed_while_no_kernel_ran_is_called_once(
    slow_world: World, declared: bool, crashed: bool
) -> None:
    log: list[Any] = []
    cls = declaring(log) if declared else reporting(log)
    client = await slow_world.start(reporter=cls)
    if declared:
        await client.reporter.get_or_create("x").planned()
    else:
        await client.reporter.get_or_create("x").plan("hourly", "0 * * * *")
    if crashed:
        slow_world.clock.jump(5 * 3600)  # type: ignore[union-attr]
        await slow_world.crash(reporter=cls)
    else:
        await slow_world.registry.stop()
        slow_world.clock.advance(5 * HOUR)  # type: ignore[union-attr]
        await slow_world.start(reporter=cls)
    await until(lambda: len(log) == 1)
    await slow_world.pass_by(TO_NEXT_HOUR - 1)
    assert len(log) == 1
    await slow_world.pass_by(1)
    await until(lambda: len(log) == 2)


async def test_what_was_missed_while_the_class_was_not_defined_is_called_once(slow_world: World) -> None:
    log: list[Any] = []
    client = await slow_world.start(reporter=reporting(log))
    await client.reporter.get_or_create("x").plan("hourly", "0 * * * *", "once")
    await slow_world.crash(other=reporting(log))
    await slow_world.pass_by(5 * HOUR)
    assert log == []
    await slow_world.deploy(reporter=reporting(log))
    await until(lambda: log == ["once"])


async def test_a_call_that_takes_hours_is_not_overlapped_and_one_call_follows(slow_world: World) -> None:
    begun: list[float] = []
    gates = [asyncio.Event(), asyncio.Event()]
    clock = slow_world.clock
    assert clock is not None

    class Slow(Actor, action_timeout=None):
        @cron("0 * * * *", tz="UTC")
        @action
        async def work(self) -> None:
            begun.append(clock.time())
            if len(begun) <= len(gates):
                await gates[len(begun) - 1].wait()

        @action
        async def planned(self) -> list[Any]:
            return list(await self.schedule.list())

    client = await slow_world.start(slow=Slow)
    handle = client.slow.get_or_create("x")
    await handle.planned()
    start = clock.time()
    await slow_world.pass_by(TO_NEXT_HOUR + 3 * HOUR + 60)
    assert len(begun) == 1
    (planned,) = await handle.planned()
    assert (planned.running, planned.due) == (True, start + TO_NEXT_HOUR)
    gates[0].set()
    await until(lambda: len(begun) == 2)
    gates[1].set()
    await breathe()
    assert len(begun) == 2
    (planned,) = await handle.planned()
    assert (planned.running, planned.due) == (False, start + TO_NEXT_HOUR + 4 * HOUR)


async def test_a_call_that_fails_is_repeated_and_the_next_one_comes_whatever_its_end(slow_world: World) -> None:
    log: list[Any] = []

    class Failing(Actor):
        @cron("0 * * * *", tz="UTC")
        @action
        async def work(self) -> None:
            log.append("called")
            raise ValueError("no")

        @action
        async def planned(self) -> list[Any]:
            return list(await self.schedule.list())

    client = await slow_world.start(failing=Failing)
    handle = client.failing.get_or_create("x")
    await handle.planned()
    await slow_world.pass_by(TO_NEXT_HOUR + 60)
    await until(lambda: len(log) == 3)
    await slow_world.pass_by(HOUR)
    await until(lambda: len(log) == 6)
    assert len(await handle.planned()) == 1
    (queue,) = [queue for queue in (await handle.status()).queues if queue.queue == "$cron"]
    assert (queue.dead, queue.delayed) == (2, 1)


async def test_a_schedule_of_an_action_that_the_class_no_longer_has_fails_visibly_and_goes_on(
    slow_world: World,
) -> None:
    log: list[Any] = []

    class Without(Actor):
        pass

    client = await slow_world.start(reporter=reporting(log))
    handle = client.reporter.get_or_create("x")
    await handle.plan("hourly", "0 * * * *", "back")
    client = await slow_world.deploy(reporter=Without)
    await slow_world.pass_by(TO_NEXT_HOUR + 60)
    status = await client.reporter.get_or_create("x").status()
    assert "report" in (status.last_error or {})["message"]
    await slow_world.deploy(reporter=reporting(log))
    await slow_world.pass_by(HOUR)
    await until(lambda: log == ["back"])


# --- clocks that are set ----------------------------------------------------------------------------------------------


async def test_setting_the_clock_back_repeats_no_call(slow_world: World) -> None:
    log: list[Any] = []
    client = await slow_world.start(reporter=reporting(log))
    await client.reporter.get_or_create("x").plan("hourly", "0 * * * *", "hourly")
    await slow_world.pass_by(TO_NEXT_HOUR + 60)
    await until(lambda: len(log) == 1)
    slow_world.clock.jump(-1800)  # type: ignore[union-attr]
    await slow_world.pass_by(1800 + 10)
    assert len(log) == 1
    await slow_world.pass_by(HOUR)
    await until(lambda: len(log) == 2)


async def test_setting_the_clock_back_while_a_call_runs_repeats_no_call(slow_world: World) -> None:
    log: list[Any] = []
    gate = asyncio.Event()

    class Slow(Actor):
        @cron("0 * * * *", tz="UTC")
        async def work(self) -> None:
            log.append("called")
            await gate.wait()

        @action
        async def touch(self) -> None: ...

    client = await slow_world.start(slow=Slow)
    await client.slow.get_or_create("x").touch()
    await slow_world.pass_by(TO_NEXT_HOUR)
    await until(lambda: len(log) == 1)
    slow_world.clock.jump(-1800)  # type: ignore[union-attr]
    gate.set()
    await slow_world.pass_by(1800 + 10)
    assert len(log) == 1
    await slow_world.pass_by(HOUR)
    assert len(log) == 2


async def test_setting_the_clock_forward_over_several_times_calls_once(slow_world: World) -> None:
    log: list[Any] = []
    client = await slow_world.start(reporter=reporting(log))
    await client.reporter.get_or_create("x").plan("hourly", "0 * * * *", "hourly")
    slow_world.clock.jump(3 * 3600)  # type: ignore[union-attr]
    await slow_world.pass_by(5)
    await until(lambda: len(log) == 1)
    await slow_world.pass_by(HOUR - 10)
    await until(lambda: len(log) == 2)


# --- by name ----------------------------------------------------------------------------------------------------------


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


# --- declared, and redeployed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("asleep", [False, True])
@pytest.mark.parametrize("restarted", [False, True])
async def test_another_class_changes_and_ends_what_the_last_one_declared(
    slow_world: World, asleep: bool, restarted: bool
) -> None:
    log: list[Any] = []
    sleep_timeout = 5.0 if asleep else None

    async def use(expression: str | None) -> Any:
        cls = declaring(log, expression, sleep_timeout=sleep_timeout)
        client = await (slow_world.restart(reporter=cls) if restarted else slow_world.deploy(reporter=cls))
        await slow_world.pass_by(10)
        handle = client.reporter.get_or_create("x")
        if asleep:
            await until_state(handle, "asleep")
        return handle

    client = await slow_world.start(reporter=declaring(log, sleep_timeout=sleep_timeout))
    await client.reporter.get_or_create("x").planned()
    await use("30 * * * *")
    await slow_world.pass_by(HOUR)
    assert log == ["declared"]
    handle = await use(None)
    await slow_world.pass_by(3 * HOUR)
    assert log == ["declared"]
    assert await handle.planned() == []
    await use("0 * * * *")
    await slow_world.pass_by(HOUR)
    assert log == ["declared"] * 2


async def test_a_redeployment_leaves_alone_what_calls_have_scheduled_and_what_did_not_change(slow_world: World) -> None:
    log: list[Any] = []
    client = await slow_world.start(reporter=declaring(log))
    handle = client.reporter.get_or_create("x")
    await handle.plan("by hand")
    before = await handle.planned()
    await slow_world.pass_by(60)
    await slow_world.deploy(reporter=declaring(log))
    await breathe()
    assert await handle.planned() == before


async def test_an_actor_that_does_not_exist_has_no_schedule_and_a_handle_makes_none(slow_world: World) -> None:
    log: list[Any] = []
    client = await slow_world.start(reporter=declaring(log))
    client.reporter.get_or_create("x")
    await slow_world.pass_by(2 * HOUR)
    assert log == []
    await client.reporter.create("x")
    await slow_world.pass_by(HOUR)
    await until(lambda: log == ["declared"])


# --- refused ----------------------------------------------------------------------------------------------------------


async def test_mistakes_are_refused_at_once_and_change_nothing(slow_world: World) -> None:
    client = await slow_world.start(reporter=reporting([]))
    handle = client.reporter.get_or_create("x")
    assert "bad hour" in await refused(handle.plan("x", "0 25 * * *"))
    assert "Europe/Berlin" in await refused(handle.plan("x", "0 9 * * *", tz="Europe/Berln"))
    assert "raport" in await refused(handle.plan("x", "0 9 * * *", action="raport"), "actor.action_not_found")
    assert "passes 3 arguments" in await refused(handle.plan("x", "0 9 * * *", "text", 1, 2))
    assert "32 KiB" in await refused(handle.plan("x", "0 9 * * *", "x" * 33_000))
    for name in ("", "\ud800"):
        assert "name of a schedule" in await refused(handle.plan(name, "0 9 * * *"))
    assert await handle.planned() == []


async def test_the_names_of_declared_schedules_are_taken(slow_world: World) -> None:
    client = await slow_world.start(reporter=declaring([]))
    handle = client.reporter.get_or_create("x")
    assert "@cron" in await refused(handle.plan("report"))
    assert "@cron" in await refused(handle.drop("report"))
    assert [each.name for each in await handle.planned()] == ["report"]


def test_mistakes_with_cron_are_refused_when_the_class_is_defined() -> None:
    with pytest.raises(AgentqError, match="bad minute"):

        class _Bad(Actor):
            @cron("61 * * * *")
            @action
            async def work(self) -> None: ...

    with pytest.raises(AgentqError, match="Time zone 'Nowhere'"):

        class _Nowhere(Actor):
            @cron("0 * * * *", tz="Nowhere")
            @action
            async def work(self) -> None: ...

    with pytest.raises(TypeError, match="without arguments, but there is a missing a required argument: 'number'"):

        class _Needing(Actor):
            @cron("0 * * * *")
            @action
            async def work(self, number: int) -> None: ...

    with pytest.raises(TypeError, match="two @cron"):

        class _Twice(Actor):
            @cron("0 * * * *")
            @cron("30 * * * *")
            @action
            async def work(self) -> None: ...

    with pytest.raises(TypeError, match="start with _"):

        class _Private(Actor):
            @cron("0 * * * *")
            async def _work(self) -> None: ...

    with pytest.raises(AgentqError, match="is text"):

        class _Bare(Actor):
            @cron  # type: ignore[arg-type]
            async def work(self) -> None: ...
