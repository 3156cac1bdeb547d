"""How fast messages are settled: the rate measured, and written with the time that is left. No clock."""

from __future__ import annotations

from collections import deque

WINDOW = 300.0
"""Seconds over which the rate is measured: slow work needs more than a minute to show one."""
_STEP = 5.0
_SHORTEST = 1.0
"""Seconds of work after which a rate is meaningful."""


class RateMeter:
    """Measures the rate of a queue or a batch: counts settled messages in steps of a few seconds. ``now`` is the monotonic clock."""

    __slots__ = ("_busy_since", "_steps")

    def __init__(self) -> None:
        self._busy_since: float | None = None
        self._steps: deque[list[float]] = deque()
        """Steps, each with its beginning and the number of messages settled in it."""

    def begin(self, now: float) -> None:
        """Start when work arrives in an empty queue: the time before does not count."""
        self._busy_since = now
        self._steps.clear()

    def note(self, now: float) -> None:
        """Count one settled message."""
        steps = self._steps
        if steps and now - steps[-1][0] < _STEP:
            steps[-1][1] += 1
            return
        steps.append([now, 1])
        while now - steps[0][0] > WINDOW:
            steps.popleft()

    def per_minute(self, now: float) -> float:
        """Return the messages settled per minute; 0 where it is too early to tell."""
        worked = 0.0 if self._busy_since is None else min(WINDOW, now - self._busy_since)
        if worked < _SHORTEST:
            return 0.0
        return 60 * sum(count for began, count in self._steps if now - began <= WINDOW) / worked


def duration(seconds: float) -> str:
    """Return a duration in two units at most: ``45 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def time_left(seconds: float) -> str:
    """Return the duration until all rows are done; one second at least, as some are not."""
    return duration(max(1.0, seconds))


def three_digits(rate: float) -> str:
    """Return a rate without digits that mean nothing: ``0.3``, ``12.5``, ``3610``."""
    return f"{float(f'{rate:.3g}'):.12g}"
