"""Cron schedules: on time, once for what was missed, through sleep, restarts, crashes and set clocks."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agentq_nb import Actor, action, cron
from tests.unit.runtime.schedules import HOUR, TO_NEXT_HOUR, declaring, reporting
from tests.unit.runtime.world import World, breathe, until, until_state

pytestmark = pytest.mark.anyio


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
