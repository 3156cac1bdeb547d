"""Zones as providers write them, and wall-clock times in them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

_ABBREVIATIONS = {
    "pt": "America/Los_Angeles",
    "pst": "America/Los_Angeles",
    "pdt": "America/Los_Angeles",
    "mst": "America/Denver",
    "mdt": "America/Denver",
    "ct": "America/Chicago",
    "cdt": "America/Chicago",
    "et": "America/New_York",
    "est": "America/New_York",
    "edt": "America/New_York",
    "bst": "Europe/London",
    "cet": "Europe/Berlin",
    "cest": "Europe/Berlin",
    "eet": "Europe/Helsinki",
    "eest": "Europe/Helsinki",
    "msk": "Europe/Moscow",
    "jst": "Asia/Tokyo",
    "kst": "Asia/Seoul",
    "aest": "Australia/Sydney",
    "aedt": "Australia/Sydney",
    "pacific": "America/Los_Angeles",
    "eastern": "America/New_York",
}

_A_MINUTE = timedelta(minutes=1)
"""Clocks differ, and a report takes a while to arrive."""

ZONE = re.compile(
    r"""\(?\s*(?:
        (?P<name>[A-Za-z][A-Za-z_]+(?:/[A-Za-z0-9_+\-]+)+)
      | (?P<utc>utc|gmt|z)\b\s*(?P<offset>[+\-]\d{1,2}(?::?\d{2})?)?
      | (?P<sign>[+\-]\d{2}:?\d{2})\b
      | (?P<short>"""
    + "|".join(sorted(_ABBREVIATIONS, key=len, reverse=True))
    + r""")\b(?:\s+(?:standard\s+|daylight\s+)?time)?
      | (?P<word>(?<=\()[A-Z][A-Za-z]+(?=\)))
    )\s*\)?""",
    re.IGNORECASE | re.VERBOSE,
)


class UnknownZone(Exception):
    """The text names a zone that this machine does not know."""


def zone_of(match: re.Match[str]) -> tzinfo:
    """Return the zone that ``ZONE`` matched. Raises ``UnknownZone``."""
    if match["utc"]:
        return _fixed(match["offset"]) if match["offset"] else UTC
    if match["sign"]:
        return _fixed(match["sign"])
    return named_zone(_ABBREVIATIONS[match["short"].lower()] if match["short"] else match["name"] or match["word"])


def named_zone(name: str) -> tzinfo:
    """Return the IANA zone of this name. Raises ``UnknownZone``."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise UnknownZone(name) from error


def next_time_of_day(clock: time, zone: tzinfo, now: datetime) -> datetime:
    """Return the next moment at which clocks in ``zone`` show ``clock``.

    If they showed it within the last minute, that was meant, not tomorrow: the minute's end is returned.
    """
    today = now.astimezone(zone).date()
    for days in range(-1, 3):
        moment = on_day(today + timedelta(days=days), clock, zone, now)
        if moment > now:
            return moment
        if moment + _A_MINUTE > now:
            return moment + _A_MINUTE
    raise AssertionError("no zone has a day without this time for three days")


def on_day(day: date, clock: time, zone: tzinfo, now: datetime) -> datetime:
    """Return the moment of this wall-clock time: of a time that comes twice, the first that is not past."""
    first = datetime.combine(day, clock, zone).astimezone(UTC)
    second = datetime.combine(day, clock.replace(fold=1), zone).astimezone(UTC)
    # In a gap, where clocks are put forward, the second reading is the earlier one.
    return second if first <= now < second else first


def _fixed(offset: str) -> tzinfo:
    digits = re.sub(r"\D", "", offset)
    hours, minutes = (int(digits[:-2]), int(digits[-2:])) if len(digits) > 2 else (int(digits), 0)
    if hours > 15 or minutes > 59:
        raise UnknownZone(offset)
    length = timedelta(hours=hours, minutes=minutes)
    return timezone(-length if offset[0] in "-" else length)
