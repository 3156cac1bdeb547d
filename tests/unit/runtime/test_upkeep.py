"""What the host does in the background never ends in silence: it is trouble in ``status()``, and it is tried again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentq_nb import Actor, Queue
from agentq_nb._brokers.local.broker import LocalBroker
from agentq_nb._brokers.local.lease import LocalLease
from agentq_nb._brokers.local.live_messages import LiveMessages
from agentq_nb._brokers.local.ready_actors import ReadyActors
from agentq_nb._core.loop_monitor import StallWatch
from agentq_nb._runtime.invocation import current_call
from agentq_nb._store import EventLog
from agentq_nb.errors import StoreWriteFailed
from tests.unit.runtime.world import World, breathe, until

pytestmark = pytest.mark.anyio


class Worker(Actor):
    tasks = Queue(str, reply=str)

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            await message.complete(f"{message.body} done")


class Faults:
    """Raises the next of some errors each time a method is called; once they are used up the method works again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self.calls = 0
        self._errors: list[BaseException] = []
        self._real: Callable[..., Any] = getattr(owner, name)
        monkeypatch.setattr(owner, name, self._coroutine if asyncio.iscoroutinefunction(self._real) else self._call)

    def fail(self, *errors: BaseException) -> None:
        self._errors += errors

    def _raise(self) -> None:
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)

    # Plain functions, so that they become methods as what they replace.
    @property
    def _call(self) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._raise()
            return self._real(*args, **kwargs)

        return call

    @property
    def _coroutine(self) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self._raise()
            return await self._real(*args, **kwargs)

        return call


async def trouble(world: World) -> str:
    status = await world.registry.status()
    assert status.running, status.trouble
    return status.trouble or ""


async def until_trouble(world: World, part: str) -> None:
    """Until it says this; with nothing to say, until there is none."""

    async def said() -> bool:
        found = await trouble(world)
        return part in found if part else not found

    await until(said)


async def works(world: World) -> bool:
    handle = world.registry.host.client.worker.get_or_create("main")
    return (await handle.send("tasks", "it is", wait=True)).response == "it is done"


