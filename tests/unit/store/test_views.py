from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from agentq_nb._core import message_status
from agentq_nb._store import EventLog, Row
from agentq_nb._store.schema import _VIEWS as VIEWS
from tests.unit.store.helpers import append, event, queued, with_log

ERROR = {"group": "user", "code": "oops", "message": "No."}


def view(path: Path, query: str, *histories: tuple[float, Row]) -> list[tuple[Any, ...]]:
    """The rows of a query after these events at these seconds."""

    async def use(log: EventLog) -> list[tuple[Any, ...]]:
        for second, row in histories:
            await append(log, row, time=1_800_000_000 + second)
        return log.fetch(query)

    return with_log(path, use)


def message(kind: str, **data: Any) -> Row:
    return event(f"message.{kind}", "m", **data)


SOON = time.time() + 9999
STATUSES = [
    ([], "queued"),
    ([message("started", attempt=1)], "running"),
    ([message("started", attempt=1), message("cancel_requested")], "running"),
    ([message("started", attempt=1), message("completed")], "completed"),
    ([message("started", attempt=1), message("failed", error=ERROR)], "failed"),
    ([message("started", attempt=1), message("retried", error=ERROR, due=1)], "queued"),
    ([message("started", attempt=1), message("retried", error=ERROR, due=SOON)], "delayed"),
    ([message("started", attempt=1), message("released")], "queued"),
    ([message("started", attempt=1), message("crashed", crashes=1)], "queued"),
    ([message("cancelled")], "cancelled"),
    ([message("expired")], "expired"),
    ([message("failed", error=ERROR), message("redelivered")], "queued"),
]


@pytest.mark.parametrize(("history", "status"), STATUSES)
def test_the_status_of_a_message_is_what_happened_last(path: Path, history: list[Row], status: str) -> None:
    rows = [(number, row) for number, row in enumerate([queued("m"), *history])]
    assert view(path, "select status from messages", *rows) == [(status,)]


NOW = {"options": {"priority": 5, "idempotency_key": "k", "delay": 1.0}}
BEFORE_VERSION_3 = {"priority": 5, "key": "k"}


@pytest.mark.parametrize("options", [NOW, BEFORE_VERSION_3], ids=["now", "before version 3"])
def test_a_message_shows_its_times_attempts_reply_and_options(path: Path, options: dict[str, Any]) -> None:
    found = view(
        path,
        "select message_id, actor_id, actor, queue, status, attempts, waited_seconds, handled_seconds, priority,"
        " idempotency_key, body, reply, error from messages",
        (0, queued("m", body={"n": 1}, **options)),
        (1, message("started", attempt=1)),
        (2, message("retried", error=ERROR, due=1)),
        (4, message("started", attempt=2)),
        (7, message("completed", reply=[1, 2])),
    )
    assert found == [
        ("m", "worker/main", "worker", "tasks", "completed", 2, 4.0, 3.0, 5, "k", '{"n":1}', "[1,2]", None)
    ]


@pytest.mark.parametrize(
    ("facts", "origin"),
    [
        ({}, "process"),
        (BEFORE_VERSION_3, "process"),
        (NOW, "process"),
        ({"options": {"origin": "webhook:x"}}, "webhook:x"),
    ],
)
def test_a_message_shows_where_it_came_from(path: Path, facts: dict[str, Any], origin: str) -> None:
    assert view(path, "select origin from messages", (0, queued("m", **facts))) == [(origin,)]


def test_the_views_know_every_status_and_no_other(path: Path) -> None:
    """The statuses of ``message_status``, in the order in which the columns of ``queues`` have them."""
    told = VIEWS.read_text(encoding="utf-8")
    assert {status for _, status in STATUSES} == set(message_status.ALL) - {"blocked"}
    assert set(re.findall(r"message\.(\w+)' then '(\w+)'", told)) >= {
        (status, status) for status in message_status.FINAL
    }
    columns = [name for name, *_ in view(path, "describe queues")]
    assert columns[2 : columns.index("oldest_waiting")] == list(message_status.ALL)
    lists = {tuple(re.findall(r"'([^']+)'", listed)) for listed in re.findall(r"status in \(([^)]*)\)", told)}
    assert lists == {message_status.WAITING, message_status.FINAL}


AFTER: dict[str, Any] = {"options": {"after": ["first", "other"], "delay": 3600.0}}


@pytest.mark.parametrize(
    ("history", "status"),
    [
        ([], "blocked"),
        ([event("message.completed", "first")], "blocked"),
        ([event("message.completed", "first"), event("message.failed", "other", error=ERROR)], "blocked"),
        ([message("cancelled", error=ERROR)], "cancelled"),
        ([message("cancelled", error=ERROR), message("redelivered", revived=True)], "blocked"),
    ],
)
def test_a_message_is_blocked_until_all_that_it_was_sent_after_has_completed(
    path: Path, history: list[Row], status: str
) -> None:
    rows = [queued("first"), queued("other"), queued("m", **AFTER), *history]
    found = view(path, "select status, after from messages where message_id = 'm'", *enumerate(rows))
    assert found == [(status, ["first", "other"])]


