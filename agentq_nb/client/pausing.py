"""When a pause ends: what users give, as the keeper takes it."""

from __future__ import annotations

import math
from datetime import datetime

from agentq_nb.errors import ValidationFailed

_LONGEST = 100 * 366 * 24 * 3600.0


def end_of_pause(until: float | datetime | None, now: float) -> float | None:
    """Seconds since 1970; None: never by itself. A naive datetime is local time.

    Raises ``actor.validation_error`` for what is no time, or none to come: most likely a duration was meant.
    """
    if until is None:
        return None
    try:
        moment = until.timestamp() if isinstance(until, datetime) else float(until)
    except (TypeError, ValueError, OverflowError):
        moment = math.nan
    if not now < moment <= now + _LONGEST:
        raise ValidationFailed(
            f"pause takes as `until` a time within the next hundred years (seconds since 1970, or a datetime), not "
            f"{until!r}. For a number of seconds from now: until=time.time() + seconds."
        )
    return moment
