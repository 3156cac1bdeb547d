"""What a host remembers of its actors while they are asleep: how their lives ended."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol

import anyio

from agentq_nb._actor.actor import Actor, has_run
from agentq_nb._actor.message import SCHEDULE_QUEUE
from agentq_nb._brokers.base import Broker
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId, actor_name
from agentq_nb._host.background_tasks import Upkeep
from agentq_nb._policies.backoff import backoff
from agentq_nb._runtime.actor_lifecycle import AwakeActor
from agentq_nb.errors import AgentqError


class WakeBackoff:
    """The ends of all lives that matter for the next one, and for those who look at it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: dict[ActorId, int] = {}
        """Times in a row that an actor could not start."""
        self._pauses: dict[ActorId, anyio.CancelScope] = {}
        """Those that wait to be tried again."""
        self._last_errors: dict[ActorId, dict[str, Any]] = {}
        """What went wrong last while they were awake."""
        self._recovered: set[ActorId] = set()
        """Those of them that had completed a message since."""
        self._idle: dict[ActorId, tuple[int, float]] = {}
        """Lives in a row in which an actor settled nothing, and when the last one ended."""

    @property
    def actors(self) -> Iterable[ActorId]:
        """Those of which something bad is remembered."""
        return {*self._failures, *self._last_errors}

    def failed(self, actor: ActorId) -> bool:
        """Whether it could not start the last time."""
        return actor in self._failures

    def last_error(self, actor: ActorId) -> dict[str, Any] | None:
        return self._last_errors.get(actor)

    def recovered(self, actor: ActorId) -> bool:
        return actor in self._recovered

    def note_end(self, activation: AwakeActor) -> None:
        """One more life is over."""
        actor = activation.actor_id
        if activation.closing == "going to sleep" and not activation.in_flight.settled:
            self._idle[actor] = (self._idle.get(actor, (0, 0.0))[0] + 1, self._clock.monotonic())
        else:
            self._idle.pop(actor, None)
        self._last_errors.pop(actor, None)
        self._recovered.discard(actor)
        if activation.last_error is not None and not activation.to_be_destroyed:
            self._last_errors[actor] = activation.last_error
            if activation.recovered:
                self._recovered.add(actor)
        if activation.failure is None:
            self._failures.pop(actor, None)
        else:
            self._failures[actor] = self._failures.get(actor, 0) + 1

    def forget(self, name: str) -> None:
        """The actors of this name have a new class: they begin anew."""
        for known in (self._failures, self._last_errors):
            for actor in [actor for actor in known if actor_name(actor) == name]:
                del known[actor]
        for actor, pause in self._pauses.items():
            if actor_name(actor) == name:
                pause.cancel()

    async def pause_after_failures(self, actor: ActorId) -> None:
        """One that cannot start is tried again, ever more seldom."""
        if failed := self._failures.get(actor):
            with anyio.CancelScope() as self._pauses[actor]:
                await self._clock.sleep(backoff(failed))
            self._pauses.pop(actor, None)

    async def pause_after_idle_ones(self, actor: ActorId) -> None:
        """One that goes to sleep again and again and leaves its due work lying must not be woken without a pause."""
        lives, ended = self._idle.get(actor, (0, 0.0))
        if self._clock.monotonic() - ended >= 1.0:
            self._idle.pop(actor, None)
        elif lives > 1:
            await self._clock.sleep(backoff(lives - 1))


_HINTS_AGAIN = 1.0


class Wakeable(Protocol):
    """The host, as far as waking needs it."""

    clock: Clock
    broker: Broker
    wake_backoff: WakeBackoff
    upkeep: Upkeep

    @property
    def classes(self) -> Mapping[str, type[Actor]]: ...
    @property
    def running(self) -> bool: ...
    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None: ...
    async def awake(self, actor: ActorId) -> Any: ...


class Waker:
    """Wakes the actors of one host that have due work."""

    def __init__(self, host: Wakeable) -> None:
        self._host = host
        self._rousing: set[ActorId] = set()
        self._following: anyio.CancelScope | None = None

    async def follow_hints(self) -> None:
        """Wake whomever the keeper names, until the classes change. Raises what the keeper raises: to be tried again."""
        with anyio.CancelScope() as self._following:
            await self._rouse_hinted()
            await self._host.clock.sleep(_HINTS_AGAIN)

    def follow_anew(self) -> None:
        """The classes have changed: ask for their actors' hints from the beginning."""
        if self._following is not None:
            self._following.cancel()

    async def _rouse_hinted(self) -> None:
        # Waking a class without ``run`` helps only scheduled calls: its messages are taken by actions.
        queues = {name: None if has_run(cls) else (SCHEDULE_QUEUE,) for name, cls in self._host.classes.items()}
        async for actor in self._host.broker.ready_actors(queues):
            if actor not in self._rousing:
                self._rousing.add(actor)
                self._host.spawn(self.rouse, actor)

    async def rouse(self, actor: ActorId) -> None:
        """Wake an actor because of its work, and try it again when it cannot start."""
        try:
            await self._host.wake_backoff.pause_after_idle_ones(actor)
            await self._host.upkeep.until_done(f"Waking {actor}", lambda: self._roused(actor))
        finally:
            self._rousing.discard(actor)

    async def _roused(self, actor: ActorId) -> None:
        lives = self._host.wake_backoff
        while self._host.running:
            await lives.pause_after_failures(actor)
            try:
                await self._host.awake(actor)
            except AgentqError:
                if lives.failed(actor):
                    continue
            return  # awake; or it cannot be had just now, and its hint comes again
