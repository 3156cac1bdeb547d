"""Calls that users forgot to await: which actor is concerned, and the line to write.

Python's own warning names neither. It comes when the coroutine is dropped, which one that a notebook shows never is.
Awaited calls pass nothing of this.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from types import CoroutineType
from typing import Any, NamedTuple, TypeAlias, cast

from typing_extensions import TypeIs

from agentq_nb._actor.actor import Actor
from agentq_nb._actor.mailbox import Mailbox
from agentq_nb._actor.message import Message
from agentq_nb._actor.queue import BoundQueue
from agentq_nb._client.handle import ActorHandle, ActorKind
from agentq_nb._client.receipt import Receipt
from agentq_nb._runtime.schedule import ActorSchedule

Coroutine: TypeAlias = "CoroutineType[Any, Any, Any]"

_HOOK = "_warn_unawaited_coroutine"
"""Called by Python with each coroutine that is dropped and was never awaited."""

_SENDS = ("send", "push")


class Unawaited(NamedTuple):
    """A call that was not awaited: how it was written, and what it was about ("actor 'tasks/main'", or nothing)."""

    call: str
    subject: str
    sends: bool

    def text(self, count: int = 1) -> str:
        """A sentence or two: what did not happen, and what to write."""
        times = f" ({count:,} times)" if count > 1 else ""
        if self.sends:
            return f"{self.call} was not awaited{times}: nothing was sent to {self.subject}. Write: await {self.call}"
        about = f" of {self.subject}" if self.subject else ""
        return f"{self.call}{about} was not awaited{times}, so it has done nothing. Write: await {self.call}"


class _Told(str):
    """The name of a coroutine that has been told of."""


_users: dict[type, tuple[Callable[[Any], str], Callable[[Any], str]]] = {
    ActorHandle: (lambda _: "handle", lambda handle: f"actor '{handle.actor_id}'"),
    ActorKind: (lambda kind: f"client.{kind._name}", lambda _: ""),
    Mailbox: (lambda mailbox: mailbox._written, lambda mailbox: f"actor '{mailbox._source.actor_id}'"),
    BoundQueue: (lambda view: view._written, lambda view: f"actor '{view._mailbox._source.actor_id}'"),
    ActorSchedule: (lambda _: "self.schedule", lambda schedule: f"actor '{schedule._planner.actor_id}'"),
    Actor: (lambda _: "self", lambda actor: f"actor '{actor.actor_id}'"),
    Message: (lambda _: "message", lambda message: f"message {message.id} of queue '{message.queue}'"),
    Receipt: (lambda _: "receipt", lambda receipt: f"message {receipt.id}"),
}
"""What users call: how it is written where no variable holds it, and what a call of it is about."""

_of_actors = {method.__code__ for method in (Actor.in_thread, Actor.keep_awake, Actor.save_state)}

_listener: Callable[[Unawaited], None] | None = None
_python: Callable[[Coroutine], None] | None = None


def install(registry: type) -> None:
    """Warn from now on of our coroutines in our words. Installing again changes nothing.

    :param registry: the class of registries, which is defined above this module.
    """
    global _python
    _users[registry] = (lambda _: "registry", lambda _: "")
    if _python is None and (python := getattr(warnings, _HOOK, None)) is not None:
        _python = python
        setattr(warnings, _HOOK, _dropped)


def listen(listener: Callable[[Unawaited], None] | None) -> None:
    """Tell ``listener`` of calls that are dropped, instead of warning."""
    global _listener
    _listener = listener


def is_coroutine(value: object) -> TypeIs[Coroutine]:
    """Whether it is a coroutine, of whatever function."""
    return type(value) is CoroutineType


def waits(value: object) -> TypeIs[Coroutine]:
    """Whether it is a coroutine that nobody awaits yet, and that was not told of."""
    return (
        is_coroutine(value)
        and inspect.getcoroutinestate(value) == inspect.CORO_CREATED
        and type(value.__name__) is not _Told
    )


def call_of(coroutine: Coroutine, *namespaces: Mapping[str, Any]) -> Unawaited | None:
    """Which call made it; None where it is none of ours. ``namespaces`` may have a name for what was called."""
    frame = coroutine.cr_frame
    owner = None if frame is None else frame.f_locals.get("self")
    kind = cast(type, Actor if coroutine.cr_code in _of_actors else type(owner))
    if frame is None or kind not in _users or coroutine.__name__.startswith("_"):
        return None
    written, subject = _users[kind]
    name = written(owner) if written(owner).startswith("self") else _name_in(namespaces, owner) or written(owner)
    given = any(_is_given(value) for argument, value in frame.f_locals.items() if argument not in ("self", "name"))
    call = f"{name}.{coroutine.__name__}({'...' if given else ''})"
    return Unawaited(call, subject(owner), coroutine.__name__ in _SENDS)


def told(coroutine: Coroutine) -> None:
    """It has been told of: that it is dropped later is no news."""
    coroutine.__name__ = _Told(coroutine.__name__)


def _name_in(namespaces: tuple[Mapping[str, Any], ...], owner: object) -> str | None:
    for namespace in namespaces:
        for name, value in list(namespace.items()):
            if value is owner and not name.startswith("_"):
                return name
    return None


def _is_given(value: object) -> bool:
    return value is not None and value is not False and not (type(value) in (tuple, dict) and not value)


def _dropped(coroutine: Coroutine) -> None:
    """Called in place of Python's function. It warns by itself: Python names the line of the caller."""
    if type(coroutine.__name__) is _Told:
        return
    here = inspect.currentframe()
    frame = None if here is None else here.f_back  # None where the interpreter ends
    call = call_of(coroutine) if frame is None else call_of(coroutine, frame.f_locals, frame.f_globals)
    if call is None:
        if coroutine.cr_origin is None and getattr(_python, "__module__", "") in ("warnings", "_py_warnings"):
            text = f"coroutine '{coroutine.__qualname__}' was never awaited"
            warnings.warn(text, RuntimeWarning, stacklevel=2, source=coroutine)
        else:
            cast(Callable[[Coroutine], None], _python)(coroutine)
    elif _listener is not None:
        _listener(call)
    else:
        warnings.warn(call.text(), RuntimeWarning, stacklevel=2, source=coroutine)
