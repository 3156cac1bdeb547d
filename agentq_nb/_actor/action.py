"""The ``@action`` decorator, and validation of an action's arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar, overload

from pydantic import (
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUndefinedAnnotation,
    TypeAdapter,
    ValidationError,
)
from pydantic.errors import PydanticUserError

from agentq_nb._core.codec import place
from agentq_nb._core.ids import declared_name
from agentq_nb.errors import ValidationFailed

Function = TypeVar("Function", bound=Callable[..., Any])

_MARK = "__agentq_action__"


class Marked(NamedTuple):
    """The options given to ``@action``."""

    thread: bool
    while_ending: bool
    name: str | None = None


class Action:
    """One action of an actor class: its function and options.

    :ivar attribute: the method's name in the class; ``name`` is that for callers.
    """

    def __init__(self, attribute: str, function: Callable[..., Any], marked: Marked) -> None:
        self.attribute = attribute
        self.name = marked.name or attribute
        self.function = function
        self.thread = marked.thread
        self.while_ending = marked.while_ending
        self._signature = inspect.signature(function)
        self._adapters: dict[str, TypeAdapter[Any] | None] = {}

    @property
    def signature(self) -> inspect.Signature:
        """The signature as called through a handle: without ``self``."""
        return self._signature.replace(parameters=list(self._signature.parameters.values())[1:])

    def bind(self, actor: object, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Callable[[], Any]:
        """Return the call, with its arguments validated. Raises ``actor.validation_error``."""
        try:
            bound = self._signature.bind(actor, *args, **kwargs)
        except TypeError as error:
            raise ValidationFailed(
                f"Action `{self.name}`{_of(actor)} cannot be called like that: {error}. Write "
                f"{self.name}{self.signature}."
            ) from None
        for name, value in list(bound.arguments.items())[1:]:
            adapter = self._adapter(name)
            if adapter is not None:
                bound.arguments[name] = self._validated(
                    f"Action `{self.name}`{_of(actor)}: argument ", name, adapter, value
                )
        return lambda: self.function(*bound.args, **bound.kwargs)

    def _validated(self, what: str, name: str, adapter: TypeAdapter[Any], value: Any) -> Any:
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            detail = error.errors(include_url=False, include_context=False)[0]
            where = place((name, *detail["loc"]))
            raise ValidationFailed(f"{what}{where}: {detail['msg']}.") from None

    def _adapter(self, name: str) -> TypeAdapter[Any] | None:
        """Return None for a parameter without annotation, or with one that pydantic cannot check."""
        if name not in self._adapters:
            self._adapters[name] = _adapter_of(self._signature.parameters[name], self.function)
        return self._adapters[name]

    def returned(self, value: Any) -> Any:
        """Return a plain value from another process as the annotated type; unchanged if it has none, or does not fit."""
        annotation = self._signature.return_annotation
        adapter = None if annotation is inspect.Signature.empty else _adapter_for(annotation, self.function)
        try:
            return value if adapter is None else adapter.validate_python(value)
        except ValidationError:
            return value


def _of(actor: object) -> str:
    actor_id = getattr(actor, "actor_id", None)
    return f" of actor '{actor_id}'" if isinstance(actor_id, str) else ""


def _adapter_of(parameter: inspect.Parameter, function: Callable[..., Any]) -> TypeAdapter[Any] | None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or parameter.annotation is parameter.empty:
        return None
    return _adapter_for(parameter.annotation, function)


def _adapter_for(annotation: Any, function: Callable[..., Any]) -> TypeAdapter[Any] | None:
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, getattr(function, "__globals__", {}))
        except Exception:
            return None
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError, TypeError):
        pass
    try:  # a model has its own config and accepts no other
        return TypeAdapter(annotation)
    except Exception:
        return None


@overload
def action(function: Function) -> Function: ...
@overload
def action(
    *, thread: bool = False, while_ending: bool = False, name: str | None = None
) -> Callable[[Function], Function]: ...
def action(function: Any = None, *, thread: bool = False, while_ending: bool = False, name: str | None = None) -> Any:
    """Make a method of an actor callable through a handle.

        class TaskRunner(Actor):
            @action
            async def add(self, number: int) -> int: ...

        await handle.add(3)

    Actions run concurrently with each other and with ``run``. Arguments are validated against the annotations. Changes to
    ``self.state`` are durable before the caller gets the result. A call is not a message: it is not repeated after a crash.

    :param thread: run a plain function in a worker thread, so that it does not block the event loop.
    :param while_ending: also run it while the actor is ending (going to sleep, being replaced) but still has a message
        to finish. Meant for actions that inspect or end that work. Other actions wait until the actor is awake again.
    :param name: the action's name for callers, where that is no Python identifier: ``"calculator.add"``. In Python it is
        called by ``getattr(handle, "calculator.add")``.
    """
    marked = Marked(thread, while_ending, None if name is None else declared_name(name, "@action"))
    return partial(_mark, marked=marked) if function is None else _mark(function, marked)


def _mark(function: Function, marked: Marked) -> Function:
    if not callable(function):
        raise TypeError("@action marks a method.")
    if marked.thread and inspect.iscoroutinefunction(function):
        raise TypeError(f"@action(thread=True) is for plain functions; {function.__name__} is a coroutine.")
    setattr(function, _MARK, marked)
    return function


def is_marked(value: object) -> bool:
    """Whether ``value`` was marked by ``@action``."""
    return hasattr(value, _MARK)


def find_actions(cls: type) -> dict[str, Action]:
    """Return the actions that a class declares itself, by their names for callers, without inherited ones."""
    return by_name(
        cls,
        [
            Action(attribute, value, getattr(value, _MARK))
            for attribute, value in vars(cls).items()
            if inspect.isfunction(value) and is_marked(value)
        ],
    )


class Named(Protocol):
    """A queue or an action: the name that it has outside its class, and its variable in the class."""

    name: str
    attribute: str


Declaration = TypeVar("Declaration", bound=Named)


def by_name(cls: type, declared: Iterable[Declaration]) -> dict[str, Declaration]:
    """Return the declarations by their names. Raises TypeError where two have the same."""
    found: dict[str, Declaration] = {}
    for each in declared:
        if each.name in found:
            raise TypeError(
                f"{cls.__name__}.{found[each.name].attribute} and {each.attribute} have the same name, {each.name!r}: "
                "give one of them another."
            )
        found[each.name] = each
    return found
