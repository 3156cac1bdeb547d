"""The clock and timers that the package uses, behind a protocol so that tests can set the time; and the local time zone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from numbers import Real
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo


def timestamp(when: datetime | float) -> float:
    """Return seconds since 1970 for a datetime or such a number. A naive datetime is local time.

    Raises TypeError for anything else, such as text that reads like a number.
    """
    if isinstance(when, datetime):
        return when.timestamp()
    if isinstance(when, bool) or not isinstance(when, Real):
        raise TypeError(f"a time is a datetime or seconds since 1970, not {when!r:.100}")
    return float(when)


class Timer(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call."""
        ...


class Clock(Protocol):
    """Wall-clock time and monotonic time, which are never mixed.

    Stored moments (when a message is due, when a pause ends) use the wall clock, since they outlive the process; they
    follow it when it is set. Durations (timeouts, grace periods, backoffs) use the monotonic clock: it cannot be set.
    """

    def time(self) -> float:
        """Return the wall-clock time: seconds since 1970, UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds since an arbitrary moment: only differences count."""
        ...

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        """Run ``call`` on the running event loop once ``time()`` reaches ``when``, or seconds after a clock change."""
        ...

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Run ``call`` on the running event loop after ``seconds``, even if the wall clock is set meanwhile."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``, even if the wall clock is set meanwhile."""
        ...


_LOOK_EVERY = 2.0
"""Seconds between two checks of the wall clock while a timer waits: there is no notification when it is set."""


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


_LOCAL_TIME = Path("/etc/localtime")


def machine_zone(variables: Mapping[str, str]) -> tzinfo:
    """Return the zone of a program with these environment variables: that of ``TZ``, else the system's. Blocks briefly."""
    if name := variables.get("TZ", "").removeprefix(":"):
        with suppress(KeyError, ValueError, OSError):
            return ZoneInfo(name)
    try:
        with _LOCAL_TIME.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC
