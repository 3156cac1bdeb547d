"""When a message expires."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentq_nb._brokers.local.expirations import NEVER, expired_text, expires_at, has_expired

moments = st.floats(1.0, 1e10)
lengths = st.floats(0.001, 1e9)


@given(due=moments, ttl=lengths, waited=st.floats(0, 2e9))
def test_a_message_expires_once_it_has_waited_its_ttl(due: float, ttl: float, waited: float) -> None:
    expires = expires_at(due, ttl)
    assert has_expired(expires, due + waited) == (due + waited >= due + ttl)
    assert has_expired(expires, expires)
    assert not has_expired(expires, due - 1)


@given(now=moments)
def test_a_message_without_a_moment_never_expires(now: float) -> None:
    assert not has_expired(NEVER, now)


def test_the_reason_names_the_ttl_and_the_queue() -> None:
    assert expired_text("tasks", 90.0) == "It was not started within its ttl of 90 s in queue 'tasks'."
