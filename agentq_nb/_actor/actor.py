"""The Actor base class: declared queues, actions, durable state and hooks."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel

from agentq_nb._actor.action import Action, action, find_actions
from agentq_nb._actor.actor_context import Runtime, Schedule
from agentq_nb._actor.class_rules import check_class, check_inherited
from agentq_nb._actor.cron import cron, find_crons
from agentq_nb._actor.handler import Handler, find_handlers
from agentq_nb._actor.mailbox import Mailbox
from agentq_nb._actor.queue import BoundQueue, Placeholder, Queue
from agentq_nb._core import number_options
from agentq_nb._core.codec import Schema
from agentq_nb._core.ids import ActorId, snake_case
from agentq_nb._policies.cron import Cron

__all__ = ["Actor", "action", "cron"]

Returned = TypeVar("Returned")

SLEEP_TIMEOUT = 30.0
ACTION_TIMEOUT = 60.0

HANDLE_NAMES = frozenset(
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
_UNSET: Any = Placeholder("inherited")

_definitions = 0


def definitions() -> int:
    """Return how many subclasses were defined in this process so far."""
    return _definitions


@dataclasses.dataclass(frozen=True)
class Declared:
    """The declarations of an actor class and its bases. Timeouts are in seconds; None: no limit."""

    queues: Mapping[str, Queue[Any, Any]]
    actions: Mapping[str, Action]
    crons: Mapping[str, Cron] = dataclasses.field(default_factory=dict[str, Cron])
    state: Schema[Any] | None = None
    first_state: Any = None
    sleep_timeout: float | None = SLEEP_TIMEOUT
    action_timeout: float | None = ACTION_TIMEOUT
    handlers: Mapping[str, Handler] = dataclasses.field(default_factory=dict[str, Handler])
    """By the name of their queue."""

    @property
    def unhandled(self) -> list[str]:
        """The queues without a handler: ``run`` and actions take their messages."""
        return [queue for queue in self.queues if queue not in self.handlers]


class _NotAwake:
    """Stands in for the runtime of an instance that was made by calling its class: access raises AttributeError."""

    def __get__(self, instance: Actor | None, owner: type[Actor]) -> Any:
        if instance is None:
            return self
        raise AttributeError(
            f"{owner.__name__} was made by calling its class: nothing runs it, and it has no queues. Actors are had from a "
            f"client: create_client().{snake_case(owner.__name__)}.get_or_create('main')"
        )


_MAY_BE_ACTIONS = {"destroy"}
"""Methods that a class may override with an action, so that they can be called through a handle."""


class Actor:
    """The base class of actors: an actor has queues, actions, a state and a ``run`` loop, and runs in the kernel.

        class Counter(BaseModel):
            done: int = 0

        class TaskRunner(Actor, sleep_timeout=300):
            tasks = Queue(Task)
            state: Counter                              # a pydantic model or a dataclass

            async def run(self):
                async for message in self.queue.iter():
                    self.state.done += 1                # saved together with the message's completion

            @action
            async def done(self) -> int:                # called as: await handle.done()
                return self.state.done

    Class options, in seconds (None: no limit):

    * ``sleep_timeout=30``: how long the actor may be idle before it sleeps. A message or a call wakes it.
    * ``action_timeout=60``: how long one action may take.

    Messages, ``state`` and scheduled calls survive sleep, restarts and crashes. Plain attributes do not.

    Instances are not made by calling the class: ``create_client().task_runner.get_or_create("main")`` returns a handle.
    """

    declared: ClassVar[Declared] = Declared({}, {})

    runtime: Runtime = _NotAwake()  # type: ignore[assignment]  # an awake instance has its own

    def __init_subclass__(
        cls, *, sleep_timeout: float | None = _UNSET, action_timeout: float | None = _UNSET, **others: Any
    ) -> None:
        """Check what the subclass declares. Raises TypeError, with the line to write instead."""
        global _definitions
        super().__init_subclass__(**others)
        _definitions += 1
        check_class(cls, Actor, sys._getframe(1))  # pyright: ignore[reportPrivateUsage]  # as in _names_around
        before = _inherited(cls)
        queues: dict[str, Queue[Any, Any]] = {
            name: declared for name, declared in vars(cls).items() if isinstance(declared, Queue)
        }
        actions = find_actions(cls)
        _refuse_clashes(cls, before, queues, actions)
        check_inherited(cls, before.queues, "queue", queues)
        check_inherited(cls, before.actions, "action", actions)
        state, first_state = _find_state(cls, _names_around(2)) or (before.state, before.first_state)
        queues = {**before.queues, **queues}
        actions = {**before.actions, **actions}
        cls.declared = Declared(
            queues=queues,
            actions=actions,
            crons=find_crons(cls, actions),
            state=state,
            first_state=first_state,
            sleep_timeout=_seconds(cls, "sleep_timeout", sleep_timeout, before.sleep_timeout),
            action_timeout=_seconds(cls, "action_timeout", action_timeout, before.action_timeout),
            handlers=find_handlers(cls, queues),
        )

    # --- properties ---------------------------------------------------------------------------------------------------

    @property
    def key(self) -> tuple[str, ...]:
        """The parts of the key that the actor was created with."""
        return self.runtime.key

    @property
    def name(self) -> str:
        """The name that the actor's class is registered under."""
        return self.runtime.name

    @property
    def actor_id(self) -> ActorId:
        """The actor's permanent id, ``name/part/part``, also used in the log."""
        return self.runtime.actor_id

    @property
    def queue(self) -> Mailbox:
        """The actor's mailbox: ``self.queue.iter()``, ``.next()``, ``.push(…)``."""
        return self.runtime.mailbox

    @property
    def actors(self) -> Any:
        """A client for all actors of this host: ``self.actors.vm.get_or_create("a")``."""
        return self.runtime.actors

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger named ``agentq.<actor name>`` that adds this actor's id."""
        return self.runtime.log

    @property
    def aborted(self) -> bool:
        """True once the actor has been asked to end: to sleep, stop, be replaced by newer code or be destroyed."""
        return self.runtime.aborted

    @property
    def schedule(self) -> Schedule:
        """Schedule an action for later: ``await self.schedule.after(60, "remind", "Ada")``. Survives restarts."""
        return self.runtime.schedule

    if TYPE_CHECKING:
        state: Any
    else:

        @property
        def state(self) -> Any:
            """The actor's durable state.

            While a message is handled it is a working copy, which is saved in the same write that completes the
            message, or dropped when the handler fails. Otherwise it is the committed state. Changes made by an action
            or a hook are saved when it returns; for changes that ``run`` makes between messages, call
            ``await self.save_state()``.

            Raises ``actor.state_missing`` when the class declares no state.
            """
            return self.runtime.get_state()

        @state.setter
        def state(self, value: Any) -> None:
            self.runtime.set_state(value)

    # --- methods ------------------------------------------------------------------------------------------------------

    async def save_state(self) -> None:
        """Save what was changed in ``self.state`` outside a message; durable on return.

        Changes made while handling a message are not saved by this: they are saved when the message completes.
        Raises ``actor.validation_error`` when the state does not fit its type; nothing is written then.
        """
        await self.runtime.save_state()

    async def keep_awake(self, awaitable: Awaitable[Returned]) -> Returned:
        """Await ``awaitable`` and return its result. The actor does not sleep meanwhile, and a stop waits for it."""
        return await self.runtime.keep_awake(awaitable)

    async def in_thread(self, function: Callable[..., Returned], *args: Any) -> Returned:
        """Call a plain function in a worker thread, so that it does not block the event loop; return its result."""
        return await self.runtime.in_thread(function, *args)

    def broadcast(self, event: str, payload: Any = None) -> None:
        """Send an event to all listeners (``handle.on(event, callback)``). Events are not stored."""
        self.runtime.broadcast(event, payload)

    def sleep(self) -> None:
        """Go to sleep as soon as running handlers and actions have ended. The next message or call wakes the actor."""
        self.runtime.sleep()

    def destroy(self) -> None:
        """Delete the actor, its state, schedules and queued messages, once running handlers and actions have ended."""
        self.runtime.destroy()

    # --- hooks --------------------------------------------------------------------------------------------------------

    async def on_create(self, input: Any) -> None:
        """Called once, when the actor is created, with the ``input`` of ``create`` or ``get_or_create``."""

    async def on_wake(self) -> None:
        """Called each time the actor wakes, before ``run`` and before any action."""

    async def on_sleep(self) -> None:
        """Called before the actor sleeps or stops."""

    async def on_destroy(self) -> None:
        """Called before the actor is destroyed."""

    async def run(self) -> None:
        """The loop that handles messages. Started when the actor wakes, and restarted with backoff when it raises."""

    async def _call_hook(self, name: str, *arguments: Any) -> None:
        """Call a hook. A kind of actor with work of its own at these moments overrides this, not the users' hooks."""
        await getattr(self, name)(*arguments)

    def view_of(self, queue: Queue[Any, Any]) -> BoundQueue[Any, Any]:
        """Return the mailbox narrowed to one declared queue: the value of ``self.tasks``."""
        return BoundQueue(self.queue, queue)

    def __repr__(self) -> str:
        runtime = getattr(self, "runtime", None)
        return f"<{type(self).__name__} {runtime.actor_id}>" if runtime else f"<{type(self).__name__}, not awake>"


