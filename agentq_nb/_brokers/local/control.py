"""What people change from outside: queues paused, resumed and purged; messages cancelled and given back to their queue.

Each change is durable when its function returns the number of messages it settled or moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agentq_nb._brokers.base import Cancel, Change, DeadLetters, Pause, Purge, Redeliver, Resume
from agentq_nb._brokers.local import event_rows, results, waiters
from agentq_nb._brokers.local.commit import Ledger
from agentq_nb._brokers.local.queues import LARGEST_BODY, Entry, Shelf
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.threads import in_long_thread, in_thread
from agentq_nb._store import Connection, EventLog, Row, startup_queries
from agentq_nb.errors import MessageUnknown, Unavailable


async def apply(ledger: Ledger, actor: ActorId, change: Change) -> int:
    """See :meth:`agentq_nb._brokers.base.Mailboxes.change`. Raises MessageUnknown, StoreWriteFailed."""
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
        await waiters.wait(ledger, message, 0)
        return 0
    if not entry.running:
        await ledger.write_settled([ledger.cancel(entry)])
        return 1
    if not entry.cancelling:
        entry.cancelling = True
        await ledger.write([event_rows.of_message("message.cancel_requested", entry)])
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
    await ledger.write([event_rows.paused(actor, queue, until)], lambda: ledger.stock.expect_end(pause))
    return 1


async def _resume(ledger: Ledger, actor: ActorId, queue: str) -> int:
    """Nothing is handed out before it is durable; a pause that is made meanwhile stays."""
    pause = ledger.stock.paused(actor, queue)
    if pause is None or pause.ending:
        await ledger.flushed()
        return 0
    pause.ending = True
    await ledger.write([event_rows.resumed(actor, queue)], lambda: ledger.stock.end_pause(pause))
    return 1


async def _redeliver(ledger: Ledger, message: MessageId) -> int:
    """The message may be dropped from the log at any time: its rows are read where the one that revives it is written."""
    stock = ledger.stock
    await ledger.learn_keys()
    order = stock.next_order()

    def revive(connection: Connection) -> tuple[Sequence[Row], Entry | None]:
        read = connection.execute(startup_queries.MESSAGE_ROWS, [message]).fetchall()
        stored = results.read(message, read)
        if stored is None:
            raise MessageUnknown(message)
        if stored.status not in ("failed", "cancelled", "expired"):
            return (), None
        revived: dict[MessageId, Entry] = {}
        event_rows.replay(revived, [*read, (order, 0.0, "message.redelivered", stored.actor, message, "{}")])
        entry = revived[message]
        return [event_rows.of_message("message.redelivered", entry)], entry

    def take_in(entry: Entry | None) -> None:
        if entry is not None:
            _take_in(ledger, [entry])

    return 0 if message in stock.entries or await ledger.decide(revive, take_in) is None else 1


def _take_in(ledger: Ledger, revived: Sequence[Entry]) -> None:
    """They are live again, and durably so."""
    stock = ledger.stock
    for entry in revived:
        stock.hold(entry, stock.shelf(entry.actor, entry.queue))
        entry.shelf.dead.pop(entry.id, None)
        ledger.results.forget(entry.id)
        stock.reclaim_key(entry)
    stock.arrive(revived)


# --- many at once -----------------------------------------------------------------------------------------------------

_AT_ONCE = 100
"""Dead letters that are put back in one piece: some milliseconds of the loop and of the writer's thread."""


async def redeliver(ledger: Ledger, which: DeadLetters) -> int:
    """See :meth:`agentq_nb._brokers.base.Mailboxes.redeliver`. Raises StoreError, StoreWriteFailed."""
    ledger.check()
    await ledger.learn_keys()
    asked = ledger.stock.settled
    found = await in_long_thread(ledger.log.dead_letters, which._asdict())
    moved = 0
    for start in range(0, len(found), _AT_ONCE):
        moved += await _redeliver_some(ledger, found[start : start + _AT_ONCE], asked)
    return moved


async def _redeliver_some(ledger: Ledger, found: startup_queries.Rows, asked: int) -> int:
    """Those of them that are the dead letters they were when as many messages were settled as ``asked``.

    What is read is what never changes, and it is read beside the traffic. A dead letter is never dropped from the log, so
    where rows are written there is nothing to read: memory says whether it still is the same one.
    """
    stock, shelves, orders, places = ledger.stock, dict[MessageId, Shelf](), dict[MessageId, int](), list[int]()
    died: dict[MessageId, int] = {}
    for place, actor, queue, message in found:
        shelf = stock.shelf(actor, queue)
        if (settled := shelf.dead.get(message)) is not None and settled <= asked:
            shelves[message], died[message], orders[message] = shelf, settled, stock.next_order()
            places.append(place)
    if not places:
        return 0
    log = ledger.log
    entries = await in_thread(_read_back, log, orders, places)

    def revive(_: Connection) -> tuple[Sequence[Row], Sequence[Entry]]:
        if ledger.log is not log:
            raise Unavailable(
                "A write failed while dead letters were put back. Some may be back in their queues: call it again "
                "for the rest."
            )
        revived = [entry for entry in entries if shelves[entry.id].dead.get(entry.id) == died[entry.id]]
        return [event_rows.of_message("message.redelivered", entry) for entry in revived], revived

    return len(await ledger.decide(revive, lambda revived: _take_in(ledger, revived)))


def _read_back(log: EventLog, orders: Mapping[MessageId, int], places: Sequence[int]) -> list[Entry]:
    """Messages as they are once they are put back. Blocking."""
    entries: dict[MessageId, Entry] = {}
    event_rows.replay(entries, log.sent_rows(places, LARGEST_BODY))
    back = [(orders[entry.id], 0.0, "message.redelivered", entry.actor, entry.id, "{}") for entry in entries.values()]
    event_rows.replay(entries, back)
    return list(entries.values())
