"""Waiting that can be given up while the work goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_detached: set[asyncio.Task[Any]] = set()


async def detachable(work: Coroutine[Any, Any, T]) -> T:
    """Wait for ``work``; when the waiting is cancelled (the cell was interrupted) the work goes on by itself."""
    task = asyncio.ensure_future(work)
    _detached.add(task)
    task.add_done_callback(_forget)
    return await asyncio.shield(task)


def _forget(task: asyncio.Task[Any]) -> None:
    _detached.discard(task)
    if not task.cancelled():
        task.exception()  # Nobody may be left to be told; unread errors would be printed at some later time.
