"""Time as everything above sees it, so that tests can move it by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from numbers import Real
from typing import Protocol


def timestamp(when: datetime | float) -> float:
    """Turn a time as users give it, seconds since 1970 or a datetime, into seconds since 1970. A naive datetime is local time.

    Raises TypeError for anything else, such as text that reads like a number.
    """
    if isinstance(when, datetime):
        return when.timestamp()
    if isinstance(when, bool) or not isinstance(when, Real):
        raise TypeError(f"a time is a datetime or seconds since 1970, not {when!r:.100}")
    return float(when)


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """The call will not be made."""
        ...


class Clock(Protocol):
    """Two kinds of time, which are never mixed.

    Moments that are stored (when a message is due, when a pause ends) are on the wall clock, since they outlive the
    process; they follow it when it is set. Lengths (timeouts, graces, backoffs) are on the monotonic clock, which nobody
    can set.
    """

    def time(self) -> float:
        """The wall clock: seconds since 1970, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since a moment of no meaning: only differences count."""
        ...

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        """Make ``call`` in the running event loop once ``time()`` has reached ``when``, or some seconds after a jump."""
        ...

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Make ``call`` in the running event loop after ``seconds``, however the wall clock is set meanwhile."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``, however the wall clock is set meanwhile."""
        ...


_LOOK_EVERY = 2.0
"""Seconds between two looks at the wall clock while a moment is waited for: nothing tells when it is set."""


class SystemClock:
    """The machine's clocks and the running event loop's timers."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        return _WallTimer(when, call, asyncio.get_running_loop())

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, call)

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
        self._handle = self._loop.call_later(max(0.0, min(left, _LOOK_EVERY)), self._ring)

    def _ring(self) -> None:
        if time.time() < self._when:
            self._arm()
        else:
            self._call()

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
