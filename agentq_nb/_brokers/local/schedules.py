"""The messages of named schedules: at most one waits for each name. And what is unsettled in a queue."""

from __future__ import annotations

from collections.abc import Sequence

from agentq_nb._actor.message import CRON_QUEUE
from agentq_nb._brokers.local.commit import CommitLog, Settled
from agentq_nb._brokers.local.live_messages import LiveMessages
from agentq_nb._brokers.local.queues import ActorQueues, LiveMessage
from agentq_nb._brokers.messages import Commit, NewMessage, Unsettled
from agentq_nb._core.ids import ActorId
from agentq_nb._core.time_slice import Slices
from agentq_nb.errors import StoreError, Unavailable


def add(
    commit_log: CommitLog, actor_queues: ActorQueues, commit: Commit
) -> tuple[Sequence[LiveMessage], Sequence[Settled]]:
    """Add what a commit schedules, after its settlements. Return the new messages, and those that they replace."""
    added: list[LiveMessage] = []
    replaced: list[Settled] = []
    for new_message in commit.schedule:
        if new_message.id in commit_log.live_messages.entries:
            continue
        if new_message.schedule is not None:
            latest = actor_queues.scheduled.get(new_message.schedule)
            if latest is not None and not latest.gone and not latest.running:
                replaced.append(commit_log.cancel(latest))
        added.append(_enter(commit_log, actor_queues, new_message))
    if commit.successor is not None and _succeeds(actor_queues, commit, commit.successor):
        added.append(_enter(commit_log, actor_queues, commit.successor))
    return added, replaced


def _succeeds(actor_queues: ActorQueues, commit: Commit, successor: NewMessage) -> bool:
    latest = actor_queues.scheduled.get(successor.schedule or "")
    if latest is None or latest.cancelling:
        return False
    return any(settlement.delivery.id == latest.id for settlement in commit.settlements)


def _enter(commit_log: CommitLog, actor_queues: ActorQueues, new_message: NewMessage) -> LiveMessage:
    entry = commit_log.live_messages.enter(new_message)
    entry.first = commit_log.log.last_seq + 1
    if new_message.schedule is not None:
        actor_queues.scheduled[new_message.schedule] = entry
    return entry


async def unsettled(commit_log: CommitLog, actor_queues: ActorQueues, queue: str) -> Sequence[Unsettled]:
    """See :meth:`agentq_nb._brokers.base.Lease.unsettled`."""
    queue_state = actor_queues.queues.get(queue)
    if queue_state is None or not queue_state.live:
        return ()
    found = {entry.id: entry for entry in (*queue_state.running.values(), *queue_state.waiting())}
    # Those still being written are not in the queue yet.
    latest = actor_queues.scheduled.values()
    found.update({entry.id: entry for entry in latest if not entry.gone and entry.queue == queue})
    entries = sorted(found.values(), key=lambda entry: entry.order)
    bodies = {entry.id: entry.body for entry in entries}
    if large := [entry for entry in entries if not entry.body]:
        try:
            read = await commit_log.read_bodies(large)
        except StoreError as error:
            raise Unavailable(f"Scheduled calls of '{actor_queues.actor}' cannot be read: {error.message}") from error
        bodies.update({entry.id: body for entry, body in zip(large, read, strict=True)})
    return [
        Unsettled(entry.id, bodies[entry.id], entry.options, entry.due, entry.running, entry.cancelling)
        for entry in entries
        if not entry.gone
    ]


async def unsettled_of_all(commit_log: CommitLog, name: str, queue: str) -> dict[ActorId, Sequence[Unsettled]]:
    """See :meth:`agentq_nb._brokers.base.Broker.unsettled`."""
    found: dict[ActorId, Sequence[Unsettled]] = {}
    slices = Slices()
    for actor_queues in list(commit_log.live_messages.actors.values()):
        if actor_queues.name == name and (messages := await unsettled(commit_log, actor_queues, queue)):
            found[actor_queues.actor] = messages
        await slices.pause()
    return found


def count_others(live_messages: LiveMessages) -> int:
    """Return how many messages are unsettled that are not the next call of a cron schedule."""
    of_crons = [actor_queues.queues.get(CRON_QUEUE) for actor_queues in live_messages.actors.values()]
    return len(live_messages.entries) - sum(queue_state.live for queue_state in of_crons if queue_state is not None)
