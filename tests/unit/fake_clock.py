"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

START = 1_700_000_000.0

# What mixes up the two clocks is off by so much.
_APART = 1_000_000.0

# Enough turns of the loop for a chain of tasks that wait for each other without a timer to come to rest.
_TURNS = 30


class FakeTimer:
    """A call that is still to come."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def ring(self) -> None:
        if not self.cancelled:
            self.call()


_Timers: TypeAlias = list[tuple[float, int, FakeTimer]]


class FakeClock:
    """See :class:`agentq_nb._core.clock.Clock`. Calls are made inside :meth:`advance`, in the order of their time; one whose
    time has come already is made at the next turn of the loop."""

    def __init__(self, now: float = START) -> None:
        self._ahead = _APART
        self._monotonic = now - _APART
        self._moments: _Timers = []
        """Calls by the wall clock."""
        self._lengths: _Timers = []
        """Calls by the monotonic clock."""
        self._count = itertools.count()

    def time(self) -> float:
        return self._monotonic + self._ahead

    def monotonic(self) -> float:
        return self._monotonic

    def jump(self, seconds: int) -> None:
        """Set the wall clock forward or back; no time passes. What is due by it then is called when time goes on.

        Whole seconds, so that no moment is rounded.
        """
        self._ahead += seconds

    def call_at(self, when: float, call: Callable[[], None]) -> FakeTimer:
        return self._add(self._moments, when, self.time(), call)

    def call_later(self, seconds: float, call: Callable[[], None]) -> FakeTimer:
        return self._add(self._lengths, self._monotonic + seconds, self._monotonic, call)

    def _add(self, timers: _Timers, when: float, now: float, call: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(call)
        if when <= now:
            asyncio.get_running_loop().call_soon(timer.ring)
        else:
            heapq.heappush(timers, (when, next(self._count), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, lambda: None if woken.done() else woken.set_result(None))
        try:
            await woken
        finally:
            timer.cancel()

    def next_due(self) -> float | None:
        """When the next call is to be made, by the monotonic clock; None when there is none."""
        return None if (timers := self._next()) is None else self._due(timers)

    def _due(self, timers: _Timers) -> float:
        return timers[0][0] - (self._ahead if timers is self._moments else 0.0)

    def _next(self) -> _Timers | None:
        """The timers of which the first one is the first of all."""
        for timers in (self._moments, self._lengths):
            while timers and timers[0][2].cancelled:
                heapq.heappop(timers)
        waiting = [timers for timers in (self._moments, self._lengths) if timers]
        return min(waiting, key=lambda timers: (self._due(timers), timers[0][1]), default=None)

    def advance(self, seconds: float) -> None:
        """Move on, making the calls that fall due on the way. What they wake runs when the test awaits something."""
        until = self._monotonic + seconds
        while (timers := self._next()) is not None and (due := self._due(timers)) <= until:
            timer = heapq.heappop(timers)[2]
            self._monotonic = max(self._monotonic, due)
            timer.ring()
        self._monotonic = max(self._monotonic, until)

    async def settled(self) -> None:
        """Return once nothing is left to do before time goes on."""
        await settle()

    async def pass_by(self, seconds: float) -> None:
        """Move on by ``seconds``, letting everything that is woken on the way run before time goes on."""
        until = self._monotonic + seconds
        await self.settled()
        while (due := self.next_due()) is not None and due <= until:
            self.advance(max(0.0, due - self._monotonic))
            await self.settled()
        self.advance(max(0.0, until - self._monotonic))
        await self.settled()

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
            await self.settled()
            if (due := self.next_due()) is not None:
                self.advance(max(0.0, due - self._monotonic))
            else:
                await asyncio.sleep(0.001)


async def settle(turns: int = _TURNS) -> None:
    """Let everything that can run do so."""
    for _ in range(turns):
        await asyncio.sleep(0)
