"""Stopping the host, killing it, and starting again."""

from __future__ import annotations

import asyncio
import errno
import time
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Actor, AgentqError, Queue, Retry, action, create_client, setup
from tests.unit.runtime.world import World, breathe, queue_of, until, until_status

pytestmark = pytest.mark.anyio


def working(seen: list[tuple[str, int]], gate: asyncio.Event, **options: Any) -> type[Actor]:
    class Working(Actor):
        tasks = Queue(str, **options)

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                seen.append((message.body, message.attempt))
                await gate.wait()
                await message.complete()

    return Working


async def test_a_stop_waits_for_what_is_in_flight(slow_world: World) -> None:
    seen: list[tuple[str, int]] = []
    gate = asyncio.Event()
    client = await slow_world.start(working=working(seen, gate))
    receipt = await client.working.get_or_create("x").send("tasks", "a")
    await until(lambda: seen)
    stopping = asyncio.create_task(slow_world.registry.stop())
    await slow_world.pass_by(9)
    assert not stopping.done()
    gate.set()
    await stopping
    client = await slow_world.start()
    assert await client.receipt(receipt.id).status() == "completed"


async def test_after_10_s_a_stop_releases_what_is_in_flight_uncounted_and_it_comes_first(slow_world: World) -> None:
    seen: list[tuple[str, int]] = []
    client = await slow_world.start(working=working(seen, asyncio.Event()))
    handle = client.working.get_or_create("x")
    await handle.send("tasks", "a")
    await handle.send("tasks", "b")
    await until(lambda: seen == [("a", 1)])
    stopping = asyncio.create_task(slow_world.registry.stop())
    await slow_world.pass_by(9.9)
    assert not stopping.done()
    await slow_world.pass_by(0.2)
    await asyncio.wait_for(stopping, 5)
    gate = asyncio.Event()
    gate.set()
    await slow_world.start(working=working(seen, gate))
    await until(lambda: seen == [("a", 1), ("a", 1), ("b", 1)])


async def test_a_handler_whose_own_wait_ends_with_its_actor_counts_no_attempt_and_its_message_comes_first(
    slow_world: World,
) -> None:
    seen: list[tuple[str, int]] = []
    slept: list[bool] = []
    gate = asyncio.Event()

    class Waiting(Actor):
        tasks = Queue(str, retry=Retry(attempts=1))
        more = Queue(str)

        async def on_sleep(self) -> None:
            slept.append(True)

        async def run(self) -> None:
            async for message in self.tasks.iter(completable=True):
                seen.append((message.body, message.attempt))
                await self.more.next()
                gate.set()

    client = await slow_world.start(waiting=Waiting)
    handle = client.waiting.get_or_create("x")
    await handle.send("tasks", "a")
    await handle.send("tasks", "b")
    await until(lambda: seen)
    await slow_world.registry.stop()
    assert slept, "putting the message back is no failure of the actor"
    gate.set()
    await slow_world.start(waiting=working(seen, gate))
    await until(lambda: len(seen) == 3)
    assert seen == [("a", 1), ("a", 1), ("b", 1)]


async def test_a_handler_that_ignores_being_stopped_delays_the_stop_only_for_a_while(slow_world: World) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    class Deaf(Actor):
        tasks = Queue(str)

        async def run(self) -> None:
            async for _ in self.queue.iter():
                started.set()
                while not release.is_set():
                    try:
                        await release.wait()
                    except asyncio.CancelledError:
                        continue

        @action
        async def hang(self) -> None:
            await asyncio.Event().wait()

    client = await slow_world.start(deaf=Deaf)
    receipt = await client.deaf.get_or_create("x").send("tasks", "a")
    hanging = asyncio.create_task(client.deaf.get_or_create("x").hang())
    await started.wait()
    stopping = asyncio.create_task(slow_world.registry.stop())
    await slow_world.pass_by(15.1)
    await asyncio.wait_for(stopping, 5)
    with pytest.raises(AgentqError) as caught:
        await hanging
    assert caught.value.full_code == "actor.aborted"
    release.set()

    class Idle(Actor):
        tasks = Queue(str)

    client = await slow_world.start(deaf=Idle)
    assert await client.receipt(receipt.id).status() == "queued"


@pytest.mark.parametrize("hook", ["on_wake", "on_sleep"])
async def test_a_hook_that_never_returns_delays_the_stop_only_for_a_while(slow_world: World, hook: str) -> None:
    inside = asyncio.Event()

    async def hang(self: Any) -> None:
        inside.set()
        await asyncio.Event().wait()

    async def run(self: Any) -> None:
        async for _ in self.queue.iter():
            pass

    hanging: Any = type("Hanging", (Actor,), {"tasks": Queue(str), "run": run, hook: hang})
    client = await slow_world.start(hanging=hanging)
    receipt = await client.hanging.get_or_create("x").send("tasks", "a")
    if hook == "on_sleep":
        await receipt.result(5)
    else:
        await inside.wait()
    stopping = asyncio.create_task(slow_world.registry.stop())
    await inside.wait() if hook == "on_wake" else await breathe()
    await slow_world.pass_by(11)
    await slow_world.pass_by(11)
    await asyncio.wait_for(stopping, 5)


