"""What people change from outside: queues paused, resumed and purged; messages cancelled and given back to their queue.

Each change is durable when its function returns the number of messages it settled or moved.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentq_nb.errors import MessageUnknown
from agentq_nb.mailboxes import fold, results, rows, waiting
from agentq_nb.mailboxes.ledger import Ledger
from agentq_nb.mailboxes.memory import Entry
from agentq_nb.mailboxes.protocol import Cancel, Change, Pause, Purge, Redeliver, Resume
from agentq_nb.naming import ActorId, MessageId
from agentq_nb.store import Connection, Row, recall


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
    await ledger.decided()  # it may be coming back just now
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
    """The message may be dropped from the log at any time: its rows are read where the one that revives it is written."""
    stock = ledger.stock
    await ledger.learn_keys()
    order = stock.next_order()

    def revive(connection: Connection) -> tuple[Sequence[Row], Entry | None]:
        read = connection.execute(recall.MESSAGE_ROWS, [message]).fetchall()
        stored = results.read(message, read)
        if stored is None:
            raise MessageUnknown(message)
        if stored.status not in ("failed", "cancelled", "expired"):
            return (), None
        revived: dict[MessageId, Entry] = {}
        fold.replay(revived, [*read, (order, 0.0, "message.redelivered", stored.actor, message, "{}")])
        entry = revived[message]
        return [rows.of_message("message.redelivered", entry)], entry

    def take_in(entry: Entry | None) -> None:
        if entry is None:
            return
        stock.hold(entry, stock.shelf(entry.actor, entry.queue))
        entry.shelf.dead.pop(message, None)
        ledger.results.forget(message)
        stock.reclaim_key(entry)
        stock.arrive([entry])

    return 0 if message in stock.entries or await ledger.decide(revive, take_in) is None else 1
