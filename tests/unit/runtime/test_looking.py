"""What ``status()`` and the log say of queues and messages while things happen."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentq_nb import Actor, Queue, action
from tests.unit.runtime.world import World, breathe, queue_of, until

pytestmark = pytest.mark.anyio


class Stepwise(Actor):
    """Takes, and completes when told."""

    tasks = Queue(str)
    held: asyncio.Event
    gate: asyncio.Event

    @action
    async def take(self, completable: bool) -> None:
        message = await self.queue.next(timeout=2, completable=completable)
        assert message is not None
        type(self).held.set()
        await type(self).gate.wait()
        if completable:
            await message.complete()

    @action
    async def put_many(self, count: int) -> list[str]:
        return [(await self.queue.push("tasks", str(number))).id for number in range(count)]


@pytest.fixture
def stepwise() -> type[Stepwise]:
    made: type[Stepwise] = type("Stepwise", (Stepwise,), {})
    made.held, made.gate = asyncio.Event(), asyncio.Event()
    return made


@pytest.mark.parametrize("completable", [False, True])
async def test_a_held_message_still_counts_until_it_is_settled(
    world: World, stepwise: type[Stepwise], completable: bool
) -> None:
    client = await world.start(stepwise=stepwise)
    handle = client.stepwise.get_or_create("x")
    receipt = await handle.send("tasks", "a")
    queue = await queue_of(handle, "tasks")
    assert (queue.ready, queue.running, queue.live) == (1, 0, 1)
    taking = asyncio.create_task(handle.take(completable))
    await stepwise.held.wait()
    queue = await queue_of(handle, "tasks")
    assert (queue.ready, queue.running, queue.live) == (0, 1, 1)
    assert list(queue.running_ids) == [receipt.id]
    assert await receipt.status() == "running"
    stepwise.gate.set()
    await taking
    assert (await queue_of(handle, "tasks")).live == 0
    assert await receipt.status() == "completed"


async def test_message_ids_grow_and_are_never_used_again(world: World, stepwise: type[Stepwise]) -> None:
    client = await world.start(stepwise=stepwise)
    handle = client.stepwise.get_or_create("x")
    first = await handle.put_many(50)
    await handle.purge("tasks")
    await asyncio.sleep(0.002)
    second = await handle.put_many(50)
    assert len({*first, *second}) == 100
    assert max(first) < min(second)


async def test_every_message_of_a_queue_can_be_listed_with_its_status(world: World, stepwise: type[Stepwise]) -> None:
    client = await world.start(stepwise=stepwise)
    handle = client.stepwise.get_or_create("x")
    await handle.put_many(3)
    table = await world.registry.sql("select body, status from messages where queue = 'tasks' order by message_id")
    assert [str(row[1]) for row in table.rows] == ["queued"] * 3
    assert await handle.purge("tasks") == 3
    table = await world.registry.sql("select distinct status from messages where queue = 'tasks'")
    assert table.rows == [("cancelled",)]
    assert (await queue_of(handle, "tasks")).live == 0


@pytest.mark.file_only
@pytest.mark.parametrize("body", ["it's", 'quote "', "-- no comment", "?", "$body", "\0"])
async def test_values_of_a_query_are_given_beside_it_and_never_read_as_sql(world: World, body: str) -> None:
    class Inbox(Actor):
        letters = Queue(str)

    client = await world.start(inbox=Inbox)
    receipt = await client.inbox.get_or_create("x").send("letters", body)
    await client.inbox.get_or_create("x").send("letters", "another")
    query = "select message_id from messages where body->>'$' = "
    assert (await world.registry.sql(query + "?", [body])).rows == [(receipt.id,)]
    assert (await world.registry.sql(query + "$body", {"body": body})).rows == [(receipt.id,)]


async def test_run_starts_by_itself_goes_on_ticking_and_on_sleep_comes_after_it(world: World) -> None:
    ticks = 0
    log: list[str] = []

    class Ticking(Actor):
        async def run(self) -> None:
            nonlocal ticks
            while not self.aborted:
                ticks += 1
                await asyncio.sleep(0.002)
            log.append("run ended")

        async def on_sleep(self) -> None:
            log.append("sleeps")

        @action
        async def touch(self) -> None: ...

        @action
        async def rest_twice(self) -> None:
            self.sleep()
            self.sleep()

    client = await world.start(ticking=Ticking)
    handle: Any = client.ticking.get_or_create("x")
    await handle.touch()
    await until(lambda: ticks > 3)
    seen = ticks
    await until(lambda: ticks > seen + 3)
    await handle.rest_twice()
    await until(lambda: log == ["run ended", "sleeps"])


async def test_status_names_actors_their_state_and_their_last_failure(world: World) -> None:
    class Failing(Actor):
        tasks = Queue(str)

        async def run(self) -> None:
            async for message in self.queue.iter():
                raise ValueError(f"cannot do {message.body}")

    client = await world.start(failing=Failing)
    handle = client.failing.get_or_create(["a", "b"])
    await handle.send("tasks", "this")

    async def failed() -> bool:
        return (await handle.status()).last_error is not None

    await until(failed)
    await breathe()
    status = await world.registry.status()
    actor = next(actor for actor in status.actors if actor.actor_id == "failing/a/b")
    assert (actor.name, actor.state) == ("failing", "awake")
    assert actor.last_error is not None
    assert "cannot do this" in actor.last_error["message"]
    assert actor.queues[0].delayed == 1
