"""Periodic work of a host on PostgreSQL: expirations, dead hosts, and lost notifications."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Protocol

from agentq_nb._brokers.postgres import control, delivery, homes, lease, notable_events, session
from agentq_nb._brokers.postgres.connection import Database
from agentq_nb._brokers.postgres.exchange import PostgresExchange
from agentq_nb._brokers.postgres.expirations import settle_all_expired
from agentq_nb._brokers.postgres.lease import PostgresLease
from agentq_nb._brokers.postgres.notifications import POLL, Notifications
from agentq_nb._brokers.statuses import Home
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb.errors import Unavailable

_HOUR = 3600.0


class LookedAfter(Protocol):
    """What the upkeep needs of the broker."""

    database: Database
    notifications: Notifications
    exchange: PostgresExchange
    clock: Clock
    session: str
    home: Home
    leases: dict[ActorId, PostgresLease]
    acquiring: Counter[ActorId]

    def leave(self, actor: ActorId) -> None:
        """End an actor that another host may run from now on."""
        ...

    def cancelling(self, actor: ActorId, message: MessageId) -> None:
        """Stop a message that was cancelled, if this host is working on it."""
        ...


class Upkeep:
    """Started and ended by the broker. A round that fails because the server cannot be reached is repeated by the next one."""

    def __init__(self, broker: LookedAfter) -> None:
        self._broker = broker
        self._deletes_at = 0.0
        """When it deletes old rows again, on the monotonic clock."""

    async def look_after(self) -> None:
        """Expire messages, wake receivers, and end dead sessions and actors that were moved away, every few seconds."""
        while not self._broker.database.closed:
            await self._broker.clock.sleep(POLL)
            with suppress(Unavailable):
                await self._broker.database.look(settle_all_expired)
                await session.end_dead(self._broker.database, self._broker.session)
                await self.end_unused()
                await self.wake_receivers()
                await self.look_for_others()
                await self._look_for_moves()
                await self._broker.exchange.look_after()
                await self._look_for_cancellations()
                await self._delete_old()

    async def _delete_old(self) -> None:
        now = self._broker.clock.monotonic()
        if now >= self._deletes_at:
            await self._broker.database.run(notable_events.delete_old, repeatable=True)
            self._deletes_at = now + _HOUR

    async def wake_receivers(self) -> None:
        """Let receivers look whose messages wait or fall due soon, in case they were not notified of them.

        This is one look for all that are awake here: a receiver that looked by itself would cost the same for each actor.
        """
        broker = self._broker
        for actor, queue in await broker.database.look(lambda tx: delivery.awake_with_work(tx, broker.session, POLL)):
            broker.notifications.ring(("sent", actor, queue))

    async def _look_for_moves(self) -> None:
        """Leave actors that were moved away, in case the notifications were lost."""
        broker = self._broker
        for actor in await broker.database.look(lambda tx: homes.leaving(tx, broker.home, broker.session)):
            broker.leave(actor)

    async def _look_for_cancellations(self) -> None:
        """Stop messages that were cancelled by other hosts, in case the notifications were lost."""
        epochs = [held.epoch for held in self._broker.leases.values()]
        if epochs:
            for actor, message in await self._broker.database.look(lambda tx: control.cancelling(tx, epochs)):
                self._broker.cancelling(actor, message)

    async def look_after_stalled(self) -> None:
        """End stalled transactions, every few seconds. In a task of its own, since the other work may wait for them."""
        while not self._broker.database.closed:
            await self._broker.clock.sleep(POLL)
            with suppress(Unavailable):
                await self._broker.database.look(session.end_stalled)

    async def look_for_others(self) -> None:
        """Learn whether there are other hosts: a host that is alone sends no notifications. One that joins says so."""
        broker = self._broker
        await broker.notifications.look_for_others(
            lambda: broker.database.look(lambda tx: session.has_others(tx, broker.session))
        )

    async def end_unused(self) -> None:
        """End leases that only the database or only this host has.

        The database may have given one after the caller was cancelled or the connection broke: nothing else would wake
        that actor. One that the database has no more, as after a failover, is noticed by its receivers as they look.
        """
        broker, before = self._broker, dict(self._broker.leases)
        found = dict(await broker.database.look(lambda tx: session.leases(tx, broker.session)))
        for actor, held in before.items():
            if found.get(actor) != held.epoch and broker.leases.get(actor) is held:
                broker.notifications.ring(("work", actor))
        for actor, epoch in found.items():
            held = broker.leases.get(actor)
            if (held is None or held.epoch != epoch) and actor not in broker.acquiring:
                await broker.database.look(lambda tx, actor=actor, epoch=epoch: lease.end(tx, actor, epoch))
