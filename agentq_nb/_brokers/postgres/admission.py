"""Whether queues have room for new messages, what is known of them already, and the lines of those that wait for room."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import NamedTuple

from agentq_nb._brokers.chains import how_it_ended, sent_together
from agentq_nb._brokers.messages import Enqueued, NewMessage, StoredResult
from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.postgres.dependents import share
from agentq_nb._brokers.postgres.new_rows import digest_of, key_hash
from agentq_nb._core.ids import ActorId, MessageId, actor_name
from agentq_nb._core.message_status import is_final
from agentq_nb._policies.admission import exceeded
from agentq_nb.errors import (
    AgentqError,
    IdempotencyConflict,
    PredecessorFailed,
    PredecessorUnknown,
    QueueFull,
    ValidationFailed,
)


class Known(NamedTuple):
    """A message that is stored, or that the same transaction stores."""

    id: MessageId
    digest: bytes | None


class Room(NamedTuple):
    """A queue's unsettled messages, the bytes of their bodies, and the first sender that waits for room."""

    messages: int
    bytes: int
    first: int | None = None


class Sending:
    """The messages of one call, and what became of them.

    :ivar waits: whether it gets in line where there is no room.
    :ivar places: the queues in whose lines it may wait.
    :ivar sender: its number in the lines, once it waits in one.
    :ivar over: whether its caller has given up.
    """

    def __init__(
        self,
        new_messages: Sequence[NewMessage],
        *,
        waits: bool = False,
        places: Collection[tuple[ActorId, str]] = (),
        sender: int | None = None,
    ) -> None:
        self.new_messages = new_messages
        self.waits = waits
        self.places = places
        self.sender = sender
        self.over = False
        self.done: asyncio.Future[Sequence[Enqueued]] = asyncio.get_running_loop().create_future()

    @property
    def size(self) -> int:
        return sum(len(message.body) for message in self.new_messages)

    def settle(self, outcome: Sequence[Enqueued] | Exception) -> None:
        """Give the result to the caller, if it still waits."""
        if self.over:
            self.done.cancel()
        elif isinstance(outcome, Exception):
            self.done.set_exception(outcome)
        else:
            self.done.set_result(outcome)


class Admission:
    """Decides which messages are stored, with their queues locked."""

    def __init__(
        self,
        rooms: dict[tuple[ActorId, str], Room],
        ids: set[MessageId],
        keys: dict[tuple[ActorId, str, bytes], Known],
        predecessors: dict[MessageId, StoredResult],
    ) -> None:
        self.fresh: list[NewMessage] = []
        self.blocked: set[MessageId] = set()
        """Those of them that wait for others."""
        self.refused = False
        self._rooms = rooms
        self._ids = ids
        self._keys = keys
        self._predecessors = predecessors

    @classmethod
    async def load(cls, tx: Transaction, messages: Sequence[NewMessage]) -> Admission:
        """Lock the queues, and look up what is known of these messages and of those that they are sent after."""
        predecessors = await share(tx, (one for message in messages for one in message.after))
        places = sorted({(message.actor, message.queue) for message in messages})
        named = [(m.actor, m.queue, key_hash(m.idempotency_key)) for m in messages if m.idempotency_key is not None]
        at = {"actors": [actor for actor, _ in places], "queues": [queue for _, queue in places]}
        await tx.ask_with_rows(_MAKE_QUEUES, **at, names=[actor_name(actor) for actor, _ in places])
        rooms = await tx.ask_with_rows(_LOCK_ROOMS, **at)
        ids = await tx.ask(_KNOWN_IDS, ids=[message.id for message in messages])
        keys = None
        if named:
            keys = await tx.ask_with_rows(
                _KNOWN_KEYS,
                actors=[actor for actor, _, _ in named],
                queues=[queue for _, queue, _ in named],
                keys=[key for _, _, key in named],
            )
        return cls(
            {(row[0], row[1]): Room(*row[2:]) for row in await rooms.fetchall()},
            {row[0] for row in await ids.fetchall()},
            {} if keys is None else {(row[0], row[1], row[2]): Known(row[3], row[4]) for row in await keys.fetchall()},
            predecessors,
        )

    def admit(self, sending: Sending) -> Sequence[Enqueued] | AgentqError:
        """Take all messages of a call, or none."""
        rooms, ids, keys, fresh = dict(self._rooms), set(self._ids), dict(self._keys), list(self.fresh)
        try:
            own = {message.id for message in sending.new_messages}
            return [self._one(message, own, sending.sender) for message in sending.new_messages]
        except (QueueFull, IdempotencyConflict, PredecessorFailed, PredecessorUnknown, ValidationFailed) as error:
            self._rooms, self._ids, self._keys, self.fresh = rooms, ids, keys, fresh
            self.refused = True
            if isinstance(error, QueueFull) and sending.waits:
                self._keep_behind(sending, (error.metadata["actor"], error.metadata["queue"]))
            return error

    def _keep_behind(self, sending: Sending, place: tuple[ActorId, str]) -> None:
        """Keep the other sends of this transaction behind a sender that now waits."""
        if self._rooms[place].first is None:
            self._rooms[place] = self._rooms[place]._replace(first=0 if sending.sender is None else sending.sender)

    def _one(self, message: NewMessage, own: Collection[MessageId], sender: int | None) -> Enqueued:
        if message.id in self._ids:
            return Enqueued(message.id, repeated=True)
        key = message.idempotency_key
        name = None if key is None else (message.actor, message.queue, key_hash(key))
        if name is not None and (namesake := self._keys.get(name)) is not None:
            if namesake.digest != digest_of(message.body, message.after):
                raise IdempotencyConflict(key or "", namesake.id)
            return Enqueued(namesake.id, repeated=True)
        waits = self._waits(message, own)
        self._take_room(message, sender)
        self._ids.add(message.id)
        if name is not None:
            self._keys[name] = Known(message.id, digest_of(message.body, message.after))
        if waits:
            self.blocked.add(message.id)
        self.fresh.append(message)
        return Enqueued(message.id)

    def _waits(self, message: NewMessage, own: Collection[MessageId]) -> bool:
        """Whether it waits for others. Raises PredecessorUnknown, PredecessorFailed, ValidationFailed."""
        waits = False
        for predecessor in message.after:
            if predecessor in own:
                raise sent_together(predecessor)
            result = self._predecessors.get(predecessor)
            if result is None:
                raise PredecessorUnknown(predecessor)
            if is_final(result.status) and result.status != "completed":
                raise PredecessorFailed(predecessor, how_it_ended(result))
            waits = waits or result.status != "completed"
        return waits

    def _take_room(self, message: NewMessage, sender: int | None) -> None:
        place = (message.actor, message.queue)
        room, size = self._rooms[place], len(message.body)
        unit = exceeded(room.messages, room.bytes, 1, size, message.max_size, message.max_bytes)
        limited = message.max_size is not None or message.max_bytes is not None
        if unit is None and limited and room.first is not None and (sender is None or room.first < sender):
            unit = "messages" if message.max_size is not None else "bytes"
        if unit is not None:
            limit = message.max_size if unit == "messages" else message.max_bytes
            raise QueueFull(message.actor, message.queue, limit or 0, unit)
        self._rooms[place] = room._replace(messages=room.messages + 1, bytes=room.bytes + size)


