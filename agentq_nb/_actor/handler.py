"""Handlers: methods marked by ``@queue.handler``, which are called for each message of that queue."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, Protocol, cast

_MARK = "__agentq_handles__"


class HandledQueue(Protocol):
    """A queue's declaration, as far as its handler needs it."""

    name: str
    attribute: str


class Handler:
    """The handler of one queue of an actor class.

    :ivar takes_message: whether it is called with the message too.
    :ivar is_async: whether it is called in the event loop; a plain function is called in a thread.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.function = function
        self.takes_message = _takes_message(function)
        self.is_async = inspect.iscoroutinefunction(inspect.unwrap(function))

    def call(self, actor: object, message: Any) -> Any:
        """Call the method with the message's body."""
        if self.takes_message:
            return self.function(actor, message.body, message)
        return self.function(actor, message.body)


def mark(function: object, queue: HandledQueue) -> FunctionType:
    """Mark a method as the handler of a queue. Raises TypeError for anything but a method."""
    if not isinstance(function, FunctionType):
        raise TypeError(
            f"@handler marks a method, not {function!r:.100}: write @tasks.handler on the line above async def "
            "work(self, body):, below other decorators."
        )
    code = inspect.unwrap(function)
    if inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code):
        raise TypeError(f"{function.__qualname__} must not yield: a handler returns one value, the reply.")
    _takes_message(function)
    setattr(function, _MARK, (*_marks(function), queue))
    return function


def is_handler(value: object) -> bool:
    """Whether ``value`` was marked by ``@queue.handler``."""
    return isinstance(value, FunctionType) and bool(_marks(value))


def find_handlers(cls: type, queues: Mapping[str, HandledQueue]) -> dict[str, Handler]:
    """Return the handlers of an actor class and its bases by the names of their queues; ``queues`` are all of them.

    Raises TypeError for declarations that make no sense.
    """
    methods: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        methods.update(_declared(cls, base, queues))
    return {queue: Handler(name, _method(cls, name)) for queue, name in methods.items()}


def _declared(cls: type, base: type, queues: Mapping[str, HandledQueue]) -> dict[str, str]:
    """Return the names of the handlers that one base declares itself, by the names of their queues."""
    found: dict[str, str] = {}
    for name, value in vars(base).items():
        _refuse_wrapped(cls, name, value)
        for queue in _marks(value):
            queue_name = _name_in(cls, name, queue, queues)
            if queue_name in found:
                raise TypeError(
                    f"{base.__name__}: queue '{queue_name}' has two handlers, {found[queue_name]} and {name}. A queue "
                    "has one handler: remove one, or declare a queue for it."
                )
            found[queue_name] = name
    return found


def _marks(value: object) -> tuple[HandledQueue, ...]:
    return getattr(value, _MARK, ()) if isinstance(value, FunctionType) else ()


def _refuse_wrapped(cls: type, name: str, value: object) -> None:
    inner = value.fget if isinstance(value, property) else getattr(value, "__func__", None)
    if _marks(inner):
        raise TypeError(f"{cls.__name__}.{name}: a handler is a method: write async def {name}(self, body):")


def _name_in(cls: type, method: str, queue: HandledQueue, queues: Mapping[str, HandledQueue]) -> str:
    """Return the queue's name in the class. Raises TypeError for a queue that neither it nor a base declares."""
    for name, known in queues.items():
        if any(vars(base).get(known.attribute) is queue for base in cls.__mro__):
            return name
    raise TypeError(
        f"{cls.__name__}.{method} is the handler of a queue of another class: {queue!r}. A handler belongs to a queue "
        f"that is declared in the body of {cls.__name__} or of a base class: tasks = Queue(...), then @tasks.handler."
    )


def _method(cls: type, name: str) -> Callable[..., Any]:
    """Return the method as the class has it: a subclass may have replaced an inherited one."""
    value: object = inspect.getattr_static(cls, name)
    if isinstance(value, FunctionType):
        return value
    base = next(base.__name__ for base in cls.__mro__[1:] if _marks(vars(base).get(name)))
    raise TypeError(f"{cls.__name__}.{name} hides a handler of {base}: write def {name}(self, body):, or rename it.")


def _takes_message(function: Callable[..., Any]) -> bool:
    """Whether a method takes ``(self, body, message)``. Raises TypeError if it does not take ``(self, body)`` either."""
    parameters = list(inspect.signature(function).parameters.values())
    by_place = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    needed = [each for each in parameters if each.default is each.empty and each.kind is not each.VAR_KEYWORD]
    fits = len(by_place) >= 2 and len(needed) <= 3 and set(map(id, needed)) <= set(map(id, by_place))
    if not fits or by_place[0].name in ("body", "message"):
        name = cast(str, getattr(function, "__name__", "handler"))
        raise TypeError(
            f"{getattr(function, '__qualname__', name)}{inspect.signature(function)}: a handler takes (self, body) or "
            f"(self, body, message). Write async def {name}(self, body):, or def for code that blocks; a decorator "
            "below @handler needs functools.wraps."
        )
    return len(needed) == 3 or (len(by_place) > 2 and by_place[2].name == "message")
