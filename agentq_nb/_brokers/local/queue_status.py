"""The status of one queue, from memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

from agentq_nb._brokers.local.provider_pauses import Held
from agentq_nb._brokers.local.queues import QueueState
from agentq_nb._brokers.values import QueueStatus
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId

SettledBefore: TypeAlias = Mapping[tuple[ActorId, str, str], int]
"""By actor, queue and status ("completed", "expired"): how many messages were settled before the broker started."""


def status_of(
    queue_state: QueueState, clock: Clock, before: SettledBefore | None, *, held_back: bool, held: Held
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
        pause_reason=held.reason,
        limited_by=held.limit,
        next_start=held.next_start,
    )
