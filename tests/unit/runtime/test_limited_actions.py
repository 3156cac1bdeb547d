"""Limits that scheduled actions meet, and limits that handlers swallow."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from agentq_nb import Actor, AgentqError, Queue, RateLimited, action
from agentq_nb._display import document_of
from agentq_nb._display.document import as_text
from tests.unit.runtime.schedules import HOUR, TO_NEXT_HOUR
from tests.unit.runtime.world import World, queue_of

pytestmark = pytest.mark.anyio


class Reporter(Actor, sleep_timeout=30):
    tasks = Queue(str)
    called: list[str]
    limits: list[Exception]

    async def run(self) -> None:
        async for message in self.queue.iter():
            await self.schedule.after(5, self.report, message.body)

    @action
    async def report(self, text: str) -> None:
        self.called.append(text)
        if self.limits:
            raise self.limits.pop(0)

    @action
    async def plan(self) -> None:
        await self.schedule.cron("hourly", "0 * * * *", self.report, "hourly", tz="UTC")


@pytest.fixture
def reporter() -> type[Reporter]:
    made: type[Reporter] = type("Reporter", (Reporter,), {})
    made.called, made.limits = [], []
    return made


async def test_a_scheduled_action_that_meets_limits_is_put_back_and_no_attempt_is_lost(
    slow_world: World, reporter: type[Reporter]
) -> None:
    reporter.limits = [RateLimited("5-hour limit", retry_after=600) for _ in range(7)]
    handle = (await slow_world.start(reporter=reporter)).reporter.get_or_create("x")
    await handle.send("tasks", "report")
    await slow_world.pass_by(10)
    queue = await queue_of(handle, "$schedule")
    assert (queue.paused, queue.pause_reason, queue.live) == (True, "RateLimited: 5-hour limit", 1)
    status = await handle.status()
    assert status.last_error is None, "a limit is no failure"
    assert "5-hour limit" in as_text(document_of(status))  # type: ignore[arg-type]  # a status has one
    await slow_world.pass_by(6 * 600)
    assert reporter.called == ["report"] * 7
    await slow_world.restart(reporter=reporter)
    await slow_world.pass_by(700)
    assert reporter.called == ["report"] * 8
    queue = await queue_of(handle, "$schedule")
    assert (queue.live, queue.dead) == (0, 0)


async def test_a_cron_schedule_that_meets_a_limit_is_called_once_when_it_ends_and_goes_on(
    slow_world: World, reporter: type[Reporter]
) -> None:
    reporter.limits = [RateLimited("5-hour limit", retry_after=2.5 * HOUR)]
    handle = (await slow_world.start(reporter=reporter)).reporter.get_or_create("x")
    await handle.plan()
    await slow_world.pass_by(TO_NEXT_HOUR + 5)
    assert reporter.called == ["hourly"]
    await slow_world.pass_by(2.5 * HOUR - 10)
    assert reporter.called == ["hourly"]
    await slow_world.pass_by(10)
    assert reporter.called == ["hourly"] * 2, "what was missed meanwhile happens once"
    await slow_world.pass_by(HOUR)
    assert reporter.called == ["hourly"] * 3
    assert (await queue_of(handle, "$cron")).dead == 0


async def test_a_scheduled_action_whose_provider_wants_money_is_a_dead_letter_with_advice(
    slow_world: World, reporter: type[Reporter]
) -> None:
    class Poor(Exception):
        status_code = 400
        body: ClassVar[Any] = {"error": {"type": "invalid_request_error", "message": "Your credit balance is too low."}}

    reporter.limits = [Poor("Your credit balance is too low to access the API.")]
    handle = (await slow_world.start(reporter=reporter)).reporter.get_or_create("x")
    await handle.send("tasks", "report")
    await slow_world.pass_by(10)
    assert (await queue_of(handle, "$schedule")).dead == 1
    assert reporter.called == ["report"]
    assert "add credits" in str((await handle.status()).last_error)


# --- swallowed --------------------------------------------------------------------------------------------------------


class Careless(Actor):
    tasks = Queue(str)
    plain = Queue(str)

    async def run(self) -> None:
        async for message in self.queue.iter("tasks"):
            if message.body == "fine":
                continue
            try:
                await (self.other if message.body == "far" else self.near)()
            except Exception as error:
                if message.body == "translated":
                    raise ValueError("given up") from error

    @plain.handler
    def handle(self, body: str) -> None:
        try:
            raise RateLimited(f"said in a thread: {body}")
        except RateLimited:
            pass

    async def near(self) -> None:
        await asyncio.sleep(0)
        raise RateLimited("said nearby", retry_after=60)

    async def other(self) -> None:
        await self.actors.model.get_or_create("m").ask()


class Model(Actor):
    @action
    async def ask(self) -> None:
        raise RateLimited("said by another actor", retry_after=60)


@pytest.mark.parametrize(
    ("queue", "body", "said"),
    [
        ("tasks", "near", "said nearby"),
        ("tasks", "far", "said by another actor"),
        ("plain", "x", "said in a thread: x"),
    ],
)
async def test_a_limit_that_a_handler_swallows_is_named_in_the_status(
    world: World, queue: str, body: str, said: str
) -> None:
    client = await world.start(careless=Careless, model=Model)
    handle = client.careless.get_or_create("x")
    result = await handle.send(queue, body, wait=True, timeout=20)
    assert result.status == "completed"
    await handle.send("tasks", "fine", wait=True, timeout=20)
    status = await handle.status()
    assert said in str(status.swallowed_limit)
    assert result.message_id in str(status.swallowed_limit)
    for shown in (status, await world.registry.status()):
        assert said in as_text(document_of(shown))  # type: ignore[arg-type]  # a status has one


async def test_a_limit_that_a_handler_turns_into_another_error_is_not_swallowed(world: World) -> None:
    client = await world.start(careless=Careless, model=Model)
    handle = client.careless.get_or_create("x")
    with pytest.raises(AgentqError):
        await client.model.get_or_create("m").ask()
    await handle.send("tasks", "translated", wait=False)
    await asyncio.sleep(0.05)
    await handle.send("tasks", "fine", wait=True, timeout=20)
    assert (await handle.status()).swallowed_limit is None
