"""One VM in a real host over a real file, with a few handles on what goes on behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agentq_nb import Actor, setup
from agentq_nb._core.ids import actor_id
from agentq_nb._runtime.actor_lifecycle import AwakeActor
from agentq_nb.agent_os import VM, SessionEvent
from agentq_nb.agent_os.sessions.sessions import forget


class Machine:
    """A VM whose actions are called as through a handle: ``await machine.exec("true")``."""

    def __init__(self, cls: type[VM], folder: Path, key: tuple[str, ...] = ("a",), **others: type[Actor]) -> None:
        self.registry = setup(use={"vm": cls, **others}, store=folder / "nb.agentq.duckdb")
        self.workspaces = folder / "nb.agentq"
        self.key = key
        self.actor_id = actor_id("vm", key)
        self.events: list[SessionEvent] = []

    async def __aenter__(self) -> Machine:
        await self.registry.start()
        self.registry.host.listen(self.actor_id, "session_event", self.events.append)
        return self

    async def __aexit__(self, *ended: object) -> None:
        await self.registry.stop()
        forget(self.workspaces, self.actor_id)

    async def activation(self) -> AwakeActor:
        """The VM, awake."""
        return await self.registry.host.awake(self.actor_id)

    async def sleep(self) -> None:
        """Make it go to sleep."""
        activation = await self.activation()
        activation.close("going to sleep")
        await activation.ended.wait()

    async def restart(self) -> None:
        """As in a new kernel: the process remembers nothing."""
        await self.__aexit__()
        await self.__aenter__()

    def heard(self, type: str, word: str) -> asyncio.Event:
        """Set once an event of this type has come whose text holds ``word``."""
        event = asyncio.Event()

        def listen(told: SessionEvent) -> None:
            if told.type == type and word in (told.text or ""):
                event.set()

        self.registry.host.listen(self.actor_id, "session_event", listen)
        return event

    def on_disk(self) -> list[dict[str, Any]]:
        """The rows about sessions that are durable at this moment, not a tick later."""
        rows = self.registry.host.broker.log.fetch(
            "SELECT kind, session_id, data FROM events WHERE starts_with(kind, 'session.') ORDER BY seq", ()
        )
        return [{"kind": kind, "session_id": session_id, **json.loads(data)} for kind, session_id, data in rows]

    def actor(self, name: str) -> Any:
        """Another actor of the host."""
        return getattr(self.registry.host.client, name).get_or_create(["x"])

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        return getattr(self.registry.host.client.vm.get_or_create(self.key), name)
