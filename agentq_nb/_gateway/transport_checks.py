"""Checks of what Python clients send: nothing that a client says is believed because a client of ours would say it."""

from __future__ import annotations

from typing import Any

from agentq_nb._actor.queue import Queue
from agentq_nb._actor.send_options import StoredOptions, stored_options
from agentq_nb._client import handle_arguments
from agentq_nb._core.ids import ActorId, MessageId, actor_id, actor_key, actor_name, is_message_id
from agentq_nb.errors import BadRequest


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


def checked_body(declared: Queue[Any, Any], actor: ActorId, body: bytes, what: str) -> bytes:
    """Return a body as the queue's type writes it. Raises ``actor.validation_error`` and ``queue.message_too_large``."""
    encoded = declared.body.encode(declared.body.load(body, what), what)
    handle_arguments.check_size(declared, actor, encoded)
    return encoded
