"""The Actor base class: declared queues, actions, durable state and hooks."""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from agentq_nb._actor.action import action
from agentq_nb._actor.actor_context import Runtime, Schedule
from agentq_nb._actor.class_rules import check_class
from agentq_nb._actor.cron import cron
from agentq_nb._actor.declarations import INHERITED, Declared, find_declarations
from agentq_nb._actor.mailbox import Mailbox
from agentq_nb._core.ids import ActorId, snake_case

__all__ = ["Actor", "action", "cron"]

Returned = TypeVar("Returned")

_definitions = 0


def definitions() -> int:
    """Return how many subclasses were defined in this process so far."""
    return _definitions


class _NotAwake:
    """The runtime of an instance that was made by calling its class: access raises AttributeError."""

    def __get__(self, instance: Actor | None, owner: type[Actor]) -> Any:
        if instance is None:
            return self
        raise AttributeError(
            f"{owner.__name__} was made by calling its class: nothing runs it, and it has no queues. Actors are had from a "
            f"client: create_client().{snake_case(owner.__name__)}.get_or_create('main')"
        )


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

    Do not call the class: nothing runs such an object. ``create_client().task_runner.get_or_create("main")`` returns a handle.
    """

    declared: ClassVar[Declared] = Declared({}, {})

    runtime: Runtime = _NotAwake()  # type: ignore[assignment]  # an awake instance has its own

    def __init_subclass__(
        cls, *, sleep_timeout: float | None = INHERITED, action_timeout: float | None = INHERITED, **others: Any
    ) -> None:
        """Check what the subclass declares. Raises TypeError, with the line to write instead."""
        global _definitions
        super().__init_subclass__(**others)
        _definitions += 1
        definer = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]  # inspect.currentframe is the same, slower
        check_class(cls, Actor, definer)
        cls.declared = find_declarations(cls, Actor, definer, sleep_timeout, action_timeout)

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
        """All queues of the actor, to receive from and to send to: ``self.queue.iter()``, ``.next()``, ``.push(…)``."""
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
        """Save what was changed in ``self.state`` outside a message. It is on disk when the call returns.

        It does not save changes made while handling a message: those are saved when the message completes.
        Raises ``actor.validation_error`` when the state does not fit its type; nothing is written then.
        """
        await self.runtime.save_state()

    async def keep_awake(self, awaitable: Awaitable[Returned]) -> Returned:
        """Await ``awaitable`` and return its result. Until then the actor does not sleep.

        A stop of the host waits for it, at most 10 seconds.
        """
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

    def __repr__(self) -> str:
        runtime = getattr(self, "runtime", None)
        return f"<{type(self).__name__} {runtime.actor_id}>" if runtime else f"<{type(self).__name__}, not awake>"


def has_run(cls: type[Actor]) -> bool:
    """Whether the class defines ``run``."""
    return cls.run is not Actor.run


def takes_messages(cls: type[Actor], queue: str) -> bool:
    """Whether something of the class takes messages of this queue by itself: its handler or ``run``."""
    return queue in cls.declared.handlers or has_run(cls)
