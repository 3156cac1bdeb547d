"""Validate numbers that users give as options."""

from __future__ import annotations

import math
from datetime import timedelta
from numbers import Integral, Real

from agentq_nb.errors import ValidationFailed

LONGEST = 100 * 366 * 24 * 3600.0
"""Seconds of the longest accepted time from now: a hundred years."""


def seconds(name: str, value: object) -> float | None:
    """Return a duration in seconds; None and infinity mean no limit. Raises ``actor.validation_error``."""
    if value is None:
        return None
    if not _is(Real, value) or math.isnan(number := _float(value)):
        raise ValidationFailed(f"{name} is a number of seconds, like 5 or 0.5, or None; not {value!r:.100}.")
    return None if number == math.inf else number


def count(name: str, value: object) -> int:
    """Return a whole number, at least 1: smaller ones become 1. Raises ``actor.validation_error``."""
    if not _is(Integral, value):
        raise ValidationFailed(f"{name} is a whole number from 1 up, not {value!r:.100}.")
    return max(1, int(value))  # type: ignore[call-overload]  # it is a number by now


def between(name: str, value: object, lowest: int, highest: int) -> int:
    """Return a whole number within limits. Raises ``actor.validation_error``."""
    if not _is(Integral, value) or not lowest <= value <= highest:  # type: ignore[operator]  # it is a number by now
        raise ValidationFailed(f"{name} is a whole number from {lowest} to {highest}, not {value!r:.100}.")
    return int(value)  # type: ignore[call-overload]  # it is a number by now


def delay(name: str, value: object) -> float:
    """Return seconds from now, at most ``LONGEST``, from a number or a timedelta. Raises ``actor.validation_error``."""
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if not is_delay(number) or not (seconds := _float(number)) <= LONGEST:
        raise ValidationFailed(
            f"{name} is a number of seconds from 0 to a hundred years, or a timedelta, not {value!r:.100}."
        )
    return seconds


def ttl(name: str, value: object) -> float:
    """Return seconds above 0, at most ``LONGEST``, from a number or a timedelta; infinity: no limit.

    Raises ``actor.validation_error``.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    seconds = _float(number) if is_positive(number) else math.nan
    if not (seconds <= LONGEST or seconds == math.inf):
        raise ValidationFailed(
            f"{name} is a number of seconds above 0 and up to a hundred years, a timedelta, or float('inf') for no limit; "
            f"not {value!r:.100}."
        )
    return seconds


def is_whole(value: object) -> bool:
    """Whether ``value`` is a whole number from 1 up. True and False are not."""
    return _is(Integral, value) and value >= 1  # type: ignore[operator]  # it is a number by now


def is_positive(value: object) -> bool:
    """Whether ``value`` is a number above 0."""
    return _is(Real, value) and _float(value) > 0


def is_delay(value: object) -> bool:
    """Whether ``value`` is a finite number from 0 up."""
    return _is(Real, value) and 0 <= _float(value) < math.inf


def _float(value: object) -> float:
    """Return a number as a float; infinite where it is too large for one."""
    try:
        return float(value)  # type: ignore[arg-type]  # it is a number by now
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]  # it is a number by now


def _is(kind: type, value: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
