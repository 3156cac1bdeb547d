"""When work can continue, as texts and fields of providers say it: durations, clock times, dates and timestamps."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from itertools import islice

from agentq_nb._policies.provider_limits.plain_text import plain
from agentq_nb._policies.provider_limits.time_zones import ZONE, UnknownZone, next_time_of_day, on_day, zone_of

_UNITS: dict[str, float] = {
    r"ms|msecs?|millis(?:econds?)?": 0.001,
    r"s|secs?|seconds?|segundos?|sekunden?|secondes?": 1,
    r"m|mins?|minutes?|minutos?|minuten?": 60,
    r"h|hrs?|hours?|horas?|stunden?|heures?": 3600,
    r"d|days?|d[ií]as?|tage?n?|jours?": 86400,
    r"w|wks?|weeks?|semanas?|wochen?|semaines?": 604800,
}
_PART = re.compile(
    r"(\d+(?:[.,]\d+)?)\s*(?:" + "|".join(f"(?P<u{n}>{unit})" for n, unit in enumerate(_UNITS)) + r")(?![a-zà-ü])",
    re.IGNORECASE,
)
_SECONDS = list(_UNITS.values())
_BETWEEN_PARTS = re.compile(r"\s*(?:,|and|und|y|e|et)?\s*", re.IGNORECASE)
_HOURS_MINUTES_SECONDS = re.compile(r"(\d{1,3}):([0-5]\d):([0-5]\d)(?!\s*[ap]\.?m)", re.IGNORECASE)
_ONE = re.compile(r"(?:an?|one)\s+(second|minute|hour|day|week)\b", re.IGNORECASE)
_ONE_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}

_TRIGGER = re.compile(
    r"""(?:
        \b(?:
            resets?(?:\s+(?:time|is|will\s+be|again))*
          | (?:re)?try(?:ing)?(?:[\s-]+(?:again|after|your\s+request|the\s+request))*
          | again | come\s+back | available | resumes? | resume\s+work | renews? | renewed | refresh(?:es)?
          | restored | regain\s+access | lifted | expires? | unlocks? | wait(?:ing)? | until | access\s+returns
          | redefinid[oa]s? | restablecer[áa]n? | restablece | novamente | nuevo | r[ée]essayer | r[ée]essayez
          | r[ée]initialis\w+ | zur[üu]ckgesetzt | wieder | erneut
        )\b
      | \bserver\ requested\b | \bretry[\s_-]*delay\b | \breset_?at\b | \breset[_-]after\b | \bretry[_-]after\b | limit\ reached\|
    )
    \s*["']?\s*[:=|]?\s*["']?""",
    re.IGNORECASE | re.VERBOSE,
)
_LEAD = re.compile(
    r"\s*(?:(?:at|in|on|after|for|about|around|approximately|approx\.?|another|by|from|em|en|a\s+las|el|[àa]s|le|[àa]|am|um|"
    r"at\s+least|the)\b|\d+/\d+|~|≈|,|·|-(?=\s)|\s)+",
    re.IGNORECASE,
)
_EPOCH = re.compile(r"(\d{10}|\d{13})(?!\d)")
_ISO = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})(?:(?:T|\s+at\s+|,?\s+)(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?)?", re.IGNORECASE
)
_CJK_DATE = re.compile(r"(\d{4})\s*年\s*(\d{1,2})\s*月\s*(\d{1,2})\s*日")
_NUMERIC_DATE = re.compile(r"(\d{1,2})[/.](\d{1,2})[/.](\d{4})")
_CLOCK = re.compile(
    r"(?P<hour>\d{1,2})(?:[:h](?P<minute>\d{2})(?::(?P<second>\d{2}))?)?\s*(?P<half>[ap]\.?\s?m\b\.?)?|(?P<word>noon|midnight)\b",
    re.IGNORECASE,
)
_DAY_MONTH = re.compile(
    r"(?P<day>\d{1,2})(?:st|nd|rd|th|\.|º)?\s+(?:de\s+|of\s+)?(?P<month>[^\W\d_]{3,12})\.?,?(?:\s+(?:de\s+)?(?P<year>\d{4}))?",
    re.IGNORECASE,
)
_MONTH_DAY = re.compile(
    r"(?P<month>[^\W\d_]{3,12})\.?\s+(?P<day>\d{1,2})(?:st|nd|rd|th)?\b(?!:)(?:,?\s+(?P<year>\d{4}))?", re.IGNORECASE
)
_WEEKDAY = re.compile(r"(mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?\b,?", re.IGNORECASE)
_RELATIVE_DAY = re.compile(r"(today|tonight|tomorrow)\b", re.IGNORECASE)
_FILLER = re.compile(r"\s*(?:,|\b(?:at|on|the|um|de|[àa]s?|a\s+las|el|le|uhr)\b)\s*|\s+", re.IGNORECASE)
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan ene gen",
            "feb fev",
            "mar mrt maa",
            "apr abr avr",
            "may mai mag mei",
            "jun juin giu",
            "jul juil lug",
            "aug ago aou",
            "sep set",
            "oct okt out ott",
            "nov",
            "dec dez dic",
        ),
        start=1,
    )
    for name in names.split()
}


