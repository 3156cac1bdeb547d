"""Handlers' threads that outlive their attempt: each keeps its place, and its message waits until the thread has ended.

A thread cannot be stopped, so it may outlive its activation and its host too. Hence the list is the process's.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._runtime.invocation import Receiver

Home: TypeAlias = tuple[Path, ActorId]
"""An actor, and the folder of its host's workspaces, which tells it from one of another store."""


class Overdue(NamedTuple):
    """A thread that still works on an attempt that has ended. ``receiver`` has the places that it keeps."""

    receiver: Receiver
    message: MessageId
    thread: Future[Any]


_lock = threading.Lock()
_overdue: dict[Home, list[Overdue]] = {}


def note(home: Home, overdue: Overdue) -> None:
    """Remember the thread until it ends."""

    def forget(_: Future[Any]) -> None:
        with _lock:
            left = [other for other in _overdue.pop(home, ()) if other is not overdue]
            if left:
                _overdue[home] = left

    with _lock:
        _overdue.setdefault(home, []).append(overdue)
    overdue.thread.add_done_callback(forget)


def of(home: Home) -> list[Overdue]:
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
