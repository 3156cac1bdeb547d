"""The time zone in which programs on this machine show times."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

_LOCAL_TIME = Path("/etc/localtime")


def machine_zone(variables: Mapping[str, str]) -> tzinfo:
    """Return the zone of a program with these environment variables: that of ``TZ``, else the system's. Blocks briefly."""
    if name := variables.get("TZ", "").removeprefix(":"):
        with suppress(KeyError, ValueError, OSError):
            return ZoneInfo(name)
    try:
        with _LOCAL_TIME.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC
