"""Awake by itself, asleep when idle, made, and destroyed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentq_nb import Actor, AgentqError, Queue, action
from tests.unit.runtime.world import World, breathe, queue_of, until, until_state, until_status

pytestmark = pytest.mark.anyio


def recording(log: list[str], **options: Any) -> type[Actor]:
    """Writes down what happens to it."""

    class Recording(Actor, **options):
        tasks = Queue(str)

        async def on_create(self, input: Any) -> None:
            log.append(f"create {input}")

        async def on_wake(self) -> None:
            log.append("wake")

        async def on_sleep(self) -> None:
            log.append("sleep")

        async def on_destroy(self) -> None:
            log.append("destroy")

        async def run(self) -> None:
            async for message in self.queue.iter():
                log.append(message.body)
            log.append("loop ended")

        @action
        async def touch(self) -> None:
            log.append("touch")

        @action
        async def end(self) -> None:
            self.destroy()

        @action
        async def rest(self) -> None:
            self.sleep()

    return Recording


async def test_an_idle_actor_sleeps_after_its_timeout_and_a_send_wakes_it(slow_world: World) -> None:
    log: list[str] = []
    client = await slow_world.start(recorder=recording(log, sleep_timeout=30))
    handle = client.recorder.get_or_create("x")
    await (await handle.send("tasks", "one")).result(5)
    await slow_world.pass_by(29)
    assert (await handle.status()).state == "awake"
    await slow_world.pass_by(2)
    await until_state(handle, "asleep")
    assert log == ["create None", "wake", "one", "loop ended", "sleep"]
    await (await handle.send("tasks", "two")).result(5)
    assert log[5:] == ["wake", "two"]


async def test_an_action_wakes_a_sleeping_actor_and_one_before_the_timeout_postpones_it(slow_world: World) -> None:
    log: list[str] = []
    client = await slow_world.start(recorder=recording(log, sleep_timeout=30))
    handle = client.recorder.get_or_create("x")
    await handle.touch()
    await slow_world.pass_by(25)
    await handle.touch()
    await slow_world.pass_by(25)
    assert (await handle.status()).state == "awake"
    await slow_world.pass_by(6)
    await until_state(handle, "asleep")
    await handle.touch()
    assert log.count("wake") == 2


async def test_without_run_an_actor_sleeps_too_and_none_means_never(slow_world: World) -> None:
    class Bare(Actor, sleep_timeout=5):
        @action
        async def touch(self) -> None: ...

    class Sleepless(Bare, sleep_timeout=None): ...

    client = await slow_world.start(bare=Bare, sleepless=Sleepless)
    bare, sleepless = client.bare.get_or_create("x"), client.sleepless.get_or_create("x")
    await bare.touch()
    await sleepless.touch()
    await slow_world.pass_by(6)
    await until_state(bare, "asleep")
    await slow_world.pass_by(100_000)
    assert (await sleepless.status()).state == "awake"


async def test_a_busy_run_a_held_message_an_action_and_keep_awake_each_keep_it_awake(slow_world: World) -> None:
    gates = {name: asyncio.Event() for name in ("run", "message", "action", "kept")}
    kept: list[asyncio.Task[Any]] = []

    class Busy(Actor, sleep_timeout=5, action_timeout=None):
        tasks = Queue(str)

        async def run(self) -> None:
            await gates["run"].wait()
            async for _ in self.queue.iter():
                await gates["message"].wait()

        @action
        async def act(self) -> None:
            await gates["action"].wait()

        @action
        async def keep(self) -> None:
            kept.append(asyncio.create_task(self.keep_awake(gates["kept"].wait())))

    client = await slow_world.start(busy=Busy)
    handle = client.busy.get_or_create("x")
    await handle.keep()
    acting = asyncio.create_task(handle.act())
    await handle.send("tasks", "a")
    for name in ("run", "message", "action", "kept"):
        await slow_world.pass_by(20)
        assert (await handle.status()).state == "awake", name
        gates[name].set()
        await breathe()
    await slow_world.pass_by(6)
    await until_state(handle, "asleep")
    await acting


async def test_run_that_returned_or_fails_does_not_end_its_actor(slow_world: World) -> None:
    class Returned(Actor, sleep_timeout=5):
        async def run(self) -> None:
            return

        @action
        async def touch(self) -> bool:
            return True

    class Raised(Returned):
        async def run(self) -> None:
            raise ValueError

    client = await slow_world.start(returned=Returned, raised=Raised)
    returned, raised = client.returned.get_or_create("x"), client.raised.get_or_create("x")
    assert await returned.touch()
    assert await raised.touch()
    await breathe()
    assert (await returned.status()).run == "returned"
    assert (await raised.status()).run == "restarting"
    await slow_world.pass_by(6)
    await until_state(returned, "asleep")
    assert await returned.touch()
    assert await raised.touch()


async def test_sleep_from_inside_run_writes_what_on_sleep_changed_and_work_wakes_it(world: World) -> None:
    from pydantic import BaseModel

    class Slept(BaseModel):
        times: int = 0

    class Sleeper(Actor):
        tasks = Queue(str)
        state: Slept

        async def on_sleep(self) -> None:
            self.state.times += 1

        async def run(self) -> None:
            async for _ in self.queue.iter():
                self.sleep()

        @action
        async def times(self) -> int:
            return self.state.times

    client = await world.start(sleeper=Sleeper)
    handle = client.sleeper.get_or_create("x")
    for _ in range(2):
        assert (await (await handle.send("tasks", "a")).result(5)).status == "completed"
        await until_state(handle, "asleep")
    assert await handle.times() == 2


async def test_a_send_in_on_sleep_is_kept_and_handled_after_the_next_wake(world: World) -> None:
    seen: list[str] = []

    class Noting(Actor, sleep_timeout=0.03):
        tasks = Queue(str)

        async def on_sleep(self) -> None:
            if len(seen) < 2:
                await self.queue.push("tasks", "noted in sleep")

        async def run(self) -> None:
            async for message in self.queue.iter():
                seen.append(message.body)

    client = await world.start(noting=Noting)
    await client.noting.get_or_create("x").send("tasks", "first")
    await until(lambda: seen == ["first", "noted in sleep"])


async def test_a_send_in_on_sleep_of_a_stopping_host_is_kept_too(world: World) -> None:
    seen: list[str] = []

    class Noting(Actor):
        tasks = Queue(str)

        async def on_sleep(self) -> None:
            await self.queue.push("tasks", "left for the next life")

        async def run(self) -> None:
            async for message in self.queue.iter():
                seen.append(message.body)

    client = await world.start(noting=Noting)
    await (await client.noting.get_or_create("x").send("tasks", "first")).result(5)
    await world.restart()
    await until(lambda: seen == ["first", "left for the next life"])


async def test_sends_and_actions_at_the_moment_of_falling_asleep_are_not_lost(world: World) -> None:
    seen: list[int] = []

    class Drowsy(Actor, sleep_timeout=0.001):
        tasks = Queue(int)

        async def run(self) -> None:
            async for message in self.queue.iter():
                seen.append(message.body)

        @action
        async def touch(self, number: int) -> int:
            return number

    client = await world.start(drowsy=Drowsy)
    handle = client.drowsy.get_or_create("x")
    for number in range(60):
        await handle.send("tasks", number)
        if number % 3 == 0:
            assert await handle.touch(number) == number
        await asyncio.sleep(0.0005 * (number % 5))
    await until(lambda: seen == list(range(60)))


async def test_a_loop_that_catches_every_error_does_not_freeze_the_kernel_when_its_actor_sleeps(world: World) -> None:
    caught: list[str] = []

    class Catching(Actor, sleep_timeout=0.03):
        tasks = Queue(int)

        async def run(self) -> None:
            while True:
                try:
                    await self.queue.next()
                except Exception as error:
                    caught.append(str(error))

    client = await world.start(catching=Catching)
    handle = client.catching.get_or_create("x")
    await handle.send("tasks", 1)
    await until(lambda: caught)
    turns = 0
    began = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() - began < 0.3:
        turns += 1
        await asyncio.sleep(0.01)
    assert turns > 5
    assert len(caught) < 50
    assert "going to sleep" in caught[0]


async def test_actors_with_due_work_start_with_the_host_by_themselves(world: World) -> None:
    seen: list[str] = []

    class Later(Actor):
        tasks = Queue(str)

    class Worker(Later):
        async def run(self) -> None:
            async for message in self.queue.iter():
                seen.append(f"{self.key[0]} {message.body}")

    client = await world.start(worker=Later)
    for key in ("a", "b"):
        await client.worker.get_or_create(key).send("tasks", "go")
    await world.crash(worker=Worker)
    await until(lambda: sorted(seen) == ["a go", "b go"])


async def test_work_for_a_class_that_is_not_defined_yet_waits_and_status_says_for_what(world: World) -> None:
    class Worker(Actor):
        tasks = Queue(str)

        async def run(self) -> None:
            async for _ in self.queue.iter():
                pass

    class Other(Actor): ...

    class Idle(Actor):
        tasks = Queue(str)

    client = await world.start(worker=Idle)
    receipt = await client.worker.get_or_create("x").send("tasks", "a")
    await world.registry.stop()
    world.registry._classes.clear()
    await world.start(other=Other)
    status = await world.registry.status()
    assert list(status.waiting_for) == ["worker"]
    assert [(actor.actor_id, actor.state) for actor in status.actors] == [("worker/x", "waiting for its class")]
    await world.deploy(worker=Worker)
    assert (await receipt.result(5)).status == "completed"
    assert list((await world.registry.status()).waiting_for) == []


async def test_an_actor_that_cannot_start_says_so_and_is_tried_again(slow_world: World) -> None:
    tries = 0

    class Fragile(Actor):
        tasks = Queue(str)

        async def on_wake(self) -> None:
            nonlocal tries
            tries += 1
            if tries < 3:
                raise ConnectionError("not yet")

        async def run(self) -> None:
            async for _ in self.queue.iter():
                pass

    client = await slow_world.start(fragile=Fragile)
    handle = client.fragile.get_or_create("x")
    receipt = await handle.send("tasks", "a")
    await until_state(handle, "failed to start")
    status = await handle.status()
    assert status.last_error is not None
    assert "not yet" in status.last_error["message"]
    await slow_world.pass_by(1)
    await until(lambda: tries == 2)
    await slow_world.pass_by(3)
    assert (await receipt.result(5)).attempts == 1
    assert tries == 3


# --- being made and destroyed -----------------------------------------------------------------------------------------


async def test_create_makes_an_actor_once_and_get_wants_one_that_exists(world: World) -> None:
    log: list[str] = []
    client = await world.start(recorder=recording(log))
    for using in (client.recorder.get("x").touch(), client.recorder.get("x").send("tasks", "a")):
        with pytest.raises(AgentqError) as caught:
            await using
        assert caught.value.full_code == "actor.not_found"
    assert log == []
    await client.recorder.create("x", input=5)
    with pytest.raises(AgentqError) as caught:
        await client.recorder.create("x", input=6)
    assert caught.value.full_code == "actor.duplicate_key"
    await client.recorder.get("x").touch()
    client = await world.restart()
    await client.recorder.get("x").touch()
    await client.recorder.get_or_create("x", input=7).touch()
    assert [entry for entry in log if entry.startswith("create")] == ["create 5"]


async def test_of_many_that_create_at_once_one_succeeds(world: World) -> None:
    log: list[str] = []
    client = await world.start(recorder=recording(log))
    outcomes = await asyncio.gather(*(client.recorder.create("x") for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(outcome, AgentqError) for outcome in outcomes) == 7
    assert log.count("create None") == 1


async def test_input_reaches_on_create_also_when_a_send_comes_first(world: World) -> None:
    log: list[str] = []
    client = await world.start(recorder=recording(log))
    await (await client.recorder.get_or_create("x", input={"n": 1}).send("tasks", "a")).result(5)
    assert log[0] == "create {'n': 1}"


async def test_a_failed_on_create_makes_nothing_and_may_be_tried_again(world: World) -> None:
    class Picky(Actor):
        async def on_create(self, input: Any) -> None:
            if input != "good":
                raise ValueError(f"cannot be made of {input}")

        @action
        async def touch(self) -> bool:
            return True

    client = await world.start(picky=Picky)
    with pytest.raises(AgentqError) as caught:
        await client.picky.create("x", input="bad")
    assert "cannot be made of bad" in str(caught.value)
    assert await (await client.picky.create("x", input="good")).touch()


async def test_destroy_drops_state_and_messages_for_good_and_tells_who_waits(slow_world: World) -> None:
    log: list[str] = []

    class Doomed(recording(log)):  # type: ignore[misc]
        async def run(self) -> None:
            await asyncio.Event().wait()

    client = await slow_world.start(recorder=Doomed)
    handle = client.recorder.get_or_create("x")
    waiting = asyncio.create_task(handle.send("tasks", "a", wait=True))
    await handle.touch()
    await until(lambda: _live(handle))
    await handle.end()
    with pytest.raises(AgentqError) as caught:
        await client.recorder.get("x").touch()
    assert caught.value.full_code == "actor.not_found"
    assert "destroy" not in log, "run has its grace to return"
    await slow_world.pass_by(11)
    assert (await waiting).status == "cancelled"
    await handle.touch()
    assert log.count("create None") == 2


async def _live(handle: Any) -> bool:
    return (await queue_of(handle, "tasks")).live == 1


async def test_a_send_through_an_old_handle_reaches_a_fresh_actor_after_destroy(world: World) -> None:
    log: list[str] = []
    client = await world.start(recorder=recording(log))
    handle = client.recorder.get_or_create("x")
    await handle.end()
    await until(lambda: world.registry.host.activations.find(handle.actor_id) is None)
    assert (await (await handle.send("tasks", "11")).result(5)).status == "completed"
    assert log.count("create None") == 2


async def test_a_stop_right_after_destroy_does_not_undo_it(world: World) -> None:
    log: list[str] = []
    client = await world.start(recorder=recording(log))
    handle = client.recorder.get_or_create("x")
    await handle.touch()
    await handle.end()
    client = await world.restart(recorder=recording(log))
    assert log[-1] == "destroy"
    with pytest.raises(AgentqError) as caught:
        await client.recorder.get("x").touch()
    assert caught.value.full_code == "actor.not_found"


async def test_destroying_ends_a_waiting_receive_with_actor_aborted(world: World) -> None:
    class Waiting(Actor):
        abort = Queue(str)

        @action
        async def wait(self) -> None:
            await self.queue.next(["abort"], timeout=10)

        @action
        async def end(self) -> None:
            self.destroy()

    client = await world.start(waiting=Waiting)
    handle = client.waiting.get_or_create("x")
    call = asyncio.create_task(handle.wait())
    await asyncio.sleep(0.02)
    await handle.end()
    with pytest.raises(AgentqError) as caught:
        await call
    assert caught.value.full_code == "actor.aborted"


async def test_a_message_settled_by_destroy_says_cancelled_after_a_crash_too(world: World) -> None:
    class Doomed(Actor):
        tasks = Queue(str)

        @action
        async def end(self) -> None:
            self.destroy()

    client = await world.start(doomed=Doomed)
    handle = client.doomed.get_or_create("x")
    receipt = await handle.send("tasks", "a")
    await handle.end()
    await until_status(receipt, "cancelled")
    client = await world.crash()
    assert await client.receipt(receipt.id).status() == "cancelled"


async def test_a_run_that_only_sleeps_beside_its_due_work_is_woken_ever_more_seldom(slow_world: World) -> None:
    lives = 0

    class Napping(Actor):
        tasks = Queue(str)

        async def run(self) -> None:
            nonlocal lives
            lives += 1
            if lives > 4:
                await self.queue.next()
            self.sleep()

    client = await slow_world.start(napping=Napping)
    receipt = await client.napping.get_or_create("x").send("tasks", "a")
    await until(lambda: lives == 2)
    await breathe()
    await breathe()
    assert lives == 2
    await slow_world.pass_by(1)
    await until(lambda: lives == 3)
    await slow_world.pass_by(2)
    await until(lambda: lives == 4)
    await slow_world.pass_by(4)
    assert (await receipt.result(5)).attempts == 1
