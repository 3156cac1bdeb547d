"""Time slices that let handlers with a backlog, and long work, share one event loop fairly."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

SLICE = 0.005
"""Seconds of work after which the loop runs its other callbacks."""


class TimeSlices:
    """The time that handlers with a backlog may keep the loop busy per iteration: 5 ms, all of them together.

    Handlers whose slice is over continue one after the other, each in a loop iteration of its own.

    :param now: seconds of a monotonic clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since: float | None = None
        """When the current slice began; None: no handler has worked since the loop's last iteration."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    def over(self) -> bool:
        """Whether the slice is used up, so that the caller must await :meth:`next` before it goes on. Cheap."""
        now = self._now()
        if self._since is None:
            self._begin(now)
            return False
        return now - self._since >= SLICE

    async def next(self) -> None:
        """Return when the loop has run an iteration and it is this caller's turn."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        if self._since is None:
            self._begin(self._now())
        await waiting

    def _begin(self, now: float) -> None:
        self._since = now
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._since = None
        while self._waiting:
            if not (waiting := self._waiting.popleft()).done():
                waiting.set_result(None)
                self._begin(self._now())
                return


class Slices:
    """Splits long work into slices, beginning now. ``await pause()`` between steps is almost free within a slice."""

    def __init__(self) -> None:
        self._until = time.perf_counter() + SLICE

    async def pause(self) -> None:
        """Yield to the event loop if this slice is over."""
        if time.perf_counter() >= self._until:
            await asyncio.sleep(0)
            self._until = time.perf_counter() + SLICE
