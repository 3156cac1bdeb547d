"""The zone in which programs on this machine show times: their variable, else the system's file."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agentq_nb._core import machine_zone as module
from agentq_nb._core.machine_zone import machine_zone

SUMMER, WINTER = datetime(2026, 7, 14, 12, tzinfo=UTC), datetime(2026, 1, 14, 12, tzinfo=UTC)


def hours(variables: dict[str, str]) -> tuple[int, int]:
    """What clocks in the zone show at noon, UTC, in summer and in winter."""
    zone = machine_zone(variables)
    return SUMMER.astimezone(zone).hour, WINTER.astimezone(zone).hour


@pytest.fixture
def system_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's file, where there is none at first."""
    file = tmp_path / "localtime"
    monkeypatch.setattr(module, "_LOCAL_TIME", file)
    return file


@pytest.mark.parametrize("name", ["Europe/Berlin", ":Europe/Berlin"])
def test_a_variable_names_it(name: str, system_zone: Path) -> None:
    assert hours({"TZ": name}) == (14, 13)


def test_without_a_variable_it_is_the_systems_with_its_summer_time(system_zone: Path) -> None:
    found = (Path(folder, "America/New_York") for folder in zoneinfo.TZPATH)
    if (file := next(filter(Path.is_file, found), None)) is None:
        pytest.skip("this machine has no files of zones")
    system_zone.write_bytes(file.read_bytes())

    assert hours({}) == (8, 7)
    assert hours({"TZ": ""}) == (8, 7)
    assert hours({"TZ": "no such zone"}) == (8, 7)


def test_where_nothing_tells_it_is_utc(system_zone: Path) -> None:
    assert hours({}) == (12, 12)
    system_zone.write_bytes(b"no zone")
    assert hours({}) == (12, 12)
