"""The transport to the host of this process: run each call on the host's event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from agentq_nb._actor.actor import Actor
from agentq_nb._brokers.batches import Batches
from agentq_nb._brokers.changes import Cancel, Change
from agentq_nb._brokers.messages import NewMessage, StoredResult
from agentq_nb._client.broadcasts import Listener
from agentq_nb._client.status import ActorStatus
from agentq_nb._client.transport import Standing, registered_name, standing_of
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.message_status import LIVE
from agentq_nb._host.host import Host
from agentq_nb._host.thread_safe_batches import ThreadSafeBatches
from agentq_nb.errors import AgentqError


class Definitions(Protocol):
    """The actor classes of a notebook. Their latest definitions are used, even before the host knows them."""

    def deployed(self) -> Awaitable[None] | None:
        """Return an awaitable that ends once the host knows the classes; None if it knows them already."""
        ...

    def name_of(self, cls: type[Actor]) -> str | None:
        """Return the name that a class gets when it is deployed; None if it is not deployed automatically."""
        ...


class LocalTransport:
    """See :class:`agentq_nb._client.transport.Transport`."""

    place = "this kernel's host"

    definitions: Definitions | None = None
    """Set on this class by a notebook."""

    def __init__(self, host: Callable[[], Host], *, of_user: bool = False) -> None:
        """``of_user``: for code of a user, who may have defined classes since; not for code of actors."""
        self._host = host
        self._of_user = of_user

    @classmethod
    def of(cls, host: Host) -> LocalTransport:
        """Return the transport to this one host, for the code of its actors."""
        return cls(lambda: host)

    @property
    def classes(self) -> Mapping[str, type[Actor]]:
        return self._host().classes

    @property
    def would_block(self) -> bool:
        return self._host().portal.inside

    def name_of(self, cls: type[Actor]) -> str | None:
        if (name := registered_name(self.classes, cls)) is not None:
            return name
        return self.definitions.name_of(cls) if self._of_user and self.definitions is not None else None

    async def ready(self) -> Mapping[str, type[Actor]]:
        if self._of_user and self.definitions is not None and (deploying := self.definitions.deployed()) is not None:
            await deploying
        return self._host().classes

    @property
    def batches(self) -> Batches:
        return ThreadSafeBatches(self._host())

    def now(self) -> float:
        return self._host().clock.time()

    async def create(self, actor: ActorId, input: Any) -> None:
        host = self._host()
        await host.enter(host.create, actor, input)

    async def require(self, actor: ActorId) -> None:
        host = self._host()
        await host.enter(host.require, actor)

    async def ensure(self, actor: ActorId, input: Any) -> None:
        host = self._host()
        await host.enter(host.ensure, actor, input)

    def send(self, new_message: NewMessage, room_timeout: float | None = 0.0) -> Coroutine[Any, Any, MessageId]:
        host = self._host()
        return host.enter(host.enqueue, new_message, room_timeout)

    async def send_and_wait(
        self, new_message: NewMessage, timeout: float | None, *, waits_for_room: bool = False
    ) -> Standing:
        host = self._host()
        stored = await host.enter(host.enqueue_and_wait, new_message, timeout, waits_for_room=waits_for_room)
        return await _standing(host, stored, explained=True)

    async def standing(self, message: MessageId, timeout: float | None, *, explained: bool = False) -> Standing:
        await self.ready()
        host = self._host()
        return await _standing(host, await host.enter(host.wait, message, timeout), explained=explained)

    async def cancel(self, message: MessageId) -> bool:
        await self.ready()
        host = self._host()
        stored = await host.enter(host.wait, message, 0)
        return await host.enter(host.change, stored.actor, Cancel(message)) > 0

    async def change(self, actor: ActorId, change: Change) -> int:
        host = self._host()
        return await host.enter(host.change, actor, change)

    async def call(
        self, actor: ActorId, action: str, args: Sequence[Any], kwargs: Mapping[str, Any], input: Any
    ) -> Any:
        host = self._host()
        return await host.enter(host.act, actor, action, args, kwargs, input)

    async def status(self, actor: ActorId) -> ActorStatus:
        host = self._host()
        return await host.enter(host.status_of, actor)

    def listen(self, actor: ActorId, event: str, listener: Listener) -> Callable[[], None]:
        return self._host().listen(actor, event, listener)


async def _standing(host: Host, stored: StoredResult, *, explained: bool) -> Standing:
    """Add the type of the replies and, if ``explained``, the reason why the message is not settled."""
    standing = standing_of(host.classes, stored)
    if explained and stored.status in LIVE:
        with suppress(AgentqError):  # the host has stopped: the result of the wait matters more
            return standing._replace(reason=await host.enter(host.why, stored))
    return standing
