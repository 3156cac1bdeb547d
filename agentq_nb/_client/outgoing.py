"""Turn what a sender gives into a message that fits its queue."""

from __future__ import annotations

from typing import Any

from agentq_nb._actor.queue import Queue
from agentq_nb._actor.send_options import StoredOptions, with_ttl
from agentq_nb._brokers.values import NewMessage
from agentq_nb._core.ids import ActorId, actor_name, mint_id
from agentq_nb.errors import MessageTooLarge


def new_message(declared: Queue[Any, Any], actor: ActorId, body: Any, options: StoredOptions) -> NewMessage:
    """Return the message to enqueue. Raises ``actor.validation_error`` and ``queue.message_too_large``."""
    encoded = declared.body.dump(body, lambda: f"Body for queue '{declared.name}' of actor '{actor_name(actor)}'")
    if len(encoded) > declared.largest_body:
        limits = (declared.max_message_bytes, declared.max_bytes)
        raise MessageTooLarge(actor, declared.name, len(encoded), *limits)
    if declared.ttl is not None or "ttl" in options:
        options = with_ttl(options, declared.ttl)
    return NewMessage(mint_id(), actor, declared.name, encoded, options, declared.max_size, declared.max_bytes)
