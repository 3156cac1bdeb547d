"""Settle messages that were not started within their ttl. They are not delivered before that either."""

from __future__ import annotations

import json

from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.postgres.dependents import lock_ahead, save
from agentq_nb._brokers.postgres.rows import lock_messages

_AT_ONCE = 1000

_FIND = f"select id from agentq.messages where status = 'queued' and expires <= agentq.now() limit {_AT_ONCE}"
_EXPIRED = "id = any(%(ids)s) and status = 'queued' and expires <= agentq.now()"


async def settle_expired(tx: Transaction) -> int:
    """Settle what has expired, up to a thousand messages; return their number."""
    found = [message for (message,) in await tx.rows(_FIND)]
    if not found:
        return 0
    await lock_ahead(tx, _EXPIRED, ids=found)
    expired = await lock_messages(tx, _EXPIRED, ids=found)
    options = dict(await tx.rows(_OPTIONS, ids=[row.id for row in expired]))
    await save(
        tx,
        [
            row.finished("expired", error=_error(row.queue, json.loads(options[row.id]).get("ttl", 0.0)))
            for row in expired
        ],
    )
    return len(found)


_OPTIONS = "select id, options from agentq.messages where id = any(%(ids)s)"


async def settle_all_expired(tx: Transaction) -> None:
    """Settle everything that has expired, so that what is read next says so."""
    while await settle_expired(tx) == _AT_ONCE:
        pass


def _error(queue: str, ttl: float) -> dict[str, str]:
    return {
        "group": "queue",
        "code": "expired",
        "message": f"It was not started within its ttl of {ttl:g} s in queue '{queue}'.",
    }
