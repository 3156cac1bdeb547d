"""The status of queues, from memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

from agentq_nb._brokers.local.live_messages import LiveMessages
from agentq_nb._brokers.local.provider_pauses import held
from agentq_nb._brokers.local.queues import ActorQueues, QueueState, SettledBefore
from agentq_nb._brokers.statuses import QueueStatus
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId
from agentq_nb._policies.pause import Held, PastPause


def statuses(live_messages: LiveMessages, clock: Clock, actor: ActorId | None = None) -> list[QueueStatus]:
    """Return the status of each queue of an actor, or of all actors."""
    if actor is None:
        actors = list(live_messages.actors.values())
        return [queue for actor_queues in actors for queue in statuses_of(live_messages, clock, actor_queues)]
    actor_queues = live_messages.actors.get(actor)
    return [] if actor_queues is None else statuses_of(live_messages, clock, actor_queues)


def statuses_of(live_messages: LiveMessages, clock: Clock, actor_queues: ActorQueues) -> list[QueueStatus]:
    """Return the status of each queue of one actor."""
    limits = live_messages.limits
    held_back, before = live_messages.suspects.hold_back(actor_queues.actor), live_messages.settled_before
    return [
        status_of(queue, clock, before, held_back, held(limits, clock, queue), limits.pauses_of(queue))
        for queue in actor_queues.queues.values()
    ]


def status_of(
    queue_state: QueueState,
    clock: Clock,
    before: SettledBefore | None,
    held_back: bool,
    held: Held,
    pauses: Sequence[PastPause],
) -> QueueStatus:
    """Return the queue's status. ``held_back``: its actor's messages wait for suspects. ``held``: what else holds the queue."""
    first, pause, actor, queue = (
        queue_state.first(),
        queue_state.pause,
        queue_state.actor_queues.actor,
        queue_state.name,
    )
    before = before or {}
    by_hand = None if pause is None or pause.due == math.inf else pause.due
    stopped = None if pause is None else pause.reason
    return QueueStatus(
        actor=actor,
        queue=queue,
        ready=queue_state.count_ready(),
        delayed=len(queue_state.delayed),
        running=len(queue_state.running),
        dead=len(queue_state.dead),
        oldest=None if first is None else max(0.0, clock.time() - first.created_at),
        running_ids=tuple(queue_state.running),
        paused=pause is not None or held.paused,
        paused_until=held.paused_until if pause is None else by_hand,
        handled=queue_state.handled,
        completed=before.get((actor, queue, "completed"), 0) + queue_state.completed,
        expired=max(0, before.get((actor, queue, "expired"), 0) + queue_state.expired),
        per_minute=round(queue_state.pace.per_minute(clock.monotonic()), 1),
        held_back=pause is None and first is not None and held_back,
        waiting_senders=0 if queue_state.line is None else len(queue_state.line),
        pause_reason=held.reason if stopped is None else stopped,
        limited_by=held.limit,
        next_start=held.next_start,
        stopped=stopped is not None,
        pauses=pauses,
        blocked=len(queue_state.blocked),
    )
