"""Pauses because of a provider's limit: their lengths, what ends them, and when they are too long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentq_nb._policies.pause import FIRST_GUESS, LONGEST_GUESS, SHORTEST, ProviderPause, after_limit

NOW = 1_700_000_000.0


def met(
    before: ProviderPause | None = None, now: float = NOW, until: float | None = None, **facts: object
) -> ProviderPause:
    pause = after_limit(before, now=now, until=until, reason="429", **facts)  # type: ignore[arg-type]
    assert pause is not None
    return pause


def test_a_known_end_is_kept_to() -> None:
    pause = met(until=NOW + 3600)
    assert (pause.until, pause.known) == (NOW + 3600, True)
    assert not pause.is_over(NOW + 3599)
    assert pause.is_over(NOW + 3600)
    assert not pause.probes(NOW + 3600)


def test_an_end_in_the_past_is_a_short_pause() -> None:
    assert met(until=NOW - 100).until == NOW + SHORTEST


def test_pauses_without_a_known_end_double_up_to_a_limit_and_are_tried_one_by_one() -> None:
    pause, now, lengths = met(), NOW, list[float]()
    for _ in range(12):
        lengths.append(pause.until - now)
        assert not pause.probes(pause.until - 1)
        assert pause.probes(pause.until)
        assert not pause.is_over(pause.until + 1e9)
        now = pause.until
        pause = met(pause, now)
    assert lengths[:3] == [FIRST_GUESS, 2 * FIRST_GUESS, 4 * FIRST_GUESS]
    assert lengths[-1] == lengths[-2] == LONGEST_GUESS


@given(st.lists(st.sampled_from([None, 2.0, 30.0, 600.0]), min_size=1, max_size=10))
def test_messages_of_one_wave_make_one_pause_that_lasts_to_the_latest_known_end(ends: list[float | None]) -> None:
    first, *others = ends
    pause = met(until=None if first is None else NOW + first)
    for end in others:
        pause = met(pause, NOW + 0.5, None if end is None else NOW + end, late=True)
    known = [end for end in ends if end is not None]
    assert pause.known == bool(known)
    assert pause.until == NOW + (max(known) if known else FIRST_GUESS)
    assert pause.guesses == (first is None)


def test_a_pause_beyond_the_longest_allowed_is_none() -> None:
    assert after_limit(None, now=NOW, until=NOW + 601, reason="", max_pause=600) is None
    assert met(until=NOW + 600, max_pause=600).until == NOW + 600


@given(st.lists(st.sampled_from([None, 10.0, 100.0]), max_size=40), st.sampled_from([20.0, 300.0, 5000.0]))
def test_pauses_in_a_row_last_no_longer_than_allowed_altogether(ends: list[float | None], longest: float) -> None:
    before: ProviderPause | None = None
    now = NOW
    for end in ends:
        pause = after_limit(before, now=now, until=None if end is None else now + end, reason="", max_pause=longest)
        if pause is None:
            return
        assert pause.until - NOW <= longest
        before, now = pause, pause.until


def test_a_late_message_fails_no_pause_that_is_there_already() -> None:
    pause = met(until=NOW + 3600)
    assert after_limit(pause, now=NOW + 1, until=None, reason="", max_pause=60, late=True) == pause
