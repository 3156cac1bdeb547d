"""A host in a process of its own, for clients in another one: ``python -m tests.unit.gateway.host_program STORE PORT``.

It prints its url, or says that there is none (port -1), once programs can reach it. Lines on its stdin make it do things.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from pydantic import BaseModel

from agentq_nb import Actor, Queue, Retry, UserError, action, setup
from tests.unit.gateway.raw_client import TOKEN


class Task(BaseModel):
    prompt: str
    size: int = 1


class Review(BaseModel):
    verdict: str


class Total(BaseModel):
    value: int = 0


class Reviewer(Actor, sleep_timeout=None, action_timeout=None):
    """Reviews what it is sent; what is in the queue ``held`` stays there until it is let go."""

    state: Total = Total()
    tasks = Queue(Task, reply=Review, concurrency=8)
    held = Queue(Any, reply=Any, retry=Retry(attempts=1))
    one = Queue(Any, max_size=1, on_full="wait")
    untaken = Queue(Any, max_size=2)
    counted = Queue(int, max_size=1_000_000, max_bytes=None)

    @tasks.handler
    async def review(self, task: Task) -> Review:
        return Review(verdict=task.prompt.upper() * task.size)

    @held.handler
    async def hold(self, body: Any) -> Any:
        if body == "fail":
            raise ValueError("it fails")
        if isinstance(body, (int, float)):
            await asyncio.sleep(body)
        return body

    @counted.handler
    async def count(self, number: int) -> None: ...

    async def on_create(self, input: Any) -> None:
        if isinstance(input, dict):
            self.state.value = input["value"]

    @action
    async def add(self, number: int = 1) -> int:
        """Add a number."""
        self.state.value += number
        self.broadcast("added", {"value": self.state.value})
        return self.state.value

    @action
    async def take(self) -> Any:
        message = await self.queue.next("one", timeout=10)
        return None if message is None else message.body

    @action
    async def echo(self, value: Any) -> Any:
        return value

    @action
    async def fail(self, how: str) -> None:
        if how == "user":
            raise UserError("Not this one.", code="own", metadata={"number": 7})
        raise ValueError("password=hunter2")

    @action
    async def block(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251  # what a cell or a careless actor does

    @action
    async def sleep_for(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def host(store: str, port: int) -> None:
    async with setup(use={"reviewer": Reviewer}, store=store) as registry:
        url = "no server" if port < 0 else (await registry.serve(port=port, token=TOKEN)).url
        print(url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    from tests.unit.gateway import host_program  # so that the class has the same module for all

    asyncio.run(host_program.host(sys.argv[1], int(sys.argv[2])))
