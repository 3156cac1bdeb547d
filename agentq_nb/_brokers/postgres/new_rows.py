"""Store new messages in a transaction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Any

from agentq_nb._brokers.messages import NewMessage, digest
from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._core.ids import MessageId


def key_hash(key: str | None) -> bytes:
    """Return a hash of an idempotency key: keys may be long, and have characters that no column holds."""
    return hashlib.blake2b((key or "").encode("utf-8", "surrogatepass"), digest_size=16).digest()


def digest_of(body: bytes, after: Sequence[MessageId]) -> bytes:
    """Return a hash that is equal for messages that one idempotency key may name."""
    return digest(body) + (key_hash(json.dumps(list(after))) if after else b"")


async def insert(
    tx: Transaction, messages: Sequence[NewMessage], blocked: Collection[MessageId] = (), batch: str | None = None
) -> None:
    """Store new messages, in this order; their queues are locked and exist.

    :param blocked: those that wait for others.
    :param batch: the name of the batch that they belong to.
    """
    if not messages:
        return
    await tx.ask_with_rows(_INSERT, **_columns(messages, blocked), batches=[batch] * len(messages))
    named = [(message.id, *one) for message in messages for one in enumerate(message.after)]
    if named:
        of, numbers, predecessors = map(list, zip(*named, strict=True))
        await tx.ask(_INSERT_PREDECESSORS, messages=of, numbers=numbers, predecessors=predecessors)
    await tx.ask_with_rows(
        _ADD,
        actors=[message.actor for message in messages],
        queues=[message.queue for message in messages],
        sizes=[len(message.body) for message in messages],
    )
    tx.announce(*dict.fromkeys(("sent", message.actor, message.queue) for message in messages))


def _columns(messages: Sequence[NewMessage], blocked: Collection[MessageId]) -> dict[str, Any]:
    keyed = [message.idempotency_key is not None for message in messages]
    return {
        "ids": [message.id for message in messages],
        "actors": [message.actor for message in messages],
        "queues": [message.queue for message in messages],
        "bodies": [message.body for message in messages],
        "options": [json.dumps(dict(message.options)) for message in messages],
        "priorities": [message.priority for message in messages],
        "delays": [message.delay for message in messages],
        "ttls": [message.ttl for message in messages],
        "keys": [key_hash(one.idempotency_key) if has else None for one, has in zip(messages, keyed, strict=True)],
        "digests": [
            digest_of(message.body, message.after) if has else None
            for message, has in zip(messages, keyed, strict=True)
        ],
        "schedules": [schedule_name(message.schedule) for message in messages],
        "blocked": [message.id in blocked for message in messages],
    }


def schedule_name(schedule: str | None) -> str | None:
    """Return the name of a schedule as a column can hold it."""
    return None if schedule is None else json.dumps(schedule)


_INSERT = """
insert into agentq.messages (
    id, actor, queue, status, place, priority, due, expires, created_at, body, options, size, key, digest, schedule, batch
)
select id, actor, queue, case when blocked then 'blocked' else 'queued' end, nextval('agentq.places'), priority,
       case when blocked then delay when delay > 0 then agentq.now() + delay else 0 end,
       case when blocked then ttl else agentq.now() + delay + ttl end,
       agentq.now(), body, options, length(body), key, digest, schedule, batch
from unnest(
    %(ids)s::text[], %(actors)s::text[], %(queues)s::text[], %(bodies)s::bytea[], %(options)s::text[],
    %(priorities)s::int[], %(delays)s::float8[], %(ttls)s::float8[], %(keys)s::bytea[], %(digests)s::bytea[],
    %(schedules)s::text[], %(blocked)s::bool[], %(batches)s::text[]
) as new (id, actor, queue, body, options, priority, delay, ttl, key, digest, schedule, blocked, batch)
"""

_INSERT_PREDECESSORS = """
insert into agentq.predecessors (message, number, predecessor)
select * from unnest(%(messages)s::text[], %(numbers)s::int[], %(predecessors)s::text[])
"""

_ADD = """
update agentq.queues q
set live = q.live + n.messages, bytes = q.bytes + n.bytes
from (
    select actor, queue, count(*) as messages, sum(size) as bytes
    from unnest(%(actors)s::text[], %(queues)s::text[], %(sizes)s::int[]) as m (actor, queue, size)
    group by actor, queue
) n
where q.actor = n.actor and q.queue = n.queue
"""
