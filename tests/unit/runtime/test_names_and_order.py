"""What programs written for RivetKit rely on: names that are no identifiers, the first step of run, and abort signals."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentq_nb import Actor, Queue, action
from agentq_nb.errors import Aborted, ActorNotFound, QueueUnknown
from tests.unit.runtime.world import World, until

pytestmark = pytest.mark.anyio


class Calculator(Actor):
    zero = Queue(int, reply=int, name="cmd.0")
    one = Queue(int, reply=int, name="cmd-1")

    @zero.handler
    async def double(self, body: int) -> int:
        return 2 * body

    @action(name="calculator.add")
    async def add(self, a: int, b: int) -> int:
        return a + b

    @action
    async def take_one(self) -> Any:
        message = await self.one.next(timeout=5, completable=True)
        assert message is not None
        await message.complete(message.body + 1)
        return message.queue

    @action
    async def push_one(self) -> None:
        await self.one.push(41)


async def test_queues_and_actions_have_the_names_they_are_given(world: World) -> None:
    client = await world.start(calculator=Calculator)
    handle = client.calculator.get_or_create("main")
    assert (await handle.send("cmd.0", 4, wait=True)).unwrap() == 8
    assert (await handle.send(Calculator.zero, 5, wait=True)).unwrap() == 10
    assert await getattr(handle, "calculator.add")(1, 2) == 3
    await handle.push_one()
    assert await handle.take_one() == "cmd-1"
    with pytest.raises(QueueUnknown, match=r"It has: cmd\.0, cmd-1"):
        await handle.send("zero", 1)
    assert {queue.queue for queue in (await handle.status()).queues} >= {"cmd.0"}


async def test_a_given_name_survives_a_restart_with_its_messages(world: World) -> None:
    client = await world.start(calculator=Calculator)
    await client.calculator.get_or_create("main").send("cmd-1", 1)
    client = await world.restart(calculator=Calculator)
    assert await client.calculator.get_or_create("main").take_one() == "cmd-1"


def test_a_subclass_inherits_given_names_and_may_change_them() -> None:
    class Scientific(Calculator):
        one = Queue(float, name="cmd.one")

        @action(name="calculator.sum")
        async def add(self, a: int, b: int) -> int:
            return b + a

    assert set(Scientific.declared.queues) == {"cmd.0", "cmd.one"}
    assert {"calculator.sum", "take_one"} <= set(Scientific.declared.actions)
    assert "calculator.add" not in Scientific.declared.actions
    assert set(Scientific.declared.handlers) == {"cmd.0"}


@pytest.mark.parametrize("name", ["", "_private", "$internal", "a b", "a/b", "a\n", "é", "x" * 129, 5, ".a"])
def test_a_name_that_no_client_could_use_is_refused(name: Any) -> None:
    with pytest.raises(TypeError, match=r"Queue\(name=\.\.\.\) takes letters"):
        Queue(int, name=name)
    with pytest.raises(TypeError, match=r"@action\(name=\.\.\.\) takes letters"):
        action(name=name)


def test_two_declarations_of_one_name_are_refused() -> None:
    with pytest.raises(TypeError, match=r"a and b have the same name, 'tasks'"):

        class Twice(Actor):
            a = Queue(int, name="tasks")
            b = Queue(int, name="tasks")

    with pytest.raises(TypeError, match="every actor or its handle has a 'send' already"):

        class Hidden(Actor):
            @action(name="send")
            async def post(self) -> None: ...


class Prepared(Actor):
    """Sets itself up in run, which an action then needs."""

    async def on_wake(self) -> None:
        self.steps = ["woken"]

    async def run(self) -> None:
        self.steps.append("run")
        await asyncio.sleep(0)
        self.steps.append("later")
        await asyncio.Event().wait()

    @action
    async def seen(self) -> list[str]:
        return list(self.steps)


async def test_run_begins_before_the_first_action_up_to_its_first_await(world: World) -> None:
    client = await world.start(prepared=Prepared)
    for number in range(5):
        assert (await client.prepared.get_or_create(str(number)).seen())[:2] == ["woken", "run"]


class Broken(Actor):
    @action
    async def seen(self) -> str:
        return "answered"

    async def run(self) -> None:
        raise ValueError("at once")


async def test_a_run_that_fails_at_once_does_not_keep_actions_waiting(world: World) -> None:
    client = await world.start(broken=Broken)
    assert await client.broken.get_or_create("main").seen() == "answered"


class Calling(Actor):
    async def run(self) -> None:
        self.answer = await self.actors.calling.get(self.key).number()
        await asyncio.Event().wait()

    @action
    async def number(self) -> int:
        return 5

    @action
    async def answered(self) -> int | None:
        return getattr(self, "answer", None)


async def test_a_run_that_calls_its_own_actor_first_is_answered(world: World) -> None:
    client = await world.start(calling=Calling)
    handle = client.calling.get_or_create("main")

    async def done() -> bool:
        return await handle.answered() == 5

    await until(done)
    with pytest.raises(ActorNotFound):
        await client.calling.get("other").number()


class Stoppable(Actor):
    tasks = Queue(int)

    async def on_wake(self) -> None:
        self.enough = asyncio.Event()
        self.handled: list[int] = []

    @action
    async def take(self, timeout: float | None = None) -> int | None:
        message = await self.tasks.next(timeout, until=self.enough)
        return None if message is None else message.body

    @action
    async def take_all(self) -> list[int]:
        async for message in self.queue.iter("tasks", until=self.enough):
            self.handled.append(message.body)
        return self.handled

    @action
    async def stop_taking(self) -> None:
        self.enough.set()


async def test_a_wait_for_a_message_ends_with_its_event_as_aborted(world: World) -> None:
    client = await world.start(stoppable=Stoppable)
    handle = client.stoppable.get_or_create("main")
    waiting = asyncio.create_task(handle.take())
    await asyncio.sleep(0.02)
    await handle.stop_taking()
    with pytest.raises(Aborted, match="asked to stop by the event given as until"):
        await waiting
    await handle.send("tasks", 1)
    with pytest.raises(Aborted):  # set before: nothing is taken
        await handle.take()
    assert (await handle.status()).queues[0].live == 1


async def test_an_event_that_is_not_set_changes_nothing(world: World) -> None:
    client = await world.start(stoppable=Stoppable)
    handle = client.stoppable.get_or_create("main")
    assert await handle.take(0.01) is None
    await handle.send("tasks", 1)
    assert await handle.take() == 1


async def test_a_loop_ends_quietly_with_its_event_and_settles_its_last_message(world: World) -> None:
    client = await world.start(stoppable=Stoppable)
    handle = client.stoppable.get_or_create("main")
    taking = asyncio.create_task(handle.take_all())
    receipts = [await handle.send("tasks", number) for number in (1, 2)]
    await until(lambda: world_has_handled(receipts))
    await handle.stop_taking()
    assert await taking == [1, 2]
    assert [(await receipt).status for receipt in receipts] == ["completed", "completed"]


async def world_has_handled(receipts: list[Any]) -> bool:
    return [await receipt.status() for receipt in receipts] in (["completed", "running"], ["completed", "completed"])


class Sleepy(Actor):
    async def run(self) -> None:
        self.sleep()

    @action
    async def seen(self) -> str:
        return "answered"


async def test_an_actor_whose_run_sleeps_at_once_still_answers(world: World) -> None:
    client = await world.start(sleepy=Sleepy)
    assert await client.sleepy.get_or_create("main").seen() == "answered"


async def test_actors_may_be_called_like_what_only_clients_of_other_processes_have(world: World) -> None:
    class Worker(Actor):
        tasks = Queue(str)

    client = await world.start(batch=Worker, run=Worker)
    for handle in (client.batch.get_or_create("x"), client.run.get_or_create("x")):
        assert await (await handle.send("tasks", "one")).status() == "queued"
