"""The machine's zone, through its changes of the clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from agentq_nb._core.machine_zone import MACHINE_ZONE


@pytest.mark.parametrize("name", ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"])
def test_it_is_the_zone_of_the_machine_on_every_day_of_the_year(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", name)
    time.tzset()
    try:
        for hours in range(0, 366 * 24, 7):
            moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hours)
            shown = moment.astimezone(ZoneInfo(name))
            assert moment.astimezone(MACHINE_ZONE).replace(tzinfo=None) == shown.replace(tzinfo=None)
            naive = shown.replace(tzinfo=None)
            if (
                datetime.fromtimestamp(naive.timestamp()) == naive
                and naive.replace(fold=1).timestamp() == naive.timestamp()
            ):
                assert naive.replace(tzinfo=MACHINE_ZONE).astimezone(UTC) == moment
    finally:
        monkeypatch.undo()
        time.tzset()
