"""Which events are one word, and when it is sent."""

from __future__ import annotations

import json

from agentq_nb._policies.notices import QUIET, WINDOW, Grouping, Happened, NoticeKind


def event(kind: NoticeKind = "failed", subject: str = "worker tasks", request: str | None = None) -> Happened:
    return Happened(kind, subject, f"one of {subject}", f"{{count}} of {subject}", "text", request)


def titles(grouping: Grouping, now: float) -> list[str]:
    return [notice.title for notice in grouping.due(now)]


def test_events_that_are_alike_are_one_word_at_the_end_of_the_window() -> None:
    grouping = Grouping()
    for number in range(1500):
        grouping.add(event(), number / 1000)
    grouping.add(event(subject="other"), 1.0)
    assert titles(grouping, WINDOW - 0.1) == []
    assert titles(grouping, WINDOW) == ["1,500 of worker tasks"]
    assert titles(grouping, WINDOW + 1) == ["one of other"]
    assert not grouping.waits


def test_what_follows_a_word_waits_for_longer_where_that_may_go_on_all_night() -> None:
    grouping = Grouping()
    for kind in ("failed", "done"):
        grouping.add(event(kind, kind), 0)
    assert len(grouping.due(WINDOW)) == 2
    for kind in ("failed", "done"):
        grouping.add(event(kind, kind), 10)
    assert titles(grouping, 10 + WINDOW) == ["one of done"]
    assert titles(grouping, QUIET["failed"]) == []
    assert titles(grouping, QUIET["failed"] + WINDOW) == ["one of failed"]


def test_names_may_have_braces() -> None:
    grouping = Grouping()
    for _ in range(2):
        grouping.add(event(subject="{name} {0}"), 0)
    assert titles(grouping, WINDOW) == ["2 of {name} {0}"]


def test_a_request_that_was_answered_is_not_told() -> None:
    grouping = Grouping()
    for request in ("a", "b"):
        grouping.add(event("approval", "vm/a", request), 0)
    grouping.answered("a")
    assert titles(grouping, WINDOW) == ["one of vm/a"]
    grouping.add(event("approval", "vm/b", "c"), 100)
    grouping.answered("c")
    assert not grouping.waits


def test_its_state_goes_through_json() -> None:
    grouping = Grouping()
    grouping.add(event(), 0)
    grouping.due(WINDOW)
    grouping.add(event(), 5)
    grouping.add(event("approval", "vm/a", "a"), 5)
    again = Grouping(json.loads(json.dumps(grouping.stored())))
    again.answered("a")
    assert titles(again, 500) == []
    assert titles(again, QUIET["failed"] + WINDOW) == ["one of worker tasks"]


def test_a_clock_that_was_set_back_keeps_no_word() -> None:
    grouping = Grouping()
    grouping.add(event(), 1_000_000)
    assert titles(grouping, 1000) == ["one of worker tasks"]


def test_all_that_waits_can_be_had_at_once() -> None:
    grouping = Grouping()
    grouping.add(event(), 0)
    assert [notice.title for notice in grouping.due(0, all=True)] == ["one of worker tasks"]


def test_groups_beyond_a_number_are_joined_by_kind() -> None:
    grouping = Grouping()
    for number in range(1500):
        grouping.add(event(subject=f"queue {number}"), 0)
    notices = grouping.due(WINDOW)
    assert len(notices) == 1001
    assert sum(notice.count for notice in notices) == 1500
