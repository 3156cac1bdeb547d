"""How long to wait before something that failed is tried again."""

from __future__ import annotations


def backoff(failures: int, *, first: float = 1.0, longest: float = 60.0) -> float:
    """Seconds before the next try after so many failures in a row: ``first``, doubled each time, at most ``longest``."""
    if failures <= 0:
        return 0.0
    # Powers of two beyond the 1,023rd are no floats any more, and something may fail for days.
    return min(first * 2.0 ** min(failures - 1, 64), longest)
