"""What follows from the numbers of a queue."""

from __future__ import annotations

from agentq_nb._brokers.statuses import QueueStatus


def test_all_that_waits_or_runs_is_live_and_dead_letters_are_not() -> None:
    status = QueueStatus("worker/main", "tasks", ready=1, delayed=10, running=100, dead=1000)
    assert status.live == 111