def stated_moments(text: str, now: datetime, zone: tzinfo) -> Iterator[datetime]:
    """Yield the moments at which ``text`` says that one may try again, in its order; times without a zone are in ``zone``."""
    text = plain(text)
    for trigger in islice(_TRIGGER.finditer(text), 100):
        rest = text[trigger.end() : trigger.end() + 120]
        moment = _moment_at_start(rest, now, zone)
        if moment is None and re.search(r"retry[_-]after", trigger[0], re.IGNORECASE):
            seconds = re.match(r"\s*(\d{1,6}(?:\.\d+)?)\b", rest)
            moment = now + timedelta(seconds=float(seconds[1])) if seconds else None
        if moment is not None:
            yield moment


def duration(text: str) -> timedelta | None:
    """Return the length of time that ``text`` begins with: ``"6m0s"``, ``"644ms"``, ``"2 days 17 hours"``, ``"01:20:00"``."""
    text = text.lstrip()
    if clock := _HOURS_MINUTES_SECONDS.match(text):
        hours, minutes, seconds = map(int, clock.groups())
        return timedelta(hours=hours, minutes=minutes, seconds=seconds)
    if one := _ONE.match(text):
        return timedelta(seconds=_ONE_SECONDS[one[1].lower()])
    seconds, position, found = 0.0, 0, False
    while part := _PART.match(text, position):
        unit = next(n for n in range(len(_SECONDS)) if part[f"u{n}"])
        seconds += float(part[1].replace(",", ".")) * _SECONDS[unit]
        found = True
        between = _BETWEEN_PARTS.match(text, part.end())
        position = between.end() if between else part.end()
    return _length(seconds) if found else None


def moment_of(value: object, now: datetime) -> datetime | None:
    """Return the moment that a field holds: Unix seconds or milliseconds, ISO 8601, or an HTTP date."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return _from_epoch(float(value))
    text = str(value).strip()
    if re.fullmatch(r"\d{9,16}(?:\.\d+)?", text):
        return _from_epoch(float(text))
    if iso := re.fullmatch(
        r"(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2})?)(?:[.,]\d+)?\s*(z|utc|[+-]\d{2}:?\d{2})?", text, re.I
    ):
        return _aware(f"{iso[1]}{iso[2] if iso[2] and iso[2][0] in '+-' else ''}")
    try:
        return parsedate_to_datetime(text).replace(tzinfo=UTC) if text.endswith("GMT") else parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return next(iter(stated_moments(f"resets {text}", now, UTC)), None) if re.match(r"[A-Za-z]{3}", text) else None


def after(value: object, now: datetime) -> datetime | None:
    """Return the moment a length of time from ``now``: a number of seconds, or text such as ``"47s"``."""
    seconds = number(value)
    length = duration(str(value)) if seconds is None else _length(seconds)
    return _plus(now, length)


def number(value: object) -> float | None:
    """Return a finite number of zero or more, given as a number or as text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if 0 <= result < 1e15 else None


def _moment_at_start(text: str, now: datetime, zone: tzinfo) -> datetime | None:
    if lead := _LEAD.match(text):
        text = text[lead.end() :]
    text = text.lstrip()
    if (length := duration(text)) is not None:
        return _plus(now, length)
    if epoch := _EPOCH.match(text):
        return _from_epoch(float(epoch[1]))
    try:
        return _iso_at_start(text, zone) or _calendar_moment(text, now, zone)
    except (UnknownZone, ValueError, OverflowError):
        return None


def _iso_at_start(text: str, zone: tzinfo) -> datetime | None:
    match = _ISO.match(text)
    if not match:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
    found = ZONE.match(text, match.end()) or ZONE.match(text, match.end() + 1)
    return datetime(year, month, day, hour, minute, second, tzinfo=zone_of(found) if found else zone).astimezone(UTC)


