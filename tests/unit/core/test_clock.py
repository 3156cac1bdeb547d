"""The machine's clocks: moments follow the wall clock when it is set, lengths do not."""

from __future__ import annotations

import asyncio
import time
import zoneinfo
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agentq_nb._core import clock
from agentq_nb._core.clock import SystemClock, machine_zone

pytestmark = pytest.mark.anyio


class Loop:
    """Timers of an event loop, which ring when the test moves time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, call: Callable[[], None]) -> Any:
        self.timers.append((self.now + seconds, call))

    def move(self, until: float) -> None:
        while due := [timer for timer in self.timers if timer[0] <= until]:
            first = min(due, key=lambda timer: timer[0])
            self.timers.remove(first)
            self.now = first[0]
            first[1]()
        self.now = until


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    loop = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return loop


async def test_a_moment_is_noticed_within_seconds_when_the_wall_clock_is_set_forward(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[str] = []
    wall = 1000.0
    monkeypatch.setattr(time, "time", lambda: wall + loop.now)
    SystemClock().call_at(wall + 3600, lambda: rung.append("an hour"))
    loop.move(10)
    assert not rung
    wall += 3600
    loop.move(15)
    assert rung == ["an hour"]


async def test_a_moment_waits_until_a_wall_clock_that_was_set_back_reaches_it(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[str] = []
    wall = 1000.0
    monkeypatch.setattr(time, "time", lambda: wall + loop.now)
    SystemClock().call_at(wall + 10, lambda: rung.append("ten seconds"))
    wall -= 100
    loop.move(109)
    assert not rung
    loop.move(111)
    assert rung == ["ten seconds"]


async def test_a_length_takes_as_long_however_the_wall_clock_is_set(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[str] = []
    monkeypatch.setattr(time, "time", lambda: -3600.0)
    SystemClock().call_later(10, lambda: rung.append("ten seconds"))
    loop.move(9)
    assert not rung
    loop.move(10)
    assert rung == ["ten seconds"]


SUMMER, WINTER = datetime(2026, 7, 14, 12, tzinfo=UTC), datetime(2026, 1, 14, 12, tzinfo=UTC)


def hours(variables: dict[str, str]) -> tuple[int, int]:
    """What clocks in the zone show at noon, UTC, in summer and in winter."""
    zone = machine_zone(variables)
    return SUMMER.astimezone(zone).hour, WINTER.astimezone(zone).hour


@pytest.fixture
def system_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's file, where there is none at first."""
    file = tmp_path / "localtime"
    monkeypatch.setattr(clock, "_LOCAL_TIME", file)
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
