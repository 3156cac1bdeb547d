"""State: a working copy while a message is handled, committed with its settlement; actions beside it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, AgentqError, Queue, Retry, action
from tests.unit.runtime.world import World, until, until_status

pytestmark = pytest.mark.anyio


class Counts(BaseModel):
    handled: int = 0
    acted: int = 0
    names: list[str] = []


class Counter(Actor):
    """Its gates hold a handler or an action at a moment the test chooses."""

    tasks = Queue(str, reply=int, retry=Retry(attempts=2, backoff=1000))
    state: Counts
    gate: asyncio.Event
    inside: asyncio.Event

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            self.state.handled += 1
            self.state.names.append(message.body)
            type(self).inside.set()
            await type(self).gate.wait()
            if message.body == "bad":
                raise ValueError("bad")
            if message.body == "invalid":
                self.state.handled = "many"  # type: ignore[assignment]
            await message.complete(self.state.handled)

    @action
    async def read(self) -> Counts:
        return self.state.model_copy(deep=True)

    @action
    async def set_acted(self, number: int) -> None:
        self.state.acted = number

    @action
    async def set_handled(self, number: int) -> None:
        self.state.handled = number

    @action
    async def fail_after(self, number: int) -> None:
        self.state.names = [*self.state.names, "must not stay"]
        self.state.handled = number
        type(self).inside.set()
        await type(self).gate.wait()
        raise ValueError("the action failed")

    @action
    async def spoil(self) -> None:
        self.state.acted = "many"  # type: ignore[assignment]


@pytest.fixture
def counter() -> type[Counter]:
    made: type[Counter] = type("Counter", (Counter,), {})
    made.gate, made.inside = asyncio.Event(), asyncio.Event()
    return made


async def stored(world: World) -> dict[str, Any]:
    import json

    table = await world.registry.sql("select data from events where kind = 'actor.state' order by seq desc limit 1")
    return json.loads(table.rows[0][0])["state"] if table.rows else {}


async def test_nobody_sees_the_state_of_a_message_before_it_settles(world: World, counter: type[Counter]) -> None:
    client = await world.start(counter=counter)
    handle = client.counter.get_or_create("x")
    receipt = await handle.send("tasks", "a")
    await counter.inside.wait()
    assert (await handle.read()).handled == 0
    counter.gate.set()
    assert (await receipt.result(5)).response == 1
    assert (await handle.read()).names == ["a"]


async def test_state_and_settlement_are_one_row_group_and_survive_a_crash_together(
    world: World, counter: type[Counter]
) -> None:
    counter.gate.set()
    client = await world.start(counter=counter)
    handle = client.counter.get_or_create("x")
    await handle.send("tasks", "a", wait=True, timeout=5)
    client = await world.crash()
    assert (await client.counter.get_or_create("x").read()).names == ["a"]


async def test_a_failed_attempt_drops_its_state(world: World, counter: type[Counter]) -> None:
    counter.gate.set()
    client = await world.start(counter=counter)
    handle = client.counter.get_or_create("x")
    bad = await handle.send("tasks", "bad")
    await until_status(bad, "delayed")
    assert (await handle.read()) == Counts()
    assert (await handle.send("tasks", "a", wait=True, timeout=5)).response == 1


async def test_a_released_attempt_drops_its_state(world: World, counter: type[Counter]) -> None:
    client = await world.start(counter=counter)
    handle = client.counter.get_or_create("x")
    receipt = await handle.send("tasks", "a")
    await counter.inside.wait()
    counter.gate = asyncio.Event()
    client = await world.crash()
    counter.gate.set()
    assert (await client.receipt(receipt.id).result(5)).response == 1
    assert (await client.counter.get_or_create("x").read()).names == ["a"]


async def test_an_action_may_change_other_fields_meanwhile(world: World, counter: type[Counter]) -> None:
    client = await world.start(counter=counter)
    handle = client.counter.get_or_create("x")
    receipt = await handle.send("tasks", "a")
    await counter.inside.wait()
    await handle.set_acted(7)
    counter.gate.set()
    assert (await receipt.result(5)).status == "completed"
    assert await handle.read() == Counts(handled=1, acted=7, names=["a"])


async def test_an_action_that_changes_the_same_field_makes_the_attempt_fail(
    world: World, counter: type[Counter]
) -> None:
    client = await world.start(counter=counter)
    handle = client.counter.get_or_create("x")
    receipt = await handle.send("tasks", "a")
    await counter.inside.wait()
    await handle.set_handled(40)
    counter.gate.set()
    await until_status(receipt, "delayed")
    assert await handle.read() == Counts(handled=40)
    status = await handle.status()
    assert status.last_error is not None
    assert status.last_error["code"] == "state_conflict"
    assert status.last_error["metadata"]["fields"] == ["handled"]


@pytest.mark.file_only
async def test_an_action_commits_before_its_caller_gets_the_result(world: World, counter: type[Counter]) -> None:
    client = await world.start(counter=counter)
    handle = client.counter.get_or_create("x")
    await handle.set_acted(3)
    assert (await stored(world))["acted"] == 3
    client = await world.crash()
    assert (await client.counter.get_or_create("x").read()).acted == 3


async def test_a_failing_action_drops_what_it_changed(world: World, counter: type[Counter]) -> None:
    counter.gate.set()
    client = await world.start(counter=counter)
    handle = client.counter.get_or_create("x")
    with pytest.raises(AgentqError):
        await handle.fail_after(5)
    assert await handle.read() == Counts()


@pytest.mark.file_only
async def test_a_failing_action_takes_back_nothing_that_others_committed_meanwhile(
    world: World, counter: type[Counter]
) -> None:
    client = await world.start(counter=counter)
    handle = client.counter.get_or_create("x")
    failing = asyncio.create_task(handle.fail_after(5))
    await counter.inside.wait()
    await handle.set_acted(7)
    assert (await stored(world)) == {"handled": 0, "acted": 7, "names": []}, "the other's is not written with it"
    counter.gate.set()
    with pytest.raises(AgentqError):
        await failing
    assert await handle.read() == Counts(acted=7)
    await handle.set_acted(8)
    assert (await stored(world)) == {"handled": 0, "acted": 8, "names": []}


async def test_a_failing_action_takes_back_nothing_of_one_that_is_still_at_work(world: World) -> None:
    gate, other_gate = asyncio.Event(), asyncio.Event()

    class Two(Actor):
        state: Counts

        @action
        async def fails(self) -> None:
            self.state.handled = 1
            await gate.wait()
            raise ValueError

        @action
        async def works(self) -> None:
            self.state.acted = 2
            await other_gate.wait()

        @action
        async def read(self) -> Counts:
            return self.state.model_copy()

    client = await world.start(two=Two)
    handle = client.two.get_or_create("x")
    failing = asyncio.create_task(handle.fails())
    await asyncio.sleep(0.02)
    working = asyncio.create_task(handle.works())
    await asyncio.sleep(0.02)
    gate.set()
    with pytest.raises(AgentqError):
        await failing
    other_gate.set()
    await working
    assert await handle.read() == Counts(acted=2)
    client = await world.restart()
    assert await client.two.get_or_create("x").read() == Counts(acted=2)


async def test_a_message_that_settles_while_an_action_fails_keeps_its_state(
    world: World, counter: type[Counter]
) -> None:
    counter.gate.set()
    failing_gate, began = asyncio.Event(), asyncio.Event()

    class Both(counter):  # type: ignore[misc,valid-type]
        @action
        async def touch_and_fail(self) -> None:
            self.state.acted = 1
            began.set()
            await failing_gate.wait()
            raise ValueError

    client = await world.start(counter=Both)
    handle = client.counter.get_or_create("x")
    failing = asyncio.create_task(handle.touch_and_fail())
    await began.wait()
    assert (await handle.send("tasks", "a", wait=True, timeout=5)).status == "completed"
    failing_gate.set()
    with pytest.raises(AgentqError):
        await failing
    assert await handle.read() == Counts(handled=1, names=["a"])


async def test_state_that_does_not_validate_fails_the_message_and_nothing_is_written(
    world: World, counter: type[Counter]
) -> None:
    counter.gate.set()
    client = await world.start(counter=counter)
    handle = client.counter.get_or_create("x")
    invalid = await handle.send("tasks", "invalid")
    await until_status(invalid, "delayed")
    status = await handle.status()
    assert status.last_error is not None
    assert status.last_error["code"] == "validation_error"
    assert await handle.read() == Counts()
    assert (await handle.send("tasks", "a", wait=True, timeout=5)).response == 1


async def test_state_that_does_not_validate_fails_the_action(world: World, counter: type[Counter]) -> None:
    client = await world.start(counter=counter)
    handle = client.counter.get_or_create("x")
    await handle.set_acted(4)
    with pytest.raises(AgentqError) as caught:
        await handle.spoil()
    assert caught.value.full_code == "actor.validation_error"
    assert (await handle.read()).acted == 4


async def test_many_actions_at_once_lose_no_update(world: World) -> None:
    class Adding(Actor):
        state: Counts

        @action
        async def add(self, name: str) -> None:
            self.state.acted += 1
            await asyncio.sleep(0)
            self.state.names.append(name)

        @action
        async def read(self) -> Counts:
            return self.state.model_copy(deep=True)

    client = await world.start(adding=Adding)
    handle = client.adding.get_or_create("x")
    await asyncio.gather(*(handle.add(str(n)) for n in range(50)))
    client = await world.crash()
    state = await client.adding.get_or_create("x").read()
    assert state.acted == 50
    assert sorted(state.names, key=int) == [str(n) for n in range(50)]


async def test_outside_a_message_run_saves_its_state_itself(world: World) -> None:
    saved = asyncio.Event()

    class Ticking(Actor):
        state: Counts

        async def run(self) -> None:
            self.state.acted += 1
            await self.save_state()
            saved.set()
            await asyncio.Event().wait()

        @action
        async def read(self) -> int:
            return self.state.acted

    client = await world.start(ticking=Ticking)
    await client.ticking.get_or_create("x").read()
    await saved.wait()
    saved.clear()
    client = await world.crash()
    await client.ticking.get_or_create("x").read()
    await saved.wait()
    assert await client.ticking.get_or_create("x").read() == 2


@dataclass
class Plain:
    count: int
    names: list[str] = field(default_factory=list)


async def test_a_dataclass_state_set_in_on_create_is_kept(world: World) -> None:
    class Made(Actor):
        state: Plain

        async def on_create(self, input: Any) -> None:
            self.state = Plain(count=input)

        @action
        async def add(self) -> int:
            self.state.count += 1
            self.state.names.append("x")
            return self.state.count

    client = await world.start(made=Made)
    assert await client.made.get_or_create("x", input=41).add() == 42
    client = await world.crash()
    assert await client.made.get_or_create("x").add() == 43


async def test_an_actor_without_state_says_how_to_declare_one(world: World) -> None:
    class Stateless(Actor):
        @action
        async def read(self) -> Any:
            return self.state

    client = await world.start(stateless=Stateless)
    with pytest.raises(AgentqError) as caught:
        await client.stateless.get_or_create("x").read()
    assert caught.value.full_code == "actor.state_missing"
    assert "state: YourModel" in caught.value.message


async def test_plain_attributes_are_dropped_by_sleep_and_state_is_not(world: World) -> None:
    class Both(Actor, sleep_timeout=0.02):
        state: Counts
        memo: str = "fresh"

        @action
        async def note(self) -> None:
            self.memo = "noted"
            self.state.acted = 1

        @action
        async def read(self) -> list[Any]:
            return [self.memo, self.state.acted]

    client = await world.start(both=Both)
    handle = client.both.get_or_create("x")
    await handle.note()

    async def asleep() -> bool:
        return (await handle.status()).state == "asleep"

    await until(asleep)
    assert await handle.read() == ["fresh", 1]


@pytest.mark.parametrize("how", ["fail", "retry"])
async def test_what_the_handler_of_a_failed_message_changed_does_not_go_along_with_the_next_one(
    world: World, how: str
) -> None:
    class Pairs(Actor):
        tasks = Queue(str, retry=Retry(backoff=1000))
        state: Counts

        @action
        async def work(self) -> None:
            first, second = await self.queue.next_batch(2, completable=True)
            self.state.names.append(first.body)
            await (first.fail("no good") if how == "fail" else first.retry())
            self.state.names.append(second.body)
            await second.complete()

        @action
        async def read(self) -> list[str]:
            return self.state.names

    client = await world.start(pairs=Pairs)
    pairs = client.pairs.get_or_create("x")
    await pairs.send("tasks", "a")
    await pairs.send("tasks", "b")
    await pairs.work()
    assert await pairs.read() == ["b"]
