"""Apply the commits of leases to memory: settle messages, save state, schedule calls, destroy actors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentq_nb._actor.failure_record import warn_of_stop
from agentq_nb._actor.message import brief
from agentq_nb._brokers.local import event_rows, provider_pauses, schedules
from agentq_nb._brokers.local.commit import CommitLog
from agentq_nb._brokers.local.queues import ActorQueues, LiveMessage, Pausing
from agentq_nb._brokers.messages import Commit, Settlement, StoredResult
from agentq_nb._core.ids import MessageId
from agentq_nb._core.message_status import FinalStatus
from agentq_nb._policies.retry import Failure, FailureRun
from agentq_nb._store import Row
from agentq_nb.errors import LeaseLost

_PUTS_BACK = ("again", "released")


@dataclass(slots=True)
class Applied:
    """A commit applied to memory: its rows, still to be written, and what to publish once they are durable."""

    rows: list[Row]
    finished: list[StoredResult]
    arrivals: Sequence[LiveMessage] = ()
    ended: Sequence[Pausing] = ()
    """Pauses that end because the actor is destroyed."""
    stopped: Sequence[tuple[Pausing, str]] = ()
    """Pauses that begin because messages failed, each with its reason, which is shown once it is durable."""

    def tell(self, commit_log: CommitLog) -> None:
        """Publish the commit, once it is durable."""
        for pause in self.ended:
            commit_log.live_messages.pauses.end(pause)
        if self.arrivals:
            commit_log.live_messages.arrive(self.arrivals)
        commit_log.results.publish(self.finished)
        for pause, reason in self.stopped:
            pause.reason = reason
            commit_log.batches.wake(pause.actor, pause.queue)
            warn_of_stop(pause.actor, pause.queue, reason)


def apply(commit_log: CommitLog, actor_queues: ActorQueues, commit: Commit) -> Applied:
    """Apply a commit to memory at once. Rows are written in order, so it cannot become visible before it is durable.

    Raises LeaseLost if nothing was applied.
    """
    applied = Applied([], [])
    for settlement in commit.settlements:
        _check_held(commit_log, settlement)
    for settlement in commit.settlements:
        if actor_queues.gates or settlement.limited:
            settlement = _limited(commit_log, settlement, applied)
        if settlement.failure is not None:
            settlement = _failed(commit_log, settlement, settlement.failure, applied, commit.settlements[0].delivery.id)
        _settle(commit_log, settlement, applied)
    if commit.state is not None:
        if actor_queues.state is None:
            applied.rows.append(event_rows.of_actor("actor.created", actor_queues.actor))
        actor_queues.state = commit.state
        applied.rows.append(event_rows.state(actor_queues.actor, commit.state))
    if commit.schedule or commit.successor is not None:
        added, replaced = schedules.add(commit_log, actor_queues, commit)
        applied.arrivals = added
        applied.rows += map(event_rows.queued, added)
        applied.rows += [row for row, _ in replaced]
        applied.finished += [result for _, result in replaced]
    if commit.destroy:
        _destroy(commit_log, actor_queues, applied)
    return applied


def _destroy(commit_log: CommitLog, actor_queues: ActorQueues, applied: Applied) -> None:
    for entry in [entry for entry in commit_log.live_messages.entries.values() if entry.actor == actor_queues.actor]:
        row, result = commit_log.cancel(entry)
        applied.rows.append(row)
        applied.finished.append(result)
    actor_queues.state = None
    for queue_state in actor_queues.queues.values():
        applied.rows += provider_pauses.forget(commit_log.live_messages.limits, queue_state)
    applied.rows.append(event_rows.of_actor("actor.destroyed", actor_queues.actor))
    applied.ended = [queue_state.pause for queue_state in actor_queues.queues.values() if queue_state.pause is not None]


def _check_held(commit_log: CommitLog, settlement: Settlement) -> None:
    delivery = settlement.delivery
    entry = commit_log.live_messages.entries.get(delivery.id)
    if entry is None or not entry.running or entry.starts != delivery.token:
        raise LeaseLost(
            f"Message {delivery.id} is not held here any more (it was taken back, or a write failed): nothing was "
            "written, and it comes again."
        )


def _limited(commit_log: CommitLog, settlement: Settlement, applied: Applied) -> Settlement:
    """Pause the queue whose message met a provider's limit, and return how the message then settles."""
    limits, entry = commit_log.live_messages.limits, commit_log.live_messages.entries[settlement.delivery.id]
    if (met := settlement.limited) is not None:
        written = provider_pauses.pause(limits, commit_log.clock, entry, met)
        if written is not None:
            applied.rows += written
            return settlement._replace(outcome="released")
        settlement = met.otherwise
    applied.rows += provider_pauses.settled(limits, commit_log.clock, entry, settlement.outcome)
    return settlement


def _failed(
    commit_log: CommitLog, settlement: Settlement, failure: Failure, applied: Applied, counted: MessageId
) -> Settlement:
    """Count a failed attempt, as one at the message ``counted``. It may stop its queue; return how it then settles."""
    entry = commit_log.live_messages.entries[settlement.delivery.id]
    queue_state = entry.queue_state
    run = queue_state.failures
    if run is None:
        run = queue_state.failures = FailureRun()
    if run.stopped:
        stopped_now = any(pause is queue_state.pause for pause, _ in applied.stopped)
        if stopped_now or settlement.outcome == "failed" or not run.tells_nothing_new(failure):
            return settlement
        return settlement._replace(outcome="released", front=True)
    reason = run.failed(counted, failure, queue_state.completed)
    if reason is not None:
        pause = commit_log.live_messages.pauses.begin(entry.actor, entry.queue, None)
        applied.stopped = [*applied.stopped, (pause, reason)]
        applied.rows.append(event_rows.paused(entry.actor, entry.queue, None, reason))
    return settlement


def _settle(commit_log: CommitLog, settlement: Settlement, applied: Applied) -> None:
    entry = commit_log.live_messages.entries[settlement.delivery.id]
    outcome = settlement.outcome
    if outcome not in _PUTS_BACK:
        applied.rows.append(event_rows.settled(entry, settlement, 0.0))
        status: FinalStatus = "completed" if outcome == "completed" else "failed"
        applied.finished.append(commit_log.settle(entry, status, settlement.reply, settlement.error, handled=True))
    elif entry.cancelling:
        row, result = commit_log.cancel(entry, handled=True)
        applied.rows.append(row)
        applied.finished.append(result)
    else:
        due = commit_log.clock.time() + settlement.delay if settlement.delay > 0 else 0.0
        applied.rows.append(event_rows.settled(entry, settlement, due))
        commit_log.live_messages.take_back(entry)
        _repeat(entry, settlement, due)
        commit_log.live_messages.place(entry)


def _repeat(entry: LiveMessage, settlement: Settlement, due: float) -> None:
    if settlement.outcome == "again":
        entry.failures += 1
        entry.ended += 1
        entry.crashes = 0
        entry.problem, entry.released_because = brief(settlement.error), None
        entry.front, entry.due, entry.in_order = settlement.front, due, settlement.in_order
    else:
        entry.front, entry.due = True, 0.0
        if settlement.limited is not None:
            entry.released_because = settlement.limited.reason