async def test_what_a_handler_does_in_the_grace_of_a_stop_still_works(world: World) -> None:
    gate, inside = asyncio.Event(), asyncio.Event()
    attempts: list[int] = []

    class Sending(Actor):
        tasks = Queue(str, retry=Retry(attempts=1))
        other = Queue(str)

        async def run(self) -> None:
            async for message in self.queue.iter(["tasks"]):
                attempts.append(message.attempt)
                inside.set()
                await gate.wait()
                await self.queue.push("other", "passed on")

    client = await world.start(sending=Sending)
    handle = client.sending.get_or_create("x")
    receipt = await handle.send("tasks", "a")
    await inside.wait()
    stopping = asyncio.create_task(world.registry.stop())
    await until(lambda: not world.registry.running)
    with pytest.raises(AgentqError) as caught:
        await handle.send("tasks", "from outside")
    assert caught.value.full_code == "host.none"
    gate.set()
    await stopping
    client = await world.start()
    assert await client.receipt(receipt.id).status() == "completed"
    assert (await queue_of(client.sending.get_or_create("x"), "other")).ready == 1


async def test_work_kept_awake_is_waited_for_by_a_stop(world: World) -> None:
    done: list[str] = []
    gate = asyncio.Event()
    kept: list[asyncio.Task[None]] = []

    class Keeping(Actor):
        @action
        async def begin(self) -> None:
            kept.append(asyncio.create_task(self.keep_awake(self.finish())))

        async def finish(self) -> None:
            await gate.wait()
            done.append("finished")

    client = await world.start(keeping=Keeping)
    await client.keeping.get_or_create("x").begin()
    stopping = asyncio.create_task(world.registry.stop())
    await asyncio.sleep(0.1)
    assert not stopping.done()
    gate.set()
    await stopping
    assert done == ["finished"]


async def test_after_a_crash_what_was_in_flight_comes_first_with_one_attempt_more(world: World) -> None:
    seen: list[tuple[str, int]] = []
    client = await world.start(working=working(seen, asyncio.Event()))
    handle = client.working.get_or_create("x")
    for body in ("a", "b", "c"):
        await handle.send("tasks", body)
    await until(lambda: seen == [("a", 1)])
    gate = asyncio.Event()
    gate.set()
    again: list[tuple[str, int]] = []
    await world.crash(working=working(again, gate))
    await until(lambda: again == [("a", 2), ("b", 1), ("c", 1)])


@pytest.mark.file_only
async def test_a_message_that_was_in_flight_at_as_many_crashes_in_a_row_is_a_dead_letter(world: World) -> None:
    seen: list[tuple[str, int]] = []
    client = await world.start(working=working(seen, asyncio.Event(), retry=Retry(crashes=2)))
    receipt = await client.working.get_or_create("x").send("tasks", "deadly")
    for life in (1, 2):
        await until(lambda life=life: len(seen) == life)
        await world.registry.host.broker.flushed()  # a first start that dies with its kernel cannot be counted
        client = await world.crash()
    result = await client.receipt(receipt.id).result(5)
    assert result.status == "failed"
    assert result.error["code"] == "crashed"
    assert seen == [("deadly", 1), ("deadly", 2)]


async def test_an_orderly_restart_counts_neither_attempt_nor_crash(slow_world: World) -> None:
    seen: list[tuple[str, int]] = []
    await slow_world.start(working=working(seen, asyncio.Event(), retry=Retry(attempts=1, crashes=1)))
    await create_client().working.get_or_create("x").send("tasks", "a")
    for life in range(1, 4):
        await until(lambda life=life: len(seen) == life)
        stopping = asyncio.create_task(slow_world.registry.stop())
        await slow_world.pass_by(10.1)
        await stopping
        await slow_world.start()
    assert set(seen) == {("a", 1)}


async def test_nothing_whose_complete_had_returned_runs_again_after_a_crash(world: World) -> None:
    seen: list[tuple[str, int]] = []
    gate = asyncio.Event()
    gate.set()
    client = await world.start(working=working(seen, gate))
    handle = client.working.get_or_create("x")
    receipts = [await handle.send("tasks", str(number)) for number in range(20)]
    for receipt in receipts:
        await receipt.result(5)
    client = await world.crash()
    await (await client.working.get_or_create("x").send("tasks", "last")).result(5)
    assert len(seen) == 21


