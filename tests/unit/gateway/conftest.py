"""A host with a server, and an actor that shows what a client may meet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, Queue, Registry, Retry, UserError, action, setup
from agentq_nb._host.registry_server import Server
from tests.unit.gateway.raw_client import TOKEN


class Total(BaseModel):
    value: int = 0


class TaskRunner(Actor, sleep_timeout=None, action_timeout=20):
    state: Total = Total()
    tasks = Queue(Any, reply=Any)
    typed = Queue(int, reply=int | None, retry=Retry(attempts=1))
    small = Queue(Any, max_size=1)
    short = Queue(Any, max_message_bytes=64)

    @tasks.handler
    async def answer(self, body: Any) -> Any:
        return {"echo": body}

    @typed.handler
    async def count(self, body: int) -> int | None:
        if body < 0:
            raise ValueError("no negative ones")
        return body or None

    async def on_create(self, input: Any) -> None:
        if isinstance(input, dict):
            self.state.value = input["value"]

    @action
    async def add(self, number: int) -> int:
        self.state.value += number
        self.broadcast("added", {"value": self.state.value})
        return self.state.value

    @action
    async def echo(self, value: Any) -> Any:
        return value

    @action
    async def nothing(self) -> None: ...

    @action
    async def maybe(self) -> str | None:
        return None

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
    async def fail(self, how: str) -> None:
        if how == "user":
            raise UserError("Not this one.", code="own", metadata={"pair": ["$x", 1]})
        raise ValueError("password=hunter2")

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
