"""Put messages into queues: those of many senders in one transaction, and each sender's all or none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar

from psycopg.errors import UniqueViolation

from agentq_nb._brokers.messages import Enqueued, NewMessage, not_sent
from agentq_nb._brokers.postgres import expirations
from agentq_nb._brokers.postgres.admission import LEAVE, Admission, Sending, end_waits
from agentq_nb._brokers.postgres.connection import Database, Transaction
from agentq_nb._brokers.postgres.new_rows import insert, insert_alone
from agentq_nb._brokers.postgres.notifications import Notifications
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId
from agentq_nb._policies.admission import exceeded
from agentq_nb.errors import AgentqError, BatchTooLarge, QueueFull, Unavailable

T = TypeVar("T")

_MOST_MESSAGES = 1000
_MOST_BYTES = 8 * 1024 * 1024
"""How much is written in one transaction."""


class Enqueuer:
    """Writes what senders bring: whatever comes while one transaction is written goes into the next."""

    def __init__(self, database: Database, notifications: Notifications, clock: Clock, session: str) -> None:
        self._database = database
        self._notifications = notifications
        self._clock = clock
        self._session = session
        self._waiting: list[Sending] = []
        self._writer: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    async def enqueue(self, new_messages: Sequence[NewMessage], room_timeout: float | None) -> Sequence[Enqueued]:
        """See :meth:`agentq_nb._brokers.base.Broker.enqueue`."""
        self._database.check()
        if not new_messages:
            return []
        if room_timeout == 0 or never_fits(new_messages):
            return await self._send(Sending(new_messages))
        places = {(message.actor, message.queue) for message in new_messages}
        return await self.with_room(places, room_timeout, self._send, new_messages)

    async def with_room(
        self,
        places: Collection[tuple[ActorId, str]],
        room_timeout: float | None,
        attempt: Callable[[Sending], Awaitable[T]],
        new_messages: Sequence[NewMessage] = (),
    ) -> T:
        """Attempt to send until these queues have room, in the order of those who wait for room in them."""
        deadline = None if room_timeout is None else self._clock.monotonic() + room_timeout
        sending = Sending(new_messages, waits=True, places=places)
        with self._notifications.watch(*(("room", *place) for place in places)) as watch:
            try:
                while True:
                    watch.clear()
                    sending = Sending(new_messages, waits=True, places=places, sender=sending.sender)
                    try:
                        return await attempt(sending)
                    except BatchTooLarge:
                        raise
                    except QueueFull as full:
                        if deadline is not None and self._clock.monotonic() >= deadline:
                            raise full.after(room_timeout or 0.0) from None
                    await watch.wait(deadline)
                    if self._database.closed:
                        raise not_sent()
            except BaseException:
                sending.over = True
                self.leave(sending)
                raise

    def leave(self, sending: Sending) -> None:
        """Let those behind this sender go on."""
        if sending.sender is not None:
            task = asyncio.create_task(self._delete(sending.sender, sending.places))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _delete(self, sender: int, places: Iterable[tuple[ActorId, str]]) -> None:
        async def delete(tx: Transaction) -> None:
            await tx.ask(LEAVE, senders=[sender])
            tx.announce(*(("room", *place) for place in places))

        with suppress(Unavailable):  # then the row is deleted with its session
            await self._database.run(delete, repeatable=True)

    async def _send(self, sending: Sending) -> Sequence[Enqueued]:
        self._waiting.append(sending)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        try:
            return await asyncio.shield(sending.done)
        except asyncio.CancelledError:
            sending.over = True
            if sending in self._waiting:
                self._waiting.remove(sending)
            else:  # it is being written: its caller ends when it is known whether it was sent
                await asyncio.wait([sending.done], timeout=1.0)
            raise

    async def _write(self) -> None:
        try:
            while self._waiting:
                group = self._next_group()
                for sending, outcome in zip(group, await self._store(group), strict=True):
                    sending.settle(outcome)
                    if sending.over:
                        self.leave(sending)  # it was cancelled before it had its number
        finally:
            self._writer = None

    async def _store(self, group: Sequence[Sending]) -> Sequence[Sequence[Enqueued] | Exception]:
        try:
            if len(group) == 1 and await self._stored_alone(group[0]):
                return [[Enqueued(message.id) for message in group[0].new_messages]]
            return await self._database.run(lambda tx: store(tx, group, self._session), repeatable=True)
        except Unavailable as error:
            return [Unavailable(error.message, metadata=error.metadata) for _ in group]
        except Exception as error:  # such as a text that no column can hold
            if len(group) == 1:
                return [error]
            return [outcome for sending in group for outcome in await self._store([sending])]

    async def _stored_alone(self, sending: Sending) -> bool:
        """Store a call's only message in one statement, where that is enough; return whether it was."""
        message = sending.new_messages[0]
        if len(sending.new_messages) > 1 or message.idempotency_key is not None or message.after:
            return False
        if sending.sender is not None or never_fits(sending.new_messages):
            return False
        try:
            return await self._database.run(lambda tx: insert_alone(tx, message), repeatable=True, one_statement=True)
        except UniqueViolation:  # its id is known: an earlier try was written
            return False

    def _next_group(self) -> list[Sending]:
        messages = size = count = 0
        for sending in self._waiting:
            messages += len(sending.new_messages)
            size += sending.size
            if count and (messages > _MOST_MESSAGES or size > _MOST_BYTES):
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group


def never_fits(new_messages: Sequence[NewMessage]) -> bool:
    """Whether one of their queues could not even hold them alone."""
    for first in new_messages:
        together = [one for one in new_messages if (one.actor, one.queue) == (first.actor, first.queue)]
        size = sum(len(one.body) for one in together)
        if exceeded(0, 0, len(together), size, first.max_size, first.max_bytes) is not None:
            return True
    return False


async def store(tx: Transaction, group: Sequence[Sending], session: str) -> list[Sequence[Enqueued] | AgentqError]:
    """Write the messages of several calls; return what became of each."""
    messages = [message for sending in group for message in sending.new_messages]
    admission = await Admission.load(tx, messages)
    outcomes = [admission.admit(sending) for sending in group]
    if admission.refused and await expirations.settle_expired(tx):
        # What has expired takes up no room and holds no key.
        admission = await Admission.load(tx, messages)
        outcomes = [admission.admit(sending) for sending in group]
    await insert(tx, admission.fresh, admission.blocked)
    await end_waits(tx, group, outcomes, session)
    return outcomes
