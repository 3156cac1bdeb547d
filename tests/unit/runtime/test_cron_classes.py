"""Schedules that a class declares by ``@cron``: their beginning, redefinition and end; and mistakes with schedules."""

from __future__ import annotations

from typing import Any

import pytest

from agentq_nb import Actor, AgentqError, action, cron
from tests.unit.runtime.schedules import HOUR, declaring, refused, reporting
from tests.unit.runtime.world import World, breathe, until, until_state

pytestmark = pytest.mark.anyio


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
    for name in ("", "\ud800", "x" * 201):
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

    with pytest.raises(TypeError, match="without arguments, but: missing a required argument: 'number'"):

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
