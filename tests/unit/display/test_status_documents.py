"""What ``%agentq status`` shows of hosts and actors."""

from __future__ import annotations

from pathlib import Path

import agentq_nb._display.hosts  # noqa: F401  # it says how these are shown
from agentq_nb._brokers.statuses import QueueStatus
from agentq_nb._client.status import ActorStatus, HostStatus
from agentq_nb._core.loop_monitor import Stall
from agentq_nb._display.document import Cell, as_text, document_of

QUEUE = QueueStatus("worker/main", "jobs", ready=19, running=1, dead=2, completed=10, per_minute=10.0, oldest=75.0)
FAILED = ActorStatus("worker/main", "worker", "awake", last_error={"type": "OSError", "message": "no disk"})


def status(*actors: ActorStatus, stall: Stall | None = None) -> HostStatus:
    return HostStatus(running=True, store=Path("/a.duckdb"), actors=actors, stall=stall)


def test_a_queue_is_shown_with_what_is_done_what_failed_how_fast_it_goes_and_the_time_left() -> None:
    document = document_of(status(ActorStatus("worker/main", "worker", "awake", queues=[QUEUE])))
    row = dict(zip(document.columns, document.rows[0], strict=True))
    assert (row["done"], row["failed"], row["per min"]) == ("12 of 32", Cell("2", "bad"), 10)
    assert (row["time left"], row["oldest"]) == ("2 min", "1 min 15 s")


def test_a_problem_is_gone_from_status_after_recovery() -> None:
    recovered = ActorStatus("worker/main", "worker", "awake", last_error=FAILED.last_error, recovered=True)
    assert "no disk" in as_text(document_of(status(FAILED)))
    assert "no disk" not in as_text(document_of(status(recovered)))
    assert "a message was completed since" in as_text(document_of(recovered))


def test_a_suspended_process_is_not_blamed_on_a_cell() -> None:
    shown = as_text(document_of(status(stall=Stall(30.0, 0.0, "the whole process was suspended", suspended=True))))
    assert "suspended" in shown
    assert "Cells that block" not in shown
