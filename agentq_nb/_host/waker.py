"""Wake sleeping actors that have due work, with a backoff for those that fail to start or do nothing."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol

import anyio

from agentq_nb._actor.actor import Actor, has_run
from agentq_nb._actor.message import CRON_QUEUE, INTERNAL_QUEUES
from agentq_nb._brokers.base import Broker
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId, actor_name
from agentq_nb._host.background_tasks import Upkeep
from agentq_nb._policies.retry import backoff
from agentq_nb._runtime.actor_lifecycle import AwakeActor
from agentq_nb._runtime.crons import differences
from agentq_nb.errors import AgentqError


class WakeBackoff:
    """Outcomes of past activations: used for wake-up backoff and ``status()``."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: dict[ActorId, int] = {}
        """How many times in a row an actor could not start."""
        self._pauses: dict[ActorId, anyio.CancelScope] = {}
        """The pauses of actors that wait for another attempt."""
        self._last_errors: dict[ActorId, dict[str, Any]] = {}
        """The last error of the actor's last activation."""
        self._recovered: set[ActorId] = set()
        """The actors that completed a message after their last error."""
        self._idle: dict[ActorId, tuple[int, float]] = {}
        """How many activations in a row settled nothing, and when the last one ended."""

    @property
    def actors(self) -> Iterable[ActorId]:
        """The actors with a failed start or a last error."""
        return {*self._failures, *self._last_errors}

    def failed(self, actor: ActorId) -> bool:
        """Whether the actor could not start the last time."""
        return actor in self._failures

    def last_error(self, actor: ActorId) -> dict[str, Any] | None:
        return self._last_errors.get(actor)

    def recovered(self, actor: ActorId) -> bool:
        return actor in self._recovered

    def note_end(self, activation: AwakeActor) -> None:
        """Record the outcome of an activation that has ended."""
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
        """Forget the failures of the actors of this name, which have a new class, and end their pauses."""
        for known in (self._failures, self._last_errors):
            for actor in [actor for actor in known if actor_name(actor) == name]:
                del known[actor]
        for actor, pause in self._pauses.items():
            if actor_name(actor) == name:
                pause.cancel()

    async def pause_after_failures(self, actor: ActorId) -> None:
        """Wait before the next attempt to start an actor that failed to start, longer each time."""
        if failed := self._failures.get(actor):
            with anyio.CancelScope() as self._pauses[actor]:
                await self._clock.sleep(backoff(failed))
            self._pauses.pop(actor, None)

    async def pause_after_idle_ones(self, actor: ActorId) -> None:
        """Wait before waking an actor that keeps going to sleep without handling its due work."""
        activations, ended = self._idle.get(actor, (0, 0.0))
        if self._clock.monotonic() - ended >= 1.0:
            self._idle.pop(actor, None)
        elif activations > 1:
            await self._clock.sleep(backoff(activations - 1))


_HINTS_AGAIN = 1.0


class Wakeable(Protocol):
    """The part of the host that waking uses."""

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
        self._waking: set[ActorId] = set()
        self._following: anyio.CancelScope | None = None

    async def follow_hints(self) -> None:
        """Wake the actors that the broker names, until the classes change. Raises the broker's errors."""
        with anyio.CancelScope() as self._following:
            await self._wake_hinted()
            await self._host.clock.sleep(_HINTS_AGAIN)

    def ask_again(self) -> None:
        """Ask again which actors have work, because the classes have changed."""
        if self._following is not None:
            self._following.cancel()

    async def _wake_hinted(self) -> None:
        # Without ``run``, waking an actor helps scheduled calls and messages with handlers: actions receive the others.
        queues = {
            name: None if has_run(cls) else (*INTERNAL_QUEUES, *cls.declared.handlers)
            for name, cls in self._host.classes.items()
        }
        hints = self._host.broker.ready_actors(queues)
        for actor in await self._with_other_crons():
            self._wake_soon(actor)
        async for actor in hints:
            self._wake_soon(actor)

    def _wake_soon(self, actor: ActorId) -> None:
        if actor not in self._waking:
            self._waking.add(actor)
            self._host.spawn(self.wake, actor)

    async def _with_other_crons(self) -> list[ActorId]:
        """Return the actors whose stored schedules are not those that their class declares: waking corrects them."""
        found: list[ActorId] = []
        for name, cls in list(self._host.classes.items()):
            stored = await self._host.broker.unsettled(name, CRON_QUEUE)
            crons = cls.declared.crons
            actors = {*stored, *(await self._host.broker.states(name) if crons else ())}
            found += [actor for actor in actors if any(differences(crons, stored.get(actor, ())))]
        return found

    async def wake(self, actor: ActorId) -> None:
        """Wake an actor that has work, and retry when it cannot start."""
        try:
            await self._host.wake_backoff.pause_after_idle_ones(actor)
            await self._host.upkeep.until_done(f"Waking {actor}", lambda: self._wake_with_backoff(actor))
        finally:
            self._waking.discard(actor)

    async def _wake_with_backoff(self, actor: ActorId) -> None:
        wake_backoff = self._host.wake_backoff
        while self._host.running:
            await wake_backoff.pause_after_failures(actor)
            try:
                await self._host.awake(actor)
            except AgentqError:
                if wake_backoff.failed(actor):
                    continue
            return  # awake; or not available now, and the broker names it again
