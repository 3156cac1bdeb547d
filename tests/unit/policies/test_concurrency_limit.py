"""Concurrency limits against a plain set of those at work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq_nb._policies.concurrency_limit import ConcurrencyLimit, Places


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
