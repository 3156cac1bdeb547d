"""Warn of calls that users forgot to await: name the actor and the line to write.

Python's own warning names neither, and comes only when the coroutine is dropped, which never happens to one that a
notebook displays. Awaited calls cost nothing extra.
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
"""Python calls this function of ``warnings`` with each coroutine that is dropped and was never awaited."""

_SENDS = ("send", "push")


class Unawaited(NamedTuple):
    """A call that was not awaited: its source text, and its subject ("actor 'tasks/main'", or empty)."""

    call: str
    subject: str
    sends: bool

    def text(self, count: int = 1) -> str:
        """Return a sentence or two: what did not happen, and what to write."""
        times = f" ({count:,} times)" if count > 1 else ""
        if self.sends:
            return f"{self.call} was not awaited{times}: nothing was sent to {self.subject}. Write: await {self.call}"
        about = f" of {self.subject}" if self.subject else ""
        return f"{self.call}{about} was not awaited{times}, so it has done nothing. Write: await {self.call}"


class _Reported(str):
    """The name of a coroutine that was reported already."""


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
"""The types that users call: how to write such an object if no variable holds it, and the subject of its calls."""

_of_actors = {method.__code__ for method in (Actor.in_thread, Actor.keep_awake, Actor.save_state)}

_listener: Callable[[Unawaited], None] | None = None
_python: Callable[[Coroutine], None] | None = None


def install(registry: type) -> None:
    """From now on, warn of our coroutines with our own texts. Installing again changes nothing.

    :param registry: the class of registries, which is defined above this module.
    """
    global _python
    _users[registry] = (lambda _: "registry", lambda _: "")
    if _python is None and (python := getattr(warnings, _HOOK, None)) is not None:
        _python = python
        setattr(warnings, _HOOK, _dropped)


def listen(listener: Callable[[Unawaited], None] | None) -> None:
    """Call ``listener`` with each call that is dropped, instead of warning."""
    global _listener
    _listener = listener


def is_coroutine(value: object) -> TypeIs[Coroutine]:
    """Whether the value is a coroutine."""
    return type(value) is CoroutineType


def waits(value: object) -> TypeIs[Coroutine]:
    """Whether the value is a coroutine that is not awaited yet and was not reported."""
    return (
        is_coroutine(value)
        and inspect.getcoroutinestate(value) == inspect.CORO_CREATED
        and type(value.__name__) is not _Reported
    )


def call_of(coroutine: Coroutine, *namespaces: Mapping[str, Any]) -> Unawaited | None:
    """Return the call that made the coroutine; None if not ours. ``namespaces`` may have a name for its object."""
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


def mark_reported(coroutine: Coroutine) -> None:
    """Note that the coroutine was reported, so that no warning follows when it is dropped."""
    coroutine.__name__ = _Reported(coroutine.__name__)


def _name_in(namespaces: tuple[Mapping[str, Any], ...], owner: object) -> str | None:
    for namespace in namespaces:
        for name, value in list(namespace.items()):
            if value is owner and not name.startswith("_"):
                return name
    return None


def _is_given(value: object) -> bool:
    return value is not None and value is not False and not (type(value) in (tuple, dict) and not value)


def _dropped(coroutine: Coroutine) -> None:
    """Warn of a dropped coroutine in place of Python's function. Warns here so that Python names the caller's line."""
    if type(coroutine.__name__) is _Reported:
        return
    here = inspect.currentframe()
    frame = None if here is None else here.f_back  # None while the interpreter shuts down
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
