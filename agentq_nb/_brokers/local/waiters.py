"""Waiting for what becomes of a message, and how it stands until then."""

from __future__ import annotations

import asyncio

from agentq_nb._brokers.base import StoredResult
from agentq_nb._brokers.local.commit import Ledger
from agentq_nb._brokers.local.results import is_final
from agentq_nb._core.clock import Timer
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb.errors import MessageUnknown


async def wait(
    ledger: Ledger, message: MessageId, timeout: float | None, waiter: ActorId | None = None
) -> StoredResult:
    """See :meth:`agentq_nb._brokers.base.Mailboxes.wait`. Raises MessageUnknown, Unavailable."""
    ledger.check_open()
    while message not in ledger.stock.entries and message not in ledger.results.settling:
        stored = ledger.results.get(message) or await ledger.read(message)
        if message in ledger.stock.entries or message in ledger.results.settling:
            break
        if stored is None:
            raise MessageUnknown(message)
        if is_final(stored.status):
            return stored
        await ledger.decided()  # it was live when it was read: it is coming back, or has been settled since
    if timeout is not None and timeout <= 0 and message not in ledger.results.settling:
        return _standing(ledger, message)
    entry = ledger.stock.entries.get(message)
    if waiter is None or entry is None:
        return await _settled(ledger, message, timeout)
    with ledger.stock.suspects.waited_for(entry.actor):
        return await _settled(ledger, message, timeout)


async def _settled(ledger: Ledger, message: MessageId, timeout: float | None) -> StoredResult:
    future = ledger.results.waiting(message)
    timer: Timer | None = None
    if timeout is not None:
        timer = ledger.clock.call_later(timeout, lambda: _time_out(future))
    try:
        return await future
    except TimeoutError:
        return _standing(ledger, message)
    finally:
        ledger.results.leave(message, future)
        if timer is not None:
            timer.cancel()


def _time_out(future: asyncio.Future[StoredResult]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


def _standing(ledger: Ledger, message: MessageId) -> StoredResult:
    entry = ledger.stock.entries.get(message)
    if entry is None:
        if (settling := ledger.results.settling.get(message)) is not None:  # a crash may still undo it
            return settling._replace(status="running", reply=None, error=None)
        if (settled := ledger.results.get(message)) is None:
            raise MessageUnknown(message)
        return settled
    return ledger.stock.standing(entry)
