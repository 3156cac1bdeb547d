"""The connection of a client that has no host to its queues: opened when it is first needed."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from agentq_nb._brokers.exchange import Exchange
from agentq_nb._brokers.postgres.address import parse_address
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb._client.broadcasts import Listeners
from agentq_nb._core.loop_portal import LoopPortal
from agentq_nb._core.programs import this_program
from agentq_nb._gateway.client_loop import close_at_exit, finish_in_background
from agentq_nb._host.shared_events import SharedEvents
from agentq_nb.errors import Unavailable

_CLIENT = {"client": True}
"""What tells a client's session from a host's."""


class QueuesConnection:
    """A broker that acquires no lease. It belongs to the client's loop.

    :param url: raises ``actor.validation_error`` if it is no address.
    :ivar events: the events of actors, which hosts send here.
    """

    def __init__(self, url: str, portal: LoopPortal) -> None:
        self.place = f"the queues on PostgreSQL, {parse_address(url).shown}"
        self.events = SharedEvents(self._exchange, portal, Listeners(portal.loop))
        self._url = url
        self._opening: asyncio.Task[PostgresBroker] | None = None

    async def broker(self) -> PostgresBroker:
        """Return the broker, connected. Raises Unavailable, StoreTooNew."""
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open())
        opening = self._opening
        try:
            return await asyncio.shield(opening)
        except BaseException:
            if self._opening is opening and opening.done():
                self._opening = None
            raise

    async def _open(self) -> PostgresBroker:
        try:
            broker = await PostgresBroker.open(self._url, facts={**_CLIENT, "program": this_program(None)})
        except Unavailable as error:
            raise Unavailable(
                f"{error.message} Nothing was done. Check the address, and that the server runs and accepts this user: "
                "psql ADDRESS",
                metadata=error.metadata,
            ) from error
        broker.exchange.on_event = self.events.received
        close_at_exit.add(broker.close)
        return broker

    async def _exchange(self) -> Exchange:
        return (await self.broker()).exchange

    def begin_to_close(self) -> None:
        """Close it in the background, unless something listens: events are all that it is used for now."""
        if self._opening is not None and not self.events.listening:
            opening, self._opening = self._opening, None
            finish_in_background(_close(opening))


async def _close(opening: asyncio.Task[PostgresBroker]) -> None:
    with suppress(Exception):  # it was never open
        broker = await opening
        await broker.close()
        close_at_exit.discard(broker.close)
