"""The machine's time zone, with its changes between summer and winter time."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, tzinfo


class _MachineZone(tzinfo):
    """The zone in which the machine shows times: a naive datetime's, for the moment that it is about."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        return None if dt is None else dt.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, dt: datetime | None) -> timedelta | None:
        # Unknown to the system for a given moment, and not needed to convert one.
        return None

    def tzname(self, dt: datetime | None) -> str | None:
        return time.tzname[0] if dt is None else dt.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, dt: datetime) -> datetime:
        local = dt.replace(tzinfo=UTC).astimezone()
        return local.replace(tzinfo=self)

    def __repr__(self) -> str:
        return "MACHINE_ZONE"


MACHINE_ZONE = _MachineZone()
