"""The declarations of a host's actor classes for clients in other processes: described, and made again there."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from agentq_nb._actor.action import Action, Marked
from agentq_nb._actor.actor import Actor
from agentq_nb._actor.declarations import Declared
from agentq_nb._actor.queue import OnFull, Queue
from agentq_nb._client.transport import registered_name
from agentq_nb._core.ids import snake_case


class QueueDescription(NamedTuple):
    """A queue, without its types: the host checks bodies. ``max_size`` counts messages, the other sizes are bytes."""

    attribute: str
    name: str
    on_full: OnFull
    max_size: int
    max_bytes: int | None
    max_message_bytes: int
    max_reply_bytes: int
    ttl: float | None


class ParameterDescription(NamedTuple):
    """A parameter of an action, with its annotation and default as texts; None: it has none."""

    name: str
    kind: int
    annotation: str | None
    default: str | None


class ActionDescription(NamedTuple):
    """An action, for completion and help."""

    name: str
    doc: str | None
    parameters: Sequence[ParameterDescription]
    returns: str | None


class ClassDescription(NamedTuple):
    """An actor class. ``module`` and ``qualname`` tell whether a class elsewhere is the same one."""

    module: str
    qualname: str
    queues: Sequence[QueueDescription]
    actions: Sequence[ActionDescription]


def describe(cls: type[Actor]) -> ClassDescription:
    """Describe an actor class."""
    return ClassDescription(
        cls.__module__,
        cls.__qualname__,
        [_described_queue(queue) for queue in cls.declared.queues.values()],
        [_described_action(action) for action in cls.declared.actions.values()],
    )


_DESCRIPTION = TypeAdapter(ClassDescription)


def encoded_description(cls: type[Actor]) -> bytes:
    """Describe an actor class, as JSON."""
    return _DESCRIPTION.dump_json(describe(cls))


def read_description(encoded: bytes) -> ClassDescription:
    """Return what :func:`encoded_description` wrote. Raises ValueError if that was another version of this package."""
    return _DESCRIPTION.validate_json(encoded)


def _described_queue(queue: Queue[Any, Any]) -> QueueDescription:
    sizes = (queue.max_size, queue.max_bytes, queue.max_message_bytes, queue.max_reply_bytes)
    return QueueDescription(queue.attribute, queue.name, queue.on_full, *sizes, queue.ttl)


def _described_action(action: Action) -> ActionDescription:
    signature = action.signature
    parameters = [
        ParameterDescription(
            each.name,
            int(each.kind),
            _annotation(each.annotation),
            None if each.default is each.empty else f"{each.default!r:.200}",
        )
        for each in signature.parameters.values()
    ]
    return ActionDescription(action.name, action.function.__doc__, parameters, _annotation(signature.return_annotation))


def _annotation(annotation: object) -> str | None:
    if annotation is inspect.Signature.empty:
        return None
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


class _Shown:
    """What stands in a signature for an annotation or a default of the other process."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def made_class(name: str, description: ClassDescription) -> type[Actor]:
    """Return a class with these declarations, whose queues take and return any JSON. No actor of it can be run."""
    made = type(name, (Actor,), {"__module__": description.module, "__qualname__": description.qualname})
    made.declared = Declared(
        queues={each.name: _made_queue(made, each) for each in description.queues},
        actions={each.name: _made_action(each) for each in description.actions},
    )
    return made


def _made_queue(owner: type, described: QueueDescription) -> Queue[Any, Any]:
    queue = Queue(
        Any,
        Any,
        name=described.name,
        on_full=described.on_full,
        max_size=described.max_size,
        max_bytes=described.max_bytes,
        max_message_bytes=described.max_message_bytes,
        max_reply_bytes=described.max_reply_bytes,
        ttl=described.ttl,
    )
    queue.__set_name__(owner, described.attribute)
    return queue


_KINDS = {int(kind): kind for kind in type(inspect.Parameter.POSITIONAL_ONLY)}  # type: ignore[attr-defined]  # an enum


def _made_action(described: ActionDescription) -> Action:
    async def elsewhere(self: object) -> None: ...

    empty = inspect.Parameter.empty
    parameters = [
        inspect.Parameter(
            each.name,
            _KINDS[each.kind],
            default=empty if each.default is None else _Shown(each.default),
            annotation=empty if each.annotation is None else _Shown(each.annotation),
        )
        for each in described.parameters
    ]
    returns = inspect.Signature.empty if described.returns is None else _Shown(described.returns)
    of_actor = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    if parameters and parameters[0].kind is not inspect.Parameter.POSITIONAL_ONLY:
        of_actor = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    elsewhere.__signature__ = inspect.Signature([of_actor, *parameters], return_annotation=returns)  # type: ignore[attr-defined]  # what inspect looks for
    elsewhere.__doc__ = described.doc
    return Action(described.name, elsewhere, Marked(thread=False, while_ending=False, name=described.name))


class KnownClasses:
    """The classes that a client knows: those that it was given, with their types, and those that hosts describe.

    :ivar given: by name.
    :ivar classes: both, by name.
    """

    def __init__(self, given: Mapping[str, type[Actor]] | None = None) -> None:
        self.given = dict(given or {})
        self.classes: Mapping[str, type[Actor]] = dict(self.given)
        self._encoded: Mapping[str, bytes] = {}

    def note_encoded(self, described: Mapping[str, bytes]) -> None:
        """Note what hosts describe now, as JSON. What another version of this package wrote is left out."""
        if described == self._encoded:
            return
        made: dict[str, type[Actor]] = {}
        for name, encoded in described.items():
            with suppress(ValueError):
                made[name] = made_class(name, read_description(encoded))
        self._encoded = described
        self.classes = {**made, **self.given}

    def name_of(self, cls: type[Actor]) -> str | None:
        """Return the name that a class is known by, and use its types from now on; None: it is not known."""
        name = registered_name(self.classes, cls) or snake_case(cls.__name__)
        if name not in self.classes:
            return None
        self.given[name] = cls
        self.classes = {**self.classes, name: cls}
        return name
