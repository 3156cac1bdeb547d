"""The shared thread of all VMs' networks, so that a blocking cell does not block agents' traffic."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress

from agentq_nb._core.loop_thread import LoopThread

_lock = threading.Lock()
_thread: LoopThread | None = None
_users = 0


def join() -> LoopThread:
    """Return the thread for one more user; the first user starts it."""
    global _thread, _users
    with _lock:
        if _thread is None or _thread.gone.done():
            _thread, _users = LoopThread("agentq network"), 0
        _users += 1
        return _thread


def leave(thread: LoopThread) -> None:
    """Unregister one user; soon after the last one the thread ends."""
    global _thread, _users
    with _lock:
        if thread is not _thread:
            return
        _users -= 1
        if _users == 0:
            _thread = None
            with suppress(RuntimeError):  # its loop has ended
                thread.loop.call_soon_threadsafe(thread.portal.close)


async def ended(thread: LoopThread, seconds: float) -> None:
    """Wait for the end of a thread without users, so that a program that forks next has no such thread."""
    if thread is not _thread:
        await asyncio.wait([asyncio.wrap_future(thread.gone)], timeout=seconds)


def _forget() -> None:
    global _lock, _thread, _users
    _lock, _thread, _users = threading.Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
