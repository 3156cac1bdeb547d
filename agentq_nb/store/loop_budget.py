"""How long durable writes may keep the event loop from other work."""

from __future__ import annotations

import time

_FREE = 0.001
_SHARE = 0.1
_LIMIT = 0.05


class LoopBudget:
    """Allows writes on the loop while the disk is fast.

    What each write takes beyond a millisecond is a debt, which 10 % of the time that passes pays off. Above 50 ms of debt
    nothing is allowed, so a slow disk holds the loop up for a tenth of the time at most. A limit on single writes
    would not do: one slow write among thousands would send all traffic elsewhere.
    """

    def __init__(self) -> None:
        self._debt = 0.0
        self._counted_at = 0.0

    def allows(self) -> bool:
        """Whether the next write may be made on the loop."""
        if not self._debt:
            return True
        now = time.monotonic()
        self._debt = max(0.0, self._debt - (now - self._counted_at) * _SHARE)
        self._counted_at = now
        return self._debt < _LIMIT

    def spend(self, seconds: float) -> None:
        """Count a write that took so many seconds."""
        if seconds > _FREE:
            if not self._debt:
                self._counted_at = time.monotonic()
            self._debt += seconds - _FREE
