"""Running a cell again: the new class takes over, and what does not fit says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, AgentqError, Queue, Retry, action
from tests.unit.runtime.world import World, breathe, until, until_status

pytestmark = pytest.mark.anyio


def version(name: str, log: list[str], gate: asyncio.Event | None = None, body: Any = str) -> type[Actor]:
    """Handles its messages under this name; ``gate`` holds each."""

    class Versioned(Actor):
        tasks = Queue(body, retry=Retry(attempts=1))

        async def on_wake(self) -> None:
            log.append(f"{name} wakes")

        async def run(self) -> None:
            async for message in self.queue.iter():
                log.append(f"{name} begins {message.body}")
                if gate is not None:
                    await gate.wait()
                log.append(f"{name} ends {message.body}")
            log.append(f"{name} leaves its loop")

        @action
        async def who(self) -> str:
            return name

    return Versioned


async def test_an_idle_run_ends_at_once_and_the_new_one_starts(world: World) -> None:
    log: list[str] = []
    client = await world.start(worker=version("old", log))
    handle = client.worker.get_or_create("x")
    assert await handle.who() == "old"
    await breathe()
    await world.deploy(worker=version("new", log))
    assert await handle.who() == "new"
    assert log == ["old wakes", "old leaves its loop", "new wakes"]


async def test_a_busy_run_ends_after_its_message_and_its_iterator_ends_quietly(world: World) -> None:
    log: list[str] = []
    gate = asyncio.Event()
    client = await world.start(worker=version("old", log, gate))
    handle = client.worker.get_or_create("x")
    first = await handle.send("tasks", "a")
    await until(lambda: "old begins a" in log)
    await world.deploy(worker=version("new", log))
    second = await handle.send("tasks", "b")
    await breathe()
    assert log == ["old wakes", "old begins a"]
    gate.set()
    assert (await second.result(5)).attempts == 1
    assert (await first.result(5)).status == "completed"
    assert log[2:] == ["old ends a", "old leaves its loop", "new wakes", "new begins b", "new ends b"]


async def test_a_busy_message_may_take_as_long_as_it_needs(slow_world: World) -> None:
    log: list[str] = []
    gate = asyncio.Event()
    client = await slow_world.start(worker=version("old", log, gate))
    receipt = await client.worker.get_or_create("x").send("tasks", "a")
    await until(lambda: "old begins a" in log)
    await slow_world.deploy(worker=version("new", log))
    await slow_world.pass_by(25)
    gate.set()
    await slow_world.pass_by(1)
    assert (await receipt.result(5)).attempts == 1
    await until(lambda: "new wakes" in log)


async def test_next_raises_actor_aborted_and_a_run_that_lingers_is_cancelled_after_its_grace(slow_world: World) -> None:
    told: list[str] = []

    class Lingering(Actor):
        tasks = Queue(str)

        async def run(self) -> None:
            try:
                await self.queue.next()
            except AgentqError as error:
                told.append(error.full_code)
            assert self.aborted
            try:
                await asyncio.Event().wait()
            finally:
                told.append("cancelled")

        @action
        async def who(self) -> str:
            return "old"

    client = await slow_world.start(worker=Lingering)
    handle = client.worker.get_or_create("x")
    await handle.who()
    await breathe()
    await slow_world.deploy(worker=version("new", []))
    await slow_world.pass_by(9.5)
    assert told == ["actor.aborted"]
    await slow_world.pass_by(1)
    assert told == ["actor.aborted", "cancelled"]
    assert await handle.who() == "new"


async def test_sends_at_the_moment_of_a_deployment_are_handled_once_each_in_order(world: World) -> None:
    log: list[str] = []
    client = await world.start(worker=version("v0", log))
    handle = client.worker.get_or_create("x")
    receipts = []
    for number in range(40):
        receipts.append(await handle.send("tasks", str(number)))
        if number % 4 == 0:
            await world.deploy(worker=version(f"v{number}", log))
    for receipt in receipts:
        assert (await receipt.result(5)).attempts == 1
    begun = [int(entry.split()[-1]) for entry in log if "begins" in entry]
    assert begun == list(range(40))


async def test_a_handler_that_deploys_its_own_class_finishes_its_message_first(world: World) -> None:
    log: list[str] = []

    class Reforming(Actor):
        tasks = Queue(str)

        async def run(self) -> None:
            async for message in self.queue.iter():
                await world.deploy(worker=version("new", log))
                log.append(f"old ends {message.body}")

    client = await world.start(worker=Reforming)
    handle = client.worker.get_or_create("x")
    first = await handle.send("tasks", "a")
    assert (await first.result(5)).attempts == 1
    assert (await (await handle.send("tasks", "b")).result(5)).status == "completed"
    assert log == ["old ends a", "new wakes", "new begins b", "new ends b"]


async def test_stored_bodies_that_do_not_fit_the_new_type_are_dead_letters_with_the_reason(world: World) -> None:
    log: list[str] = []

    class Idle(Actor):
        tasks = Queue(str)

    client = await world.start(worker=Idle)
    handle = client.worker.get_or_create("x")
    unfit = await handle.send("tasks", "text")
    fit = await handle.send("tasks", "7")
    await world.deploy(worker=version("new", log, body=int))
    result = await unfit.result(5)
    assert result.status == "failed"
    assert result.error["code"] == "validation_error"
    assert unfit.id in result.error["message"]
    assert (await fit.result(5)).status in ("completed", "failed")
    assert (await handle.send("tasks", 8, wait=True, timeout=5)).status == "completed"


async def test_a_queue_that_is_gone_keeps_its_messages_shown_as_orphaned(world: World) -> None:
    class Two(Actor):
        tasks = Queue(str)
        extra = Queue(str)

    log: list[str] = []
    client = await world.start(worker=Two)
    handle = client.worker.get_or_create("x")
    kept = await handle.send("extra", "kept")
    await world.deploy(worker=version("new", log))
    await handle.who()
    status = await handle.status()
    assert list(status.orphaned) == ["extra"]
    assert await kept.status() == "queued"

    class Back(Actor):
        extra = Queue(str)

        async def run(self) -> None:
            async for message in self.queue.iter():
                log.append(f"back {message.body}")

    await world.deploy(worker=Back)
    assert (await kept.result(5)).status == "completed"
    assert list((await handle.status()).orphaned) == []


class Old(BaseModel):
    count: int = 0


class New(BaseModel):
    count: int
    label: str


def stateful(state: type[BaseModel], name: str, **more: Any) -> Any:
    async def add(self: Any) -> Any:
        self.state.count += 1
        return [name, self.state.model_dump()]

    return type("Stateful", (Actor,), {"__annotations__": {"state": state}, "add": action(add), **more})


async def test_a_state_that_does_not_fit_keeps_the_old_code_and_says_why(world: World) -> None:
    client = await world.start(worker=stateful(Old, "old"), other=stateful(Old, "old other"))
    handle = client.worker.get_or_create("x")
    assert await handle.add() == ["old", {"count": 1}]
    with pytest.raises(AgentqError) as caught:
        await world.deploy(worker=stateful(New, "new"), other=stateful(Old, "new other"))
    assert caught.value.full_code == "actor.validation_error"
    assert "migrate_state" in caught.value.message
    assert "\n" not in caught.value.message
    assert await handle.add() == ["old", {"count": 2}]
    other = client.other.get_or_create("x")
    assert (await other.add())[0] == "new other", "the others are deployed all the same"


async def test_a_state_that_a_sleeping_actor_left_keeps_the_old_code_too(world: World) -> None:
    client = await world.start(worker=stateful(Old, "old"))
    await client.worker.get_or_create("x").add()
    client = await world.restart()
    with pytest.raises(AgentqError) as caught:
        await world.deploy(worker=stateful(New, "new"))
    assert caught.value.full_code == "actor.validation_error"
    assert "State of actor 'worker/x' does not fit its type: label" in caught.value.message
    assert "migrate_state" in caught.value.message
    assert (await client.worker.get("x").status()).state == "asleep"
    assert await client.worker.get("x").add() == ["old", {"count": 2}]


async def test_actors_without_a_state_and_those_of_other_names_hold_no_deployment_up(world: World) -> None:
    client = await world.start(worker=version("old", []), work=stateful(Old, "other"))
    await client.worker.get_or_create("x").who()
    await client.work.get_or_create("x").add()
    client = await world.restart()
    await world.deploy(worker=stateful(New, "new"))
    with pytest.raises(AgentqError, match="no first value"):
        await client.worker.get("x").add()


async def test_an_actor_whose_state_does_not_fit_says_why_and_its_messages_wait_for_the_cure(slow_world: World) -> None:
    def migrate_state(old: dict[str, Any]) -> dict[str, Any]:
        return {**old, "label": "cured"}

    async def run(self: Any) -> None:
        async for message in self.queue.iter():
            self.state.count += message.body

    queued = {"numbers": Queue(int), "run": run}
    client = await slow_world.start(worker=stateful(Old, "old", numbers=Queue(int)))
    await client.worker.get_or_create("x").add()
    await slow_world.restart(worker=stateful(New, "unfit", **queued))
    handle = client.worker.get("x")
    receipt = await handle.send("numbers", 5)
    with pytest.raises(AgentqError) as caught:
        await handle.add()
    assert "State of actor 'worker/x' does not fit its type: label" in caught.value.message
    assert "migrate_state" in caught.value.message
    await slow_world.pass_by(100)  # it is tried again ever more seldom: the next time would be a minute away
    status = await handle.status()
    assert (status.state, status.queues[0].ready) == ("failed to start", 1)
    assert status.last_error is not None
    assert status.last_error["message"] == caught.value.message
    await slow_world.deploy(worker=stateful(New, "new", migrate_state=staticmethod(migrate_state), **queued))
    await breathe()
    assert (await receipt.result(0)).attempts == 1
    assert await handle.add() == ["new", {"count": 7, "label": "cured"}]


async def test_a_state_that_fitted_nothing_before_does_not_hold_up_what_cures_the_others(world: World) -> None:
    def migrate_state(old: dict[str, Any]) -> dict[str, Any]:
        return {**old, "label": {1: "one"}[old["count"]]}

    client = await world.start(worker=stateful(Old, "old"))
    for key in ("once", "twice", "twice"):
        await client.worker.get_or_create(key).add()
    client = await world.restart(worker=stateful(New, "unfit"))
    await world.deploy(worker=stateful(New, "new", migrate_state=staticmethod(migrate_state)))
    assert await client.worker.get("once").add() == ["new", {"count": 2, "label": "one"}]
    with pytest.raises(AgentqError, match=r"State of actor 'worker/twice' does not fit its type.*raised KeyError: 2"):
        await client.worker.get("twice").add()


async def test_what_a_migration_made_that_does_not_fit_either_is_told(world: World) -> None:
    client = await world.start(worker=stateful(Old, "old"))
    await client.worker.get_or_create("x").add()
    with pytest.raises(AgentqError, match=r"What migrate_state returned for actor .* does not fit either"):
        await world.deploy(worker=stateful(New, "new", migrate_state=staticmethod(dict)))


async def test_migrate_state_makes_an_old_state_fit_and_what_it_made_is_written(world: World) -> None:
    def migrate_state(old: dict[str, Any]) -> dict[str, Any]:
        return {**old, "label": f"was {old['count']}"}

    client = await world.start(worker=stateful(Old, "old"))
    handle = client.worker.get_or_create("x")
    await handle.add()
    migrated = stateful(New, "new", migrate_state=staticmethod(migrate_state))
    await world.deploy(worker=migrated)
    assert await handle.add() == ["new", {"count": 2, "label": "was 1"}]
    client = await world.crash(worker=stateful(New, "newer"))
    assert await client.worker.get_or_create("x").add() == ["newer", {"count": 3, "label": "was 1"}]


async def test_a_migration_that_fails_keeps_the_old_code(world: World) -> None:
    def migrate_state(old: dict[str, Any]) -> dict[str, Any]:
        raise KeyError("cannot")

    client = await world.start(worker=stateful(Old, "old"))
    handle = client.worker.get_or_create("x")
    await handle.add()
    with pytest.raises(AgentqError):
        await world.deploy(worker=stateful(New, "new", migrate_state=staticmethod(migrate_state)))
    assert (await handle.add())[0] == "old"


async def test_an_action_in_flight_ends_with_the_old_code_and_the_next_one_begins_with_the_new(world: World) -> None:
    gate, inside = asyncio.Event(), asyncio.Event()

    class Older(Actor):
        @action
        async def who(self) -> str:
            inside.set()
            await gate.wait()
            return "old"

    client = await world.start(worker=Older)
    handle = client.worker.get_or_create("x")
    acting = asyncio.create_task(handle.who())
    await inside.wait()
    await world.deploy(worker=version("new", []))
    next_one = asyncio.create_task(handle.who())
    await breathe()
    assert not next_one.done()
    gate.set()
    assert [await acting, await next_one] == ["old", "new"]


async def test_a_destroy_asked_for_while_being_replaced_is_not_forgotten(world: World) -> None:
    gate, inside = asyncio.Event(), asyncio.Event()
    log: list[str] = []

    class Doomed(Actor):
        tasks = Queue(str)

        async def on_destroy(self) -> None:
            log.append("destroyed")

        async def run(self) -> None:
            async for _ in self.queue.iter():
                inside.set()
                await gate.wait()
                self.destroy()

    client = await world.start(worker=Doomed)
    handle = client.worker.get_or_create("x")
    await handle.send("tasks", "a")
    await inside.wait()
    await world.deploy(worker=version("new", log))
    gate.set()
    await until(lambda: "destroyed" in log)
    await breathe()
    assert log == ["destroyed"], "nothing wakes what was destroyed"
    with pytest.raises(AgentqError):
        await client.worker.get("x").who()


async def test_deploying_the_same_class_again_changes_nothing(world: World) -> None:
    log: list[str] = []
    same = version("only", log)
    client = await world.start(worker=same)
    await client.worker.get_or_create("x").who()
    await world.deploy(worker=same)
    await client.worker.get_or_create("x").who()
    assert log == ["only wakes"]


async def test_a_failing_handler_of_the_old_code_still_counts_by_the_old_retry(world: World) -> None:
    gate, inside = asyncio.Event(), asyncio.Event()

    class Failing(Actor):
        tasks = Queue(str, retry=Retry(attempts=1))

        async def run(self) -> None:
            async for _ in self.queue.iter():
                inside.set()
                await gate.wait()
                raise ValueError("old failure")

    client = await world.start(worker=Failing)
    receipt = await client.worker.get_or_create("x").send("tasks", "a")
    await inside.wait()

    class Gone(Actor):
        other = Queue(str)

    await world.deploy(worker=Gone)
    gate.set()
    result = await receipt.result(5)
    assert (result.status, result.attempts) == ("failed", 1)


async def test_an_action_that_is_marked_so_reaches_an_actor_that_finishes_its_message(world: World) -> None:
    gate = asyncio.Event()

    def made(name: str) -> type[Actor]:
        class Named(Actor):
            tasks = Queue(str)

            async def run(self) -> None:
                async for _ in self.queue.iter():
                    await gate.wait()

            @action(while_ending=True)
            async def let_go(self) -> str:
                gate.set()
                return name

            @action
            async def who(self) -> str:
                return name

        return Named

    client = await world.start(worker=made("old"))
    handle = client.worker.get_or_create("x")
    sent = await handle.send("tasks", "a")
    await until_status(sent, "running")
    await world.deploy(worker=made("new"))
    asked = asyncio.ensure_future(handle.who())
    assert await handle.let_go() == "old"
    assert await asked == "new"
    assert await handle.let_go() == "new"
