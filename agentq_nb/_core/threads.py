"""Daemon threads for the package's own blocking work.

asyncio's default executor and anyio's worker threads are shared by the whole process: a notebook that fills them with
blocked threads would delay reads of the log and the host's shutdown. So the package uses neither.

The threads are daemons: one that hangs on a dead disk keeps no process alive.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, ParamSpec, TypeAlias, TypeVar

import anyio

P = ParamSpec("P")
T = TypeVar("T")

_MOST = 8
"""Short jobs that run at the same time. Each occupies its thread for milliseconds."""
_IDLE = 10.0
"""Seconds after which a thread without work ends."""
_SOON = 0.2
"""Seconds to wait for the end of a thread without work."""


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function`` in a small pool, for short work. When the caller is cancelled, the function goes on."""
    return await asyncio.wrap_future(_short.submit(function, *args, **kwargs))


async def in_long_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function`` in an unlimited pool, for work that may take long, such as queries and copies."""
    return await asyncio.wrap_future(_long.submit(function, *args, **kwargs))


def start_long(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Start ``function`` as :func:`in_long_thread` does, for work that may never end. The future belongs to no event loop."""
    return _long.submit(function, *args, **kwargs)


async def to_its_end(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function`` as :func:`in_long_thread` does, but when cancelled wait for its end: nothing goes on later."""
    work = asyncio.wrap_future(_long.submit(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            while not work.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([work])
        work.exception()
        raise


_Job: TypeAlias = tuple[Future[Any], Callable[[], Any]]


class Pool:
    """Daemon threads that are started on demand, at most ``most`` of them (None: no limit)."""

    def __init__(self, name: str, most: int | None = None) -> None:
        self._name = name
        self._most = most
        _pools.add(self)
        self.forget()

    def forget(self) -> None:
        """Reset to no threads: a forked child has none."""
        self._lock = threading.Lock()
        self._threads: dict[threading.Thread, Future[Any]] = {}
        """Each thread with its current or last job."""
        self._resting = False
        """Whether threads without work end at once, since no work is expected."""
        self._idle: list[queue.SimpleQueue[_Job | None]] = []
        """The inboxes of threads that wait for work."""
        self._waiting: deque[_Job] = deque()

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call ``function`` in a thread, in the caller's context."""
        future: Future[T] = Future()
        job = (future, partial(copy_context().run, function, *args, **kwargs))
        with self._lock:
            self._resting = False
            if self._idle:
                self._idle.pop().put(job)
            elif self._most is None or len(self._threads) < self._most:
                thread = threading.Thread(target=self._work, args=(job,), name=self._name, daemon=True)
                thread.start()
                self._threads[thread] = future
            else:
                self._waiting.append(job)
        return future

    def rest(self) -> None:
        """End the threads without work and wait for that: a program that forks afterwards has none of them."""
        with self._lock:
            self._resting = True
            idle, self._idle = self._idle, []
            for inbox in idle:
                inbox.put(None)
            ending = [thread for thread, job in self._threads.items() if job.done()]
            for thread in ending:
                del self._threads[thread]
        for thread in ending:
            if thread is not threading.current_thread():
                thread.join(_SOON)

    def _work(self, first: _Job) -> None:
        job: _Job | None = first
        inbox: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        while job is not None:
            _do(*job)
            job = self._next(inbox)

    def _next(self, inbox: queue.SimpleQueue[_Job | None]) -> _Job | None:
        """Return this thread's next job; None: the thread must end."""
        with self._lock:
            if self._waiting:
                return self._took(self._waiting.popleft())
            if self._resting:
                self._threads.pop(threading.current_thread(), None)
                return None
            self._idle.append(inbox)
        try:
            job = inbox.get(timeout=_IDLE)
        except queue.Empty:
            with self._lock:
                if inbox in self._idle:
                    self._idle.remove(inbox)
                    self._threads.pop(threading.current_thread(), None)
                    return None
            job = inbox.get()
        with self._lock:
            return None if job is None else self._took(job)

    def _took(self, job: _Job) -> _Job:
        self._threads[threading.current_thread()] = job[0]
        return job


def _do(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except StopIteration as error:  # a future cannot hold one: awaiting it would never end
        future.set_exception(RuntimeError(f"StopIteration was raised: {error}"))
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _forget_all() -> None:
    for pool in list(_pools):
        pool.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def rest() -> None:
    """End idle threads: no host is running any more. See :meth:`Pool.rest`."""
    for pool in (_short, _long, user_threads):
        pool.rest()


_short = Pool("agentq work", _MOST)
_long = Pool("agentq long work")

user_threads = Pool("agentq handler")
"""For users' functions only: what they block is none of the package's own work."""