async def test_start_is_idempotent_and_setup_again_gives_the_same_registry(world: World) -> None:
    class Bare(Actor):
        @action
        async def touch(self) -> bool:
            return True

    await world.start(bare=Bare)
    again = setup(use={"other": Bare}, store=world.store)
    assert again is world.registry
    host = again.host
    await asyncio.gather(again.start(), again.start())
    assert again.host is host
    assert await create_client().other.get_or_create("x").touch()


async def test_two_starts_at_once_make_one_host(world: World) -> None:
    registry = setup(use={}, store=world.store)
    world._used.append(registry)
    await asyncio.gather(*(registry.start() for _ in range(4)))
    assert registry.running


async def test_a_stop_that_is_interrupted_goes_on_and_a_start_waits_for_it(slow_world: World) -> None:
    seen: list[tuple[str, int]] = []
    client = await slow_world.start(working=working(seen, asyncio.Event()))
    await client.working.get_or_create("x").send("tasks", "a")
    await until(lambda: seen)
    stopping = asyncio.create_task(slow_world.registry.stop())
    await breathe()
    stopping.cancel()
    await asyncio.wait([stopping])
    assert not slow_world.registry.running
    starting = asyncio.create_task(slow_world.registry.start())
    await slow_world.pass_by(11)
    await asyncio.wait_for(starting, 5)
    await until(lambda: len(seen) == 2)
    assert seen[1] == ("a", 1)


async def test_a_registry_is_an_async_context_manager(world: World) -> None:
    class Bare(Actor):
        @action
        async def touch(self) -> bool:
            return True

    async with setup(use={"bare": Bare}, store=world.store) as registry:
        assert await create_client().bare.get_or_create("x").touch()
    assert not registry.running
    assert not (await registry.status()).running


async def test_a_handler_that_blocks_the_loop_for_3_s_is_named_in_the_status(world: World) -> None:
    class Blocking(Actor):
        tasks = Queue(str)

        async def run(self) -> None:
            async for _ in self.queue.iter():
                time.sleep(3)  # noqa: ASYNC251  # that is what this is about

    client = await world.start(blocking=Blocking)
    receipt = await client.blocking.get_or_create("x").send("tasks", "a")
    assert (await receipt.result(10)).attempts == 1
    stall = (await world.registry.status()).stall
    assert stall is not None
    assert stall.seconds > 2
    assert "test_stopping.py" in stall.place


async def test_uncommitted_starts_and_settlements_are_all_that_a_crash_repeats(world: World) -> None:
    handled: list[int] = []

    class Quick(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            async for message in self.queue.iter():
                handled.append(message.body)

    client = await world.start(quick=Quick)
    handle = client.quick.get_or_create("x")
    receipts = [await handle.send("tasks", number) for number in range(10)]
    for receipt in receipts:
        assert (await receipt.result(5)).status == "completed"
    client = await world.crash()
    await until_status(client.receipt(receipts[-1].id), "completed")
    await breathe()
    assert sorted(handled) == list(range(10))


def test_a_host_whose_event_loop_ended_without_a_stop_can_be_started_in_another(tmp_path: Path) -> None:
    class Bare(Actor):
        tasks = Queue(str)

        async def run(self) -> None:
            async for _ in self.queue.iter():
                pass

    async def send() -> str:
        registry = setup(use={"bare": Bare}, store=tmp_path / "a.duckdb")
        await registry.start()
        return (await create_client().bare.get_or_create("x").send("tasks", "a", wait=True, timeout=5)).message_id

    async def look(message: str) -> str:
        registry = setup(use={"bare": Bare}, store=tmp_path / "a.duckdb")
        async with registry:
            return await create_client().receipt(message).status()

    first, second = asyncio.run(send()), asyncio.run(send())
    assert [asyncio.run(look(message)) for message in (first, second)] == ["completed", "completed"]


async def test_a_send_that_waits_while_the_host_stops_names_its_message_which_can_be_asked_for_later(
    slow_world: World,
) -> None:
    seen: list[tuple[str, int]] = []
    gate = asyncio.Event()
    client = await slow_world.start(working=working(seen, gate))
    waiting = asyncio.create_task(client.working.get_or_create("x").send("tasks", "a", wait=True))
    await until(lambda: seen)
    stopping = asyncio.create_task(slow_world.registry.stop())
    await slow_world.pass_by(10.5)
    await stopping
    with pytest.raises(AgentqError, match=r"receipt\(") as caught:
        await waiting
    gate.set()
    client = await slow_world.start(working=working(seen, gate))
    assert (await client.receipt(caught.value.metadata["message_id"]).result(5)).status == "completed"


async def test_a_host_starts_though_the_installed_packages_cannot_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> str:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("importlib.metadata.version", fail)
    async with setup(use={}, store=tmp_path / "queues.duckdb") as registry:
        assert registry.running
