"""Times as the log stores them: UTC, without a time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1)


def utc(when: datetime | float) -> datetime:
    """Seconds since 1970, or a datetime (without a time zone: UTC), as the log stores it."""
    if isinstance(when, datetime):
        return when.astimezone(UTC).replace(tzinfo=None) if when.tzinfo else when
    return _EPOCH + timedelta(seconds=when)
