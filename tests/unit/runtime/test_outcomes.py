"""Nothing has succeeded unless the call returned, whatever was raised."""

from __future__ import annotations

import asyncio
import signal
from types import FrameType
from typing import Any

import pytest

from agentq_nb import Actor, AgentqError, Queue, Retry, action, agent_os, agents
from agentq_nb._core.interrupts import from_outside
from tests.unit.runtime.world import World

pytestmark = pytest.mark.anyio

ERRORS: list[type[BaseException]] = [
    ValueError,
    GeneratorExit,
    KeyboardInterrupt,
    SystemExit,
    asyncio.CancelledError,
    StopIteration,
    StopAsyncIteration,
]


@pytest.fixture(params=ERRORS)
def error(request: pytest.FixtureRequest) -> type[BaseException]:
    return request.param


@pytest.mark.parametrize("completable", [False, True], ids=["plain", "completable"])
async def test_a_message_whose_handler_raised_has_failed(
    world: World, error: type[BaseException], completable: bool
) -> None:
    attempts: list[int] = []

    class Raising(Actor):
        tasks = Queue(str, retry=Retry(attempts=2, backoff=0.001))

        async def run(self) -> None:
            async for message in self.queue.iter(completable=completable):
                if message.body == "fine":
                    if completable:
                        await message.complete()
                    continue
                attempts.append(message.attempt)
                raise error("no")

    client = await world.start(raising=Raising)
    handle = client.raising.get_or_create("x")
    receipt = await handle.send("tasks", "bad")
    assert (await receipt.result(6)).status == "failed"
    assert attempts == [1, 2]
    assert (await (await handle.send("tasks", "fine")).result(6)).status == "completed"
    assert (await world.registry.status()).trouble is None


async def test_an_action_that_raised_has_failed(world: World, error: type[BaseException]) -> None:
    class Acting(Actor):
        @action
        async def bad(self) -> str:
            raise error("no")

        @action
        def bad_in_a_thread(self) -> str:
            raise error("no")

        @action
        async def bad_in_a_task(self) -> str:
            async def bad() -> str:
                raise error("no")

            if issubclass(error, (KeyboardInterrupt, SystemExit)):  # asyncio lets these end the loop
                raise error("no")
            return await asyncio.create_task(bad())

    client = await world.start(acting=Acting)
    handle = client.acting.get_or_create("x")
    for call in (handle.bad, handle.bad_in_a_thread, handle.bad_in_a_task):
        with pytest.raises(AgentqError):
            await asyncio.wait_for(call(), 6)
    assert (await world.registry.status()).trouble is None


@pytest.mark.parametrize("hook", ["__init__", "on_create", "on_wake"])
async def test_a_hook_that_raised_has_failed(world: World, error: type[BaseException], hook: str) -> None:
    class Hooked(Actor):
        @action
        async def hello(self) -> str:
            return "hello"

    async def bad(self: Any, *_: Any) -> None:
        raise error("no")

    def bad_at_once(self: Any, *_: Any) -> None:
        raise error("no")

    setattr(Hooked, hook, bad_at_once if hook == "__init__" else bad)
    client = await world.start(hooked=Hooked)
    with pytest.raises(AgentqError):
        await asyncio.wait_for(client.hooked.get_or_create("x").hello(), 6)
    assert (await world.registry.status()).trouble is None


async def test_a_scheduled_action_that_raised_is_tried_again_and_dies(
    slow_world: World, error: type[BaseException]
) -> None:
    calls: list[int] = []

    class Planning(Actor):
        @action
        async def plan(self) -> None:
            await self.schedule.after(1, self.bad)

        @action
        async def bad(self) -> None:
            calls.append(1)
            raise error("no")

    client = await slow_world.start(planning=Planning)
    await client.planning.get_or_create("x").plan()
    for _ in range(2):  # and not once more
        await slow_world.pass_by(600)
        assert len(calls) == Retry().attempts


async def bad_agent(session: Any, prompt: str) -> str:
    raise BAD[0]("no")


def bad_agent_in_a_thread(session: Any, prompt: str) -> str:
    raise BAD[0]("no")


async def bad_generator(session: Any, prompt: str) -> Any:
    yield "some"
    raise BAD[0]("no")


BAD: list[type[BaseException]] = []


