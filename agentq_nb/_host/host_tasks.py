"""The task group of a host: it keeps the host's own parts running, starts tasks, and ends all of them."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any

import anyio
from anyio.abc import TaskGroup

from agentq_nb._core.clock import Clock
from agentq_nb._core.loop_portal import Arguments, LoopPortal, Returned
from agentq_nb._host.background_tasks import Part, Upkeep, reason
from agentq_nb._runtime.invocation import current_call
from agentq_nb.errors import InternalError, NoHost

_CANCELLED = "Other code in its event loop has cancelled its task (by cancelling all tasks there, perhaps)."
_AS_AT_THE_END_OF_A_LOOP = (
    f"{_CANCELLED} asyncio.run() does that to all tasks when it returns. In a program, stop the host before: async with "
    "setup(...); to have it outlive the loop, give it a thread: setup(..., background=True)."
)


class HostTasks(ABC):
    """Everything that runs for a host, in one event loop. Started and stopped once.

    :ivar parts: what runs as long as the host; set before it is started.
    :ivar failure: why the host ended without being asked to, in a sentence; None otherwise.
    """

    parts: Sequence[Part]

    def __init__(self, clock: Clock, portal: LoopPortal) -> None:
        self.clock = clock
        self.portal = portal
        self.upkeep = Upkeep(clock)
        self.failure: str | None = None
        self._main: asyncio.Task[None] | None = None
        self._tasks: TaskGroup | None = None
        self._running = False
        self._stop_asked = asyncio.Event()
        self._end: asyncio.Future[None] | None = None
        self._started_at = 0.0

    @abstractmethod
    async def end_actors(self) -> None:
        """End every actor: the first step of a stop."""

    @abstractmethod
    async def close_broker(self) -> None:
        """Close the broker: the last step of a stop."""

    async def start(self) -> None:
        """Start the host and wake actors that have due work."""
        self._started_at = self.clock.monotonic()
        ready = asyncio.Event()
        self._main = self.portal.loop.create_task(self._live(ready), name="agentq host", context=Context())
        await ready.wait()

    async def _live(self, ready: asyncio.Event) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                self._running = not self._stop_asked.is_set()
                for part in self.parts:
                    tasks.start_soon(self._keep, part)
                ready.set()
                await self._stop_asked.wait()
                await self.end_actors()
                tasks.cancel_scope.cancel()
        except asyncio.CancelledError:
            if not self._stop_asked.is_set():
                self._ended_by_itself(_AS_AT_THE_END_OF_A_LOOP)
            raise
        except BaseException as error:
            self._ended_by_itself(reason(error), error)
            self._end = asyncio.ensure_future(self._finish())
        finally:
            self._tasks = None
            self._running = False
            ready.set()

    async def _keep(self, part: Part) -> None:
        """Keep one of the host's own parts running until the host ends."""
        while True:
            try:
                await self.upkeep.keep(part)
            except asyncio.CancelledError:
                self._ignore_cancellation()
                self.upkeep.note(part.name, InternalError(_CANCELLED))

    def _ignore_cancellation(self) -> None:
        """Ignore the cancellation of a task of the host, unless the host is ending: then raise it again.

        Otherwise the task would end the task group and every actor with it, without a hint why.
        """
        tasks, task = self._tasks, asyncio.current_task()
        if self._main is None or self._main.cancelling() or tasks is None or tasks.cancel_scope.cancel_called:
            raise
        if task is not None:
            task.uncancel()

    def _ended_by_itself(self, why: str, error: BaseException | None = None) -> None:
        self.failure = f"The host has ended by itself. {why} Start it again: %agentq start, or await registry.start()"
        logging.getLogger("agentq").error("%s", self.failure, exc_info=error)

    async def stop(self) -> None:
        """End every actor and close the broker. Messages in flight get 10 s, then they are put back uncounted."""
        self._stop_asked.set()
        self._running = False
        if self._end is None:
            self._end = asyncio.ensure_future(self._finish())
        await asyncio.shield(self._end)

    async def _finish(self) -> None:
        """Finish stopping, even if the caller of :meth:`stop` no longer waits."""
        if self._main is not None and not self._main.done():
            await asyncio.wait([self._main])
        try:
            await self.close_broker()
        finally:
            self.portal.close()

    @property
    def running(self) -> bool:
        return self._running and self.portal.open

    def _check_running(self) -> None:
        """Raise NoHost unless the host runs. For code of an actor that may still finish, it runs.

        Code in the host's own loop asks; for code elsewhere, the portal also notices that the loop has ended.
        """
        if not self._running and (self._tasks is None or current_call.get() is None):
            raise NoHost()

    def enter(
        self,
        function: Callable[Arguments, Coroutine[Any, Any, Returned]],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Coroutine[Any, Any, Returned]:
        """Run a coroutine function on the host's event loop from any loop or thread. Raises NoHost."""
        self._check_running()
        if asyncio.get_running_loop() is self.portal.loop:
            return function(*args, **kwargs)
        return self.portal.enter(function, *args, **kwargs)

    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Start a task in the host's task group, in an empty context so that its output belongs to no cell."""
        assert self._tasks is not None
        Context().run(self._tasks.start_soon, self._spawned, function, *args)

    async def _spawned(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Run ``function``, and report its errors, which must not end the host."""
        try:
            await function(*args)
        except asyncio.CancelledError:
            self._ignore_cancellation()
        except Exception as error:
            self.upkeep.note(f"A task of the host ({function.__qualname__})", error, again=False)
