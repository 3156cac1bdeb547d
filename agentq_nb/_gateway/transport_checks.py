"""Checks of what Python clients send: nothing that a client says is believed because a client of ours would say it."""

from __future__ import annotations

from typing import Any

from agentq_nb._actor.queue import Queue
from agentq_nb._actor.send_options import StoredOptions, stored_options
from agentq_nb._brokers.batches import NewBatch
from agentq_nb._brokers.messages import NewMessage
from agentq_nb._client import handle_arguments
from agentq_nb._client.batch_bodies import checked_name
from agentq_nb._core.ids import ActorId, MessageId, actor_id, actor_key, actor_name, is_message_id
from agentq_nb._core.time_slice import Slices
from agentq_nb.errors import BadRequest

_STEP = 50
"""Bodies between two looks at whether others wait."""


def checked_actor(actor: ActorId) -> ActorId:
    """Return the id if it is one, in its only spelling. Raises BadRequest."""
    if actor_id(actor_name(actor), actor_key(actor)) != actor:
        raise BadRequest("This is no id of an actor.")
    return actor


def checked_message_id(message: MessageId) -> MessageId:
    """Return the id of a new message. Raises BadRequest."""
    if not is_message_id(message):
        raise BadRequest("The id of a message is 25 hexadecimal digits.")
    return message


def checked_options(options: StoredOptions) -> StoredOptions:
    """Return the options of a send. Raises BadRequest for unknown ones, and ``actor.validation_error``."""
    try:
        return stored_options(dict(options))  # type: ignore[arg-type]  # which of them there are is checked here
    except TypeError as error:
        raise BadRequest(str(error)) from None


def checked_message(declared: Queue[Any, Any], asked: NewMessage) -> NewMessage:
    """Return the message to enqueue. Raises what a send raises."""
    return NewMessage(
        checked_message_id(asked.id),
        asked.actor,
        asked.queue,
        _checked_body(declared, asked, asked.body, "Body"),
        checked_options(asked.options),
        declared.max_size,
        declared.max_bytes,
    )


async def checked_batch(declared: Queue[Any, Any], asked: NewBatch) -> NewBatch:
    """Return the batch to send. Raises what sending it raises. Many bodies are checked with pauses for other tasks."""
    slices, encoded = Slices(), list[bytes]()
    for number, body in enumerate(asked.bodies):
        encoded.append(_checked_body(declared, asked, body, f"Body {number}"))
        if not number % _STEP:
            await slices.pause()
    if not encoded:
        raise BadRequest("A batch has at least one body.")
    return asked._replace(
        name=checked_name(asked.name),
        bodies=encoded,
        options=checked_options(asked.options),
        max_size=declared.max_size,
        max_bytes=declared.max_bytes,
    )


def _checked_body(declared: Queue[Any, Any], asked: NewMessage | NewBatch, body: bytes, what: str) -> bytes:
    """Return a body as the queue's type writes it. Raises ``actor.validation_error`` and ``queue.message_too_large``."""
    where = f"{what} for queue '{asked.queue}' of actor '{actor_name(asked.actor)}'"
    encoded = declared.body.encode(declared.body.load(body, where), where)
    handle_arguments.check_size(declared, asked.actor, encoded)
    return encoded
