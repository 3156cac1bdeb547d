"""What people change from outside: queues paused, resumed and purged; messages cancelled and given back to their queue.

Each change is durable when its function returns the number of messages it settled or moved.
"""

from __future__ import annotations

import asyncio

from agentq_nb.errors import MessageUnknown
from agentq_nb.mailboxes import fold, results, rows, waiting
from agentq_nb.mailboxes.ledger import Ledger
from agentq_nb.mailboxes.memory import Entry
from agentq_nb.mailboxes.protocol import Cancel, Change, Pause, Purge, Redeliver, Resume
from agentq_nb.naming import ActorId, MessageId


async def apply(ledger: Ledger, actor: ActorId, change: Change) -> int:
    """See :meth:`agentq_nb.mailboxes.protocol.Mailboxes.change`. Raises MessageUnknown, StoreWriteFailed."""
    match change:
        case Cancel(message):
            return await _cancel(ledger, message)
        case Redeliver(message):
            return await _redeliver(ledger, message)
        case Purge(queue):
            return await _purge(ledger, actor, queue)
        case Pause(queue, until):
            return await _pause(ledger, actor, queue, until)
        case Resume(queue):
            return await _resume(ledger, actor, queue)


async def _cancel(ledger: Ledger, message: MessageId) -> int:
    entry = ledger.stock.entries.get(message)
    if entry is None:
        await waiting.wait(ledger, message, 0)
        return 0
    if not entry.running:
        await ledger.write_settled([ledger.cancel(entry)])
        return 1
    if not entry.cancelling:
        entry.cancelling = True
        await ledger.write([rows.of_message("message.cancel_requested", entry)])
    else:
        await ledger.flushed()
    lease = ledger.stock.box(entry.actor).lease
    if entry.running and lease is not None and lease.cancelling is not None:
        lease.cancelling(message)
    return 1


async def _purge(ledger: Ledger, actor: ActorId, queue: str) -> int:
    everywhere = ledger.stock.entries.values()
    entries = [entry for entry in everywhere if entry.actor == actor and entry.queue == queue and not entry.running]
    if not entries:
        await ledger.flushed()
        return 0
    await ledger.write_settled([ledger.cancel(entry) for entry in entries])
    return len(entries)


async def _pause(ledger: Ledger, actor: ActorId, queue: str, until: float | None) -> int:
    pause = ledger.stock.pause(actor, queue, until)
    await ledger.write([rows.paused(actor, queue, until)], lambda: ledger.stock.expect_end(pause))
    return 1


async def _resume(ledger: Ledger, actor: ActorId, queue: str) -> int:
    """Nothing is handed out before it is durable; a pause that is made meanwhile stays."""
    pause = ledger.stock.paused(actor, queue)
    if pause is None or pause.ending:
        await ledger.flushed()
        return 0
    pause.ending = True
    await ledger.write([rows.resumed(actor, queue)], lambda: ledger.stock.end_pause(pause))
    return 1


async def _redeliver(ledger: Ledger, message: MessageId) -> int:
    stock = ledger.stock
    if message in stock.entries:
        return 0
    if message in ledger.results.settling:
        await ledger.flushed()
    read = await asyncio.to_thread(ledger.log.message_rows, message)
    stored = results.read(message, read)
    if stored is None:
        raise MessageUnknown(message)
    if stored.status not in ("failed", "cancelled", "expired") or message in stock.entries:
        return 0
    revived: dict[MessageId, Entry] = {}
    order = stock.next_order()
    fold.replay(revived, [*read, (order, 0.0, "message.redelivered", stored.actor, message, "{}")])
    entry = revived[message]
    await _reclaim_key(ledger, entry)
    stock.hold(entry, stock.shelf(entry.actor, entry.queue))
    entry.shelf.dead.pop(message, None)
    ledger.results.forget(message)
    await ledger.write([rows.of_message("message.redelivered", entry)], lambda: stock.arrive([entry]))
    return 1


async def _reclaim_key(ledger: Ledger, entry: Entry) -> None:
    """A message that failed has lost its key; it takes it again unless another message has it by now."""
    if entry.key is None:
        return
    await ledger.learn_keys()
    keys = ledger.stock.keys
    if keys.find(entry.actor, entry.queue, entry.key) is None:
        keys.name(entry.actor, entry.queue, entry.key, entry.id, entry.body)
    else:
        entry.key = None
