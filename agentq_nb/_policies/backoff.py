"""Exponential backoff between attempts."""

from __future__ import annotations


def backoff(failures: int, *, first: float = 1.0, longest: float = 60.0) -> float:
    """Return the seconds before the next attempt: ``first``, doubled per further failure, at most ``longest``."""
    if failures <= 0:
        return 0.0
    # Powers of two beyond the 1,023rd overflow a float, and something may fail for days.
    return min(first * 2.0 ** min(failures - 1, 64), longest)