@pytest.mark.parametrize("function", [bad_agent, bad_agent_in_a_thread, bad_generator])
async def test_a_prompt_whose_agent_raised_has_failed(world: World, error: type[BaseException], function: Any) -> None:
    BAD[:] = [error]
    client = await world.start(vm=agent_os(agents=[agents.function(function, name="bad")], isolation="off"))
    machine = client.vm.get_or_create("x")
    session = (await machine.create_session("bad")).session_id
    with pytest.raises(AgentqError):
        await asyncio.wait_for(machine.send_prompt(session, "go"), 6)
    assert (await world.registry.status()).trouble is None


# --- interrupts -------------------------------------------------------------------------------------------------------


def handler_in_python(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class WithHandler:
    def on_interrupt(self, number: int, frame: FrameType | None) -> None:
        handler_in_python(number, frame)


@pytest.mark.parametrize(
    "handler",
    [signal.default_int_handler, handler_in_python, WithHandler().on_interrupt],
    ids=["c", "python", "method"],
)
async def test_an_interrupt_by_the_user_counts_no_attempt(world: World, handler: Any) -> None:
    attempts: list[int] = []

    class Interrupted(Actor):
        tasks = Queue(int, retry=Retry(attempts=1))

        async def run(self) -> None:
            async for message in self.queue.iter():
                attempts.append(message.attempt)
                if len(attempts) == 1:
                    try:
                        handler(signal.SIGINT, _here())  # as Python calls it in the middle of this code
                    finally:
                        await asyncio.sleep(0)

    client = await world.start(interrupted=Interrupted)
    receipt = await client.interrupted.get_or_create("x").send("tasks", 1)
    assert (await receipt.result(5)).status == "completed"
    assert attempts == [1, 1]


async def interrupted_agent(session: Any, prompt: str) -> str:
    if prompt == "interrupt":
        signal.default_int_handler(signal.SIGINT, None)
    raise KeyboardInterrupt


async def interrupted_generator(session: Any, prompt: str) -> Any:
    yield await interrupted_agent(session, prompt)


@pytest.mark.parametrize("function", [interrupted_agent, interrupted_generator])
@pytest.mark.parametrize("env", [{}, {"SIGNAL": "signal.default_int_handler"}], ids=["plain", "with a secret"])
async def test_an_interrupt_in_an_agent_counts_no_attempt_of_who_asked_it(
    world: World, function: Any, env: dict[str, str]
) -> None:
    attempts: list[int] = []

    class Asking(Actor):
        tasks = Queue(str, retry=Retry(attempts=1))

        async def run(self) -> None:
            machine = client.vm.get_or_create("x")
            session = (await machine.create_session("slow", env=env)).session_id
            async for message in self.queue.iter():
                attempts.append(message.attempt)
                if len(attempts) < 3:
                    await machine.send_prompt(session, message.body)

    client = await world.start(asking=Asking, vm=agent_os(agents=[agents.function(function, name="slow")]))
    handle = client.asking.get_or_create("x")
    receipt = await handle.send("tasks", "interrupt")
    assert (await receipt.result(5)).status == "completed"
    assert attempts == [1, 1, 1]
    attempts.clear()
    assert (await (await handle.send("tasks", "raise")).result(5)).status == "failed"
    assert attempts == [1]


async def test_an_interrupt_in_an_action_counts_no_attempt_of_who_called_it(world: World) -> None:
    attempts: list[int] = []

    class Called(Actor):
        @action
        async def work(self) -> None:
            signal.default_int_handler(signal.SIGINT, None)

    class Calling(Actor):
        tasks = Queue(int, retry=Retry(attempts=1))

        async def run(self) -> None:
            async for message in self.queue.iter():
                attempts.append(message.attempt)
                if len(attempts) == 1:
                    await client.called.get_or_create("x").work()

    client = await world.start(calling=Calling, called=Called)
    receipt = await client.calling.get_or_create("x").send("tasks", 1)
    assert (await receipt.result(5)).status == "completed"
    assert attempts == [1, 1]


def _here() -> FrameType:
    import sys

    return sys._getframe()


def test_an_interrupt_is_told_from_one_that_code_raised() -> None:
    def raised() -> None:
        raise KeyboardInterrupt

    def raised_again() -> None:
        try:
            raised()
        except KeyboardInterrupt as error:
            raise error

    def interrupted_and_raised_again() -> None:
        try:
            signal.default_int_handler(signal.SIGINT, None)
        except KeyboardInterrupt as error:
            raise error

    for function, outside in [(raised, False), (raised_again, False), (interrupted_and_raised_again, True)]:
        with pytest.raises(KeyboardInterrupt) as caught:
            function()
        assert from_outside(caught.value) is outside
    assert not from_outside(KeyboardInterrupt())
    assert not from_outside(None)
