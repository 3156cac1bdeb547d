"""A program whose PostgreSQL server is gone for a while: its status says so, and its work continues by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agentq_nb import Actor, Queue, Registry, create_client, setup
from agentq_nb.errors import AgentqError, Unavailable
from tests.postgres_server import DURABLE, Server, required_server

pytestmark = pytest.mark.anyio


class Echo(Actor):
    texts = Queue(str, reply=str)

    @texts.handler
    async def echo(self, text: str) -> str:
        await asyncio.sleep(0.01)
        return text.upper()


@pytest.fixture
def server() -> Iterator[Server]:
    with required_server(DURABLE) as server:
        yield server


@pytest.fixture
async def registry(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Registry]:
    monkeypatch.chdir(tmp_path)
    async with setup(use={"echo": Echo}, store=server.url) as registry:
        yield registry


async def trouble(registry: Registry) -> str | None:
    return (await registry.status()).trouble


async def test_the_status_says_what_is_wrong_and_work_continues_by_itself(registry: Registry, server: Server) -> None:
    echo = create_client().echo.get_or_create("main")
    receipts = [await echo.send("texts", f"{number}") for number in range(100)]
    waiting = asyncio.gather(*(receipt.result() for receipt in receipts))
    await asyncio.to_thread(server.stop, signal.SIGQUIT)
    async with asyncio.timeout(60):
        while "connect" not in (await trouble(registry) or ""):  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.05)
    assert not waiting.done()
    await asyncio.to_thread(server.start)
    results = await asyncio.wait_for(waiting, 60)
    assert [result.response for result in results] == [f"{number}" for number in range(100)]
    async with asyncio.timeout(60):
        while await trouble(registry) is not None:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.05)


async def test_a_send_fails_with_the_reason_after_a_while_and_can_be_repeated_with_its_key(
    registry: Registry, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, tries = registry.host.broker, list[object]()
    enqueue = broker.enqueue
    monkeypatch.setattr(broker.database, "patience", 0.2)  # type: ignore[attr-defined]
    monkeypatch.setattr(broker, "enqueue", lambda *words: (tries.append(words), enqueue(*words))[1])
    echo = create_client().echo.get_or_create("main")
    await asyncio.to_thread(server.stop, signal.SIGQUIT)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await echo.send("texts", "once", idempotency_key="once")
    assert len(tries) == 1  # the broker has repeated it for as long as it has patience
    await asyncio.to_thread(server.start)
    async with asyncio.timeout(60):
        for _ in range(2):
            sent = None
            while sent is None:
                with suppress(AgentqError):
                    sent = await echo.send("texts", "once", idempotency_key="once")
            assert (await sent.result()).response == "ONCE"
    assert len(await registry.messages(queue="texts")) == 1


HOST = """
import asyncio, sys
from agentq_nb import setup
from tests.unit.host.test_shared_queues_trouble import Echo

async def main(store):
    async with setup(use={"echo": Echo}, store=store):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main(sys.argv[1]))
"""


async def test_the_driver_prints_none_of_its_tries_to_connect(server: Server, tmp_path: Path) -> None:
    host = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOST, server.url),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert host.stdout is not None
    assert await asyncio.wait_for(host.stdout.readline(), 60) == b"ready\n"
    await asyncio.to_thread(server.stop, signal.SIGQUIT)
    await asyncio.sleep(3)  # in which it tries to connect
    await asyncio.to_thread(server.start)
    output, _ = await asyncio.wait_for(host.communicate(b"\n"), 60)
    assert host.returncode == 0, output
    # This package's own warnings have their place there: once for each trouble, and only if it lasts.
    assert [line for line in output.splitlines() if b"It is tried again" not in line] == []