def has_run(cls: type[Actor]) -> bool:
    """Whether the class defines ``run``."""
    return cls.run is not Actor.run


def takes_messages(cls: type[Actor], queue: str) -> bool:
    """Whether something of the class takes messages of this queue by itself: its handler or ``run``."""
    return queue in cls.declared.handlers or has_run(cls)


def _inherited(cls: type[Actor]) -> Declared:
    """Return what the bases declare, in method resolution order; state and options come from the first base."""
    queues: dict[str, Queue[Any, Any]] = {}
    actions: dict[str, Action] = {}
    for base in reversed([base for base in cls.__mro__[1:] if issubclass(base, Actor)]):
        # ``declared`` includes the bases' own declarations; only a class's own may override those of another base.
        queues.update({name: queue for name, queue in base.declared.queues.items() if name in vars(base)})
        actions.update({name: action for name, action in base.declared.actions.items() if name in vars(base)})
    return dataclasses.replace(cls.declared, queues=queues, actions=actions)


def _refuse_clashes(
    cls: type[Actor], before: Declared, queues: dict[str, Queue[Any, Any]], actions: dict[str, Action]
) -> None:
    kinds = {**dict.fromkeys(queues, "queue"), **dict.fromkeys(actions, "action")}
    for name, kind in kinds.items():
        if name.startswith("_"):
            raise TypeError(
                f"{cls.__name__}.{name}: names that start with _ are private; the {kind} needs another name."
            )
        if kind == "action" and name in _MAY_BE_ACTIONS:
            continue
        if hasattr(Actor, name) or name in Actor.__annotations__ or name in HANDLE_NAMES:
            raise TypeError(
                f"{cls.__name__}.{name}: every actor or its handle has a '{name}' already; rename the {kind}."
            )
        if name in (before.actions if kind == "queue" else before.queues):
            raise TypeError(f"{cls.__name__}.{name}: a base class has that name for something else; rename the {kind}.")