def _calendar_moment(text: str, now: datetime, zone: tzinfo) -> datetime | None:
    """Read a day, a time and a zone, each optional and in any order, from the beginning of the text."""
    day_text = day_is = clock = None
    position = 0
    while position < len(text):
        if filler := _FILLER.match(text, position):
            position = filler.end()
        elif day_is is None and (match := _day_match(text, position)):
            day_text, day_is, position = match, True, match.end()
        elif clock is None and (match := _CLOCK.match(text, position)) and (read := _clock_of(match)) is not None:
            clock, position = read, match.end()
        elif (match := ZONE.match(text, position)) and (clock is not None or day_is):
            zone, position = zone_of(match), match.end()
            break
        else:
            break
    if day_text is None:
        return None if clock is None else next_time_of_day(clock, zone, now)
    return _on_named_day(day_text, clock or time(0), zone, now, american=bool(re.search(r"[ap]\.?m", text, re.I)))


def _day_match(text: str, position: int) -> re.Match[str] | None:
    for pattern in (_CJK_DATE, _NUMERIC_DATE, _RELATIVE_DAY):
        if match := pattern.match(text, position):
            return match
    for pattern in (_DAY_MONTH, _MONTH_DAY):
        if (match := pattern.match(text, position)) and _month(match["month"]):
            return match
    weekday = _WEEKDAY.match(text, position)
    if weekday and (match := _DAY_MONTH.match(text, weekday.end() + 1)) and _month(match["month"]):
        return match
    return weekday


def _on_named_day(match: re.Match[str], clock: time, zone: tzinfo, now: datetime, *, american: bool) -> datetime | None:
    today = now.astimezone(zone).date()
    if match.re is _CJK_DATE:
        return on_day(date(int(match[1]), int(match[2]), int(match[3])), clock, zone, now)
    if match.re is _NUMERIC_DATE:
        first, second, year = (int(part) for part in match.groups())
        if not american and first <= 12 and second <= 12 and first != second:
            return None  # the day and the month cannot be told apart
        day, month = (second, first) if american or second > 12 else (first, second)
        return on_day(date(year, month, day), clock, zone, now)
    if match.re is _RELATIVE_DAY:
        return on_day(today + timedelta(days=match[1].lower() == "tomorrow"), clock, zone, now)
    if match.re is _WEEKDAY:
        days = (_WEEKDAYS.index(match[1].lower()) - today.weekday()) % 7
        moment = on_day(today + timedelta(days=days), clock, zone, now)
        return moment if moment > now else on_day(today + timedelta(days=7), clock, zone, now)
    month, day = _month(match["month"]) or 1, int(match["day"])
    if match["year"]:
        return on_day(date(int(match["year"]), month, day), clock, zone, now)
    # Without a year, the nearest one is meant: in December, "Jan 2" is next year's.
    candidates = [on_day(date(year, month, day), clock, zone, now) for year in _years_with(today.year, month, day)]
    return min(candidates, key=lambda moment: abs(moment - now), default=None)


def _years_with(year: int, month: int, day: int) -> list[int]:
    years: list[int] = []
    for candidate in (year - 1, year, year + 1):
        try:
            date(candidate, month, day)
        except ValueError:
            continue
        years.append(candidate)
    return years


def _clock_of(match: re.Match[str]) -> time | None:
    if match["word"]:
        return time(12 if match["word"].lower() == "noon" else 0)
    hour, minute, second = (int(match[part] or 0) for part in ("hour", "minute", "second"))
    half = (match["half"] or "").lower()
    if not half and match["minute"] is None:
        return None
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half.startswith("p") else 0)
    return time(hour, minute, second) if hour < 24 and minute < 60 and second < 60 else None


def _month(word: str) -> int | None:
    plain = "".join(
        letter for letter in unicodedata.normalize("NFD", word.lower()) if not unicodedata.combining(letter)
    )
    return _MONTHS.get(plain[:4]) or _MONTHS.get(plain[:3])


def _from_epoch(value: float) -> datetime | None:
    seconds = value / 1000 if value >= 1e11 else value
    if not 1e9 <= seconds < 1e11:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _aware(iso: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(iso)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _length(seconds: float) -> timedelta | None:
    try:
        return timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        return None


def _plus(now: datetime, length: timedelta | None) -> datetime | None:
    try:
        return None if length is None else now + length
    except OverflowError:
        return None
