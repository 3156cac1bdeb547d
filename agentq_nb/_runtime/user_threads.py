"""Threads for users' plain handlers, apart from those for the package's own work.

A thread cannot be stopped. As each dispatched message has a place in its queue until its thread has ended, there are
never more threads than the queues' ``concurrency`` declares. They are daemons: one that hangs keeps no process alive.

One that outlives its attempt is *overdue*: it keeps its place, and its message waits until it has ended. It may outlive
its activation and its host too, so the list of these is the process's.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from agentq_nb._actor.message import Message, Settler
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.threads import user_threads
from agentq_nb._runtime.invocation import Call, Receiver, waiting_task


async def in_user_thread(call: Call, function: Callable[[], Any]) -> Any:
    """Call a handler in a thread. When the call is stopped, the thread continues: ``call.thread`` completes when it ends.

    What it calls of the actor counts as called by the present task.
    """
    here = waiting_task.set(asyncio.current_task())
    try:
        call.thread = user_threads.submit(function)
        result = await asyncio.wrap_future(call.thread)
    finally:
        waiting_task.reset(here)
    return await result if inspect.isawaitable(result) else result


class SettlerFromThreads:
    """Settles messages in the host's event loop, from any thread: ``asyncio.run(message.complete(reply))``."""

    def __init__(self, settler: Settler, loop: asyncio.AbstractEventLoop) -> None:
        self._settler = settler
        self._loop = loop

    async def complete(
        self, message: Message[Any, Any], reply: Any, update: Callable[[Any], Any] | None = None
    ) -> None:
        await self._there(self._settler.complete(message, reply, update))

    async def fail(self, message: Message[Any, Any], error: BaseException | str) -> None:
        await self._there(self._settler.fail(message, error))

    async def retry(self, message: Message[Any, Any], after: float | None) -> None:
        await self._there(self._settler.retry(message, after))

    async def _there(self, settling: Coroutine[Any, Any, None]) -> None:
        if asyncio.get_running_loop() is self._loop:
            await settling
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(settling, self._loop))


Home: TypeAlias = tuple[Path, ActorId]
"""An actor, and the folder of its host's workspaces, which tells it from one of another store."""


class Overdue(NamedTuple):
    """A thread that still works on an attempt that has ended. ``receiver`` has the places that it keeps."""

    receiver: Receiver
    message: MessageId
    thread: Future[Any]


_lock = threading.Lock()
_overdue: dict[Home, list[Overdue]] = {}


def note_overdue(home: Home, overdue: Overdue) -> None:
    """Remember the thread until it ends."""

    def forget(_: Future[Any]) -> None:
        with _lock:
            left = [other for other in _overdue.pop(home, ()) if other is not overdue]
            if left:
                _overdue[home] = left

    with _lock:
        _overdue.setdefault(home, []).append(overdue)
    overdue.thread.add_done_callback(forget)


def overdue_threads(home: Home) -> list[Overdue]:
    """Return the threads that still work for an actor."""
    with _lock:
        return list(_overdue.get(home, ()))


def when_ended(overdue: Overdue, call: Callable[[], None]) -> None:
    """Call ``call`` in this event loop once the thread has ended, if the loop still runs then."""
    loop = asyncio.get_running_loop()

    def tell(_: Future[Any]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(call)

    overdue.thread.add_done_callback(tell)