_MAKE_QUEUES = """
insert into agentq.queues (actor, queue, name)
select * from unnest(%(actors)s::text[], %(queues)s::text[], %(names)s::text[])
on conflict do nothing
"""

_LOCK_ROOMS = """
select q.actor, q.queue, q.live, q.bytes,
       (select min(s.sender) from agentq.senders s where s.actor = q.actor and s.queue = q.queue)
from agentq.queues q
where (q.actor, q.queue) in (select * from unnest(%(actors)s::text[], %(queues)s::text[]))
order by q.actor, q.queue
for update of q
"""

_KNOWN_IDS = "select id from agentq.messages where id = any(%(ids)s)"

_KNOWN_KEYS = """
select actor, queue, key, id, digest
from agentq.messages
where key is not null and status in ('queued', 'blocked', 'running', 'completed')
  and (actor, queue, key) in (select * from unnest(%(actors)s::text[], %(queues)s::text[], %(keys)s::bytea[]))
"""


# --- waiting for room -------------------------------------------------------------------------------------------------


async def end_waits(tx: Transaction, group: Sequence[Sending], outcomes: Sequence[object], session: str) -> None:
    """Take those that are served out of their lines, and put into line those that wait from now on."""
    served = [sending for sending, outcome in zip(group, outcomes, strict=True) if not isinstance(outcome, QueueFull)]
    await _let_go(tx, [sending for sending in served if sending.sender is not None])
    for sending, outcome in zip(group, outcomes, strict=True):
        if isinstance(outcome, QueueFull) and sending.waits:
            sending.sender = await _line_up(tx, sending.sender, outcome, session)


async def _let_go(tx: Transaction, served: Sequence[Sending]) -> None:
    if served:
        await tx.ask(LEAVE, senders=[sending.sender for sending in served])
        tx.announce(*{("room", *place): None for sending in served for place in sending.places})


async def _line_up(tx: Transaction, sender: int | None, full: QueueFull, session: str) -> int | None:
    place = {"actor": full.metadata["actor"], "queue": full.metadata["queue"]}
    row = await tx.row(_LINE_UP, sender=sender, session=session, **place)
    return sender if row is None else row[0]


_LINE_UP = """
insert into agentq.senders (sender, actor, queue, session)
values (coalesce(%(sender)s::bigint, nextval('agentq.senders_in_line')), %(actor)s, %(queue)s, %(session)s)
on conflict do nothing
returning sender
"""

LEAVE = "delete from agentq.senders where sender = any(%(senders)s)"
