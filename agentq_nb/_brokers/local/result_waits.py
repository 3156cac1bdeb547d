"""Waiting for the result of a message, and what is known of it before."""

from __future__ import annotations

import asyncio

from agentq_nb._brokers.local.commit import CommitLog
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.message_status import is_final
from agentq_nb.errors import MessageUnknown


async def wait(
    commit_log: CommitLog, message: MessageId, timeout: float | None, waiter: ActorId | None = None
) -> StoredResult:
    """See :meth:`agentq_nb._brokers.base.Broker.wait`. Raises MessageUnknown, Unavailable."""
    commit_log.check_open()
    entries, settling = commit_log.live_messages.entries, commit_log.results.settling
    while message not in entries and message not in settling:
        stored = commit_log.results.get(message) or await commit_log.read(message)
        if message in (entries := commit_log.live_messages.entries) or message in settling:
            break
        if stored is None:
            raise MessageUnknown(message)
        if is_final(stored.status):
            return stored
        await commit_log.decided()  # it was live when it was read: it is being put back, or was settled since
        entries = commit_log.live_messages.entries
    if timeout is not None and timeout <= 0 and message not in settling:
        return _standing(commit_log, message)
    entry = entries.get(message)
    if waiter is None or entry is None:
        return await _settled(commit_log, message, timeout)
    with commit_log.live_messages.suspects.waited_for(entry.actor):
        return await _settled(commit_log, message, timeout)


async def _settled(commit_log: CommitLog, message: MessageId, timeout: float | None) -> StoredResult:
    future = commit_log.results.waiting(message)
    timer = None if timeout is None else commit_log.clock.call_later(timeout, lambda: _time_out(future))
    try:
        return await future
    except TimeoutError:
        return _standing(commit_log, message)
    finally:
        commit_log.results.leave(message, future)
        if timer is not None:
            timer.cancel()


def _standing(commit_log: CommitLog, message: MessageId) -> StoredResult:
    entry = commit_log.live_messages.entries.get(message)
    if entry is not None:
        return entry.standing(commit_log.clock.time())
    if (settling := commit_log.results.settling.get(message)) is not None:  # a crash may still undo it
        status = "running" if settling.attempts else "queued"
        return settling._replace(status=status, reply=None, error=None)
    if (settled := commit_log.results.get(message)) is None:
        raise MessageUnknown(message)
    return settled


def _time_out(future: asyncio.Future[StoredResult]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
