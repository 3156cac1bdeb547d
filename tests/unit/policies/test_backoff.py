"""Seconds before the next try: doubled each time, and never more than a limit."""

from __future__ import annotations

import pytest

from agentq_nb._policies.retry import backoff


def test_it_doubles_from_the_first_try_on_up_to_the_longest() -> None:
    assert [backoff(failures) for failures in range(9)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_what_fails_for_days_is_still_tried_at_the_longest_interval() -> None:
    assert backoff(100_000) == 60
    assert backoff(100_000, first=0.25, longest=5) == 5


@pytest.mark.parametrize(("first", "longest"), [(0.5, 3.0), (2.0, 10.0)])
def test_first_and_longest_are_as_given(first: float, longest: float) -> None:
    assert backoff(1, first=first, longest=longest) == first
    assert backoff(2, first=first, longest=longest) == 2 * first
    assert backoff(50, first=first, longest=longest) == longest


def test_nothing_that_failed_waits_for_nothing() -> None:
    assert backoff(0) == backoff(-1) == 0
