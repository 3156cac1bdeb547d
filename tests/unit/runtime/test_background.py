"""A host in a thread of its own: the same from the test's loop, from other threads, and from synchronous code."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, AgentqError, Queue, Retry, UserError, action, create_client, setup
from agentq_nb._client.handle import ActorHandle
from agentq_nb.errors import (
    ActorNotFound,
    HostElsewhere,
    NoHost,
    QueueUnknown,
    Unavailable,
    ValidationFailed,
    WouldBlockHost,
)
from tests.unit.runtime.world import World, queue_of, until, until_status

pytestmark = pytest.mark.anyio


class Note(BaseModel):
    sender: str
    number: int


class Worker(Actor):
    """Answers, and shows its thread."""

    notes = Queue(Note, reply=str)
    slow = Queue(float)
    slept: ClassVar[int] = 0

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            if message.queue == "slow":
                await asyncio.sleep(message.body)
                Worker.slept += 1
                await message.complete()
            else:
                self.broadcast("noted", message.body.number)
                await message.complete(f"{message.body.sender} {message.body.number}")

    @action
    async def thread(self) -> str:
        return threading.current_thread().name

    @action
    async def refuse(self) -> None:
        raise UserError("not like this", code="refused", metadata={"why": "test"})

    @action
    async def fail(self) -> None:
        raise KeyError("missing")

    @action
    async def doze(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        Worker.slept += 1


async def worker(world: World) -> ActorHandle:
    Worker.slept = 0
    return (await world.start(worker=Worker)).worker.get_or_create("main")


def in_thread(function: Callable[[], Any]) -> Any:
    """What a plain thread gets."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(20)


def host_threads() -> int:
    return sum(thread.name == "agentq host" for thread in threading.enumerate())


# --- from anywhere ----------------------------------------------------------------------------------------------------


async def test_actors_run_in_the_hosts_thread_and_answer_every_loop_and_thread(background_world: World) -> None:
    handle = await worker(background_world)
    registry = background_world.registry
    note = {"sender": "a", "number": 1}
    assert await handle.thread() == "agentq host"
    assert (await handle.send("notes", note, wait=True)).response == "a 1"
    loop_of_its_own = await asyncio.to_thread(lambda: asyncio.run(handle.send("notes", note, wait=True)))
    assert loop_of_its_own.response == "a 1"
    synchronous = registry.run(handle.send("notes", note, wait=True))  # blocks the test's loop, not the host's
    assert synchronous.response == "a 1"
    assert (await registry.status()).background is True
    rows = (await registry.sql("select count(*) from messages where status = 'completed' and attempts = 1")).rows
    assert rows == [(3,)]


async def test_twenty_threads_send_at_once_and_each_keeps_its_order(background_world: World) -> None:
    handle = await worker(background_world)

    async def send_all(sender: str) -> list[str]:
        sent = [await handle.send("notes", {"sender": sender, "number": number}) for number in range(25)]
        return [receipt.id for receipt in sent]

    with ThreadPoolExecutor(20) as pool:
        sending = [pool.submit(lambda sender=str(n): asyncio.run(send_all(sender))) for n in range(20)]
        ids = [message for future in sending for message in await asyncio.wrap_future(future)]
    assert len(set(ids)) == 500
    results = await asyncio.gather(*(create_client().receipt(message).result(30) for message in ids))
    assert {result.status for result in results} == {"completed"}
    query = "select body->>'sender', body->>'number' from messages order by started_at, message_id"
    started = (await background_world.registry.sql(query)).rows
    for sender in range(20):
        assert [int(number) for name, number in started if name == str(sender)] == list(range(25))


async def test_sends_that_are_begun_together_keep_their_order(background_world: World) -> None:
    handle = await worker(background_world)
    await handle.pause("notes")
    sending = [asyncio.create_task(handle.send("notes", {"sender": "x", "number": number})) for number in range(50)]
    receipts = [await task for task in sending]
    heard: list[int] = []
    handle.on("noted", heard.append)
    await handle.resume("notes")
    await receipts[-1].result(20)
    await until(lambda: len(heard) == 50)
    assert heard == list(range(50))


