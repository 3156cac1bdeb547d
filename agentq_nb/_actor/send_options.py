"""The options of a send: their types, checks and defaults."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, TypedDict, TypeVar, cast, get_type_hints

from agentq_nb._core import number_options
from agentq_nb._core.ids import MessageId
from agentq_nb._core.origin import PROCESS, Origin, least_trusted
from agentq_nb._core.suggestions import did_you_mean
from agentq_nb.errors import ValidationFailed

Sending = TypeVar("Sending", bound=Callable[..., Any])

_HIGHEST_PRIORITY = 2**31 - 1


class Sent(Protocol):
    """A message that was sent: its receipt, or the message that a handler has."""

    @property
    def id(self) -> MessageId: ...


After: TypeAlias = Sent | MessageId | Iterable[Sent | MessageId] | None


class BatchOptions(TypedDict, total=False):
    """The options that all messages of a batch may share. ``ActorHandle.send`` documents them."""

    priority: int
    delay: float | timedelta
    ttl: float | timedelta | None
    after: After


class SendOptions(BatchOptions, total=False):
    """The options of one message. ``ActorHandle.send`` documents them."""

    idempotency_key: str | None


StoredOptions: TypeAlias = Mapping[str, Any]
"""Options as sent and stored: checked, as JSON types (``delay`` in seconds), without those at their defaults."""

NO_OPTIONS: StoredOptions = MappingProxyType({})


def _idempotency_key(value: object) -> str | None:
    """Return a valid idempotency key. Raises ``actor.validation_error`` for text that cannot be stored."""
    if value is not None and (not isinstance(value, str) or value.encode("utf-8", "replace").decode() != value):
        raise ValidationFailed(f"idempotency_key must be valid text, not {value!r:.100}.")
    return value


def _priority(value: object) -> int:
    return number_options.between("priority", value, -_HIGHEST_PRIORITY, _HIGHEST_PRIORITY)


def _delay(value: object) -> float:
    return number_options.delay("delay", value)


def _ttl(value: object) -> float | None:
    return None if value is None else number_options.ttl("ttl", value)


def _after(value: object) -> list[MessageId] | None:
    """Return the ids of the messages to wait for; None for none."""
    if value is None:
        return None
    if isinstance(value, (str, bytes, Mapping)) or hasattr(value, "id") or not isinstance(value, Iterable):
        return [_message_id(cast("object", value))]
    return [_message_id(each) for each in cast("Iterable[object]", value)] or None


def _message_id(value: object) -> MessageId:
    found = value if isinstance(value, str) else getattr(value, "id", None)
    if not isinstance(found, str) or not found.isascii() or not found.isalnum():
        raise ValidationFailed(
            f"after takes receipts, messages or ids of messages, one or a list of them, not {value!r:.100}. Of a result, "
            "give result.message_id."
        )
    return found


_OPTIONS: Mapping[str, tuple[Any, Callable[[object], Any]]] = {
    "idempotency_key": (None, _idempotency_key),
    "priority": (0, _priority),
    "delay": (0, _delay),
    "ttl": (None, _ttl),
    "after": (None, _after),
}
"""Each option with its default, and the function that validates it and converts it to JSON."""


def stored_options(options: SendOptions | BatchOptions) -> StoredOptions:
    """Check the options of a send.

    Raises TypeError for options that do not exist, and ``actor.validation_error`` for values that do not fit.
    """
    stored: dict[str, Any] = {}
    for name, value in options.items():
        if name not in _OPTIONS:
            known = ["wait", "timeout", *_OPTIONS]
            raise TypeError(
                f"A send has no option '{name}'.{did_you_mean(name, known)} The options are {', '.join(known)}."
            )
        default, check = _OPTIONS[name]
        if (checked := check(value)) != default:
            stored[name] = checked
    return stored or NO_OPTIONS


def with_ttl(stored: StoredOptions, ttl: float | None) -> StoredOptions:
    """Give options the ``ttl`` of their queue, unless they have their own. An infinite one is none."""
    if "ttl" not in stored:
        return stored if ttl is None else {**stored, "ttl": ttl}
    if stored["ttl"] < math.inf:
        return stored
    return {name: value for name, value in stored.items() if name != "ttl"} or NO_OPTIONS


def origin_of(stored: StoredOptions) -> Origin:
    """Return where a message came from. Files of earlier versions do not say: then it is this process."""
    return stored.get("origin", PROCESS) if stored else PROCESS


def with_origin(stored: StoredOptions, origin: Origin) -> StoredOptions:
    """Mark a message as coming from there, unless it comes from where less is trusted already."""
    if origin == PROCESS or (least := least_trusted(origin_of(stored), origin)) == stored.get("origin"):
        return stored
    return {**stored, "origin": least}


def shows_options(function: Sending) -> Sending:
    """Make ``help()`` and completion list the options of a send one by one, where the code has ``**options``."""
    return _showing(function, SendOptions)


def shows_batch_options(function: Sending) -> Sending:
    """Do what :func:`shows_options` does, with the options of a batch."""
    return _showing(function, BatchOptions)


def _showing(function: Sending, options: type) -> Sending:
    signature = inspect.signature(function)
    parameters = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    types = get_type_hints(options)
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=types[name])
        for name, (default, _) in _OPTIONS.items()
        if name in types
    ]
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # what inspect looks for
    return function
