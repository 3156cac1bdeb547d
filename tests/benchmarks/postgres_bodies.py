"""The body that all systems on PostgreSQL are measured with, and what their handlers do with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pydantic import BaseModel


class Task(BaseModel):
    """A body of 200 bytes: how long its handler waits, or whether it never returns."""

    prompt: str = "x" * 163
    wait: float = 0.0
    hold: bool = False


async def handle(task: Task, said: Callable[[str], None]) -> str:
    """What every handler does."""
    if task.hold:
        said("held")
        await asyncio.Event().wait()
    if task.wait:
        await asyncio.sleep(task.wait)
    return "done"
