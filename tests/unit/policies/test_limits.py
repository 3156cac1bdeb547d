"""Checks of the limits that queues declare."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq_nb import ConcurrencyLimit, Queue, RateLimit
from agentq_nb._policies.limits import Places, conflict

API = RateLimit(5, per=60, name="api")


@pytest.mark.parametrize("limits", [API, 5, "api", [5], [API, "api"], [API, ConcurrencyLimit(2, name="api")]])
def test_a_queue_takes_a_list_of_limits_with_different_names(limits: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"limits="):
        Queue(dict, limits=limits)


def test_a_queue_may_have_several_limits_without_a_name() -> None:
    declared = [RateLimit(10, per=1), RateLimit(100, per=60), ConcurrencyLimit(4)]
    assert Queue(dict, limits=declared).limits == tuple(declared)


@pytest.mark.parametrize("seconds", [0, -1, "60"])
def test_max_pause_is_in_seconds(seconds: Any) -> None:
    with pytest.raises(ValueError, match="max_pause"):
        Queue(dict, max_pause=seconds)


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (RateLimit(5, per=60, name="api"), False),
        (RateLimit(5, per=60.0, name="api"), False),
        (RateLimit(6, per=60, name="api"), True),
        (RateLimit(5, per=60, name="api", spread=True), True),
        (ConcurrencyLimit(5, name="api"), True),
        (RateLimit(6, per=60, name="another"), False),
        (RateLimit(6, per=60), False),
    ],
)
def test_a_name_is_declared_in_one_way(other: Any, differs: bool) -> None:
    found = conflict({"a.tasks": [API], "b.tasks": [ConcurrencyLimit(1), other]})
    assert (found is not None) == differs
    if found is not None:
        assert found == ("api", {"a.tasks": API, "b.tasks": other})


@given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from("bbec"), st.integers(0, 6)), max_size=60))
def test_there_is_room_as_long_as_fewer_are_at_work_than_the_limit(count: int, steps: list[tuple[str, int]]) -> None:
    places, working = Places[int](count), set[int]()
    for what, number in steps:
        if what == "b" and places.room:
            places.take(number)
            working.add(number)
        elif what == "e":
            places.leave(number)
            working.discard(number)
        elif what == "c":
            places.count = count = number + 1
        assert places.used == len(working)
        assert places.room == max(0, count - len(working))


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "4"])
def test_a_count_out_of_range_is_refused(count: object) -> None:
    with pytest.raises(ValueError, match="count"):
        ConcurrencyLimit(count)  # type: ignore[arg-type]  # that is the point
