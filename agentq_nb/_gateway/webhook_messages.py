"""From a webhook's payload to a durable message, on the host's event loop."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, cast

from agentq_nb._actor.action import Action
from agentq_nb._actor.actor import Actor
from agentq_nb._actor.message import SCHEDULE_QUEUE
from agentq_nb._actor.send_options import NO_OPTIONS, StoredOptions, stored_options
from agentq_nb._brokers.messages import Enqueued, NewMessage
from agentq_nb._client import handle_arguments
from agentq_nb._client.client import Client
from agentq_nb._client.handle import ActorHandle
from agentq_nb._core.codec import Schema
from agentq_nb._core.ids import mint_id
from agentq_nb._host.host import Host
from agentq_nb._host.local_transport import LocalTransport
from agentq_nb._host.webhook import Webhook, WebhookDelivery
from agentq_nb.errors import (
    ActionNotFound,
    ActorUnknown,
    AgentqError,
    IdempotencyConflict,
    MessageTooLarge,
    WebhookRefused,
)

_CALL: Schema[dict[str, Any]] = Schema(dict[str, Any])

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

_MOST_CALLS = 100_000
"""Calls of one actor that may wait, as many as messages in a queue."""

_LARGEST_CALL = 1 << 20


async def stored(host: Host, webhook: Webhook, payload: Any, delivery: WebhookDelivery) -> Enqueued | None:
    """Store a delivery; durable on return. None: the webhook ignores it.

    Raises QueueFull and the other errors of a send, and WebhookRefused if the webhook's own functions failed.
    """
    transport = LocalTransport(lambda: host, of_user=True)
    classes = await transport.ready()
    body = payload
    if webhook.map is not None and (body := await _called(webhook, webhook.map, "map", payload, delivery)) is None:
        return None
    key = await _called(webhook, webhook.key, "key", payload, delivery) if callable(webhook.key) else webhook.key
    handle = Client(transport).actor(webhook.to).get_or_create(key)
    cls = classes.get(handle.name)
    if cls is None:
        raise ActorUnknown(handle.name, list(classes))
    new_message = _new_message(webhook, cls, handle, body, _options(webhook, delivery))
    await host.webhook_rates.accept(webhook.name, new_message.actor, new_message.queue)
    try:
        message = await host.enqueue(new_message)
    except IdempotencyConflict as conflict:
        # The sender's id says that it is the same delivery; a map that looks at the time made another body of it.
        return Enqueued(conflict.metadata["message_id"], repeated=True)
    return Enqueued(message, repeated=message != new_message.id)


def _options(webhook: Webhook, delivery: WebhookDelivery) -> StoredOptions:
    if delivery.id is None:
        return NO_OPTIONS
    return stored_options({"idempotency_key": f"{webhook.origin}:{delivery.id}"})


def _new_message(
    webhook: Webhook, cls: type[Actor], handle: ActorHandle, body: Any, options: StoredOptions
) -> NewMessage:
    if webhook.queue is not None:
        declared = handle_arguments.declared({handle.name: cls}, handle.name, webhook.queue)
        return handle_arguments.new_message(declared, handle.actor_id, body, options)
    actions, name = cls.declared.actions, webhook.action or ""
    if name not in actions:
        raise ActionNotFound(handle.name, name, list(actions))
    arguments = list(cast("tuple[Any, ...]", body)) if isinstance(body, tuple) else [body]
    return _call(actions[name], handle, arguments, options)


def _call(action: Action, handle: ActorHandle, arguments: list[Any], options: StoredOptions) -> NewMessage:
    """Return the message that calls the action, as one that is scheduled. Raises ValidationFailed, MessageTooLarge."""
    action.bind(None, arguments, {})
    what = f"Arguments of action `{action.name}` of actor '{handle.name}'"
    encoded = _CALL.dump({"action": action.name, "arguments": arguments}, what)
    if len(encoded) > _LARGEST_CALL:
        raise MessageTooLarge(handle.actor_id, SCHEDULE_QUEUE, len(encoded), _LARGEST_CALL)
    return NewMessage(mint_id(), handle.actor_id, SCHEDULE_QUEUE, encoded, options, _MOST_CALLS)


async def _called(
    webhook: Webhook, function: Callable[..., Any], what: str, payload: Any, delivery: WebhookDelivery
) -> Any:
    """Call a function of the webhook with as many arguments as it takes. Raises WebhookRefused if it raises."""
    try:
        returned = function(payload, delivery) if _takes_two(function) else function(payload)
        return await returned if inspect.isawaitable(returned) else returned
    except AgentqError:
        raise
    except Exception as error:
        logging.getLogger("agentq").error("%s= of webhook '%s' failed", what, webhook.name, exc_info=error)
        raise WebhookRefused(
            500, "function_failed", f"The function {what}= of webhook '{webhook.name}' failed. Nothing was stored."
        ) from None


def _takes_two(function: Callable[..., Any]) -> bool:
    """Whether the function needs the delivery beside the payload."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins have none
        return False
    needed = [each for each in parameters if each.default is each.empty and each.kind in _POSITIONAL]
    return len(needed) > 1