@pytest.mark.parametrize(("ago", "status"), [(3500, "delayed"), (3700, "queued")])
def test_its_delay_counts_from_when_the_last_of_them_completed(path: Path, ago: int, status: str) -> None:
    now = time.time() - 1_800_000_000
    rows = [(now - 9000, queued("first")), (now - 9000, queued("other")), (now - 9000, queued("m", **AFTER))]
    rows += [(now - ago, event("message.completed", name)) for name in ("first", "other")]
    assert view(path, "select status from messages where message_id = 'm'", *rows) == [(status,)]


@pytest.mark.parametrize("status", message_status.FINAL)
def test_a_message_whose_last_event_is_final_is_a_result_with_a_time(path: Path, status: str) -> None:
    rows = [(0, queued("m")), (1, message("started", attempt=1)), (3, message(status, error=ERROR))]
    found = view(
        path,
        "select results.status, results.finished_at is not null, handled_seconds from results join messages using (message_id)",
        *rows,
    )
    assert found == [(status, True, 2.0 if status in message_status.HANDLED else None)]


@pytest.mark.parametrize("status", message_status.FINAL)
def test_every_final_status_ends_the_attempt(path: Path, status: str) -> None:
    rows = [(0, queued("m")), (1, message("started", attempt=1)), (3, message(status, error=ERROR))]
    assert view(path, "select outcome, ended_at is not null from attempts", *rows) == [(status, True)]


def test_a_delayed_message_is_delayed_until_it_is_due(path: Path) -> None:
    rows = [(0, queued("later", due=SOON)), (0, queued("now", due=1))]
    assert view(path, "select message_id, status from messages order by 1", *rows) == [
        ("later", "delayed"),
        ("now", "queued"),
    ]


def test_queues_count_by_status_and_results_hold_what_is_settled(path: Path) -> None:
    rows = [
        (0, queued("m")),
        (0, queued("n")),
        (0, queued("o", queue="other")),
        (0, queued("hidden", queue="$schedule")),
        (1, message("started", attempt=1)),
        (2, message("failed", error=ERROR, reason="dead")),
    ]
    assert view(path, "select actor_id, queue, queued, running, failed from queues order by 2", *rows) == [
        ("worker/main", "other", 1, 0, 0),
        ("worker/main", "tasks", 1, 0, 1),
    ]
    assert view(path, "select message_id, status, error->>'$.message' from results") == [("m", "failed", "No.")]


def test_queues_show_the_pauses_that_are_in_force_also_without_messages(path: Path) -> None:
    def paused(queue: str, until: float | None = None, actor: str = "worker/main") -> tuple[float, Row]:
        return (0, event("queue.paused", actor=actor, queue=queue, until=until))

    rows = [
        (0, queued("m")),
        (0, queued("n", queue="other")),
        paused("tasks"),
        paused("empty", SOON),
        paused("over", 5.0),
        paused("other"),
        (0, event("queue.resumed", queue="other")),
        paused("again", SOON),
        paused("again"),
        paused("tasks", actor="worker/ended"),
        (0, event("actor.destroyed", actor="worker/ended")),
    ]
    shown = "select actor_id, queue, queued, running, paused, epoch(paused_until) from queues order by 2"
    assert view(path, shown, *rows) == [
        ("worker/main", "again", 0, 0, True, None),
        ("worker/main", "empty", 0, 0, True, pytest.approx(SOON)),
        ("worker/main", "other", 1, 0, False, None),
        ("worker/main", "tasks", 1, 0, True, None),
    ]


def test_each_start_is_an_attempt_with_its_outcome(path: Path) -> None:
    found = view(
        path,
        "select attempt, outcome, epoch(ended_at - started_at), error->>'$.code' from attempts order by started_at",
        (0, queued("m")),
        (0, queued("hidden", queue="$schedule")),
        (0, event("message.started", "hidden", attempt=1)),
        (1, message("started", attempt=1)),
        (2, message("retried", error=ERROR, due=1)),
        (3, message("started", attempt=2)),
        (5, message("crashed", crashes=1)),
        (6, message("started", attempt=3)),
        (7, message("cancel_requested")),
        (9, message("completed")),
        (10, queued("n")),
        (11, event("message.started", "n", attempt=1)),
    )
    assert found == [
        (1, "retried", 1.0, "oops"),
        (2, "crashed", 2.0, None),
        (3, "completed", 3.0, None),
        (1, "running", None, None),
    ]


