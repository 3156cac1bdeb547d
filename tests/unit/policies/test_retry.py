"""What becomes of a message after a failed attempt or a crash, and how long the next attempt waits."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq_nb import Retry
from agentq_nb._policies.retry import Failure, FailureKind, FailureRun, NextAttempt, after_failure, is_given_up


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


# --- after a failed attempt -------------------------------------------------------------------------------------------


def test_a_message_comes_again_until_its_attempts_are_used_up() -> None:
    retry = Retry(attempts=4, backoff=2.0)
    assert [after_failure(retry, failures) for failures in (1, 2, 3)] == [NextAttempt(2.0)] * 3
    assert after_failure(retry, 4) is None
    assert after_failure(retry, 5) is None


def test_one_attempt_is_never_repeated() -> None:
    assert after_failure(Retry(attempts=1), 1) is None
    assert after_failure(Retry(attempts=1), 1, asked=5.0) is None


def test_the_backoff_is_asked_with_the_failures_so_far() -> None:
    retry = Retry(attempts=9, backoff=lambda failures: failures * 10.0)
    assert [decided.delay for n in (1, 2, 3) if (decided := after_failure(retry, n))] == [10.0, 20.0, 30.0]


@pytest.mark.parametrize(("asked", "delay"), [(0.0, 0.0), (7.5, 7.5), (-3.0, 0.0)])
def test_what_a_handler_asks_for_replaces_the_backoff(asked: float, delay: float) -> None:
    assert after_failure(Retry(backoff=60.0), 1, asked=asked) == NextAttempt(delay)


def test_a_handler_cannot_ask_for_more_attempts_than_there_are() -> None:
    assert after_failure(Retry(attempts=2), 2, asked=1.0) is None


def test_a_failure_that_would_only_repeat_itself_is_final_at_once() -> None:
    assert after_failure(Retry(attempts=9), 1, hopeless=True) is None


@pytest.mark.parametrize("in_order", [True, False])
def test_the_queues_others_wait_where_the_queue_says_so(in_order: bool) -> None:
    assert after_failure(Retry(backoff=0, in_order=in_order), 1) == NextAttempt(0.0, in_order)


# --- after crashes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("crashes", "given_up"), [(0, False), (2, False), (3, True), (4, True)])
def test_a_message_that_crashed_the_kernel_too_often_is_given_up(crashes: int, given_up: bool) -> None:
    assert is_given_up(Retry(crashes=3), crashes) is given_up


def test_failures_and_crashes_are_counted_apart() -> None:
    retry = Retry(attempts=1, crashes=5)
    assert not is_given_up(retry, 4)
    assert after_failure(Retry(attempts=5, crashes=1), 4) is not None


KINDS = [FailureKind("KeyError", "line 3"), FailureKind("KeyError", "line 4"), FailureKind("ValueError", "line 3")]
OUTCOMES = st.lists(st.one_of(st.none(), st.tuples(st.sampled_from("abcdef"), st.sampled_from(KINDS))), max_size=30)


@given(OUTCOMES, st.integers(1, 4))
def test_it_stops_at_each_run_of_enough_different_messages_of_one_kind(
    outcomes: list[tuple[str, FailureKind] | None], stop_after: int
) -> None:
    run, completed = FailureRun(), 0
    latest: list[tuple[str, FailureKind]] = []
    for outcome in outcomes:
        if outcome is None:
            completed += 1
            latest = []
            continue
        message, kind = outcome
        latest = [*(each for each in latest if each[1] == kind), outcome]
        reason = run.failed(message, Failure(kind, "KeyError: 'tex'", stop_after), completed)
        assert (reason is not None) == (len({other for other, _ in latest}) >= stop_after)
        assert run.stopped or reason is None
        assert reason is None or reason.endswith("failed with the same error: KeyError: 'tex'")
        assert [run.tells_nothing_new(Failure(other, "", stop_after)) for other in KINDS] == [
            other == kind for other in KINDS
        ]


def test_one_message_that_fails_again_and_again_stops_nothing() -> None:
    run = FailureRun()
    assert [run.failed("a", Failure(KINDS[0], "", 2), 0) for _ in range(10)] == [None] * 10


def test_a_hopeless_failure_stops_at_once() -> None:
    run = FailureRun()
    reason = run.failed("a", Failure(KINDS[0], "Refused: no", 10, hopeless=True), 0)
    assert reason == "a message was refused, as every other one would be: Refused: no"
    assert run.tells_nothing_new(Failure(KINDS[1], "", 10, hopeless=True))
