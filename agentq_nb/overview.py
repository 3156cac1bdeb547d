"""From what a host knows of an actor to what ``status()`` says of it. Pure functions."""

from __future__ import annotations

from collections.abc import Container, Sequence

from agentq_nb.activation import Activation
from agentq_nb.actor import Actor
from agentq_nb.lives import Lives
from agentq_nb.mailboxes.protocol import QueueStatus
from agentq_nb.messages import SCHEDULE_QUEUE
from agentq_nb.naming import ActorId, actor_name
from agentq_nb.standing import ActorState, ActorStatus


def actor_status(
    actor: ActorId,
    cls: type[Actor] | None,
    activation: Activation | None,
    lives: Lives,
    queues: Sequence[QueueStatus],
) -> ActorStatus:
    """How one actor stands: ``cls`` and ``activation`` are None where it has none."""
    visible = [queue for queue in queues if queue.queue != SCHEDULE_QUEUE or queue.live or queue.dead]
    declared = () if cls is None else cls.declared.queues
    return ActorStatus(
        actor_id=actor,
        name=actor_name(actor),
        state=_state(cls, activation, lives.failed(actor)),
        run="none" if activation is None else activation.supervisor.run_state,
        restarts_at=None if activation is None else activation.supervisor.restarts_at,
        last_error=lives.last_error(actor) if activation is None else activation.last_error,
        recovered=lives.recovered(actor) if activation is None else activation.recovered,
        closing=None if activation is None else activation.closing,
        queues=visible,
        orphaned=[] if cls is None else [queue.queue for queue in visible if _orphaned(queue, declared)],
    )


def _orphaned(queue: QueueStatus, declared: Container[str]) -> bool:
    return queue.queue not in declared and queue.queue != SCHEDULE_QUEUE and queue.live > 0


def _state(cls: type[Actor] | None, activation: Activation | None, failed: bool) -> ActorState:
    if cls is None:
        return "waiting for its class"
    if activation is None:
        return "failed to start" if failed else "asleep"
    if activation.closing is not None:
        return "closing"
    return "awake" if activation.started.is_set() else "waking"
