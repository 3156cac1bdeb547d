"""How long a failed attempt waits, whatever the function that says so does."""

from __future__ import annotations

import math
from typing import Any

import pytest

from agentq_nb import Retry


def test_a_number_is_taken_as_it_is() -> None:
    assert [Retry(backoff=2.5).delay(failures) for failures in (1, 2, 50)] == [2.5, 2.5, 2.5]
    assert Retry(backoff=0).delay(1) == 0


def test_by_default_it_doubles_up_to_a_limit() -> None:
    delays = [Retry().delay(failures) for failures in range(1, 12)]
    assert delays[:4] == [1, 2, 4, 8]
    assert delays == sorted(delays)
    assert delays[-1] == delays[-2], "it does not grow without end"


def test_a_function_is_asked_with_the_number_of_failures() -> None:
    assert Retry(backoff=lambda failures: failures * 10).delay(3) == 30
    assert Retry(backoff=lambda _: 0.0).delay(1) == 0


@pytest.mark.parametrize("said", [-1, -0.001, math.inf, math.nan, "soon", None, 1j])
def test_a_function_that_says_no_time_to_wait_waits_a_second(said: Any) -> None:
    assert Retry(backoff=lambda _: said).delay(1) == 1.0


def test_a_function_that_raises_waits_a_second() -> None:
    def fails(_: int) -> float:
        raise RuntimeError("no idea")

    assert Retry(backoff=fails).delay(1) == 1.0
