"""Waking actors because of their work: as the keeper's hints say, and again after they could not be woken."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

import anyio

from agentq_nb.actor import Actor, has_run
from agentq_nb.clock import Clock
from agentq_nb.errors import AgentqError
from agentq_nb.lives import Lives
from agentq_nb.mailboxes.protocol import Mailboxes
from agentq_nb.messages import SCHEDULE_QUEUE
from agentq_nb.naming import ActorId
from agentq_nb.upkeep import Upkeep

_HINTS_AGAIN = 1.0


class Wakeable(Protocol):
    """The host, as far as waking needs it."""

    clock: Clock
    mailboxes: Mailboxes
    lives: Lives
    upkeep: Upkeep

    @property
    def classes(self) -> Mapping[str, type[Actor]]: ...
    @property
    def running(self) -> bool: ...
    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None: ...
    async def awake(self, actor: ActorId) -> Any: ...


class Rouser:
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
        async for actor in self._host.mailboxes.wakeful(queues):
            if actor not in self._rousing:
                self._rousing.add(actor)
                self._host.spawn(self.rouse, actor)

    async def rouse(self, actor: ActorId) -> None:
        """Wake an actor because of its work, and try it again when it cannot start."""
        try:
            await self._host.lives.pause_after_idle_ones(actor)
            await self._host.upkeep.until_done(f"Waking {actor}", lambda: self._roused(actor))
        finally:
            self._rousing.discard(actor)

    async def _roused(self, actor: ActorId) -> None:
        lives = self._host.lives
        while self._host.running:
            await lives.pause_after_failures(actor)
            try:
                await self._host.awake(actor)
            except AgentqError:
                if lives.failed(actor):
                    continue
            return  # awake; or it cannot be had just now, and its hint comes again
