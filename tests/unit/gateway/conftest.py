"""A host with a server, and an actor that shows what a client may meet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Queue, Registry, Retry, action, setup
from agentq_nb._host.registry_server import Server
from tests.unit.gateway.client_actor import ClientActor
from tests.unit.gateway.raw_client import TOKEN


class TaskRunner(ClientActor, sleep_timeout=None, action_timeout=20):
    typed = Queue(int, reply=int | None, retry=Retry(attempts=1))

    @typed.handler
    async def count(self, body: int) -> int | None:
        if body < 0:
            raise ValueError("no negative ones")
        return body or None

    async def on_create(self, input: Any) -> None:
        if isinstance(input, dict):
            self.state.value = input["value"]

    @action
    async def ingest_issue(self, title: str) -> None:
        await self.queue.push("small", {"title": title})

    @action
    async def answer_small(self, reply: Any) -> bool:
        message = await self.queue.next("small", timeout=10, completable=True)
        if message is not None:
            await message.complete(reply)
        return message is not None

    @action
    async def wait(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with setup(use={"task_runner": TaskRunner}, store=tmp_path / "q.duckdb") as registry:
        yield registry


@pytest.fixture
async def server(registry: Registry) -> Server:
    return await registry.serve(port=0, token=TOKEN)


@pytest.fixture
def url(server: Server) -> str:
    return server.url
