"""How fast a queue goes, over the last minutes. No clock of its own."""

from __future__ import annotations

from collections import deque

WINDOW = 300.0
"""Seconds over which the pace is taken: slow work needs more than a minute to show one."""
_STEP = 5.0
_SHORTEST = 1.0
"""Seconds of work after which a pace is worth telling."""


class Pace:
    """Counts what was settled, in steps of a few seconds. ``now`` is always the monotonic clock."""

    __slots__ = ("_busy_since", "_steps")

    def __init__(self) -> None:
        self._busy_since: float | None = None
        self._steps: deque[list[float]] = deque()
        """Each when it began, and how many were settled in it."""

    def begin(self, now: float) -> None:
        """Work has come into a queue that had none: the time before does not count."""
        self._busy_since = now
        self._steps.clear()

    def note(self, now: float) -> None:
        """One more was settled."""
        steps = self._steps
        if steps and now - steps[-1][0] < _STEP:
            steps[-1][1] += 1
            return
        steps.append([now, 1])
        while now - steps[0][0] > WINDOW:
            steps.popleft()

    def per_minute(self, now: float) -> float:
        """How many a minute; 0 where it cannot be told yet."""
        worked = 0.0 if self._busy_since is None else min(WINDOW, now - self._busy_since)
        if worked < _SHORTEST:
            return 0.0
        return 60 * sum(count for began, count in self._steps if now - began <= WINDOW) / worked
