"""What an action or ``save_state`` says has happened is on disk, also when it is another's commit that carries it there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, action
from tests.unit.held_writes import HeldWrites
from tests.unit.runtime.world import World, breathe

pytestmark = pytest.mark.anyio


class Counts(BaseModel):
    acted: int = 0


class Counter(Actor):
    state: Counts

    @action
    async def add(self) -> None:
        """Change the state at once, and return when the test says so."""
        self.state.acted += 1
        await returning.wait()

    @action
    async def add_now(self) -> None:
        self.state.acted += 1

    @action
    async def read(self) -> int:
        return self.state.acted

    @action
    async def save(self) -> None:
        await self.save_state()


returning = asyncio.Event()


@pytest.fixture(autouse=True)
def let_go(world: World) -> Iterator[None]:
    """Also when the test fails, before its host is stopped."""
    yield
    HeldWrites.let_go_all()


@pytest.mark.file_only
@pytest.mark.parametrize("late", ["returns", "reads", "saves"])
async def test_nothing_returns_before_the_disk_has_what_another_wrote_for_it(world: World, late: str) -> None:
    global returning
    returning = asyncio.Event()
    client = await world.start(counter=Counter)
    counter = client.counter.get_or_create("x")
    assert await counter.read() == 0
    first = asyncio.create_task(counter.add())
    await breathe()
    disk = HeldWrites(world.registry.lifecycle.log)
    second = asyncio.create_task(counter.add_now())
    await breathe(1.0)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "returns": lambda: first,
        "reads": counter.read,
        "saves": counter.save,
    }
    waiting = asyncio.ensure_future(calls[late]())
    if late == "returns":
        returning.set()
    await breathe(1.0)
    assert not second.done()
    assert not waiting.done()
    disk.let_go()
    await waiting
    returning.set()
    await asyncio.gather(first, second)
    client = await world.crash()
    assert await client.counter.get_or_create("x").read() == 2
