"""Run a coroutine on the host's event loop from any other loop or thread."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from typing import Any, ParamSpec, TypeVar

from agentq_nb._core.loop_callbacks import LoopCallbacks
from agentq_nb.errors import Forked, NoHost, Unavailable

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")

_CLOSE_TIMEOUT = 5.0
"""Seconds that running calls get to return after the portal is closed."""


_TURN = 0.2
"""Seconds after which an interrupt is noticed at the latest."""


@contextmanager
def turning() -> Generator[None]:
    """Keep the running event loop iterating while it waits for another thread.

    ipykernel cancels an interrupted cell from a signal handler, which does not wake a loop that sleeps until its next
    event.
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
    """Runs calls from other loops and threads on one event loop.

    Such a call runs in a task of that loop, in the caller's context. Its result or error comes back unchanged; when the
    caller is cancelled, so is the task. Calls from one loop or thread start in the order they are made.

    :ivar apart: whether the loop has a thread of its own, so that code elsewhere may block without delaying it.
    :ivar thread: the identifier of the thread that runs the loop.
    :ivar failure: why the loop ended unexpectedly; None otherwise.
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
        self._callbacks = LoopCallbacks(loop)
        self._answers: set[Future[Any]] = set()
        """Futures of the calls from outside that have not returned yet."""

    @property
    def open(self) -> bool:
        """Whether calls from outside are accepted."""
        return not self._closed and not self.loop.is_closed()

    @property
    def inside(self) -> bool:
        """Whether the current code runs in the loop's thread."""
        return threading.get_ident() == self.thread

    def enter(
        self,
        function: Callable[Arguments, Coroutine[Any, Any, Returned]],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Coroutine[Any, Any, Returned]:
        """Run the call on the loop, directly if that is the running loop. Raises NoHost, Forked, Unavailable."""
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
        """Run the call from outside, without waiting. Raises NoHost, and Forked in a forked child: it has no loop."""
        if os.getpid() != self._process:
            raise Forked()
        call = self._carry(function, args, kwargs)
        with self._lock:
            try:
                if self._closed:
                    raise RuntimeError
                answer = self._callbacks.run(call)
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
            if self._closed:  # the caller was not cancelled and must not see CancelledError
                raise Unavailable(
                    "The host stopped before it answered, so whether anything was written is not known. Start it "
                    "again (%agentq start) and look with await registry.messages()."
                ) from None
            raise

    def close(self) -> None:
        """Accept no more calls from outside. Call it on the loop."""
        with self._lock:
            self._closed = True
        self._closing.set()

    async def emptied(self) -> None:
        """Return once the portal is closed and its running calls have returned or timed out."""
        await self._closing.wait()
        if self._answers:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await self._empty.wait()

    def fall(self, reason: str) -> None:
        """Fail every waiting call: the loop has ended unexpectedly. Call it after the loop has ended."""
        with self._lock:
            self._closed, self.failure = True, reason
        for answer in list(self._answers):
            with suppress(InvalidStateError):
                answer.set_exception(
                    Unavailable(
                        f"The host ended before it answered, so whether anything was written is not known. {reason}"
                    )
                )