async def test_errors_come_out_as_they_are(background_world: World) -> None:
    handle = await worker(background_world)
    with pytest.raises(ValidationFailed):
        await handle.send("notes", {"sender": 1})
    with pytest.raises(QueueUnknown):
        await handle.send("nots", {})
    with pytest.raises(ActorNotFound):
        await create_client().worker.get("nobody").thread()
    with pytest.raises(UserError) as refused:
        await handle.refuse()
    assert (refused.value.full_code, refused.value.metadata) == ("user.refused", {"why": "test"})
    with pytest.raises(AgentqError) as failed:
        in_thread(lambda: asyncio.run(handle.fail()))
    assert failed.value.full_code == "actor.internal_error"
    assert isinstance(failed.value.__cause__, KeyError)


@pytest.mark.file_only
async def test_fifty_tasks_finish_while_this_thread_computes(background_world: World) -> None:
    handle = await worker(background_world)
    await handle.pause("slow")
    sent = [await handle.send("slow", 0.01) for _ in range(50)]
    blocked_from = time.time()
    await handle.resume("slow")
    while Worker.slept < 50 and time.time() < blocked_from + 60:  # never lets go of this loop
        sum(range(1000))
    blocked_until = time.time()
    await sent[-1].result(10)
    times = "select epoch(started_at) from messages where status = 'completed'"
    started = [row[0] for row in (await background_world.registry.sql(times)).rows]
    assert len(started) == 50
    assert all(blocked_from < moment < blocked_until for moment in started)
    assert (await background_world.registry.status()).stall is None


# --- waiting and stopping to wait -------------------------------------------------------------------------------------


@pytest.mark.file_only
async def test_a_cancelled_wait_stops_and_the_work_goes_on(background_world: World) -> None:
    handle = await worker(background_world)
    waiting = asyncio.create_task(handle.send("slow", 0.5, wait=True))
    host = background_world.registry.host
    await until(lambda: host.broker._commit_log.results.waited_for())
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: not host.broker._commit_log.results.waited_for())
    rows = (await background_world.registry.sql("select message_id from messages")).rows
    assert (await create_client().receipt(rows[0][0]).result(10)).status == "completed"


async def test_an_action_goes_on_when_its_caller_outside_is_cancelled(background_world: World) -> None:
    handle = await worker(background_world)
    calling = asyncio.create_task(handle.doze(0.3))
    host = background_world.registry.host
    await until(lambda: (awake := host.activations.find(handle.actor_id)) and awake.call_tasks)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await until(lambda: Worker.slept == 1)


@pytest.mark.file_only
async def test_who_waits_while_the_host_stops_is_told_and_not_cancelled(background_world: World) -> None:
    handle = await worker(background_world)
    await handle.pause("slow")
    waiting = [asyncio.create_task(handle.send("slow", 0.0, wait=True)) for _ in range(3)]
    await until(lambda: len(background_world.registry.host.broker._commit_log.results.waited_for()) == 3)
    await background_world.registry.stop()
    for task in waiting:
        with pytest.raises(Unavailable, match="The host stopped"):
            await task
    with pytest.raises(NoHost):
        await handle.send("slow", 0.0)


class Selfish(Actor):
    """Waits for itself while it holds a message: here, in a thread, and in an action called from there."""

    tasks = Queue(str, retry=Retry(attempts=1))

    async def run(self) -> None:
        async for message in self.queue.iter():
            if message.body == "here":
                await self.ask()
            elif message.body == "thread":
                await self.in_thread(lambda: asyncio.run(self.ask()))

    async def ask(self) -> None:
        await self.actors.selfish.get_or_create(self.key).send("tasks", "again", wait=True, timeout=5)


