"""The capacity of queues: refuse what has no room, and end the waits for room when nothing can be sent any more."""

from __future__ import annotations

from collections.abc import Iterable

from agentq_nb._brokers.local.queues import ActorQueues, QueueState
from agentq_nb._brokers.values import NewMessage
from agentq_nb._policies.admission import Unit
from agentq_nb.errors import QueueFull, Unavailable


def check_room(queue_state: QueueState, new_message: NewMessage, unit: Unit | None) -> None:
    """Raise QueueFull if the limit of ``unit`` is exceeded, or others wait for room.

    Messages without limits, such as scheduled calls, always have room.
    """
    _, actor, queue, _, _, max_size, max_bytes = new_message
    line, limit = queue_state.line, max_bytes if unit == "bytes" else max_size
    if unit is not None or (limit is not None and line is not None and not line.serves(new_message.id)):
        raise QueueFull(actor, queue, limit or 0, unit or "messages")


def end_waits(actors: Iterable[ActorQueues]) -> None:
    """End the wait of every sender that waits for room."""
    for actor_queues in actors:
        for queue_state in actor_queues.queues.values():
            if queue_state.line is not None:
                queue_state.line.fail(_not_sent)


def _not_sent() -> Unavailable:
    return Unavailable(
        "The host stopped, or writing failed, while this send waited for room in its queue: nothing was sent. Send it "
        "again once the host runs."
    )
