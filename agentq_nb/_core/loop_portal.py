"""The door: how a call gets into the event loop that a host lives in, from whichever loop or thread it is made."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from typing import Any, ParamSpec, TypeVar

from agentq_nb.errors import Forked, NoHost, Unavailable

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")

_LAST_ANSWERS = 5.0
"""Seconds that calls which are inside when the door is closed get to return."""


_TURN = 0.2
"""Seconds after which an interrupt is noticed at the latest."""


@contextmanager
def turning() -> Generator[None]:
    """Keep the present event loop turning while it waits for another thread.

    ipykernel cancels an interrupted cell from a signal handler, of which a loop that sleeps until something happens
    would not hear.
    """
    loop = asyncio.get_running_loop()

    def turn() -> None:
        nonlocal timer
        timer = loop.call_later(_TURN, turn)

    timer = loop.call_later(_TURN, turn)
    try:
        yield
    finally:
        timer.cancel()


class LoopPortal:
    """The door of one event loop.

    A call from outside runs in a task inside, in the caller's context. What it returns or raises comes back as it is;
    when its caller is cancelled, so is the task. Calls of one loop or thread go in in the order they are made.

    :ivar apart: whether the loop has a thread of its own, so that code elsewhere may block without holding it up.
    :ivar thread: the identity of the thread in which the loop turns.
    :ivar failure: why the loop ended without being asked to; None otherwise.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, apart: bool = False) -> None:
        self.loop = loop
        self.apart = apart
        self.thread = threading.get_ident()
        self.failure: str | None = None
        self._process = os.getpid()
        self._closed = False
        self._closing, self._empty = asyncio.Event(), asyncio.Event()
        self._lock = threading.Lock()
        self._answers: set[Future[Any]] = set()
        """Of the calls from outside that have not returned yet."""

    @property
    def open(self) -> bool:
        """Whether calls from outside still get in."""
        return not self._closed and not self.loop.is_closed()

    @property
    def inside(self) -> bool:
        """Whether the present code runs in the thread in which the loop turns."""
        return threading.get_ident() == self.thread

    def enter(
        self,
        function: Callable[Arguments, Coroutine[Any, Any, Returned]],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Coroutine[Any, Any, Returned]:
        """Make the call inside; at once and without a hop when this is inside. Raises NoHost, Forked, Unavailable."""
        if asyncio.get_running_loop() is self.loop:
            return function(*args, **kwargs)
        return self._enter_from_outside(function, *args, **kwargs)

    async def _enter_from_outside(
        self,
        function: Callable[Arguments, Coroutine[Any, Any, Returned]],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Returned:
        with turning():
            return await asyncio.wrap_future(self.submit(function, *args, **kwargs))

    def submit(
        self,
        function: Callable[Arguments, Coroutine[Any, Any, Returned]],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Future[Returned]:
        """The same from outside, without waiting. Raises NoHost, and Forked in a forked child, where nothing turns."""
        if os.getpid() != self._process:
            raise Forked()
        call = self._carry(function, args, kwargs)
        with self._lock:
            try:
                if self._closed:
                    raise RuntimeError
                answer = asyncio.run_coroutine_threadsafe(call, self.loop)
            except RuntimeError:
                call.close()
                raise NoHost() from None
            self._answers.add(answer)
        answer.add_done_callback(self._has_left)
        return answer

    def _has_left(self, answer: Future[Any]) -> None:
        self._answers.discard(answer)
        if self._closed and not self._answers:
            with suppress(RuntimeError):  # the loop has ended
                self.loop.call_soon_threadsafe(self._empty.set)

    async def _carry(
        self,
        function: Callable[..., Coroutine[Any, Any, Returned]],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Returned:
        try:
            return await function(*args, **kwargs)
        except asyncio.CancelledError:
            if self._closed:  # the caller was not cancelled: he must not look as if he were
                raise Unavailable(
                    "The host stopped before it answered, so whether anything was written is not known. Start it "
                    "again (%agentq start) and look with await registry.messages()."
                ) from None
            raise

    def close(self) -> None:
        """Let nobody in any more. To be called inside."""
        with self._lock:
            self._closed = True
        self._closing.set()

    async def emptied(self) -> None:
        """Return once it is closed and the calls inside have returned, or had the time to."""
        await self._closing.wait()
        if self._answers:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), _LAST_ANSWERS)

    def fall(self, reason: str) -> None:
        """The loop has ended without being asked to: tell everybody who waits for an answer. To be called after it."""
        with self._lock:
            self._closed, self.failure = True, reason
        for answer in list(self._answers):
            with suppress(InvalidStateError):
                answer.set_exception(
                    Unavailable(
                        f"The host ended before it answered, so whether anything was written is not known. {reason}"
                    )
                )
