"""Small things the tests of the log share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from agentq_nb._store import EventLog, Row, row
from agentq_nb.errors import StoreError

T = TypeVar("T")


def event(
    kind: str, message: str | None = None, actor: str | None = "worker/main", session: str | None = None, **data: Any
) -> Row:
    return row(kind, actor, message, session, json.dumps(data))


def queued(message: str, queue: str = "tasks", body: Any = 1, **more: Any) -> Row:
    return event("message.queued", message, queue=queue, body=body, **more)


def append(log: EventLog, *rows: Row, time: float | None = None) -> asyncio.Future[StoreError | None]:
    """Append, and a future of the answer."""
    answer: asyncio.Future[StoreError | None] = asyncio.get_running_loop().create_future()
    log.append(rows, answer.set_result, time)
    return answer


def with_log(path: Path, use: Callable[[EventLog], Awaitable[T]]) -> T:
    """Open the log, use it, close it."""

    async def run() -> T:
        log = EventLog.open(path)
        try:
            return await use(log)
        finally:
            log.close()

    return asyncio.run(run())


def write(path: Path, *rows: Row, time: float | None = None) -> None:
    """A closed log with these rows."""

    async def use(log: EventLog) -> None:
        assert await append(log, *rows, time=time) is None

    with_log(path, use)


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}
