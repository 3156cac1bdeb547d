"""The picture that stays in a notebook: whatever it shows, it holds no script and nothing that is not escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from agentq_nb._display.document import safe
from agentq_nb._notebook.dashboard import static_view

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)> [x](javascript:alert(3)) \x1b[31mred\x1b[0m "
    "\u202egnp.exe \0 \ud800 " + "long" * 300_000
)
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


BATCH = {"total": 30, "done": 17, "failed": 2, "cancelled": 1, "running": 3, "waiting": 7, "per_minute": 12.5}
LIMIT = {
    "count": 20,
    "declared_count": 50,
    "per": 60.0,
    "declared_per": 60.0,
    "used": 20,
    "next_start": 75,
    "paused_until": 400.0,
    "waiting": 3,
}


class Tags(HTMLParser):
    """The tags of a page, and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}


def sections(text: str = HOSTILE) -> dict[str, dict[str, dict[str, Any]]]:
    bad = safe(text)
    queue = {
        "actor": bad,
        "queue": bad,
        "ready": 1,
        "delayed": 2,
        "blocked": 0,
        "running": 0,
        "dead": 3,
        "completed": 4,
    }
    return {
        "host": {"it": {"store": bad, "trouble": bad}},
        "queues": {"a": {**queue, "oldest_at": 5.0, "paused": True}},
        "batches": {"b": {**BATCH, "name": bad, "stopped": bad, "failures": [{"what": bad, "rows": "3", "count": 2}]}},
        "limits": {"l": {**LIMIT, "name": bad, "queues": [bad]}},
        "pauses": {
            "p": {
                "name": bad,
                "limit": None,
                "queue": "a b",
                "until": 400.0,
                "reason": bad,
                "stopped": False,
                "waiting": 1,
            }
        },
        "actors": {"a": {"actor": bad, "error": bad, "state": "failed to start"}},
        "requests": {"r": {"title": bad}},
        "sessions": {"s": {"agent": bad, "actor": bad, "status": "running", "said": bad}},
        "messages": {
            "m": {
                "created_at": 5.0,
                "actor": bad,
                "queue": bad,
                "status": "failed",
                "body": bad,
                "outcome": bad,
                "bad": True,
            }
        },
        "message": {"it": {"id": "m", "actor": bad, "queue": bad, "status": "failed", "reply": bad, "error": bad}},
        "session": {"it": {"id": "s", "actor": bad, "agent": bad, "status": "closed"}},
        "blocks": {"1": {"type": "text", "text": bad, "data": bad}},
    }


def test_pictures_hold_no_script_and_everything_is_escaped() -> None:
    for draw in (static_view.of_dashboard, static_view.of_message, static_view.of_session):
        documents = draw(sections(), 10.0)
        page, plain = static_view.as_page(documents, "dashboard"), static_view.as_plain(documents)
        tags = Tags()
        tags.feed(page)
        assert tags.found <= {"div", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "pre"}
        assert tags.attributes <= {"style", "class", "data-agentq-picture", "open"}
        assert "&lt;script&gt;" in page
        assert not UNSAFE.search(page + plain)
        assert len(page) < 60_000


def test_a_picture_says_what_was_seen_last() -> None:
    plain = static_view.as_plain(static_view.of_dashboard(sections("jobs"), 10.0))
    assert "as of" in plain
    assert "1970-01-01 00:00:10 UTC" in plain
    assert "(paused)" in plain
    assert "7 of 10" in plain
    assert "jobs (stopped)" in plain
    assert "17 of 30, 1 cancelled" in plain
    assert "2 rows: jobs" in plain
    assert "paused: jobs" in plain
    assert "until 00:06:40 UTC: jobs" in plain
    assert "jobs (paused)" in plain
    assert "20 of 20 (declared 50) per 60 s" in plain
    assert "00:01:15" in plain


def test_a_picture_says_which_queues_failures_have_stopped_and_why() -> None:
    seen = sections("jobs")
    seen["pauses"]["p"].update(stopped=True, until=None)
    seen["queues"]["a"]["stopped"] = True
    plain = static_view.as_plain(static_view.of_dashboard(seen, 10.0))
    assert re.search("stopped: jobs +jobs\n", plain)
    assert "jobs (stopped)" in plain


def test_before_the_first_look_there_is_a_picture_too() -> None:
    assert "agentq dashboard" in static_view.as_plain(static_view.of_dashboard({}, 10.0))


def test_a_picture_is_short_and_says_where_the_rest_is() -> None:
    many = sections("jobs")
    for name in ("sessions", "messages", "batches", "limits", "pauses", "queues"):
        (row,) = many[name].values()
        many[name] = {str(number): {**row, "status": "completed", "stopped": None} for number in range(60)}
    closed = {str(number): {**row, "status": "closed"} for number, row in enumerate(many["sessions"].values())}
    many["sessions"] = {**closed, "open": {**closed["0"], "status": "running", "said": "still at it"}}
    plain = static_view.as_plain(static_view.of_dashboard(many, 10.0))
    assert "still at it" in plain
    assert len(plain.splitlines()) < 105
    assert "%agentq sessions" in plain
    assert "%agentq results" in plain
    assert "%agentq batches" in plain
    assert plain.count("%agentq limits") == 2
    assert "There are 40 more: %agentq status" in plain


def test_a_picture_says_that_there_are_more_messages_only_if_there_are() -> None:
    (row,) = sections("jobs")["messages"].values()
    for count, more in ((10, False), (11, True)):
        few = {**sections("jobs"), "messages": {str(number): row for number in range(count)}}
        plain = static_view.as_plain(static_view.of_dashboard(few, 10.0))
        assert ("There are more: %agentq results" in plain) is more


def test_a_picture_of_a_session_shows_the_end_of_its_transcript() -> None:
    blocks = {str(number): {"type": "text", "text": f"line {number}.", "data": ""} for number in range(120)}
    plain = static_view.as_plain(static_view.of_session({**sections("jobs"), "blocks": blocks}, 10.0))
    assert "line 119." in plain
    assert "line 70." in plain
    assert "line 69." not in plain
