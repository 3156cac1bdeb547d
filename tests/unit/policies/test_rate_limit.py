"""Rate limits against a plain model: every start with its time, looked through from the beginning each time."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq_nb import agents
from agentq_nb._policies.rate_limit import RateLimit, Window, since_restart

COUNTS = st.integers(1, 5)
PERIODS = st.sampled_from([1.0, 2.5, 10.0, 60.0])
# Binary fractions, so that the model's sums are exact.
STEPS = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.5, 7.0, 30.0]), min_size=1, max_size=60)


def most_in_any_window(starts: list[float], per: float) -> int:
    """The most starts that any window of this length holds; windows that begin at a start suffice."""
    return max((sum(1 for other in starts if first <= other < first + per) for first in starts), default=0)


@given(COUNTS, PERIODS, STEPS)
def test_no_window_ever_holds_more_starts_than_the_limit(count: int, per: float, steps: list[float]) -> None:
    window, now, starts = Window(count, per), 1000.0, list[float]()
    for step in steps:
        now += step
        while window.room(now):
            window.start(now)
            starts.append(now)
    assert most_in_any_window(starts, per) == count


@given(COUNTS, PERIODS, STEPS)
def test_a_start_is_refused_only_where_it_would_be_one_too_many(count: int, per: float, steps: list[float]) -> None:
    window, now, starts = Window(count, per), 1000.0, list[float]()
    for step in steps:
        now += step
        fits = most_in_any_window([*starts, now], per) <= count
        assert bool(window.room(now)) == fits == (window.next_start(now) == now)
        assert window.used(now) == sum(1 for start in starts if now - start < per)
        if fits:
            window.start(now)
            starts.append(now)


@given(COUNTS, PERIODS, STEPS)
def test_the_next_start_is_allowed_at_its_time_and_not_before(count: int, per: float, steps: list[float]) -> None:
    window, now = Window(count, per), 1000.0
    for step in steps:
        now += step
        upcoming = window.next_start(now)
        if upcoming > now:
            assert not window.room(upcoming - 0.125)
            now = upcoming
        assert window.room(now)
        window.start(now)


@given(COUNTS, PERIODS, STEPS)
def test_spread_starts_keep_their_distance_and_the_window(count: int, per: float, steps: list[float]) -> None:
    window, now, starts = Window(count, per, spread=True), 1000.0, list[float]()
    for step in steps:
        now += step
        while window.room(now):
            window.start(now)
            starts.append(now)
    distances = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert all(distance >= per / count for distance in distances)
    assert most_in_any_window(starts, per) <= count


@given(COUNTS, PERIODS, st.lists(st.tuples(st.sampled_from("bdn"), st.sampled_from([0.0, 0.5, 1.0, 9.0])), max_size=60))
def test_starts_that_take_time_to_become_durable_are_counted_from_when_they_are(
    count: int, per: float, steps: list[tuple[str, float]]
) -> None:
    window, now, starts, writing = Window(count, per), 1000.0, list[float](), 0
    for what, step in steps:
        now += step
        if what == "b" and window.room(now):
            window.pending += 1
            writing += 1
        elif what == "d" and writing:
            window.pending -= 1
            writing -= 1
            window.start(now)
            starts.append(now)
        assert window.used(now) <= count
    assert most_in_any_window(starts, per) <= count


@given(COUNTS, PERIODS, STEPS, st.integers(0, 59), st.sampled_from([0.0, 3.0, 100.0]), st.sampled_from([0, 0, -5, 50]))
def test_the_window_holds_across_a_restart_and_a_clock_that_is_set(
    count: int, per: float, steps: list[float], life: int, off: float, wrong: int
) -> None:
    """The wall clock is ``wrong`` seconds off in the second life. Set forward it may end the window early, as nobody
    can tell; set back, or not at all, it may not."""
    window, now, starts, stored = Window(count, per), 1000.0, list[float](), list[float]()
    for number, step in enumerate(steps):
        now += step
        if number == life:
            now += off
            window = Window(count, per, starts=[since_restart(now + wrong - time, now) for time in stored])
        while window.room(now):
            window.start(now)
            starts.append(now)
            stored.append(now)
    if wrong <= 0:
        assert most_in_any_window(starts, per) <= count


@given(COUNTS, COUNTS, PERIODS, PERIODS, STEPS, st.integers(0, 59))
def test_a_changed_limit_counts_the_starts_before_the_change(
    count: int, new: int, per: float, longer: float, steps: list[float], turn: int
) -> None:
    window, now, starts, before = Window(count, per), 1000.0, list[float](), None
    for number, step in enumerate(steps):
        now += step
        if number == turn:
            window.change(new, longer, starts)
            before = len(starts)
        while window.room(now):
            window.start(now)
            starts.append(now)
    for start in starts[len(starts) if before is None else before :]:
        assert sum(1 for other in starts if start - longer < other <= start) <= new


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"count": 0, "per": 1}, "count"),
        ({"count": 1.5, "per": 1}, "count"),
        ({"count": True, "per": 1}, "count"),
        ({"count": 1, "per": 0}, "per"),
        ({"count": 1, "per": math.inf}, "per"),
        ({"count": 1, "per": "60"}, "per"),
        ({"count": 1, "per": 1, "name": ""}, "name"),
        ({"count": 1, "per": 1, "name": "two\nlines"}, "name"),
    ],
)
def test_values_out_of_range_are_refused_by_name(given: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        RateLimit(**given)


@pytest.mark.parametrize("scope", [agents.claude, "claude", "anthropic"])
def test_a_scope_is_an_agent_or_a_provider(scope: object) -> None:
    limit = RateLimit(5, per=60, name="api", scope=scope)
    assert limit.binds("anthropic", None)
    assert limit.binds("anthropic", "opus")
    assert not limit.binds("openai", None)
    assert limit == RateLimit(5, per=60, name="api", scope="anthropic")


def test_a_scope_may_be_one_model() -> None:
    limit = RateLimit(5, per=60, name="api", scope="anthropic/opus")
    assert limit.binds("anthropic", "opus")
    assert not limit.binds("anthropic", "sonnet")
    assert not limit.binds("anthropic", None)


@pytest.mark.parametrize("wrong", [{"scope": "anthropic"}, {"name": "api", "scope": 5}, {"name": "api", "scope": ""}])
def test_a_scope_needs_a_name_and_a_provider(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="scope="):
        RateLimit(5, per=60, **wrong)
