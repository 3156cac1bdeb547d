"""A notebook that fills asyncio's executor and anyio's threads holds up nothing of ours."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import duckdb
import pytest

from agentq_nb import Actor, Queue, action, agent_os, agents
from agentq_nb._core.clock import SystemClock
from agentq_nb._notebook.dashboard.overview import Overview
from tests.unit.runtime.world import World

pytestmark = pytest.mark.anyio

SECONDS = 20.0
"""After which something waits for a thread that never gets free."""


class Worker(Actor):
    tasks = Queue(str, reply=str)

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            await message.complete(f"did {message.body}")

    @action
    def plain(self) -> str:
        return "done in a thread"


def echo(session: Any, prompt: str) -> str:
    return f"you said {prompt}"


MACHINE = agent_os(agents=[agents.function(echo)], isolation="off")


@pytest.fixture
async def full(world: World) -> AsyncIterator[World]:
    """A host that was restarted, so that everything is read from the file, and then finds no free thread."""
    gate = threading.Event()
    client = await world.start(worker=Worker, vm=MACHINE)
    await client.worker.get_or_create("x").send("tasks", "early", idempotency_key="early", wait=True)
    await world.restart()
    blocked = [asyncio.get_running_loop().run_in_executor(None, gate.wait) for _ in range(100)]
    blocked += [asyncio.ensure_future(anyio.to_thread.run_sync(gate.wait)) for _ in range(100)]
    await asyncio.sleep(0)
    yield world
    gate.set()
    await asyncio.gather(*blocked)


async def soon(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, SECONDS)


async def test_the_result_of_an_old_message(full: World) -> None:
    rows = (await soon(full.registry.sql("select message_id from messages"))).rows
    client = full.registry.host.client
    assert (await soon(client.receipt(rows[0][0]).result(timeout=1))).response == "did early"


async def test_a_first_send_with_a_key(full: World) -> None:
    handle = full.registry.host.client.worker.get_or_create("x")
    result = await soon(handle.send("tasks", "early", idempotency_key="early", wait=True))
    assert result.response == "did early"


async def test_what_is_looked_at(full: World) -> None:
    assert len(await soon(full.registry.messages())) == 1
    assert await soon(full.registry.status())
    shown = Overview(full.registry, SystemClock())
    assert (await soon(shown.look(refresh=True)))["messages"]
    await shown.close()


async def test_exporting_and_pruning(full: World, tmp_path: Path) -> None:
    copy = tmp_path / "copy.duckdb"
    await soon(full.registry.export(copy))
    with duckdb.connect(str(copy)) as connection:
        assert connection.execute("select count(*) from messages").fetchall() == [(1,)]
    assert await soon(full.registry.prune(9e9)) > 0


async def test_actions_in_threads(full: World) -> None:
    assert await soon(full.registry.host.client.worker.get_or_create("x").plain()) == "done in a thread"


async def test_machines_and_their_agents(full: World) -> None:
    machine = full.registry.host.client.vm.get_or_create("x")
    assert (await soon(machine.exec("echo hello"))).stdout == "hello\n"
    session = (await soon(machine.create_session("echo"))).session_id
    assert (await soon(machine.send_prompt(session, "hi"))).text == "you said hi"


async def test_stopping_and_starting(full: World) -> None:
    await soon(full.restart())
    assert full.registry.running
    await soon(full.registry.stop())
    assert not full.registry.running
