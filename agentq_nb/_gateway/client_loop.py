"""The event loop of this process's clients of hosts elsewhere, and how their connections end."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from agentq_nb._core.loop_portal import LoopPortal
from agentq_nb._core.loop_thread import LoopThread
from agentq_nb.errors import AgentqError

_lock = threading.Lock()
_thread: tuple[int, LoopThread] | None = None


def client_loop() -> LoopPortal:
    """Return the event loop on which all clients of this process hold their connections, in a thread of its own.

    So a client can be used on any loop, and from threads without one. A forked child gets a loop of its own.
    """
    global _thread
    with _lock:
        if _thread is None or _thread[0] != os.getpid() or not _thread[1].portal.open:
            thread = LoopThread("agentq client")
            thread.at_exit = lambda: _close_all(thread.portal)
            _thread = os.getpid(), thread
        return _thread[1].portal


def close_when_unused(client: object, portal: LoopPortal, begin_to_close: Callable[[], None]) -> None:
    """Have the connections of a client closed when it is not used any more.

    :param begin_to_close: called on the loop. It must not hold the client.
    """
    weakref.finalize(client, _on_loop, portal, begin_to_close).atexit = False


def _on_loop(portal: LoopPortal, begin_to_close: Callable[[], None]) -> None:
    """The garbage collector calls this wherever it runs, so it takes no lock: this thread may hold that already."""
    with suppress(RuntimeError):  # the loop is closed
        portal.loop.call_soon_threadsafe(begin_to_close)


_in_background: set[asyncio.Future[None]] = set()


def finish_in_background(closing: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that closes a connection, without waiting for it. Called on the loop."""
    _in_background.add(task := asyncio.ensure_future(closing))
    task.add_done_callback(_in_background.discard)


_AT_EXIT = 2.0
"""Seconds that closing connections may take at the end of the process."""

close_at_exit: set[Callable[[], Coroutine[Any, Any, None]]] = set()
"""Called on the loop, all at once, at an orderly end of the process. Changed on the loop only."""

_until_exit: set[asyncio.Task[None]] = set()


def until_exit(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start work without end, on the loop. It is cancelled at an orderly end of the process.

    Python ends its worker threads before the loop's thread: the work could not even look up the name of a host any more.
    """
    task = asyncio.ensure_future(work)
    _until_exit.add(task)
    task.add_done_callback(_until_exit.discard)
    return task


def _close_all(portal: LoopPortal) -> None:
    async def close() -> None:
        ending = list(_until_exit)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, *(each() for each in list(close_at_exit)), return_exceptions=True)
        await asyncio.sleep(0)  # in which the loop closes the sockets of what was cancelled

    if close_at_exit or _until_exit:
        with suppress(AgentqError, TimeoutError):  # a forked child has no such loop; the server may be away
            portal.submit(close).result(_AT_EXIT)