@pytest.mark.parametrize("place", ["here", "thread"])
async def test_a_wait_that_could_never_end_is_refused(background_world: World, place: str) -> None:
    client = await background_world.start(selfish=Selfish)
    result = await client.selfish.get_or_create("main").send("tasks", place, wait=True, timeout=20)
    assert result.status == "failed"
    assert result.error["code"] == "wait_would_deadlock"


async def test_a_wait_in_a_thread_is_refused_in_the_kernels_loop_too(world: World) -> None:
    client = await world.start(selfish=Selfish)
    result = await client.selfish.get_or_create("main").send("tasks", "thread", wait=True, timeout=20)
    assert result.error["code"] == "wait_would_deadlock"


# --- listening --------------------------------------------------------------------------------------------------------


async def test_listeners_are_called_in_the_loop_in_which_they_were_added(background_world: World) -> None:
    handle = await worker(background_world)
    heard: list[tuple[str, int, bool]] = []
    here = asyncio.get_running_loop()

    def listen(name: str) -> Callable[[int], None]:
        def hear(number: int) -> None:
            heard.append((name, number, asyncio.get_running_loop() is here))

        return hear

    end = handle.on("noted", listen("loop"))
    in_thread(lambda: handle.on("noted", listen("plain thread")))
    handle.on("noted", lambda number: 1 / 0)
    observed: list[tuple[str, str, int]] = []
    background_world.registry.host.listeners.observe(lambda *all_of_it: observed.append(all_of_it))
    await handle.send("notes", {"sender": "a", "number": 1}, wait=True)
    await until(lambda: len(heard) == 2)
    assert set(heard) == {("loop", 1, True), ("plain thread", 1, False)}
    end()
    await handle.send("notes", {"sender": "a", "number": 2}, wait=True)
    await until(lambda: len(observed) == 2)
    assert heard[2:] == [("plain thread", 2, False)]
    assert observed == [("worker/main", "noted", 1), ("worker/main", "noted", 2)]


async def test_a_listener_of_a_loop_that_is_gone_disturbs_nobody(background_world: World) -> None:
    handle = await worker(background_world)
    heard: list[int] = []

    async def listen() -> None:
        handle.on("noted", heard.append)

    in_thread(lambda: asyncio.run(listen()))
    result = await handle.send("notes", {"sender": "a", "number": 1}, wait=True)
    assert (result.status, heard) == ("completed", [])


async def test_what_a_worker_thread_broadcasts_is_heard_in_the_listeners_loop(world: World) -> None:
    class Threaded(Actor):
        @action(thread=True)
        def shout(self) -> None:
            self.broadcast("shouted", threading.current_thread().name)

    client = await world.start(threaded=Threaded)
    handle = client.threaded.get_or_create("main")
    heard: list[tuple[str, bool]] = []
    handle.on("shouted", lambda name: heard.append((name, threading.current_thread() is threading.main_thread())))
    await handle.shout()
    await until(lambda: heard)
    assert heard[0][1] is True


# --- starting, stopping, ending ---------------------------------------------------------------------------------------


@pytest.mark.file_only
async def test_many_starts_and_stops_at_once_give_one_host(background_world: World) -> None:
    handle = await worker(background_world)
    registry = background_world.registry
    for _ in range(3):
        await registry.stop()
        await until(lambda: host_threads() == 0)
        with ThreadPoolExecutor(8) as pool:
            starting = [pool.submit(lambda: asyncio.run(registry.start())) for _ in range(8)]
            await asyncio.gather(*(asyncio.wrap_future(future) for future in starting), registry.start())
        assert host_threads() == 1
        assert await handle.thread() == "agentq host"
    rows = (await registry.sql("select count(*) from events where kind = 'host.started'")).rows
    assert rows == [(4,)]


