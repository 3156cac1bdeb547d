"""What the tests of batches share: an actor that does as its messages say, and a host over a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agentq_nb import Actor, Queue, Registry, Retry, create_client, setup
from agentq_nb._client.handle import ActorHandle


class Worker(Actor):
    """Completes with what ``reply`` says, fails where ``error`` says so, and waits where ``wait`` names a gate."""

    tasks = Queue(Any, max_size=1000, retry=Retry(attempts=1))
    others = Queue(Any)
    gates: dict[str, asyncio.Event] = {}  # noqa: RUF012  # of the class on purpose: a test opens them
    handled: list[Any] = []  # noqa: RUF012

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            body = message.body
            self.handled.append(body)
            if isinstance(body, dict) and "wait" in body:
                await self.gates[body["wait"]].wait()
            if isinstance(body, dict) and "error" in body:
                await message.fail(body["error"])
            else:
                await message.complete(body.get("reply") if isinstance(body, dict) else body)


@asynccontextmanager
async def hosted(folder: Path) -> AsyncIterator[tuple[Registry, ActorHandle]]:
    Worker.handled.clear()
    async with setup(use={"worker": Worker}, store=folder / "batches.agentq.duckdb") as registry:
        yield registry, create_client().worker.get_or_create("w")


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not happened():  # noqa: ASYNC110  # what it waits for is no event
            await asyncio.sleep(0)