@pytest.mark.file_only
@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "No space left"), RuntimeError("a bug")], ids=repr)
async def test_a_retention_that_fails_is_trouble_and_is_tried_again(
    slow_world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    pruning = Faults(monkeypatch, EventLog, "prune")
    pruning.fail(error, error)
    slow_world.retention = 3600.0
    await slow_world.start(worker=Worker)
    await breathe()
    assert "Dropping old history failed: " in await trouble(slow_world)
    assert type(error).__name__ in await trouble(slow_world)
    assert any(type(error).__name__ in record.getMessage() for record in caplog.records if record.name == "agentq")
    await slow_world.pass_by(0.5)
    assert (pruning.calls, "Dropping old history" in await trouble(slow_world)) == (2, True)
    await slow_world.pass_by(0.9)
    assert pruning.calls == 2  # the pauses grow
    await slow_world.pass_by(0.1)
    await until_trouble(slow_world, "")
    assert pruning.calls == 3
    assert await works(slow_world)


@pytest.mark.file_only
async def test_opening_the_file_again_that_fails_is_trouble_and_is_tried_again(
    slow_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await slow_world.start(worker=Worker)
    handle = client.worker.get_or_create("main")
    await handle.send("tasks", "first", wait=True)
    opening = Faults(monkeypatch, EventLog, "open")
    opening.fail(MemoryError("no room"), RuntimeError("can't start new thread"))
    break_the_store(slow_world)
    await until_trouble(slow_world, "Opening the file again after a failed write failed: MemoryError: no room")
    await slow_world.pass_by(0.5)
    await until_trouble(slow_world, "can't start new thread")
    await slow_world.pass_by(1)
    await until_trouble(slow_world, "")
    assert opening.calls == 3
    assert await works(slow_world)


def break_the_store(world: World) -> None:
    """As after a write that failed."""
    world.registry.host.broker._commit_log.fail(StoreWriteFailed("Writing to the log failed."))


@pytest.mark.file_only
async def test_a_file_opened_again_whose_reading_fails_is_not_left_open(
    slow_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await slow_world.start(worker=Worker)
    reading = Faults(monkeypatch, LiveMessages, "arrive")
    reading.fail(MemoryError("no room"))
    break_the_store(slow_world)
    await until_trouble(slow_world, "Opening the file again after a failed write failed: MemoryError: no room")
    await slow_world.pass_by(0.5)
    await until_trouble(slow_world, "")
    assert reading.calls == 2
    assert await works(slow_world)


@pytest.mark.file_only
async def test_hints_that_fail_are_trouble_and_actors_wake_once_they_come_again(
    slow_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hinting = Faults(monkeypatch, ReadyActors, "__anext__")
    hinting.fail(RuntimeError("no hints"))
    client = await slow_world.start(worker=Worker)
    await breathe()
    assert "Waking actors that have work failed: RuntimeError: no hints" in await trouble(slow_world)
    receipt = await client.worker.get_or_create("main").send("tasks", "it is")
    await slow_world.pass_by(0.5)
    assert (await receipt.result(5)).response == "it is done"
    await slow_world.pass_by(0.5)
    assert await trouble(slow_world) == ""


@pytest.mark.file_only
async def test_an_actor_that_cannot_be_claimed_ends_nothing_and_is_tried_again(
    slow_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    claiming = Faults(monkeypatch, LocalBroker, "acquire")
    claiming.fail(MemoryError("no room"), RuntimeError("a bug"))
    client = await slow_world.start(worker=Worker)
    receipt = await client.worker.get_or_create("main").send("tasks", "it is")
    await breathe()
    assert "Waking worker/main failed: MemoryError: no room" in await trouble(slow_world)
    await slow_world.pass_by(2)
    assert (await receipt.result(5)).response == "it is done"
    assert await trouble(slow_world) == ""


@pytest.mark.file_only
async def test_an_actor_whose_release_fails_holds_up_no_stop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.start(worker=Worker)
    assert await works(world)
    releasing = Faults(monkeypatch, LocalLease, "release")
    releasing.fail(MemoryError("no room"))
    await asyncio.wait_for(world.registry.stop(), 5)
    assert releasing.calls == 1


async def test_what_cannot_start_for_days_is_still_tried_again(slow_world: World) -> None:
    class Refusing(Worker):
        lives = 0

        async def on_wake(self) -> None:
            Refusing.lives += 1
            raise ValueError("not today")

    client = await slow_world.start(refusing=Refusing, worker=Worker)
    await client.refusing.get_or_create("main").send("tasks", "x")
    await until(lambda: Refusing.lives == 1)
    await breathe()
    slow_world.registry.host.wake_backoff._failures["refusing/main"] = 5000
    await slow_world.pass_by(1)
    await slow_world.pass_by(60)
    assert Refusing.lives == 3
    assert await works(slow_world)


@pytest.mark.file_only
async def test_a_part_cancelled_by_other_code_is_trouble_and_begins_again(slow_world: World) -> None:
    client = await slow_world.start(worker=Worker)
    await breathe()
    parts = [task for task in asyncio.all_tasks() if task.get_name() == "agentq_nb._host.host_tasks.HostTasks._keep"]
    assert len(parts) == 5
    for part in parts:
        part.cancel()
    await breathe()
    assert "Other code in its event loop has cancelled its task" in await trouble(slow_world)
    receipt = await client.worker.get_or_create("main").send("tasks", "it is")
    assert (await receipt.result(5)).response == "it is done"
    await slow_world.pass_by(1)
    assert await trouble(slow_world) == ""


async def test_an_actor_whose_tasks_are_cancelled_by_other_code_is_named(slow_world: World) -> None:
    client = await slow_world.start(worker=Worker)
    handle = client.worker.get_or_create("main")
    await handle.send("tasks", "it is", wait=True, timeout=5)
    activation = slow_world.registry.host.activations.find("worker/main")
    assert activation is not None
    for part in list(activation.parts):
        part.cancel()
    await breathe()
    error = (await handle.status()).last_error
    assert error is not None
    assert "has cancelled the tasks of actor 'worker/main'" in error["message"]
    assert (await handle.send("tasks", "it is", wait=True, timeout=5)).response == "it is done"


async def test_a_host_whose_task_is_cancelled_says_so(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.start(worker=Worker)
    main = world.registry.host._main
    assert main is not None
    main.cancel()
    await asyncio.wait([main])
    status = await world.registry.status()
    assert status.running is False
    assert "Other code in its event loop has cancelled its task" in str(status.trouble)
    assert any("has ended by itself" in record.getMessage() for record in caplog.records if record.name == "agentq")
    await world.registry.start()
    assert (await world.registry.status()).trouble is None
    assert await works(world)


async def test_a_host_that_a_failure_ends_says_so_and_lets_nobody_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("main")
    await handle.pause("tasks")
    waiting = asyncio.ensure_future(handle.send("tasks", "x", wait=True))
    await breathe()

    async def bug() -> None:
        raise BaseExceptionGroup("many", [GeneratorExit()])

    world.registry.host.spawn(bug)
    with pytest.raises(Exception, match="stopped"):
        await asyncio.wait_for(waiting, 5)
    assert world.registry.running is False
    assert "The host has ended by itself" in str((await world.registry.status()).trouble)
    await world.registry.start()
    assert await works_after_resuming(world)


async def works_after_resuming(world: World) -> bool:
    await world.registry.host.client.worker.get_or_create("main").resume("tasks")
    return await works(world)


class Reckless(Actor):
    tasks = Queue(str)

    async def run(self) -> None:
        async for _ in self.queue.iter():
            for task in asyncio.all_tasks():
                task.cancel()


async def test_code_that_cancels_every_task_of_the_hosts_thread_is_named(background_world: World) -> None:
    client = await background_world.start(reckless=Reckless, worker=Worker)
    registry = background_world.registry
    await client.reckless.get_or_create("main").send("tasks", "x")
    await until(lambda: not registry.running)
    assert "Other code in its event loop has cancelled its task" in str((await registry.status()).trouble)
    await registry.start()
    assert (await registry.status()).running


async def test_a_stall_watch_whose_thread_fails_is_trouble_and_begins_again(
    slow_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = Faults(monkeypatch, StallWatch, "_look_until")
    looking.fail(MemoryError("no room"))
    await slow_world.start(worker=Worker)
    await until(lambda: looking.calls == 1)
    await breathe()
    assert "Noticing that the event loop stands still failed: MemoryError: no room" in await trouble(slow_world)
    await slow_world.pass_by(0.5)
    await until(lambda: looking.calls == 2)
    await slow_world.pass_by(0.5)
    assert await trouble(slow_world) == ""


async def test_a_host_starts_also_where_no_thread_can_be_had_for_the_stall_watch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "agentq-stall-watch":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    await world.start(worker=Worker)
    await breathe()
    assert "can't start new thread" in await trouble(world)
    assert await works(world)


async def test_cleaning_up_after_a_call_that_fails_is_the_actors_last_error(world: World) -> None:
    class Messy(Actor):
        tasks = Queue(str)

        async def run(self) -> None:
            async def clean_up() -> None:
                raise OSError("cannot be removed")

            call = current_call.get()
            assert call is not None
            call.at_end(clean_up)
            await self.queue.next(timeout=0)

    client = await world.start(messy=Messy)
    handle = client.messy.get_or_create("main")
    await handle.send("tasks", "x")

    async def shown() -> Any:
        return (await handle.status()).last_error

    assert (await until(shown))["message"] == "cannot be removed"
