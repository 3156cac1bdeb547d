"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

START = 1_700_000_000.0

# Enough turns of the loop for a chain of tasks that wait for each other without a timer to come to rest.
_TURNS = 30


class FakeTimer:
    """A call that is still to come."""

    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when = when
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def ring(self) -> None:
        if not self.cancelled:
            self.call()


class FakeClock:
    """See :class:`agentq_nb.clock.Clock`. Calls are made inside :meth:`advance`, in the order of their time; one whose
    time has come already is made at the next turn of the loop."""

    def __init__(self, now: float = START) -> None:
        self._now = now
        self._timers: list[tuple[float, int, FakeTimer]] = []
        self._count = itertools.count()

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, call: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(when, call)
        if when <= self._now:
            asyncio.get_running_loop().call_soon(timer.ring)
        else:
            heapq.heappush(self._timers, (when, next(self._count), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_at(self._now + seconds, lambda: None if woken.done() else woken.set_result(None))
        try:
            await woken
        finally:
            timer.cancel()

    def next_due(self) -> float | None:
        """When the next call is to be made; None when there is none."""
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def advance(self, seconds: float) -> None:
        """Move on, making the calls that fall due on the way. What they wake runs when the test awaits something."""
        until = self._now + seconds
        while (due := self.next_due()) is not None and due <= until:
            timer = heapq.heappop(self._timers)[2]
            self._now = max(self._now, due)
            timer.ring()
        self._now = until

    async def pass_by(self, seconds: float) -> None:
        """Move on by ``seconds``, letting everything that is woken on the way run before time goes on."""
        until = self._now + seconds
        await settle()
        while (due := self.next_due()) is not None and due <= until:
            self.advance(max(0.0, due - self._now))
            await settle()
        self._now = max(self._now, until)
        await settle()

    @asynccontextmanager
    async def racing(self) -> AsyncIterator[None]:
        """Within, time jumps to the next timer whenever nothing else is left to do: hours pass in milliseconds."""
        task = asyncio.create_task(self._race())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _race(self) -> None:
        while True:
            await settle()
            if (due := self.next_due()) is not None:
                self.advance(max(0.0, due - self._now))
            else:
                await asyncio.sleep(0.001)


async def settle(turns: int = _TURNS) -> None:
    """Let everything that can run do so."""
    for _ in range(turns):
        await asyncio.sleep(0)
