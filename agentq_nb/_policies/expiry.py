"""When a message expires: it must be started within its ``ttl``. No I/O, no clock."""

from __future__ import annotations

NEVER = 0.0
"""The moment of expiry of a message that does not expire."""


def expires_at(due: float, ttl: float) -> float:
    """Return the moment, in seconds since 1970, from which a message is not started any more.

    Its time begins when it is ``due``: when it was sent, or at the end of its delay.
    """
    return due + ttl


def has_expired(expires: float, now: float) -> bool:
    """Whether a message that was never started is not started any more. ``expires`` may be ``NEVER``."""
    return expires != NEVER and now >= expires


def expired_text(queue: str, ttl: float) -> str:
    """Return why a message expired, in a sentence."""
    return f"It was not started within its ttl of {ttl:g} s in queue '{queue}'."
