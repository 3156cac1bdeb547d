"""One call of a user's code in a task of its own, which can be stopped, and given up when it does not stop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextvars import Context
from typing import Any

from agentq_nb.calls import Call, current_call
from agentq_nb.clock import Clock, Timer

GRACE_AFTER_CANCEL = 5.0
"""Seconds a cancelled call may take to end before nobody waits for it any longer."""


class Performance:
    """A call being performed.

    The task begins in an empty context, so that nothing it prints or sets belongs to the cell that happened to wake it.
    """

    def __init__(self, call: Call, function: Callable[[], Any], clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        self.call = call
        self.finished: asyncio.Future[BaseException | None] = loop.create_future()
        """Done when the call ended or was given up: None when it returned, else what it raised."""
        self.result: Any = None
        self.stopped = False
        self.abandoned = False
        self._clock = clock
        self._timer: Timer | None = None
        self.task = loop.create_task(self._perform(function), name=repr(call), context=Context())
        call.task = self.task

    async def _perform(self, function: Callable[[], Any]) -> None:
        current_call.set(self.call)
        error: BaseException | None = None
        try:
            result = function()
            self.result = await result if inspect.isawaitable(result) else result
        except asyncio.CancelledError as cancelled:
            error = cancelled
        except Exception as raised:
            error = raised
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if not self.finished.done():
                self.finished.set_result(error)

    def stop(self) -> None:
        """Cancel it. If it does not end within the grace, whoever waits for ``finished`` goes on without it."""
        self.stopped = True
        if self.task.done() or self._timer is not None:
            return
        self.task.cancel()
        self._timer = self._clock.call_at(self._clock.time() + GRACE_AFTER_CANCEL, self._abandon)

    def _abandon(self) -> None:
        self.abandoned = True
        self.task.cancel()
        if not self.finished.done():
            self.finished.set_result(asyncio.CancelledError())
