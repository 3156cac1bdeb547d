"""Run one call of user code in its own task, which can be stopped, and abandoned if it does not stop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVar

from agentq_nb._core.clock import Clock, Timer
from agentq_nb._core.origin import current_origin
from agentq_nb._core.threads import user_threads
from agentq_nb._runtime.invocation import Call, current_call, waiting_task
from agentq_nb.errors import InternalError

Returned = TypeVar("Returned")

GRACE = 10.0
"""Seconds ``run`` may take to return once it was asked to, and that a stop waits for what is in flight."""

GRACE_AFTER_CANCEL = 5.0
"""Seconds a cancelled call may take to end before it is abandoned."""


class CallTask:
    """A running call.

    The task starts in an empty context, so that nothing it prints or sets belongs to the cell that happened to wake it.
    """

    def __init__(self, call: Call, function: Callable[[], Any], clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        self.call = call
        self._loop = loop
        self.finished: asyncio.Future[BaseException | None] = loop.create_future()
        """Done when the call has ended or was abandoned: None if it returned, else the exception."""
        self.result: Any = None
        self.stopped = False
        self.because: BaseException | None = None
        """Why it was stopped, where that replaces the error it then ended with."""
        self._clock = clock
        self._timer: Timer | None = None
        self.task = loop.create_task(self._perform(function), name=repr(call), context=Context())
        call.task = self.task

    async def _perform(self, function: Callable[[], Any]) -> None:
        current_call.set(self.call)
        current_origin.set(self.call.origin)
        error: BaseException | None = None
        try:
            result = function()
            self.result = await result if inspect.isawaitable(result) else result
        except asyncio.CancelledError as cancelled:
            error = cancelled if self.stopped else _cancelled_by_itself(self.call, cancelled)
        except BaseException as raised:  # an agent's sys.exit() must not end the kernel
            error = raised
            if isinstance(raised, GeneratorExit) and not self._loop.is_running():
                raise  # no code raised it: the coroutine is closed because its loop is gone
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if not self.finished.done():
                self.finished.set_result(self.because or error)

    def stop(self, because: BaseException | None = None) -> None:
        """Cancel the call. If it does not end within the grace period, ``finished`` is resolved without it.

        With ``because``, it has failed with that error, even if it catches the cancellation and returns.
        """
        if self.finished.done():
            return
        self.stopped = self.call.stopped = True
        self.because = self.because or because
        if self._timer is not None:
            return
        self.task.cancel()
        self._timer = self._clock.call_later(GRACE_AFTER_CANCEL, self._abandon)

    def undo_stop(self) -> None:
        """Do not abandon the call after all: it was stopped because of a message, and has settled that message."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.stopped = self.call.stopped = False

    def _abandon(self) -> None:
        self.task.cancel()
        if not self.finished.done():
            self.finished.set_result(self.because or asyncio.CancelledError())


def stop_later(call_task: CallTask, clock: Clock) -> None:
    """A hook has the same grace as everything else when the actor ends."""
    timer = clock.call_later(GRACE, call_task.stop)
    call_task.finished.add_done_callback(lambda _: timer.cancel())


def _cancelled_by_itself(call: Call, cancelled: asyncio.CancelledError) -> InternalError:
    error = InternalError(
        f"{call.name} of actor '{call.actor_id}' was cancelled by code in it, not by the host: a task that it awaits "
        "was cancelled, for one. Catch asyncio.CancelledError around that await."
    )
    error.__cause__ = cancelled
    return error


async def in_thread(function: Callable[..., Returned], *args: Any) -> Returned:
    """Run a blocking function in a thread for users' functions, which outlives the call if that is cancelled.

    What it calls of the actor counts as called by the present task.
    """
    here = waiting_task.set(asyncio.current_task())
    try:
        return await asyncio.wrap_future(user_threads.submit(function, *args))
    finally:
        waiting_task.reset(here)