def test_sessions_and_transcripts_are_told_from_their_events(path: Path) -> None:
    def session(kind: str, name: str, **data: Any) -> Row:
        return event(f"session.{kind}", session=name, actor="vm/a", **data)

    rows = [
        (0, session("created", "s", agent="pi", keep=False)),
        (1, session("event", "s", index=1, type="prompt", text="Hello")),
        (2, session("event", "s", index=2, type="text", text="H")),
        (2, session("event", "s", index=3, type="text", text="i")),
        (2, session("event", "s", index=4, type="result", stop_reason="end_turn")),
        (3, session("closed", "s")),
        (4, session("created", "t", agent="shell", keep=True)),
    ]
    assert view(
        path, "select session_id, actor_id, agent, status, events, prompts from sessions order by 1", *rows
    ) == [
        ("s", "vm/a", "pi", "closed", 4, 1),
        ("t", "vm/a", "shell", "open", 0, 0),
    ]
    assert view(path, "select session_id, actor_id, index, type, text, data from transcripts order by index") == [
        ("s", "vm/a", 1, "prompt", "Hello", "{}"),
        ("s", "vm/a", 2, "text", "Hi", "{}"),
        ("s", "vm/a", 4, "result", None, '{"stop_reason":"end_turn"}'),
    ]


def test_actors_show_their_latest_state_and_whether_they_were_destroyed(path: Path) -> None:
    rows = [
        (0, event("actor.created", actor="a/1", input=1)),
        (1, event("actor.state", actor="a/1", state={"n": 1})),
        (2, event("actor.state", actor="a/1", state={"n": 2})),
        (3, event("actor.created", actor="b/1")),
        (4, event("actor.state", actor="b/1", state={"n": 3})),
        (5, event("actor.destroyed", actor="b/1")),
    ]
    assert view(path, "select actor_id, name, input, state, destroyed from actors order by 1", *rows) == [
        ("a/1", "a", "1", '{"n":2}', False),
        ("b/1", "b", None, None, True),
    ]


def limited(second: float, name: str, since: float, until: float, known: bool = True, **more: Any) -> tuple[float, Row]:
    """A provider's pause as it is stored; all times but the first are in seconds since 1970."""
    facts = {"limit": name, "since": since, "until": until, "known": known, "guesses": 0, "reason": f"said at {second}"}
    return second, event("limit.paused", **facts, **more)


BEGAN = 1_700_000_000.0
PAST_PAUSES = [
    (second - 100_000_000, row)
    for second, row in [
        (0, queued("m")),
        (0, queued("n", actor="worker/second")),
        limited(10, "worker/main tasks", BEGAN + 10, BEGAN + 70),
        limited(80, "worker/main tasks", BEGAN + 10, BEGAN + 100),  # no message had succeeded since
        limited(200, "worker/main tasks", BEGAN + 200, BEGAN + 260),
        (230, event("limit.resumed", actor=None, limit="worker/main tasks")),
        limited(300, "worker/main tasks", BEGAN + 300, BEGAN + 305, known=False),
        limited(306, "worker/main tasks", BEGAN + 300, BEGAN + 316, known=False),
        (317, event("limit.resumed", actor=None, limit="worker/main tasks")),
        (400, event("queue.paused", queue="tasks", until=None)),
        (450, event("queue.resumed", queue="tasks")),
        (500, event("queue.paused", queue="tasks", until=BEGAN + 520)),
        (600, event("queue.paused", actor="worker/ended", queue="tasks", until=None)),
        (660, event("actor.destroyed", actor="worker/ended")),
        (680, event("queue.paused", queue="tasks", until=None, reason="10 messages failed")),
        (690, event("queue.resumed", queue="tasks")),
    ]
]


def test_pauses_show_what_held_queues_up_and_for_how_long(path: Path) -> None:
    shown = "select epoch(began_at) - 1700000000, epoch(ended_at) - 1700000000, seconds, cause, reason, actor_id, queue"
    assert view(path, f"{shown} from pauses order by 1", *PAST_PAUSES) == [
        (10, 100, 90, "provider", "said at 80", "worker/main", "tasks"),
        (200, 230, 30, "provider", "said at 200", "worker/main", "tasks"),
        (300, 317, 17, "provider", "said at 306", "worker/main", "tasks"),
        (400, 450, 50, "by hand", None, "worker/main", "tasks"),
        (500, 520, 20, "by hand", None, "worker/main", "tasks"),
        (600, 660, 60, "by hand", None, "worker/ended", "tasks"),
        (680, 690, 10, "failures", "10 messages failed", "worker/main", "tasks"),
    ]


def test_queues_show_the_pauses_of_providers_also_of_queues_that_share_a_limit(path: Path) -> None:
    now = time.time()
    rows = [
        *PAST_PAUSES,
        (700, queued("o", queue="alone")),
        limited(701, "worker/main alone", now, now + 60),
        limited(702, "api", now, now - 1, known=False, queues=["worker tasks"]),  # one message at a time is tried
    ]
    shown = "select actor_id, queue, queued, paused, pause_reason, limited_by from queues order by 1, 2"
    assert view(path, shown, *rows) == [
        ("worker/main", "alone", 1, True, "said at 701", None),
        ("worker/main", "tasks", 1, True, "said at 702", "api"),
        ("worker/second", "tasks", 1, True, "said at 702", "api"),
    ]
    open_ones = (
        "select limit_name, queue, shared_by, ended_at, seconds >= 0 from pauses where ended_at is null order by 1"
    )
    assert view(path, open_ones, *rows) == [
        ("api", None, ["worker tasks"], None, True),
        (None, "alone", None, None, True),
    ]
