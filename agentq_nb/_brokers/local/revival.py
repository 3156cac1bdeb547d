"""Put messages back together with those that were cancelled because they waited for them.

Those that waited come first, and what they waited for last: after a crash between the two they wait for a message that has
failed, and are cancelled again. So nothing is lost, and nothing waits without end.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence

from agentq_nb._brokers.chains import reached_by
from agentq_nb._brokers.local import event_rows, predecessors
from agentq_nb._brokers.local.commit import CommitLog
from agentq_nb._brokers.local.predecessors import Known
from agentq_nb._brokers.local.queues import LARGEST_BODY, LiveMessage
from agentq_nb._core.ids import MessageId
from agentq_nb._core.threads import in_long_thread, in_thread
from agentq_nb._store import EventLog, startup_queries
from agentq_nb.errors import Unavailable

_AT_ONCE = 100
"""Messages that are put back per step, in some milliseconds of the loop."""


async def with_dependents(
    commit_log: CommitLog, messages: Sequence[MessageId], put_back: Callable[[], Awaitable[int]]
) -> int:
    """Await ``put_back``, which puts these messages back; those that were cancelled because of them wait for them again.

    Runs to its end even if the caller is cancelled. Returns what ``put_back`` returns.
    """

    async def work() -> int:
        async with commit_log.redelivering:
            try:
                log = commit_log.log
                cancelled = await in_long_thread(log.fetch, startup_queries.CANCELLED_DEPENDENTS)
                if not cancelled:
                    return await put_back()
                return await _Revival(commit_log, cancelled).run(messages, put_back)
            finally:
                commit_log.coming_back.difference_update(messages)

    commit_log.coming_back.update(messages)
    task = asyncio.ensure_future(work())
    _running.add(task)
    task.add_done_callback(_ended)
    return await asyncio.shield(task)


_running: set[asyncio.Task[int]] = set()
"""Kept here because the event loop holds only weak references to tasks."""


def _ended(task: asyncio.Task[int]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # the caller got it, unless it was cancelled


class _Revival:
    """One redelivery.

    :param cancelled: the messages that were cancelled because of others, each with its place in the log.
    """

    def __init__(self, commit_log: CommitLog, cancelled: startup_queries.Rows) -> None:
        self._commit_log = commit_log
        self._log = commit_log.log
        self._places: dict[MessageId, int] = {message: place for place, message, _ in cancelled}
        self._after: dict[MessageId, list[MessageId]] = {message: json.loads(after) for _, message, after in cancelled}

    async def run(self, messages: Sequence[MessageId], put_back: Callable[[], Awaitable[int]]) -> int:
        dependents = self._commit_log.live_messages.dependents
        reached = reached_by(self._after, messages, lambda message: True)
        named = {one for message in reached for one in self._after[message]}
        with dependents.sparing([*reached, *named]):
            await self._commit_log.decide(lambda _: ((), None))  # a slice of a pruning that spares none of them is over
            known = await in_thread(predecessors.read, self._log.fetch, named)
            reached = reached_by(self._after, messages, lambda message: self._completes(message, known))
            revived: list[LiveMessage] = []
            try:
                for start in range(0, len(reached), _AT_ONCE):
                    revived += await self._revive(reached[start : start + _AT_ONCE], known)
                return await put_back()
            finally:
                await settle_again(self._commit_log, self._log, revived)

    def _completes(self, message: MessageId, known: Mapping[MessageId, Known]) -> bool:
        if message in self._commit_log.live_messages.entries:
            return True
        return message in known and known[message].result.status == "completed"

    async def _revive(self, messages: Sequence[MessageId], known: Mapping[MessageId, Known]) -> Sequence[LiveMessage]:
        """Write that these messages are back, and let them wait."""
        commit_log = self._commit_log
        orders = {message: commit_log.live_messages.next_order() for message in messages}
        places = sorted(self._places[message] for message in messages)
        entries = await in_thread(_read_back, self._log, orders, places)
        if commit_log.log is not self._log:
            raise Unavailable("A write failed while messages were put back. Call it again.")

        def begin() -> None:
            for entry in entries:
                met = {one for one in entry.after if one in known and known[one].result.status == "completed"}
                entry.unmet = set(entry.after) - met
            make_live(commit_log, entries)

        await commit_log.write([event_rows.revived(entry) for entry in entries], begin)
        return entries


async def settle_again(commit_log: CommitLog, log: EventLog, revived: Sequence[LiveMessage]) -> None:
    """Release or cancel revived messages whose predecessors were settled meanwhile, or were not put back after all."""
    entries = commit_log.live_messages.entries
    waited_for = {one for entry in revived if not entry.gone for one in entry.unmet or () if one not in entries}
    if commit_log.log is not log or not waited_for:
        return
    for known in (await in_thread(predecessors.read, log.fetch, waited_for)).values():
        if known.result.status != "queued" and known.result.message not in entries:
            commit_log.live_messages.dependents.settled(known.result)


def make_live(commit_log: CommitLog, revived: Sequence[LiveMessage]) -> None:
    """Make messages live again, after that is durable."""
    live_messages = commit_log.live_messages
    for entry in revived:
        if entry.after:
            live_messages.dependents.add(entry, entry.unmet)
        live_messages.hold(entry, live_messages.queue_state(entry.actor, entry.queue))
        entry.queue_state.dead.pop(entry.id, None)
        commit_log.results.forget(entry.id)
        live_messages.reclaim_key(entry)
        if entry.batch is not None:
            commit_log.batches.revived(entry.batch, entry.id)
    live_messages.arrive(revived)


def _read_back(log: EventLog, orders: Mapping[MessageId, int], places: Sequence[int]) -> list[LiveMessage]:
    """Return the messages as they are after being put back. Blocking."""
    entries: dict[MessageId, LiveMessage] = {}
    event_rows.replay(entries, log.sent_rows(places, LARGEST_BODY))
    back = [
        (orders[one.id], 0.0, "message.redelivered", one.actor, one.id, event_rows.REVIVED) for one in entries.values()
    ]
    event_rows.replay(entries, back)
    return list(entries.values())
