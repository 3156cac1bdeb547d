"""Time as everything above sees it, so that tests can move it by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol


def timestamp(when: datetime | float) -> float:
    """Seconds since 1970 of a time as users give it: those, or a datetime, of which a naive one is local time."""
    return when.timestamp() if isinstance(when, datetime) else float(when)


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """The call will not be made."""
        ...


class Clock(Protocol):
    """Wall-clock time (due times are kept across restarts, so they cannot be monotonic) and calls at a time."""

    def time(self) -> float:
        """Seconds since 1970, UTC."""
        ...

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        """Make ``call`` in the running event loop once ``time()`` reaches ``when``."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""
        ...


# A long timer is cut into pieces so that a changed wall clock, or a machine that slept, is noticed within a minute.
_LONGEST = 60.0


class SystemClock:
    """The machine's clock and the running event loop's timers."""

    time = staticmethod(time.time)

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        return _WallTimer(when, call, asyncio.get_running_loop())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _WallTimer:
    def __init__(self, when: float, call: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        self._when = when
        self._call = call
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None
        self._arm()

    def _arm(self) -> None:
        left = self._when - time.time()
        self._handle = self._loop.call_later(max(0.0, min(left, _LONGEST)), self._ring)

    def _ring(self) -> None:
        if time.time() < self._when:
            self._arm()
        else:
            self._call()

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
