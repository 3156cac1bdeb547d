"""When many failures in a row stop the work: against a plain model, over random outcomes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentq_nb._policies.failure_run import FailureKind, FailureRun

KINDS = [FailureKind("KeyError", "line 3"), FailureKind("KeyError", "line 4"), FailureKind("ValueError", "line 3")]
OUTCOMES = st.lists(st.one_of(st.none(), st.tuples(st.sampled_from("abcdef"), st.sampled_from(KINDS))), max_size=30)


@given(OUTCOMES, st.integers(1, 4))
def test_it_stops_at_the_first_run_of_enough_different_messages_of_one_kind(
    outcomes: list[tuple[str, FailureKind] | None], stop_after: int
) -> None:
    run = FailureRun(stop_after)
    latest: list[tuple[str, FailureKind]] = []
    told = 0
    for outcome in outcomes:
        if outcome is None:
            run.succeeded()
            latest = []
            continue
        latest = [*(each for each in latest if each[1] == outcome[1]), outcome]
        stops = run.failed(*outcome)
        told += stops
        if len({message for message, _ in latest}) >= stop_after:
            assert run.stopped
        assert not stops or run.stopped
    assert told <= 1


def test_one_message_that_fails_again_and_again_stops_nothing() -> None:
    run = FailureRun(2)
    assert [run.failed("a", KINDS[0]) for _ in range(10)] == [False] * 10


def test_a_hopeless_failure_stops_at_once_and_only_where_anything_may() -> None:
    assert [FailureRun(10).hopeless(), FailureRun(None).hopeless()] == [True, False]
