"""What users declare about a queue, its types, limits and retries; and the options of a send to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeAlias, TypedDict, get_type_hints, overload

from pydantic.errors import PydanticUserError
from typing_extensions import TypeForm, TypeVar

from agentq_nb._core import number_options
from agentq_nb._core.codec import Schema
from agentq_nb._core.number_options import is_positive, is_whole
from agentq_nb._core.suggestions import did_you_mean
from agentq_nb._policies.retry import Retry
from agentq_nb.errors import ValidationFailed

if TYPE_CHECKING:
    from agentq_nb._actor.bound_queue import BoundQueue

Body = TypeVar("Body")
Reply = TypeVar("Reply", default=Any)
Sending = TypeVar("Sending", bound=Callable[..., Any])


class Placeholder:
    """The default of a parameter that was not given. ``help()`` shows its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"<{self._name}>"


_MISSING: Any = Placeholder("required")

MAX_SIZE = 100_000
MAX_MESSAGE_BYTES = 1024 * 1024
MAX_REPLY_BYTES = 16 * 1024 * 1024


_HIGHEST_PRIORITY = 2**31 - 1


class SendOptions(TypedDict, total=False):
    """The options of one message. ``ActorHandle.send`` documents them."""

    idempotency_key: str | None
    priority: int
    delay: float | timedelta


StoredOptions: TypeAlias = Mapping[str, Any]
"""Options as they are sent and kept: checked, in JSON's types (``delay`` in seconds), those at their defaults left out."""

NO_OPTIONS: StoredOptions = MappingProxyType({})


def _idempotency_key(value: object) -> str | None:
    """Raises ``actor.validation_error`` for what no file can hold."""
    if value is not None and (not isinstance(value, str) or value.encode("utf-8", "replace").decode() != value):
        raise ValidationFailed(f"idempotency_key must be valid text, not {value!r:.100}.")
    return value


def _priority(value: object) -> int:
    return number_options.between("priority", value, -_HIGHEST_PRIORITY, _HIGHEST_PRIORITY)


def _delay(value: object) -> float:
    return number_options.delay("delay", value)


_OPTIONS: Mapping[str, tuple[Any, Callable[[object], Any]]] = {
    "idempotency_key": (None, _idempotency_key),
    "priority": (0, _priority),
    "delay": (0, _delay),
}
"""Each option with its default, and with the function that checks it and makes it JSON."""


def stored_options(options: SendOptions) -> StoredOptions:
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


def shows_options(function: Sending) -> Sending:
    """Make ``help()`` and completion list the options of a send one by one, where the code has ``**options``."""
    signature = inspect.signature(function)
    parameters = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    for name, annotation in get_type_hints(SendOptions).items():
        default, _ = _OPTIONS[name]
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        )
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # what inspect looks for
    return function


def _schema(declared: Any, right: str) -> Schema[Any]:
    """Raises TypeError for what is no type."""
    wrong = ""
    if declared is _MISSING:
        wrong = "Queue() says nothing of its messages."
    elif isinstance(declared, (str, bytes, int, float, dict, list, tuple, set)):
        wrong = f"Queue(...) takes types, not {declared!r:.100}; its name is the variable's."
    else:
        try:
            return Schema(declared)
        except PydanticUserError as error:
            wrong = f"Queue(...) takes types that pydantic knows. {str(error).splitlines()[0]}"
    raise TypeError(f"{wrong} Write {right}, with a pydantic model, dataclass or other type; Any is any JSON.")


class SeesOneQueue(Protocol):
    """An actor as a queue declaration sees it."""

    def view_of(self, queue: Queue[Any, Any]) -> Any: ...


class Queue(Generic[Body, Reply]):
    """A queue that an actor class declares.

        class Reviewer(Actor):
            reviews = Queue(Task, reply=Review, retry=Retry(attempts=5), handler_timeout=600)

            async def run(self):
                async for message in self.reviews.iter(completable=True):
                    await message.complete(await review(message.body))

    :param body: the type of the messages: any type that pydantic can validate; ``Any`` accepts any JSON.
    :param reply: the type of the reply given to ``message.complete(...)``; None accepts any JSON, or no reply. Unless
        the type allows None, messages must be received with ``completable=True``.
    :param max_size: unsettled messages (not counting dead letters) at which a send is refused with ``queue.full``.
    :param max_message_bytes: bytes of the largest body, as JSON (1 MiB); ``queue.message_too_large`` refuses larger ones.
    :param max_reply_bytes: bytes of the largest reply, as JSON (16 MiB). A handler that ends with
        ``queue.reply_too_large`` makes a dead letter at once, whose error keeps the reply's first 4 KiB.
    :param retry: how failed attempts are repeated.
    :param handler_timeout: seconds that one attempt may take before its handler is cancelled and the attempt fails.

    Messages survive restarts. Declarations are code and do not: run the cell with the class again after a restart.
    Raises TypeError for what is not a type, ValueError for limits out of range.
    """

    name: str

    @overload
    def __init__(
        self,
        body: TypeForm[Body],
        reply: None = None,
        *,
        max_size: int = ...,
        max_message_bytes: int = ...,
        max_reply_bytes: int = ...,
        retry: Retry | None = ...,
        handler_timeout: float | None = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        body: TypeForm[Body],
        reply: TypeForm[Reply],
        *,
        max_size: int = ...,
        max_message_bytes: int = ...,
        max_reply_bytes: int = ...,
        retry: Retry | None = ...,
        handler_timeout: float | None = ...,
    ) -> None: ...
    def __init__(
        self,
        body: Any = _MISSING,
        reply: Any = None,
        *,
        max_size: int = MAX_SIZE,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_reply_bytes: int = MAX_REPLY_BYTES,
        retry: Retry | None = None,
        handler_timeout: float | None = None,
    ) -> None:
        limits = {
            "max_size": max_size,
            "max_message_bytes": max_message_bytes,
            "max_reply_bytes": max_reply_bytes,
        }
        for name, limit in limits.items():
            if not is_whole(limit):
                raise ValueError(f"Queue({name}=...) must be a whole number from 1 up, not {limit!r:.100}.")
        if handler_timeout is not None and not is_positive(handler_timeout):
            raise ValueError("Queue(handler_timeout=...) must be more than 0 seconds, or None.")
        self.body: Schema[Body] = _schema(body, "Queue(dict)")
        self.reply: Schema[Reply] = _schema(Any if reply is None else reply, "Queue(dict, reply=str)")
        self.max_size = max_size
        self.max_message_bytes = max_message_bytes
        self.max_reply_bytes = max_reply_bytes
        self.retry = retry or Retry()
        self.handler_timeout = number_options.seconds("handler_timeout", handler_timeout)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: SeesOneQueue, owner: type) -> BoundQueue[Body, Reply]: ...
    def __get__(self, instance: SeesOneQueue | None, owner: type) -> Any:
        """Return the declaration itself on the class, and the actor's mailbox narrowed to this queue on an instance."""
        return self if instance is None else instance.view_of(self)

    def __repr__(self) -> str:
        return f"<Queue {getattr(self, 'name', '?')}: {self.body.name}>"
