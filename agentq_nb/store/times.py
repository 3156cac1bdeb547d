"""Times as the log stores them: UTC, without a time zone."""

from __future__ import annotations

from datetime import datetime, timedelta

_EPOCH = datetime(1970, 1, 1)


def utc(seconds: float) -> datetime:
    """Seconds since 1970 as the log stores a time."""
    return _EPOCH + timedelta(seconds=seconds)
