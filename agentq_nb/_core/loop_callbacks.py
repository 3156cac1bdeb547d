"""asyncio's calls from one thread's event loop to another's, many of them at the cost of one wake-up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any, TypeVar, TypeVarTuple

Returned = TypeVar("Returned")
Given = TypeVarTuple("Given")


class LoopCallbacks:
    """Calls functions on one event loop, in the order in which any threads ask for it.

    ``loop.call_soon_threadsafe`` wakes the loop by a system call each time, and during that another thread takes over the
    interpreter. Here the loop is woken only if it has not been since it last made its calls.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._woken = False

    def call(self, function: Callable[[*Given], None], *args: *Given) -> None:
        """Call ``function`` soon, in no particular context. Raises RuntimeError if the loop is closed."""
        self._waiting.append((function, args))
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._call_waiting)
        elif self._loop.is_closed():
            raise RuntimeError("The event loop is closed.")

    def _call_waiting(self) -> None:
        try:
            for _ in range(len(self._waiting)):
                function, args = self._waiting.popleft()
                function(*args)
        finally:
            # In this order: a thread either sees that it has to wake the loop, or has its function seen here.
            self._woken = False
            if self._waiting:
                self._woken = True
                self._loop.call_soon(self._call_waiting)

    def run(self, coroutine: Coroutine[Any, Any, Returned]) -> Future[Returned]:
        """See ``asyncio.run_coroutine_threadsafe``. Raises RuntimeError if the loop is closed."""
        future: Future[Returned] = Future()
        self.call(self._begin, coroutine, future, copy_context())
        return future

    def _begin(self, coroutine: Coroutine[Any, Any, Returned], future: Future[Returned], context: Context) -> None:
        if future.cancelled():
            coroutine.close()
            return
        task = self._loop.create_task(coroutine, context=context)

        def cancelled(_: Future[Returned]) -> None:
            if future.cancelled():
                with suppress(RuntimeError):  # the loop is closed
                    self.call(_cancel, task)

        task.add_done_callback(lambda _: _copy(task, future))
        future.add_done_callback(cancelled)

    def wrap(self, future: Future[Returned]) -> asyncio.Future[Returned]:
        """See ``asyncio.wrap_future``. Call it on the loop."""
        wrapped: asyncio.Future[Returned] = self._loop.create_future()

        def done(_: Future[Returned]) -> None:
            with suppress(RuntimeError):  # the loop is closed
                self.call(_copy, future, wrapped)

        future.add_done_callback(done)
        wrapped.add_done_callback(lambda _: future.cancel())  # without effect on one that is done
        return wrapped


def _cancel(task: asyncio.Task[Returned]) -> None:
    task.cancel()


def _copy(
    source: asyncio.Future[Returned] | Future[Returned], target: asyncio.Future[Returned] | Future[Returned]
) -> None:
    """Give ``target`` the outcome of ``source``, unless it has been cancelled or otherwise got one."""
    with suppress(InvalidStateError, asyncio.InvalidStateError):
        if source.cancelled():
            target.cancel()
        elif (error := source.exception()) is not None:
            target.set_exception(error)
        else:
            target.set_result(source.result())