async def test_another_place_is_refused_while_a_host_runs(background_world: World) -> None:
    await worker(background_world)
    registry, store = background_world.registry, background_world.store
    for elsewhere in (
        lambda: setup(store=store, background=False),
        lambda: in_thread(lambda: asyncio.run(registry.start(background=False))),
    ):
        with pytest.raises(HostElsewhere, match="in the background"):
            elsewhere()
    assert setup(store=store) is registry
    assert (await registry.start()).background is True
    assert (await registry.start(background=True)).background is True
    await registry.stop()
    await registry.start(background=False)
    assert (await registry.status()).background is False
    with pytest.raises(HostElsewhere, match="in the kernel's own event loop"):
        setup(store=store, background=True)
    await registry.stop()
    assert (await registry.start()).background is True  # as setup said


async def test_a_start_that_fails_leaves_no_thread(background_world: World) -> None:
    background_world.store.mkdir()
    with pytest.raises(AgentqError, match="is a folder"):
        await background_world.start(worker=Worker)
    await until(lambda: host_threads() == 0)
    assert background_world.registry.running is False
    background_world.store.rmdir()
    assert await (await worker(background_world)).thread() == "agentq host"


async def test_an_actor_may_stop_the_host_it_lives_in(background_world: World) -> None:
    registry_of: list[Any] = []

    class Stopper(Actor):
        @action
        async def stop(self) -> None:
            task = asyncio.create_task(registry_of[0].stop())
            await asyncio.sleep(0)
            assert not task.done()

    client = await background_world.start(stopper=Stopper)
    registry_of.append(background_world.registry)
    handle = client.stopper.get_or_create("main")
    await handle.stop()
    await until(lambda: host_threads() == 0)
    assert background_world.registry.running is False
    await background_world.registry.start()
    assert host_threads() == 1


async def test_an_actor_that_ends_its_loop_or_exits_ends_nothing_but_that(background_world: World) -> None:
    class Rude(Actor):
        @action
        async def stop_loop(self) -> None:
            asyncio.get_running_loop().stop()

        @action
        async def exit(self) -> None:
            async def leave() -> None:
                sys.exit(3)

            self.leaving = asyncio.create_task(leave())
            await asyncio.wait([self.leaving])

    client = await background_world.start(worker=Worker, rude=Rude)
    for ending in ("stop_loop", "exit"):
        await getattr(client.rude.get_or_create("main"), ending)()
        assert await client.worker.get_or_create("main").thread() == "agentq host"


class Breaking(Actor):
    tasks = Queue(str)
    lives: ClassVar[list[int]] = []

    async def run(self) -> None:
        async for message in self.queue.iter():
            Breaking.lives.append(message.attempt)
            if message.body == "break" and len(Breaking.lives) == 1:
                asyncio.get_running_loop()._selector.close()
                await asyncio.sleep(60)


async def test_a_thread_that_ends_by_itself_is_named_and_the_host_can_be_started_again(background_world: World) -> None:
    Breaking.lives.clear()
    client = await background_world.start(breaking=Breaking)
    registry = background_world.registry
    handle = client.breaking.get_or_create("main")
    with pytest.raises(Unavailable, match="Its thread ended with ValueError"):
        await handle.send("tasks", "break", wait=True)
    assert registry.running is False
    status = await registry.status()
    assert (status.running, "Its thread ended with ValueError" in str(status.trouble)) == (False, True)
    assert "Start it again: %agentq start" in str(status.trouble)
    with pytest.raises(NoHost):
        await handle.send("tasks", "after")
    await registry.start()
    assert (await registry.status()).trouble is None
    assert (await handle.send("tasks", "after", wait=True, timeout=20)).status == "completed"
    assert Breaking.lives == [1, 1, 1]


async def test_a_class_is_deployed_from_another_loop_after_the_present_message(background_world: World) -> None:
    client = await background_world.start(worker=Worker)
    handle = client.worker.get_or_create("main")
    first = await handle.send("slow", 0.3)
    await until_status(first, "running")

    class Renewed(Worker):
        @action
        async def thread(self) -> str:
            return "renewed"

    await background_world.registry.deploy("worker", Renewed)
    assert await handle.thread() == "renewed"
    assert (await first.result(10)).attempts == 1


