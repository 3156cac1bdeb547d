"""What a host remembers of its actors while they are asleep: how their lives ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio

from agentq_nb.activation import Activation
from agentq_nb.backoff import backoff
from agentq_nb.clock import Clock
from agentq_nb.naming import ActorId, actor_name


class Lives:
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

    def note_end(self, activation: Activation) -> None:
        """One more life is over."""
        actor = activation.actor_id
        if activation.closing == "going to sleep" and not activation.holdings.settled:
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
