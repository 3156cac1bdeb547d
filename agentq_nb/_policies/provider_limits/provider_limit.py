"""What a recognised limit is: its kind, and when work can continue."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

LimitKind = Literal["usage-window", "requests", "tokens", "overloaded", "billing"]

SMALLEST_PAUSE = timedelta(seconds=1)
"""What a provider that says "in 0 s" gets: to ask again at once would be a loop."""

_LONGEST_PAUSE = timedelta(days=400)
"""A later end of a pause is a misread number."""

_JUST_PASSED = timedelta(seconds=60)
"""A moment that passed no longer ago than this was ahead when the provider named it."""


@dataclass(frozen=True, slots=True)
class ProviderLimit:
    """A limit that a provider of models reported.

    :param kind: ``"usage-window"`` (the plan's hours, days or weeks are used up), ``"requests"`` or ``"tokens"`` (too
        many a minute), ``"overloaded"`` (the provider has no capacity), or ``"billing"`` (money is needed).
    :param resume_at: when the provider takes requests again, aware and in UTC; None if it did not say. For
        ``"billing"`` this is information only: waiting does not help.
    """

    kind: LimitKind
    resume_at: datetime | None = None

    @property
    def pauses(self) -> bool:
        """Whether waiting helps."""
        return self.kind != "billing"


def ahead(moment: datetime | None, now: datetime, *, longest: timedelta | None = _LONGEST_PAUSE) -> datetime | None:
    """Return ``moment`` in UTC and later than ``now``, or None if it is long past or absurdly far away.

    :param longest: how far ahead is still believed; None believes everything.
    """
    if moment is None:
        return None
    try:
        left = moment - now
        if left < -_JUST_PASSED or (longest is not None and left > longest):
            return None
        return max(moment, now + SMALLEST_PAUSE).astimezone(UTC)
    except OverflowError:
        return None
