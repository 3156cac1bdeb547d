"""When a cron schedule runs: against a model that looks at every minute, where the clocks change and where they do not."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentq_nb import AgentqError
from agentq_nb._policies.cron import Cron, checked, following_run, next_run

CHANGES = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("Europe/London", "2026-03-29"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),  # by half an hour
    ("Australia/Lord_Howe", "2026-10-04"),
    ("America/Havana", "2026-03-08"),  # there is no midnight
    ("America/Havana", "2026-11-01"),  # midnight comes twice
    ("America/Santiago", "2026-04-05"),  # a day's last hour comes twice
    ("America/Santiago", "2026-09-06"),
    ("Africa/Cairo", "2026-04-24"),
    ("Antarctica/Troll", "2026-03-29"),  # by two hours
    ("Antarctica/Troll", "2026-10-25"),
    ("Pacific/Apia", "2011-12-30"),  # the day is skipped
    ("Asia/Kathmandu", "2026-05-01"),  # never
    ("UTC", "2026-05-01"),
]

DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


class Fields(NamedTuple):
    """The numbers that each field of an expression allows. None: all of them."""

    minutes: frozenset[int]
    hours: frozenset[int] | None
    days: frozenset[int] | None
    weekdays: frozenset[int] | None

    @property
    def expression(self) -> str:
        fields = [self.minutes, self.hours, self.days]
        written = ["*" if chosen is None else ",".join(map(str, sorted(chosen))) for chosen in fields]
        weekdays = "*" if self.weekdays is None else ",".join(DAYS[day] for day in sorted(self.weekdays))
        return " ".join([*written, "*", weekdays])

    def match(self, local: datetime) -> bool:
        if local.minute not in self.minutes or (self.hours is not None and local.hour not in self.hours):
            return False
        of_month = self.days is None or local.day in self.days
        of_week = self.weekdays is None or (local.weekday() + 1) % 7 in self.weekdays
        if self.days is not None and self.weekdays is not None:
            return of_month or of_week
        return of_month and of_week


def some(highest: int, lowest: int = 0) -> st.SearchStrategy[frozenset[int]]:
    return st.frozensets(st.integers(lowest, highest), min_size=1, max_size=4)


ANY_FIELDS = st.builds(
    Fields,
    some(59) | st.sampled_from([frozenset(range(0, 60, 15)), frozenset(range(60)), frozenset([0])]),
    st.none() | some(3) | some(23) | st.just(frozenset(range(0, 24, 2))),
    st.none() | some(31, 1),
    st.none() | some(6),
)


@cache
def every_minute(zone: str, first: datetime, last: datetime) -> list[tuple[float, datetime]]:
    """Moments of a span and what the clocks show then."""
    moments = [first + timedelta(minutes=minute) for minute in range(int((last - first) / timedelta(minutes=1)))]
    return [(moment.timestamp(), moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)) for moment in moments]


def model(fields: Fields, zone: str, first: datetime, last: datetime) -> list[float]:
    """The runs of a span, by looking at every minute of it and at every local time."""
    shown = every_minute(zone, first, last)
    if fields.hours is None:
        return [moment for moment, local in shown if fields.match(local)]
    runs = set[float]()
    seen: dict[datetime, float] = {}
    for moment, local in shown:
        seen.setdefault(local, moment)
    local, latest = shown[0][1], max(seen)
    while local <= latest:
        if fields.match(local):
            later = local
            while later not in seen:
                later += timedelta(minutes=1)
            runs.add(seen[later])
        local += timedelta(minutes=1)
    return sorted(runs)


@settings(max_examples=120, deadline=None)
@given(fields=ANY_FIELDS, change=st.sampled_from(CHANGES), offset=st.integers(0, 47 * 60))
def test_the_next_runs_are_those_of_a_model_that_looks_at_every_minute(
    fields: Fields, change: tuple[str, str], offset: int
) -> None:
    middle = datetime.fromisoformat(change[1]).replace(tzinfo=UTC)
    first, last = middle - timedelta(days=4), middle + timedelta(days=3)
    begin = (middle - timedelta(days=2) + timedelta(minutes=offset)).timestamp()
    expected = [run for run in model(fields, change[0], first, last) if run > begin][:60]
    cron = checked(fields.expression, change[0])
    found: list[float] = []
    run = next_run(cron, begin)
    while run is not None and run < last.timestamp() and len(found) < 60:
        found.append(run)
        run = next_run(cron, run)
    assert [datetime.fromtimestamp(run, UTC) for run in found] == [datetime.fromtimestamp(run, UTC) for run in expected]


@settings(max_examples=60, deadline=None)
@given(fields=ANY_FIELDS, change=st.sampled_from(CHANGES), seconds=st.floats(0, 48 * 3600))
def test_a_run_is_later_than_the_moment_that_it_follows_however_that_is_rounded(
    fields: Fields, change: tuple[str, str], seconds: float
) -> None:
    begin = datetime.fromisoformat(change[1]).replace(tzinfo=UTC).timestamp() - 24 * 3600 + seconds
    run = next_run(checked(fields.expression, change[0]), begin)
    assert run is not None
    assert run > begin
    assert run % 60 == 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["pass", "set clock", "off"]),
        st.integers(1, 4 * 3600),
        st.sampled_from([-1, 1]),
        st.integers(0, 3 * 3600),
    ),
    max_size=15,
)


@settings(max_examples=100, deadline=None)
@given(fields=ANY_FIELDS, change=st.sampled_from(CHANGES), steps=STEPS)
def test_no_time_is_skipped_or_run_twice_however_the_clock_is_set_and_whenever_the_host_is_off(
    fields: Fields, change: tuple[str, str], steps: list[tuple[str, int, int, int]]
) -> None:
    cron = checked(fields.expression, change[0])
    middle = datetime.fromisoformat(change[1]).replace(tzinfo=UTC)
    wall = begin = (middle - timedelta(days=1)).timestamp()
    due = next_run(cron, begin)
    assert due is not None
    runs: list[tuple[float, float]] = []  # due, began
    for kind, seconds, sign, lasting in steps:
        if kind == "set clock":
            wall += sign * seconds
            continue
        end = wall + seconds
        while kind == "pass" and due is not None and due <= end:
            wall = max(wall, due)
            runs.append((due, wall))
            due = following_run(cron, due, wall)
            wall += lasting
        wall = max(wall, end)
    assert due is not None
    times = model(fields, change[0], middle - timedelta(days=4), middle + timedelta(days=3))
    times = [run for run in times if begin < run < due]
    for before, (run, began) in zip([(begin, begin), *runs], [*runs, (due, due)], strict=False):
        covered = max(before)
        assert run > covered, "run twice"
        assert not [one for one in times if covered < one < run], "skipped"
        assert began >= run


def local(run: float | None, tz: str) -> str:
    assert run is not None
    return datetime.fromtimestamp(run, ZoneInfo(tz)).isoformat(sep=" ", timespec="minutes")


def runs_from(expression: str, tz: str, begin: str, count: int) -> list[str]:
    moment = datetime.fromisoformat(begin).replace(tzinfo=ZoneInfo(tz)).timestamp()
    found: list[str] = []
    for _ in range(count):
        run = next_run(checked(expression, tz), moment)
        assert run is not None
        found.append(local(run, tz))
        moment = run
    return found


def test_the_example_of_the_documentation() -> None:
    assert runs_from("0 9 * * mon-fri", "Europe/Berlin", "2026-03-26 12:00", 3) == [
        "2026-03-27 09:00+01:00",
        "2026-03-30 09:00+02:00",
        "2026-03-31 09:00+02:00",
    ]


def test_a_time_that_is_skipped_runs_when_the_clocks_have_changed_and_one_that_comes_twice_runs_once() -> None:
    assert runs_from("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", 2) == [
        "2026-03-29 03:00+02:00",
        "2026-03-30 02:30+02:00",
    ]
    assert runs_from("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", 2) == [
        "2026-10-25 02:30+02:00",
        "2026-10-26 02:30+01:00",
    ]


def test_every_two_hours_neither_loses_nor_doubles_the_hour_in_which_the_clocks_change() -> None:
    assert runs_from("0 */2 * * *", "Europe/Berlin", "2026-03-29 00:30", 2) == [
        "2026-03-29 03:00+02:00",
        "2026-03-29 04:00+02:00",
    ]
    assert runs_from("0 */2 * * *", "Europe/Berlin", "2026-10-25 00:30", 2) == [
        "2026-10-25 02:00+02:00",
        "2026-10-25 04:00+01:00",
    ]


def test_every_half_hour_goes_on_every_half_hour() -> None:
    assert runs_from("*/30 * * * *", "Europe/Berlin", "2026-10-25 02:10", 4) == [
        "2026-10-25 02:30+02:00",
        "2026-10-25 02:00+01:00",
        "2026-10-25 02:30+01:00",
        "2026-10-25 03:00+01:00",
    ]


def test_without_a_zone_it_is_the_machines_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = datetime(2026, 10, 24, 12, tzinfo=UTC).timestamp()
    try:
        for tz in ("Europe/Berlin", "America/New_York"):
            monkeypatch.setenv("TZ", tz)
            time.tzset()
            for expression in ("30 2 * * *", "*/20 * * * *"):
                moment = begin
                for _ in range(12):
                    here, there = (next_run(checked(expression, zone), moment) for zone in (None, tz))
                    assert here == there
                    assert here is not None
                    moment = here
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_leap_day_and_the_last_day_of_the_month_are_found() -> None:
    assert runs_from("0 0 29 2 *", "UTC", "2026-01-01 00:00", 2) == ["2028-02-29 00:00+00:00", "2032-02-29 00:00+00:00"]
    assert runs_from("0 0 L * *", "UTC", "2026-01-01 00:00", 2) == ["2026-01-31 00:00+00:00", "2026-02-28 00:00+00:00"]


def test_spaces_and_capitals_do_not_matter() -> None:
    assert checked("  0   9 * * MON-FRI ", "UTC") == Cron("0 9 * * MON-FRI", "UTC")
    assert checked("0 9 * * *", ZoneInfo("Europe/Berlin")) == Cron("0 9 * * *", "Europe/Berlin")


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "0 fields"),
        ("0 9 * *", "4 fields"),
        ("*/10 * * * * *", "6 fields"),
        ("@daily", "1 field."),
        ("60 9 * * *", "bad minute"),
        ("0 24 * * *", "bad hour"),
        ("0 9 0 * *", "bad day-of-month"),
        ("0 9 * 13 *", "bad month"),
        ("0 9 * * fry", "bad day-of-week"),
        ("0 9 * * fri-mon", "bad day-of-week"),
        ("*/0 9 * * *", "bad minute"),
        ("0 9 30 2 *", "bad day-of-month"),
        ("* * */20 * 1L", "no day matches it"),
        ("9" * 5000 + " 9 * * *", "cannot be read"),
        (9, "is text"),
        (None, "is text"),
    ],
)
def test_an_invalid_expression_is_refused_with_the_field_and_an_example(expression: object, said: str) -> None:
    with pytest.raises(AgentqError) as refused:
        checked(expression)
    assert refused.value.full_code == "actor.validation_error"
    assert said in str(refused.value)
    assert "0 9 * * mon-fri" in str(refused.value)


@pytest.mark.parametrize("tz", ["Europe/Berln", "", "../etc/passwd", "Europe", "/etc/localtime", "Mars/Olympus\0"])
def test_an_unknown_zone_is_refused(tz: str) -> None:
    with pytest.raises(AgentqError, match="not known"):
        checked("0 9 * * *", tz)


def test_an_unknown_zone_is_refused_with_the_name_that_was_meant() -> None:
    with pytest.raises(AgentqError, match="Europe/Berlin"):
        checked("0 9 * * *", "Europe/Berln")
    with pytest.raises(AgentqError, match="is the name of a time zone"):
        checked("0 9 * * *", 2)
