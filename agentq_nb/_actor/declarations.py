"""What an actor class and its bases declare: queues, actions, schedules, handlers, the type of the state, timeouts."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any, ClassVar, Protocol, cast

from pydantic import BaseModel

from agentq_nb._actor.action import Action, Declaration, Named, by_name, find_actions
from agentq_nb._actor.class_rules import check_inherited
from agentq_nb._actor.cron import find_crons
from agentq_nb._actor.handler import Handler, find_handlers
from agentq_nb._actor.queue import Placeholder, Queue
from agentq_nb._core import number_options
from agentq_nb._core.codec import Schema
from agentq_nb._policies.cron import Cron
from agentq_nb._policies.limits import Limit

INHERITED: Any = Placeholder("inherited")
"""The default of a timeout: that of the base class."""

_SLEEP_TIMEOUT = 30.0
_ACTION_TIMEOUT = 60.0

_HANDLE_NAMES = frozenset(
    [
        "actor_id",
        "cancel",
        "key",
        "name",
        "on",
        "pause",
        "purge",
        "redeliver",
        "resume",
        "send",
        "send_many",
        "status",
    ]  # attributes of every handle
)
_MAY_BE_ACTIONS = {"destroy"}
"""Methods that a class may override with an action, so that they can be called through a handle."""


@dataclasses.dataclass(frozen=True)
class Declared:
    """The declarations of an actor class and its bases. Timeouts are in seconds; None: no limit."""

    queues: Mapping[str, Queue[Any, Any]]
    actions: Mapping[str, Action]
    crons: Mapping[str, Cron] = dataclasses.field(default_factory=dict[str, Cron])
    state: Schema[Any] | None = None
    first_state: Any = None
    sleep_timeout: float | None = _SLEEP_TIMEOUT
    action_timeout: float | None = _ACTION_TIMEOUT
    handlers: Mapping[str, Handler] = dataclasses.field(default_factory=dict[str, Handler])
    """By the name of their queue."""
    call_limits: Mapping[str, Sequence[Limit]] = dataclasses.field(default_factory=dict[str, Sequence[Limit]])
    """The limits of calls that no queue delivers, by a name that no queue has: ``$prompts``."""
    keeps_files: bool = False
    """Whether its actors keep files on their host, so that no other host can wake them."""

    @property
    def unhandled(self) -> list[str]:
        """The queues without a handler: ``run`` and actions take their messages."""
        return [queue for queue in self.queues if queue not in self.handlers]

    @property
    def limits(self) -> dict[str, Sequence[Limit]]:
        """The limits of each queue that has any, by its name, and of calls."""
        return {name: queue.limits for name, queue in self.queues.items() if queue.limits} | dict(self.call_limits)


class Declaring(Protocol):
    """An actor class, as far as its declarations are concerned."""

    declared: ClassVar[Declared]


def find_declarations(
    cls: type[Declaring],
    actor: type,
    definer: FrameType,
    sleep_timeout: float | None,
    action_timeout: float | None,
) -> Declared:
    """Return what a class and its bases declare. Raises TypeError, with what to write instead.

    :param actor: ``Actor``, the base of all actor classes.
    :param definer: the frame that contains the class statement.
    """
    declared: list[Queue[Any, Any]] = [each for each in vars(cls).values() if isinstance(each, Queue)]
    queues = by_name(cls, declared)
    actions = find_actions(cls)
    _refuse_names(cls, actor, queues, actions)
    before = _inherited(cls, actor)
    _refuse_other_kinds(cls, before, queues, actions)
    check_inherited(cls, _attributes(before.queues), "queue", _attributes(queues))
    check_inherited(cls, _attributes(before.actions), "action", _attributes(actions))
    state, first_state = _find_state(cls, definer) or (before.state, before.first_state)
    queues = {**_not_replaced(before.queues, queues), **queues}
    actions = {**_not_replaced(before.actions, actions), **actions}
    return Declared(
        queues=queues,
        actions=actions,
        crons=find_crons(cls, actions),
        call_limits=before.call_limits,
        keeps_files=before.keeps_files,
        state=state,
        first_state=first_state,
        sleep_timeout=_seconds(cls, "sleep_timeout", sleep_timeout, before.sleep_timeout),
        action_timeout=_seconds(cls, "action_timeout", action_timeout, before.action_timeout),
        handlers=find_handlers(cls, queues),
    )


def _inherited(cls: type[Declaring], actor: type) -> Declared:
    """Return what the bases declare, in method resolution order; state and options come from the first base."""
    owner = next(base for base in cls.__mro__ if "declared" in vars(base))
    declared: object = vars(owner)["declared"]
    if not isinstance(declared, Declared):
        raise TypeError(f"{owner.__name__}.declared hides 'declared', which every actor has already: rename it.")
    queues: dict[str, Queue[Any, Any]] = {}
    actions: dict[str, Action] = {}
    bases = [cast("type[Declaring]", base) for base in cls.__mro__[1:] if actor in base.__mro__]
    for base in reversed(bases):
        # ``declared`` includes the bases' own declarations; only a class's own may override those of another base.
        queues.update({name: each for name, each in base.declared.queues.items() if each.attribute in vars(base)})
        actions.update({name: each for name, each in base.declared.actions.items() if each.attribute in vars(base)})
    return dataclasses.replace(declared, queues=queues, actions=actions)


def _attributes(declared: Mapping[str, Named]) -> set[str]:
    return {each.attribute for each in declared.values()}


def _not_replaced(inherited: Mapping[str, Declaration], own: Mapping[str, Declaration]) -> dict[str, Declaration]:
    """Return the inherited declarations whose variable the class does not bind to one of another name."""
    replaced = _attributes(own)
    return {name: each for name, each in inherited.items() if each.attribute not in replaced or name in own}


def _refuse_names(cls: type, actor: type, queues: Mapping[str, Queue[Any, Any]], actions: Mapping[str, Action]) -> None:
    """Raise TypeError for names that cannot be reached, or that every actor or its handle has."""
    kinds = {**dict.fromkeys(_attributes(queues), "queue"), **dict.fromkeys(_attributes(actions), "action")}
    kinds |= dict.fromkeys(actions, "action")  # their names are attributes of handles
    for name, kind in kinds.items():
        if name.startswith("_"):
            raise TypeError(
                f"{cls.__name__}.{name}: names that start with _ are private; the {kind} needs another name."
            )
        if kind == "action" and name in _MAY_BE_ACTIONS:
            continue
        if hasattr(actor, name) or name in actor.__annotations__ or name in _HANDLE_NAMES:
            raise TypeError(
                f"{cls.__name__}.{name}: every actor or its handle has a '{name}' already; rename the {kind}."
            )


def _refuse_other_kinds(
    cls: type, before: Declared, queues: Mapping[str, Queue[Any, Any]], actions: Mapping[str, Action]
) -> None:
    """Raise TypeError for a queue that has the name of an inherited action, and the other way around."""
    for names, others, kind in ((queues, before.actions, "queue"), (actions, before.queues, "action")):
        for name in names:
            if name in others:
                raise TypeError(
                    f"{cls.__name__}.{name}: a base class has that name for something else; rename the {kind}."
                )


def _seconds(cls: type, option: str, value: float | None, inherited: float | None) -> float | None:
    if value is INHERITED:
        return inherited
    if value is not None and not number_options.is_positive(value):
        raise TypeError(f"{cls.__name__}: {option} is in seconds, more than 0, or None for never.")
    return number_options.seconds(option, value)


def _find_state(cls: type, definer: FrameType) -> tuple[Schema[Any], Any] | None:
    """Return the type of ``state`` and its default in the class; None if the class does not declare it itself."""
    annotation: Any = inspect.get_annotations(cls).get("state")
    if annotation is None:
        return None
    if isinstance(annotation, str):
        module = sys.modules.get(cls.__module__)
        names_around = definer.f_locals  # the type may be one of them
        try:
            annotation = eval(annotation, {**(vars(module) if module else {}), **names_around})
        except Exception as error:
            raise TypeError(f"{cls.__name__}: the type of state, {annotation}, cannot be found: {error}") from None
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    if not is_model and not (isinstance(annotation, type) and dataclasses.is_dataclass(annotation)):
        raise TypeError(f"{cls.__name__}: annotate state with a pydantic model or a dataclass, not {annotation!r}.")
    first_state = vars(cls).get("state")
    if "state" in vars(cls):
        delattr(cls, "state")
    return Schema(annotation), first_state
