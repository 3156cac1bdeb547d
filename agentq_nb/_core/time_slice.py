"""Sharing one event loop among handlers that never wait, and work that takes long."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

SLICE = 0.005
"""Seconds of work after which the loop gets its turn."""


class TimeSlices:
    """The time that handlers with a backlog may hold the loop between two of its turns: 5 ms, all of them together.

    Those whose slice is over go on one after the other, each in a turn of the loop of its own.

    :param now: seconds of a monotonic clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since: float | None = None
        """When the present slice began; None: nobody has worked since the loop's last turn."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    def over(self) -> bool:
        """Whether the loop is to get its turn before more is done: then wait for :meth:`next`. Cheap."""
        now = self._now()
        if self._since is None:
            self._begin(now)
            return False
        return now - self._since >= SLICE

    async def next(self) -> None:
        """Return when the loop has had its turn, and it is this caller's."""
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
    """Work that begins now. ``await pause()`` after each piece of it costs next to nothing while the slice lasts."""

    def __init__(self) -> None:
        self._until = time.perf_counter() + SLICE

    async def pause(self) -> None:
        """Let the loop turn if this slice is over."""
        if time.perf_counter() >= self._until:
            await asyncio.sleep(0)
            self._until = time.perf_counter() + SLICE
