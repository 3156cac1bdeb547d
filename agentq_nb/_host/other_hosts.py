"""What a host has to do with the other hosts of its queues: their actors, their calls, and events."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from agentq_nb._actor.actor import Actor
from agentq_nb._brokers.exchange import Exchange
from agentq_nb._brokers.statuses import Elsewhere
from agentq_nb._client.broadcasts import Listeners
from agentq_nb._client.status import ActorStatus
from agentq_nb._core.ids import ActorId, actor_name
from agentq_nb._core.loop_portal import LoopPortal
from agentq_nb._host.awake_actors import AwakeElsewhere
from agentq_nb._host.background_tasks import Part
from agentq_nb._host.incoming_calls import CalledHost, IncomingCalls
from agentq_nb._host.outgoing_calls import OutgoingCalls
from agentq_nb._host.shared_events import SharedEvents
from agentq_nb.errors import ActorUnknown, Unavailable


class OtherHosts:
    """The way to the hosts that use the same queues."""

    def __init__(self, host: CalledHost, exchange: Exchange, portal: LoopPortal, listeners: Listeners) -> None:
        async def joined() -> Exchange:
            return exchange

        self._host = host
        self._exchange = exchange
        self._outgoing = OutgoingCalls(exchange)
        self._incoming = IncomingCalls(host, exchange)
        self.events = SharedEvents(joined, portal, listeners)
        exchange.on_event = self.events.received
        self.part = Part("Answering calls of other hosts", self._incoming.work, waits=True)

    async def describe(self, name: str, cls: type[Actor]) -> None:
        """Tell clients without a host what a class declares. If the server is away, they learn of it at the next start."""
        with suppress(Unavailable):
            await self._incoming.describe({name: cls})

    async def have(self, actor: ActorId, error: AwakeElsewhere | ActorUnknown) -> bool:
        """Whether another host runs the actor, or may run it, that this one could not wake for this reason.

        Raises Unavailable.
        """
        if isinstance(error, AwakeElsewhere):
            return error.actor == actor  # and not one that its hooks have called
        name = actor_name(actor)
        return name not in self._host.classes and name in await self._exchange.described()

    async def create(self, actor: ActorId, input: Any, *, must_be_new: bool) -> None:
        """See :meth:`agentq_nb._host.outgoing_calls.OutgoingCalls.create`."""
        await self.events.told()
        await self._outgoing.create(actor, input, must_be_new=must_be_new)

    async def call(
        self, actor: ActorId, action: str, args: Any, kwargs: Mapping[str, Any], input: Any, *, stoppable: bool
    ) -> Any:
        """Call an action; the result has the type that the class here declares, if it has that class."""
        await self.events.told()
        result = await self._outgoing.call(actor, action, args, kwargs, input, stoppable=stoppable)
        cls = self._host.classes.get(actor_name(actor))
        declared = None if cls is None else cls.declared.actions.get(action)
        return result if declared is None else declared.returned(result)

    async def status(self, actor: ActorId) -> ActorStatus | None:
        """See :meth:`agentq_nb._host.outgoing_calls.OutgoingCalls.status`."""
        return await self._outgoing.status(actor)

    async def elsewhere(self, actor: ActorId | None = None) -> Elsewhere:
        """See :meth:`agentq_nb._brokers.exchange.Exchange.elsewhere`."""
        return await self._exchange.elsewhere(actor)

    def share(self, actor: ActorId, event: str, payload: Any) -> None:
        """Send an event of an actor of this host to those who listen elsewhere."""
        self.events.share(self._exchange, actor, event, payload)