# --- synchronous code -------------------------------------------------------------------------------------------------


async def test_run_gives_what_the_work_gives_and_raises_what_it_raises(background_world: World) -> None:
    handle = await worker(background_world)
    registry = background_world.registry
    assert registry.run(handle.thread()) == "agentq host"
    with pytest.raises(UserError):
        registry.run(handle.refuse())
    registry.run(registry.stop())
    registry.run(registry.start())
    assert registry.run(registry.status()).running is True


async def test_a_client_runs_calls_as_the_registry_does(background_world: World) -> None:
    handle = await worker(background_world)
    client = create_client(store=background_world.registry.store_path)
    assert client.run(handle.thread()) == "agentq host"
    with pytest.raises(UserError):
        client.run(handle.refuse())
    await background_world.registry.stop()
    with pytest.raises(NoHost):
        client.run(handle.thread())
    assert repr(client) == "<Client of this kernel's host: no actors yet>"


async def test_a_client_refuses_to_wait_in_the_hosts_own_thread(world: World) -> None:
    await world.start(worker=Worker)
    client = create_client(store=world.registry.store_path)
    handle = client.worker.get_or_create("main")
    with pytest.raises(WouldBlockHost):
        client.run(handle.thread())
    assert await asyncio.to_thread(lambda: client.run(handle.status())) is not None


async def test_run_refuses_where_it_would_wait_for_itself(world: World) -> None:
    class Waiter(Actor):
        @action
        async def wait(self) -> str:
            try:
                registry.run(self.actors.worker.get_or_create("main").thread())
            except WouldBlockHost as refused:
                return refused.full_code
            return "it waited"

    await world.start(worker=Worker, waiter=Waiter)
    registry = world.registry
    with pytest.raises(WouldBlockHost, match="Write await instead"):
        registry.run(registry.status())
    elsewhere = await asyncio.to_thread(lambda: registry.run(registry.status()))
    assert elsewhere.running is True
    await registry.stop()
    with pytest.raises(WouldBlockHost):
        registry.run(registry.start())
    await registry.start(background=True)
    assert await create_client().waiter.get_or_create("main").wait() == "host.would_block"


INTERRUPTED = """
import asyncio, sys
from agentq_nb import Actor, Queue, create_client, setup

class Worker(Actor):
    slow = Queue(float)

    async def run(self):
        async for message in self.queue.iter(completable=True):
            print("at work", flush=True)
            await asyncio.sleep(message.body)
            await message.complete()

registry = setup(use={"worker": Worker}, store=sys.argv[1], background=True)
registry.run(registry.start())
try:
    registry.run(create_client().worker.get_or_create("main").send("slow", 2.0, wait=True))
except (KeyboardInterrupt, asyncio.CancelledError):
    print("interrupted", flush=True)
(message,) = registry.run(registry.sql("select message_id from messages")).rows[0]
print(registry.run(create_client().receipt(message).result(30)).status)
registry.run(registry.stop())
"""


def test_an_interrupt_stops_waiting_and_not_the_work(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "work.duckdb")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "at work\n"
        program.send_signal(signal.SIGINT)
        assert program.stdout.read().split() == ["interrupted", "completed"]
    assert program.returncode == 0


async def test_a_forked_child_is_told_at_once_that_it_has_no_host(background_world: World) -> None:
    handle = await worker(background_world)
    host = background_world.registry.host
    child = os.fork()
    if child == 0:
        told = 1
        try:
            try:
                host.portal.submit(host.status)
            except AgentqError as error:
                told = 0 if error.full_code == "store.forked" else 2
        finally:
            os._exit(told)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (await queue_of(handle, "notes")).ready == 0
    assert await handle.thread() == "agentq host"
