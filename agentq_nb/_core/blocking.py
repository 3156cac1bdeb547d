"""Waiting in plain synchronous code: the work goes on in an event loop and a thread of its own, while this one blocks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

Returned = TypeVar("Returned")

_STOPPING = 5.0
"""Seconds that work gets to end once nobody waits for it any more, before that is taken for granted."""


class Beside(Generic[Returned]):
    """Work that has begun beside this thread, in its context. What it leaves running goes on after its answer."""

    def __init__(self, work: Coroutine[Any, Any, Returned]) -> None:
        self._answer: Future[Returned] = Future()
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._carry(work))
        threading.Thread(target=self._run, name="agentq beside", daemon=True).start()

    def wait(self, timeout: float | None = None) -> Returned:
        """Block until it is done. Raises what it raised, and TimeoutError after ``timeout`` seconds: it goes on then.

        An interrupt cancels it, as it would cancel an ``await``, and comes out as what the work made of that: mostly
        CancelledError. A second one is raised as the KeyboardInterrupt that it is.
        """
        try:
            return self._answer.result(timeout)
        except KeyboardInterrupt:
            with suppress(RuntimeError):  # it has ended at this very moment
                self._loop.call_soon_threadsafe(self._task.cancel)
            return self._answer.result(_STOPPING)

    async def _carry(self, work: Coroutine[Any, Any, Returned]) -> None:
        try:
            result = await work
        except BaseException as error:
            self._answer.set_exception(error)
        else:
            self._answer.set_result(result)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._to_the_end())

    async def _to_the_end(self) -> None:
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)


def wait_beside(work: Coroutine[Any, Any, Returned]) -> Returned:
    """Block this thread until ``work`` is done; see :meth:`Beside.wait`."""
    return Beside(work).wait()


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
