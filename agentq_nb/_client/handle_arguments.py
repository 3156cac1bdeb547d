"""What users give for a queue, resolved and checked: its name, the body of a message, the end of a pause."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from agentq_nb._actor.actor import Actor
from agentq_nb._actor.queue import Queue
from agentq_nb._actor.send_options import StoredOptions, with_ttl
from agentq_nb._brokers.messages import NewMessage
from agentq_nb._brokers.statuses import QueueStatus
from agentq_nb._client.status import ActorStatus
from agentq_nb._core.clock import timestamp
from agentq_nb._core.ids import ActorId, actor_name, mint_id
from agentq_nb._core.number_options import LONGEST, is_positive
from agentq_nb.errors import ActorUnknown, MessageTooLarge, QueueUnknown, ValidationFailed


def declared(classes: Mapping[str, type[Actor]], name: str, queue: str) -> Queue[Any, Any]:
    """Return the queue's declaration in the class of this name. Raises ActorUnknown, QueueUnknown."""
    cls = classes.get(name)
    if cls is None:
        raise ActorUnknown(name, list(classes))
    found = cls.declared.queues.get(queue)
    if found is None:
        raise QueueUnknown(name, queue, list(cls.declared.queues))
    return found


def new_message(declared: Queue[Any, Any], actor: ActorId, body: Any, options: StoredOptions) -> NewMessage:
    """Return the message to enqueue. Raises ``actor.validation_error`` and ``queue.message_too_large``."""
    encoded = declared.body.dump(body, lambda: f"Body for queue '{declared.name}' of actor '{actor_name(actor)}'")
    check_size(declared, actor, encoded)
    if declared.ttl is not None or "ttl" in options:
        options = with_ttl(options, declared.ttl)
    return NewMessage(mint_id(), actor, declared.name, encoded, options, declared.max_size, declared.max_bytes)


def check_size(declared: Queue[Any, Any], actor: ActorId, encoded: bytes) -> None:
    """Raise MessageTooLarge for a body that the queue does not take."""
    if len(encoded) > declared.largest_body:
        limits = (declared.max_message_bytes, declared.max_bytes)
        raise MessageTooLarge(actor, declared.name, len(encoded), *limits)


def standing(status: ActorStatus, classes: Mapping[str, type[Actor]], actor: ActorId, queue: str) -> QueueStatus:
    """Return the status of a queue that is declared, or that is undeclared but holds messages or is paused.

    Raises ActorUnknown, QueueUnknown.
    """
    found = next((known for known in status.queues if known.queue == queue), QueueStatus(actor, queue))
    if queue.startswith("$") or not (found.live or found.paused):
        declared(classes, actor_name(actor), queue)
    return found


def end_of_pause_for(seconds: object, now: float) -> float | None:
    """Return when a pause of ``seconds`` ends, in seconds since 1970; None: only when resumed.

    Raises ``actor.validation_error`` unless it is a duration of at most a hundred years.
    """
    if seconds is None:
        return None
    if not is_positive(seconds) or not seconds <= LONGEST:  # type: ignore[operator]  # it is a number by now
        raise ValidationFailed(
            f"A pause takes a number of seconds above 0, at most a hundred years of them, not {seconds!r:.100}."
        )
    return now + float(seconds)  # type: ignore[arg-type]  # it is a number by now


def end_of_pause(until: float | datetime | None, now: float) -> float | None:
    """Return ``until`` in seconds since 1970; None: only when resumed. A naive datetime is local time.

    Raises ``actor.validation_error`` for anything but a future time: most likely a duration was meant.
    """
    if until is None:
        return None
    try:
        moment = timestamp(until)
    except (TypeError, ValueError, OverflowError):
        moment = math.nan
    if not now < moment <= now + LONGEST:
        raise ValidationFailed(
            f"pause takes as `until` a time within the next hundred years (seconds since 1970, or a datetime), not "
            f"{until!r}. For a number of seconds from now: until=time.time() + seconds."
        )
    return moment
