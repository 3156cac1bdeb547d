"""Actions: arguments, errors, time limits, side by side; events; and names that clash."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, AgentqError, Queue, UserError, action
from tests.unit.runtime.world import World, breathe, until

pytestmark = pytest.mark.anyio


class Payload(BaseModel):
    number: int


class Acting(Actor, action_timeout=5):
    @action
    async def add(self, a: int, b: int = 1) -> int:
        return a + b

    @action
    def plain(self, text: str) -> str:
        return text.upper()

    @action
    async def nothing(self) -> None: ...

    @action
    async def model(self, payload: Payload) -> Payload:
        return Payload(number=payload.number + 1)

    @action
    async def big(self, text: str) -> str:
        return text * 4

    @action(thread=True)
    def where(self) -> str:
        return threading.current_thread().name

    @action
    async def user_error(self) -> None:
        raise UserError("out of stock", code="no_stock", metadata={"left": 0})

    @action
    async def crash(self) -> None:
        raise KeyError("secret detail")

    @action
    async def hang(self) -> None:
        self.broadcast("hangs")
        await asyncio.Event().wait()

    @action
    async def hang_politely(self) -> str:
        self.broadcast("hangs")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "looks finished"
        return ""

    async def no_action(self) -> None: ...


async def refused(calling: Any) -> AgentqError:
    with pytest.raises(AgentqError) as caught:
        await calling
    return caught.value


async def test_coroutine_and_plain_actions_return_their_value(world: World) -> None:
    client = await world.start(acting=Acting)
    handle = client.acting.get_or_create("x")
    assert await handle.add(1, b=2) == 3
    assert await handle.plain("a") == "A"
    assert await handle.nothing() is None
    assert await handle.model({"number": 1}) == Payload(number=2)
    assert await handle.model(Payload(number=2)) == Payload(number=3)


async def test_arguments_are_checked_before_the_action_begins(world: World) -> None:
    client = await world.start(acting=Acting)
    handle = client.acting.get_or_create("x")
    for calling in (handle.add("one"), handle.add(), handle.add(1, 2, 3), handle.add(1, c=2), handle.model({"n": 1})):
        assert (await refused(calling)).full_code == "actor.validation_error"


async def test_large_arguments_and_results_pass_within_the_process(world: World) -> None:
    client = await world.start(acting=Acting)
    assert len(await client.acting.get_or_create("x").big("x" * 300_000)) == 1_200_000


async def test_a_thread_action_does_not_run_in_the_loops_thread(world: World) -> None:
    client = await world.start(acting=Acting)
    assert await client.acting.get_or_create("x").where() != threading.current_thread().name


async def test_in_thread_leaves_the_loop_to_others(world: World) -> None:
    class Threaded(Actor):
        @action
        async def work(self) -> str:
            return await self.in_thread(lambda text: (time.sleep(0.05), text)[1], "done")

    client = await world.start(threaded=Threaded)
    turns = 0
    working = asyncio.create_task(client.threaded.get_or_create("x").work())
    while not working.done():
        turns += 1
        await asyncio.sleep(0.001)
    assert await working == "done"
    assert turns > 5


async def test_a_user_error_reaches_the_caller_with_its_code_and_metadata(world: World) -> None:
    client = await world.start(acting=Acting)
    error = await refused(client.acting.get_or_create("x").user_error())
    assert isinstance(error, UserError)
    assert (error.full_code, error.message, error.metadata) == ("user.no_stock", "out of stock", {"left": 0})
    assert UserError("plain").code == "user_error"
    assert UserError("plain").metadata == {}


async def test_any_other_exception_is_an_internal_error_with_its_cause_and_the_actor_goes_on(world: World) -> None:
    client = await world.start(acting=Acting)
    handle = client.acting.get_or_create("x")
    error = await refused(handle.crash())
    assert error.full_code == "actor.internal_error"
    assert isinstance(error.__cause__, KeyError)
    assert "crash" in error.message
    assert await handle.add(1) == 2


async def test_an_unknown_action_names_those_there_are(world: World) -> None:
    client = await world.start(acting=Acting)
    handle = client.acting.get_or_create("x")
    for calling in (handle.subtract(1), handle.no_action(), handle.run()):
        error = await refused(calling)
        assert error.full_code == "actor.action_not_found"
        assert "add" in error.message


async def test_names_with_an_underscore_are_never_actions_and_probing_calls_nothing(world: World) -> None:
    client = await world.start(acting=Acting)
    handle = client.acting.get_or_create("x")
    for name in ("_repr_html_", "_ipython_display_", "_ipython_canary_method_should_not_exist_", "__deepcopy__"):
        assert not hasattr(handle, name)
        assert not hasattr(client, name)


async def test_actions_of_one_actor_run_side_by_side(world: World) -> None:
    log: list[str] = []
    gate = asyncio.Event()

    class Two(Actor):
        @action
        async def slow(self) -> None:
            log.append("slow starts")
            await gate.wait()
            log.append("slow ends")

        @action
        async def fast(self) -> None:
            log.append("fast")

    client = await world.start(two=Two)
    handle = client.two.get_or_create("x")
    slow = asyncio.create_task(handle.slow())
    await until(lambda: log)
    await handle.fast()
    gate.set()
    await slow
    assert log == ["slow starts", "fast", "slow ends"]


async def test_an_action_that_takes_too_long_is_stopped_by_its_class_option(slow_world: World) -> None:
    class Patient(Acting, action_timeout=None): ...

    client = await slow_world.start(acting=Acting, patient=Patient)
    begun: list[None] = []
    client.acting.get_or_create("x").on("hangs", begun.append)
    hanging = asyncio.create_task(client.acting.get_or_create("x").hang())
    polite = asyncio.create_task(client.acting.get_or_create("x").hang_politely())
    patient = asyncio.create_task(client.patient.get_or_create("x").hang())
    await until(lambda: len(begun) == 2)
    await slow_world.pass_by(4.9)
    assert not hanging.done()
    await slow_world.pass_by(0.2)
    for late in (hanging, polite):
        error = await refused(late)
        assert error.full_code == "actor.action_timed_out"
        assert error.message.startswith("Action timed out")
    await slow_world.pass_by(1000)
    assert not patient.done()
    patient.cancel()
    assert Actor.declared.action_timeout == 60


async def test_an_interrupted_cell_stops_waiting_and_not_the_action(world: World) -> None:
    done = asyncio.Event()
    inside, gate = asyncio.Event(), asyncio.Event()

    class Slow(Actor):
        @action
        async def work(self) -> None:
            inside.set()
            await gate.wait()
            done.set()

    client = await world.start(slow=Slow)
    calling = asyncio.create_task(client.slow.get_or_create("x").work())
    await inside.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    gate.set()
    await asyncio.wait_for(done.wait(), 5)


async def test_events_reach_those_who_listen_until_they_stop(world: World) -> None:
    heard: list[Any] = []

    class Talking(Actor):
        @action
        async def say(self, text: str) -> None:
            self.broadcast("said", {"text": text})

    client = await world.start(talking=Talking)
    handle = client.talking.get_or_create("x")
    handle.on("said", lambda payload: 1 / 0)
    stop = handle.on("said", heard.append)
    client.talking.get_or_create("other").on("said", heard.append)
    handle.on("other", heard.append)
    await handle.say("one")
    await until(lambda: bool(heard))  # in another process, it may come a moment after the result
    stop()
    stop()
    await handle.say("two")
    await breathe()
    assert heard == [{"text": "one"}]


async def test_an_actor_knows_its_name_key_and_siblings(world: World) -> None:
    class Knowing(Actor):
        @action
        async def about(self) -> list[Any]:
            return [self.name, self.key, self.actor_id, self.aborted, self.log.logger.name]

        @action
        async def ask(self, other: str) -> list[Any]:
            return await self.actors.knowing.get_or_create(other).about()

    client = await world.start(knowing=Knowing)
    handle = client.knowing.get_or_create(["a", "b"])
    assert await handle.about() == ["knowing", ("a", "b"), "knowing/a/b", False, "agentq.knowing"]
    assert (await handle.ask("c"))[:4] == ["knowing", ("c",), "knowing/c", False]


# --- declarations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["send", "status", "queue", "state", "run", "schedule", "on_wake", "destroy", "key"])
def test_a_queue_named_like_something_there_is_already_is_refused_at_class_definition(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        type("Clashing", (Actor,), {name: Queue(str)})


@pytest.mark.parametrize("name", ["send", "cancel", "sleep", "broadcast", "on", "pause", "log", "redeliver", "_hidden"])
def test_an_action_named_like_something_there_is_already_is_refused_at_class_definition(name: str) -> None:
    async def act(self: Any) -> None: ...

    with pytest.raises(TypeError, match=name):
        type("Clashing", (Actor,), {name: action(act)})


def test_a_queue_and_an_action_of_a_base_class_cannot_share_a_name() -> None:
    class Base(Actor):
        tasks = Queue(str)

    async def act(self: Any) -> None: ...

    with pytest.raises(TypeError, match="tasks"):
        type("Clashing", (Base,), {"tasks": action(act)})


@pytest.mark.parametrize("options", [{"sleep_timeout": 0}, {"action_timeout": -1}, {"unknown": 1}])
def test_bad_class_options_are_refused_at_class_definition(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        type("Odd", (Actor,), {}, **options)


def test_declarations_with_senseless_numbers_are_refused() -> None:
    for options in ({"max_size": 0}, {"max_message_bytes": 0}, {"max_reply_bytes": 0}, {"handler_timeout": 0}):
        with pytest.raises(ValueError, match="Queue"):
            Queue(str, **options)  # type: ignore[call-overload]


def test_queues_and_actions_are_inherited() -> None:
    class Base(Actor, sleep_timeout=7):
        tasks = Queue(str)

        @action
        async def act(self) -> None: ...

    class Derived(Base):
        more = Queue(int)

    assert set(Derived.declared.queues) == {"tasks", "more"}
    assert set(Derived.declared.actions) == {"act"}
    assert Derived.declared.sleep_timeout == 7


def test_queues_and_actions_of_all_bases_are_inherited_and_the_nearer_one_wins() -> None:
    class Floor(Actor):
        @action
        async def speak(self) -> str:
            return "floor"

    class Left(Floor):
        left = Queue(str)

    class Right(Floor):
        right = Queue(str)

        @action
        async def speak(self) -> str:
            return "right"

    class Both(Left, Right): ...

    assert set(Both.declared.queues) == {"left", "right"}
    assert Both.declared.actions["speak"].function is Both.speak is Right.speak


@pytest.mark.parametrize("name", ["_private", "not-a-name", "receipt", "actor"])
async def test_names_that_could_not_be_reached_are_refused(world: World, name: str) -> None:
    with pytest.raises(AgentqError) as caught:
        await world.start(**{name: Acting})
    assert caught.value.full_code == "actor.validation_error"


async def test_an_action_that_goes_on_after_its_time_is_given_up_with_its_reason(slow_world: World) -> None:
    class Stubborn(Actor, action_timeout=2):
        @action
        async def refuse(self) -> None:
            for _ in range(2):
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()

    client = await slow_world.start(stubborn=Stubborn)
    calling = asyncio.ensure_future(refused(client.stubborn.get_or_create("x").refuse()))
    await slow_world.pass_by(6.9)
    assert not calling.done()
    await slow_world.pass_by(0.2)
    assert (await calling).code == "action_timed_out"


async def test_an_action_that_a_stop_gives_up_has_not_returned(slow_world: World) -> None:
    begun = asyncio.Event()

    class Stubborn(Actor):
        @action
        async def refuse(self) -> None:
            begun.set()
            for _ in range(2):
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()

    client = await slow_world.start(stubborn=Stubborn)
    calling = asyncio.ensure_future(refused(client.stubborn.get_or_create("x").refuse()))
    await begun.wait()
    stopping = asyncio.create_task(slow_world.registry.stop())
    for _ in range(20):
        await slow_world.pass_by(1)
    await asyncio.wait_for(stopping, 5)
    assert (await asyncio.wait_for(calling, 5)).code == "aborted"
