"""Why a message is not settled yet, for each thing that may hold it up."""

from __future__ import annotations

import pytest

from agentq_nb._brokers.messages import StoredResult
from agentq_nb._brokers.statuses import QueueStatus
from agentq_nb._client.status import ActorStatus
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.message_status import LiveStatus
from agentq_nb._host.host_status import Circumstances, why_unsettled

ACTOR = ActorId("runner/main")
ERROR = {"type": "KeyError", "message": "'prompt'", "traceback": "…"}
NOON = 1_767_268_800.0


def message(status: LiveStatus = "queued", attempts: int = 0, due: float | None = None, problem: str | None = None):
    return StoredResult(MessageId("m1"), ACTOR, "tasks", status, attempts, due=due, problem=problem)


def actor(queue: QueueStatus | None = None, **facts: object) -> ActorStatus:
    queues = (queue or QueueStatus(ACTOR, "tasks", ready=1),)
    return ActorStatus(ACTOR, "runner", **{"state": "awake", "run": "running", "queues": queues, **facts})  # type: ignore[arg-type]


def why(message: StoredResult, actor: ActorStatus, *, is_taken: bool = True, running_for: float | None = None) -> str:
    return why_unsettled(
        Circumstances(message=message, actor=actor, is_taken=is_taken, now=NOON, running_for=running_for)
    )


@pytest.mark.parametrize(
    ("said", "stored", "circumstances"),
    [
        ("no actor class is registered as 'runner'. Run the cell", message(), actor(state="waiting for its class")),
        ("does not declare queue 'tasks' any more", message(), actor(orphaned=["tasks"])),
        ("is paused by hand", message(), actor(QueueStatus(ACTOR, "tasks", ready=1, paused=True))),
        ("%agentq resume runner/main tasks", message(), actor(QueueStatus(ACTOR, "tasks", ready=1, paused=True))),
        (
            "is paused until 2026-01-01 12:01:00 UTC",
            message(),
            actor(QueueStatus(ACTOR, "tasks", ready=1, paused=True, paused_until=NOON + 60)),
        ),
        (
            "the kernel died while several messages were handled. They are tried again first, one at a time",
            message(),
            actor(QueueStatus(ACTOR, "tasks", ready=1, held_back=True)),
        ),
        (
            "its actor does not start. KeyError: 'prompt'. It is tried again.",
            message(),
            actor(state="failed to start", run="none", last_error=ERROR),
        ),
        (
            "`run` of its actor failed. KeyError: 'prompt'. It is started again in 4 s.",
            message(),
            actor(run="restarting", restarts_at=NOON + 4, last_error=ERROR),
        ),
        (
            "its actor is handling message m0 of queue 'tasks'; 2 others of queue 'tasks' wait too.",
            message(),
            actor(QueueStatus(ACTOR, "tasks", ready=3, running=1, running_ids=[MessageId("m0")])),
        ),
        ("`run` of its actor has returned without asking for it.", message(), actor(run="returned")),
        ("does not ask for messages of queue 'tasks' just now. KeyError", message(), actor(last_error=ERROR)),
        ("its actor is waking up", message(), actor(state="waking", run="none")),
        ("It has been running for 12 s, attempt 1.", message("running", 1), actor()),
        (
            "attempt 2. Its last attempt failed: ValueError: no.",
            message("running", 2, problem="ValueError: no"),
            actor(),
        ),
        ("It is due in 30 s, at 2026-01-01 12:00:30 UTC.", message("delayed", due=NOON + 30), actor()),
        (
            "Its last attempt failed: ValueError: no. It is tried again in 30 s, at 2026-01-01 12:00:30 UTC.",
            message("delayed", 1, NOON + 30, "ValueError: no"),
            actor(),
        ),
    ],
)
def test_the_reason_names_what_holds_the_message_up(
    said: str, stored: StoredResult, circumstances: ActorStatus
) -> None:
    reason = why(stored, circumstances, running_for=12.0)
    assert said in reason
    assert "\n" not in reason
    assert "…" not in reason


def test_a_class_without_run_is_named() -> None:
    assert "'runner' has no handler for it and no `run`: only its actions can take messages." in why(
        message(), actor(run="none"), is_taken=False
    )


def test_an_error_that_is_over_is_not_told() -> None:
    assert "KeyError" not in why(message(), actor(last_error=ERROR, recovered=True))