def _names_around(depth: int) -> dict[str, Any]:
    """Return the local names where the class is being defined: the type of its state may be one of them."""
    return sys._getframe(depth).f_locals  # pyright: ignore[reportPrivateUsage]  # inspect.currentframe is the same, slower


def _seconds(cls: type[Actor], option: str, value: float | None, inherited: float | None) -> float | None:
    if value is _UNSET:
        return inherited
    if value is not None and not number_options.is_positive(value):
        raise TypeError(f"{cls.__name__}: {option} is in seconds, more than 0, or None for never.")
    return number_options.seconds(option, value)


def _find_state(cls: type[Actor], local_names: dict[str, Any]) -> tuple[Schema[Any], Any] | None:
    """Return the type of ``state`` and its default in the class; None if the class does not declare it itself."""
    annotation: Any = inspect.get_annotations(cls).get("state")
    if annotation is None:
        return None
    if isinstance(annotation, str):
        module = sys.modules.get(cls.__module__)
        try:
            annotation = eval(annotation, {**(vars(module) if module else {}), **local_names})
        except Exception as error:
            raise TypeError(f"{cls.__name__}: the type of state, {annotation}, cannot be found: {error}") from None
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    if not is_model and not (isinstance(annotation, type) and dataclasses.is_dataclass(annotation)):
        raise TypeError(f"{cls.__name__}: annotate state with a pydantic model or a dataclass, not {annotation!r}.")
    first_state = vars(cls).get("state")
    if "state" in vars(cls):
        del cls.state
    return Schema(annotation), first_state
