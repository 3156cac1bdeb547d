"""Wait for a coroutine from synchronous code: it runs on an event loop in a separate thread while this one blocks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

Returned = TypeVar("Returned")

_STOPPING = 5.0
"""Seconds that a cancelled coroutine gets to end before the wait is given up."""

_SOON = 0.2
"""Seconds to wait for the end of a thread that has nothing left to do."""


class BlockingCall(Generic[Returned]):
    """A coroutine run by another thread in this thread's context. Tasks it leaves running continue after its result."""

    def __init__(self, work: Coroutine[Any, Any, Returned]) -> None:
        self._answer: Future[Returned] = Future()
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._carry(work))
        self._leaves_tasks = False
        self._last = self._wait_for_all()
        self._thread = threading.Thread(target=self._run, name="agentq blocking call", daemon=True)
        self._thread.start()

    def wait(self, timeout: float | None = None) -> Returned:
        """Block until the coroutine is done. Raises what it raised; TimeoutError after ``timeout`` s (it goes on).

        An interrupt cancels the coroutine, as it would cancel an ``await``, and raises what the coroutine made of that:
        mostly CancelledError. A second interrupt is raised as KeyboardInterrupt.
        """
        try:
            return self._answer.result(timeout)
        except KeyboardInterrupt:
            with suppress(RuntimeError):  # the loop closed at this very moment
                self._loop.call_soon_threadsafe(self._task.cancel)
            return self._answer.result(_STOPPING)
        finally:
            # A program that forks next has no other thread then, which Python would warn about.
            if self._answer.done() and not self._leaves_tasks:
                self._thread.join(_SOON)

    async def _carry(self, work: Coroutine[Any, Any, Returned]) -> None:
        try:
            result = await work
        except BaseException as error:
            self._note_tasks()
            self._answer.set_exception(error)
        else:
            self._note_tasks()
            self._answer.set_result(result)

    def _note_tasks(self) -> None:
        others = asyncio.all_tasks() - {self._task}
        self._leaves_tasks = any(task.get_coro() is not self._last for task in others)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._last)

    async def _wait_for_all(self) -> None:
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)


def block_on(work: Coroutine[Any, Any, Returned]) -> Returned:
    """Block this thread until ``work`` is done; see :meth:`BlockingCall.wait`."""
    return BlockingCall(work).wait()


T = TypeVar("T")

_detached: set[asyncio.Task[Any]] = set()


async def detachable(work: Coroutine[Any, Any, T]) -> T:
    """Wait for ``work``. When the wait is cancelled (the cell was interrupted) the work goes on in the background."""
    task = asyncio.ensure_future(work)
    _detached.add(task)
    task.add_done_callback(_forget)
    return await asyncio.shield(task)


def _forget(task: asyncio.Task[Any]) -> None:
    _detached.discard(task)
    if not task.cancelled():
        task.exception()  # The caller may be gone; asyncio would print an unread error at some later time.
