"""A declared webhook: which requests of another service become messages, and for which actor."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from agentq_nb._actor.actor import Actor
from agentq_nb._actor.queue import Queue
from agentq_nb._core import origin
from agentq_nb._core.ids import Key, key_parts
from agentq_nb._core.origin import Origin
from agentq_nb.errors import ActionNotFound, QueueUnknown, ValidationFailed

Signature: TypeAlias = Literal["github", "standard-webhooks", "bearer"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_PREFIX = "whsec_"


@dataclass(frozen=True)
class WebhookDelivery:
    """What a webhook's ``map`` and ``key`` may know of a delivery beside its payload.

    :ivar id: the sender's id of the delivery, the same when it is sent again; None where the sender gives none.
    :ivar event: the kind of event, as GitHub names it in a header: ``"issues"``. Else the payload's ``type``, or None.
    :ivar headers: by name in lower case, without those that hold a secret, a signature or a cookie.
    """

    id: str | None
    event: str | None
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Webhook:
    """A webhook: what ``registry.webhook(...)`` returns.

    :ivar path: its path on every server of the host: ``/webhook/github``.
    """

    name: str
    to: type[Actor] | str
    key: Key | Callable[..., Any]
    queue: str | None
    action: str | None
    signature: Signature
    map: Callable[..., Any] | None
    secrets: tuple[bytes, ...] = field(repr=False)

    @property
    def path(self) -> str:
        return f"/webhook/{self.name}"

    @property
    def origin(self) -> Origin:
        """Where its messages come from, as it is stored with them."""
        return origin.webhook(self.name)


def declared_webhook(
    name: object,
    to: type[Actor] | str,
    key: Key | Callable[..., Any],
    queue: str | Queue[Any, Any] | None,
    action: str | Callable[..., Any] | None,
    secret: str | Sequence[str],
    signature: str,
    map: Callable[..., Any] | None,
) -> Webhook:
    """Return the webhook. Raises ``actor.validation_error``, ``queue.unknown`` and ``actor.action_not_found``."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValidationFailed(
            f"A webhook's name is part of its URL: letters, digits, '-', '_', '.'; not {name!r:.100}."
        )
    if signature not in get_args(Signature):
        raise ValidationFailed(f"signature is one of {', '.join(get_args(Signature))}, not {signature!r:.100}.")
    if not isinstance(to, str) and not (isinstance(to, type) and issubclass(to, Actor)):  # pyright: ignore[reportUnnecessaryIsInstance]  # users give anything
        raise ValidationFailed(f"to is an actor class, or the name of one, not {to!r:.100}.")
    if map is not None and not callable(map):
        raise ValidationFailed(f"map is a function of the payload, not {map!r:.100}.")
    if (queue is None) == (action is None):
        raise ValidationFailed(f"Webhook '{name}' needs a queue or an action: webhook(..., queue='issues').")
    queue_name = queue.name if isinstance(queue, Queue) else queue
    action_name = action if action is None or isinstance(action, str) else getattr(action, "__name__", repr(action))
    if not isinstance(to, str):
        _check_target(to, queue_name, action_name)
    secrets = _secrets(name, secret, signature)
    return Webhook(
        name,
        to,
        key if callable(key) else key_parts(key),
        queue_name,
        action_name,
        signature,  # type: ignore[arg-type]  # it was checked
        map,
        secrets,
    )


def _check_target(to: type[Actor], queue: str | None, action: str | None) -> None:
    if queue is not None and queue not in to.declared.queues:
        raise QueueUnknown(to.__name__, queue, list(to.declared.queues))
    if action is not None and action not in to.declared.actions:
        raise ActionNotFound(to.__name__, action, list(to.declared.actions))


def _secrets(name: str, secret: object, signature: str) -> tuple[bytes, ...]:
    """Return the secrets as bytes. An error must not show them."""
    given = [secret] if isinstance(secret, str) or not isinstance(secret, Sequence) else list(secret)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  # each is checked below
    if not given or not all(isinstance(each, str) and each.strip() for each in given):  # pyright: ignore[reportUnknownVariableType]  # as above
        raise ValidationFailed(
            f"Webhook '{name}' needs the secret that its sender has: secret=os.environ['WEBHOOK_SECRET'], or a list of "
            "them while you replace one. It was empty, or no text."
        )
    texts = [str(each) for each in given]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  # as above
    if signature != "standard-webhooks":
        return tuple(text.encode() for text in texts)
    try:
        return tuple(base64.b64decode(text.removeprefix(_PREFIX), validate=True) for text in texts)
    except (ValueError, binascii.Error):
        raise ValidationFailed(
            f"A secret of webhook '{name}' is no base64. Those of Standard Webhooks look like {_PREFIX}MfKQ9r8GKYqrTw..."
        ) from None
