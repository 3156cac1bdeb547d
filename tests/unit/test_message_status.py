"""The one list of a message's statuses."""

from __future__ import annotations

from typing import get_args

from agentq_nb._brokers.local.results import read
from agentq_nb._client.receipt import ResultStatus
from agentq_nb._core import message_status
from agentq_nb._core.message_status import ALL, FINAL, HANDLED, LIVE, PRUNABLE, REDELIVERABLE, STATUS_AFTER, WAITING


def test_every_status_is_either_live_or_final() -> None:
    assert set(LIVE) & set(FINAL) == set()
    assert (
        set(ALL) == {*LIVE, *FINAL} == set(get_args(message_status.LiveStatus) + get_args(message_status.FinalStatus))
    )
    assert [message_status.is_final(status) for status in ALL] == [status in FINAL for status in ALL]


def test_what_waits_is_live_and_what_was_handled_or_may_go_is_final() -> None:
    assert set(LIVE) - set(WAITING) == {"running"}
    assert set(HANDLED) < set(FINAL)
    assert set(FINAL) - set(REDELIVERABLE) == {"completed"}
    assert set(FINAL) - set(PRUNABLE) == {"failed"}


def test_a_result_has_a_final_status_or_none_yet() -> None:
    literals = {status for part in get_args(ResultStatus) for status in get_args(part) or (part,)}
    assert literals == {*FINAL, "timed_out"}


def test_each_final_status_has_an_event_after_which_a_message_has_it() -> None:
    for kind, status in STATUS_AFTER.items():
        rows = [(1, 0.0, "message.queued", "a/b", "m", '{"queue": "q"}'), (2, 0.0, kind, "a/b", "m", "{}")]
        stored = read("m", rows)
        assert stored is not None
        assert stored.status == status


def test_sql_takes_the_list_as_it_is_written() -> None:
    assert message_status.sql_list(["a", "message.b"]) == "('a', 'message.b')"
