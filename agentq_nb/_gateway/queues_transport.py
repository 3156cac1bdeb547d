"""The transport of a client that has no host: to queues on PostgreSQL, and through them to the hosts that use them.

It runs no actor, so it holds no lease. Messages go to the tables at once; actions are requests that a host carries out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from agentq_nb._actor.actor import Actor, takes_messages
from agentq_nb._brokers.batches import Batches
from agentq_nb._brokers.changes import Cancel, Change
from agentq_nb._brokers.messages import NewMessage, StoredResult
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb._client.broadcasts import Listener
from agentq_nb._client.class_descriptions import KnownClasses
from agentq_nb._client.status import ActorStatus
from agentq_nb._client.transport import Standing, standing_of
from agentq_nb._core.ids import ActorId, MessageId, actor_name
from agentq_nb._core.message_status import LIVE
from agentq_nb._core.origin import current_origin
from agentq_nb._gateway.client_loop import client_loop, close_when_unused
from agentq_nb._gateway.queues_batches import QueuesBatches
from agentq_nb._gateway.queues_connection import QueuesConnection
from agentq_nb._host.host_status import Circumstances, actor_status, why_unsettled
from agentq_nb._host.outgoing_calls import OutgoingCalls
from agentq_nb._host.waker import WakeBackoff
from agentq_nb.errors import ActorDuplicate, ActorNotFound, ActorUnknown, AgentqError

Answered = TypeVar("Answered")

_FRESH = 1.0
"""Seconds for which what hosts have published of their classes is used."""

_AT_ONCE = 2.0
"""Seconds that code without an event loop, such as completion, waits for the server at most."""


class QueuesTransport:
    """See :class:`agentq_nb._client.transport.Transport`.

    :param url: the address of the PostgreSQL server. Raises ``actor.validation_error`` if it is none.
    :param use: classes that the caller has too, by name. They need not be known to a host yet.
    """

    would_block = False

    def __init__(self, url: str, use: Mapping[str, type[Actor]] | None = None) -> None:
        self._portal = client_loop()
        self._connection = QueuesConnection(url, self._portal)
        self.place = self._connection.place
        self._known = KnownClasses(use)
        self._asked_at = self._failed_at = -_AT_ONCE
        self._ahead = 0.0
        self._lock = threading.Lock()
        close_when_unused(self, self._portal, self._connection.begin_to_close)

    async def _run(self, function: Callable[[PostgresBroker], Coroutine[Any, Any, Answered]]) -> Answered:
        """Call a coroutine function with the broker, on the client's loop. What it causes reaches earlier listeners."""

        async def run() -> Answered:
            broker = await self._connection.broker()
            await self._connection.events.told()
            return await function(broker)

        return await self._portal.enter(run)

    # --- classes ------------------------------------------------------------------------------------------------------

    @property
    def classes(self) -> Mapping[str, type[Actor]]:
        """As hosts have published them; where the server does not say it at once, those that the caller has."""
        now = time.monotonic()
        if self._asked_at < 0 and now - self._failed_at > _AT_ONCE:
            try:
                self._portal.submit(self.ready).result(_AT_ONCE)
            except (AgentqError, TimeoutError):
                self._failed_at = time.monotonic()
        return self._known.classes

    async def ready(self) -> Mapping[str, type[Actor]]:
        if time.monotonic() - self._asked_at > _FRESH:
            described, now = await self._run(_described)
            with self._lock:
                self._ahead = now - time.time()
                self._asked_at = time.monotonic()
                self._known.note_encoded(described)
        return self._known.classes

    def name_of(self, cls: type[Actor]) -> str | None:
        """Return the name that the class is known by, and use its types from now on."""
        _ = self.classes
        with self._lock:
            return self._known.name_of(cls)

    def now(self) -> float:
        return time.time() + self._ahead

    # --- messages -----------------------------------------------------------------------------------------------------

    async def send(self, new_message: NewMessage, room_timeout: float | None = 0.0) -> MessageId:
        sent = new_message.from_origin(current_origin.get())
        return (await self._run(lambda broker: broker.enqueue((sent,), room_timeout)))[0].id

    async def send_and_wait(
        self, new_message: NewMessage, timeout: float | None, *, waits_for_room: bool = False
    ) -> Standing:
        deadline = None if timeout is None else time.monotonic() + timeout
        message = await self.send(new_message, timeout if waits_for_room else 0.0)
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        return await self.standing(message, left, explained=True)

    async def standing(self, message: MessageId, timeout: float | None, *, explained: bool = False) -> Standing:
        stored = await self._run(lambda broker: broker.wait(message, timeout))
        standing = standing_of(self._known.given, stored)
        if explained and stored.status in LIVE:
            with suppress(AgentqError):  # the result of the wait matters more
                return standing._replace(reason=await self._why(stored))
        return standing

    async def _why(self, stored: StoredResult) -> str:
        """Return why a message is not settled yet, as far as that can be seen from outside the hosts."""
        given = self._known.given.get(actor_name(stored.actor))
        return why_unsettled(
            Circumstances(
                message=stored,
                actor=await self.status(stored.actor),
                is_taken=given is None or takes_messages(given, stored.queue),
                has_handler=given is None or stored.queue in given.declared.handlers,
                now=self.now(),
            )
        )

    async def cancel(self, message: MessageId) -> bool:
        async def cancel(broker: PostgresBroker) -> int:
            stored = await broker.wait(message, 0)
            return await broker.change(stored.actor, Cancel(message))

        return await self._run(cancel) > 0

    async def change(self, actor: ActorId, change: Change) -> int:
        return await self._run(lambda broker: broker.change(actor, change))

    @property
    def batches(self) -> Batches:
        return QueuesBatches(self._on_batches, self._portal)

    async def _on_batches(self, function: Callable[[Batches], Coroutine[Any, Any, Answered]]) -> Answered:
        async def on_batches(broker: PostgresBroker) -> Answered:
            return await function(broker.batches)

        return await self._run(on_batches)

    # --- actors -------------------------------------------------------------------------------------------------------

    async def create(self, actor: ActorId, input: Any) -> None:
        async def create(broker: PostgresBroker) -> None:
            if await broker.exists(actor):
                raise ActorDuplicate(actor)
            await OutgoingCalls(broker.exchange).create(actor, input, must_be_new=True)

        await self._check(actor)
        await self._run(create)

    async def require(self, actor: ActorId) -> None:
        if not await self._run(lambda broker: broker.exists(actor)):
            raise ActorNotFound(actor)

    async def ensure(self, actor: ActorId, input: Any) -> None:
        async def ensure(broker: PostgresBroker) -> None:
            if not await broker.exists(actor):
                await OutgoingCalls(broker.exchange).create(actor, input, must_be_new=False)

        await self._check(actor)
        await self._run(ensure)

    async def call(
        self, actor: ActorId, action: str, args: Sequence[Any], kwargs: Mapping[str, Any], input: Any
    ) -> Any:
        await self._check(actor)

        async def call(broker: PostgresBroker) -> Any:
            return await OutgoingCalls(broker.exchange).call(actor, action, args, kwargs, input, stoppable=False)

        return await self._run(call)

    async def _check(self, actor: ActorId) -> None:
        """Raise ActorUnknown if neither a host nor the caller knows the class."""
        classes = await self.ready()
        if actor_name(actor) not in classes:
            raise ActorUnknown(actor_name(actor), list(classes))

    async def status(self, actor: ActorId) -> ActorStatus:
        async def status(broker: PostgresBroker) -> ActorStatus:
            said = await OutgoingCalls(broker.exchange).status(actor)
            elsewhere = await broker.exchange.elsewhere(actor)
            if said is not None:
                return replace(said, host=elsewhere.awake.get(actor))
            cls, queues = self._known.classes.get(actor_name(actor)), await broker.status(actor)
            return actor_status(actor, cls, None, WakeBackoff(broker.clock), queues, elsewhere=elsewhere)

        await self.ready()
        return await self._run(status)

    def listen(self, actor: ActorId, event: str, listener: Listener) -> Callable[[], None]:
        return self._connection.events.listen(actor, event, listener)


async def _described(broker: PostgresBroker) -> tuple[Mapping[str, bytes], float]:
    """Return the descriptions of classes, and the database's time."""
    return await broker.exchange.described(), await broker.now()


def open_transport(url: str, use: Mapping[str, type[Actor]] | None) -> QueuesTransport:
    """Return the transport to the queues at an address. Does not connect."""
    return QueuesTransport(url, use)
