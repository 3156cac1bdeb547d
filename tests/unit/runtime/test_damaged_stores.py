"""A host over a log in which rows are missing: it does not start, unless it is told to go on without them."""

from __future__ import annotations

import asyncio

import duckdb
import pytest

from agentq_nb import Actor, Queue
from agentq_nb.errors import StoreDamaged
from tests.unit.runtime.world import World

pytestmark = pytest.mark.anyio


class Sleeper(Actor):
    tasks = Queue(str)


@pytest.mark.file_only
async def test_a_host_goes_on_without_lost_rows_only_when_that_is_accepted(world: World) -> None:
    client = await world.start(sleeper=Sleeper)
    sleeper = client.sleeper.get_or_create("x")
    lost, kept = await sleeper.send("tasks", "lost"), await sleeper.send("tasks", "kept")
    await world.registry.stop()

    def lose() -> None:
        with duckdb.connect(str(world.store)) as connection:
            connection.execute("delete from events where message_id = ?", [lost.id])
            connection.execute("checkpoint")

    await asyncio.to_thread(lose)
    with pytest.raises(StoreDamaged):
        await world.registry.start()
    with pytest.raises(StoreDamaged):
        await world.registry.start(accept_loss=False)
    await world.registry.start(accept_loss=True)
    rows = (await world.registry.sql("select distinct message_id from events where kind = 'message.queued'")).rows
    assert list(rows) == [(kept.id,)]
    await world.restart()
