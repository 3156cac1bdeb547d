"""Cron expressions: checking them, and the next run after a moment. No I/O beyond the zones' data, no clock.

Expressions name local times; runs are moments. Where the clocks change, an expression for certain hours (``30 2 * * *``)
runs once for each local time: at the end of the gap if the time is skipped, at its first occurrence if it comes twice.
One for every hour (``*/15 * * * *``) runs whenever a local time that exists matches, so in both of two equal hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from agentq_nb._core.suggestions import did_you_mean
from agentq_nb.errors import ValidationFailed

_FIELDS = 5

# Debian's cron takes larger changes for corrections of the clock; no zone sets its clocks back further.
_LONGEST_REPEAT = timedelta(hours=3)

_MINUTE = timedelta(minutes=1)


class Cron(NamedTuple):
    """A checked expression, and the name of its time zone; None: the machine's local time."""

    expression: str
    tz: str | None = None


def checked(expression: object, tz: object = None) -> Cron:
    """Return the schedule of an expression. Raises ``actor.validation_error`` if it or its zone is not valid."""
    if not isinstance(expression, str):
        raise ValidationFailed(f"A cron expression is text such as '0 9 * * mon-fri', not {expression!r:.100}.")
    cron = Cron(" ".join(expression.split()), _checked_zone(tz))
    fields = len(cron.expression.split())
    if fields != _FIELDS:
        raise _invalid(cron.expression, f"it has {fields} field{'' if fields == 1 else 's'}")
    from cronsim import CronSim, CronSimError  # not before it is needed: most programs have no schedules

    try:
        runs = next(CronSim(cron.expression, datetime(2000, 1, 1)), None) is not None
    except CronSimError as error:
        raise _invalid(cron.expression, f"{str(error)[:1].lower()}{str(error)[1:]}") from None
    except ValueError:  # more digits than Python reads
        raise _invalid(cron.expression, "a field cannot be read") from None
    if not runs:
        raise _invalid(cron.expression, "no day matches it within 50 years")
    return cron


def _invalid(expression: str, reason: str) -> ValidationFailed:
    return ValidationFailed(
        f"Cron expression '{expression}': {reason}. Write five fields (minute, hour, day of the month, month, day of the "
        "week), such as '0 9 * * mon-fri' for 9:00 from Monday to Friday, or '*/15 * * * *' for every 15 minutes."
    )


def _checked_zone(tz: object) -> str | None:
    if tz is None:
        return None
    if isinstance(tz, ZoneInfo) and tz.key:
        return tz.key
    if not isinstance(tz, str):
        raise ValidationFailed(f"tz is the name of a time zone, such as 'Europe/Berlin', or None; not {tz!r:.100}.")
    _zone(tz)
    return tz


def _zone(tz: str | None) -> ZoneInfo | None:
    """Return the zone. Raises ``actor.validation_error`` if this machine does not know it."""
    if tz is None:
        return None
    try:
        return ZoneInfo(tz)
    except (LookupError, ValueError, OSError):
        raise ValidationFailed(
            f"Time zone '{tz}' is not known.{did_you_mean(tz, available_timezones())} Zones have names such as "
            "'Europe/Berlin', 'America/New_York' and 'UTC'."
        ) from None


def next_run(cron: Cron, after: float) -> float | None:
    """Return the first run later than ``after``, both in seconds since 1970; None if there is none within 50 years.

    Raises ``actor.validation_error`` if this machine does not know the time zone.
    """
    from cronsim import CronSim

    zone = _zone(cron.tz)
    local_times = CronSim(cron.expression, _local(after, zone) - _LONGEST_REPEAT)
    if len(local_times.hours) == 24:
        return _next_of_every_hour(local_times, zone, after)
    return next((run for time in local_times if (run := _first_moment(time, zone)) > after), None)


def following_run(cron: Cron, due: float, began: float) -> float | None:
    """Return the run after one that was due at ``due`` and began at ``began``; see :func:`next_run`.

    A run stands for all times up to its beginning, so that those missed lead to one run; and for its own time, so that
    setting the clock back does not repeat it. A time that passes while it runs is the next run.
    """
    return next_run(cron, max(due, began))


def _next_of_every_hour(local_times: Iterator[datetime], zone: ZoneInfo | None, after: float) -> float | None:
    again: float | None = None
    """The earliest second occurrence of a local time: it may come before the first occurrence of a later one."""
    for time in local_times:
        if not (moments := _moments(time, zone)):
            continue
        if moments[0] > after:
            return moments[0] if again is None else min(moments[0], again)
        if moments[-1] > after and again is None:
            again = moments[-1]
    return again


def _local(moment: float, zone: ZoneInfo | None) -> datetime:
    return datetime.fromtimestamp(moment, zone).replace(tzinfo=None, fold=0)


def _moments(time: datetime, zone: ZoneInfo | None) -> list[float]:
    """Return when the clocks show this local time: once, twice where they are set back, never where they skip it."""
    moments = sorted({time.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1)})
    return [moment for moment in moments if _local(moment, zone) == time]


def _first_moment(time: datetime, zone: ZoneInfo | None) -> float:
    """Return when the clocks first show this local time, or the end of the gap if they skip it."""
    while not (moments := _moments(time, zone)):
        time += _MINUTE
    return moments[0]
