"""Send the rows of a batch: find those that it has, check capacity, write the others in as few commits as possible."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from agentq_nb._actor.send_options import StoredOptions
from agentq_nb._brokers.batches import NewBatch, StoredBatch
from agentq_nb._brokers.local import batch_log, event_rows, predecessor_check
from agentq_nb._brokers.local.batch_index import LIVE, PRUNED, BatchState
from agentq_nb._brokers.local.commit import CommitLog
from agentq_nb._brokers.local.queues import LARGEST_BODY, LiveMessage
from agentq_nb._brokers.local.waiting_senders import Sender
from agentq_nb._brokers.messages import NewMessage, digest
from agentq_nb._core.ids import MessageId, mint_id
from agentq_nb._core.threads import in_long_thread
from agentq_nb._core.time_slice import Slices
from agentq_nb._policies.admission import Limits, Load, refused
from agentq_nb._store import Row
from agentq_nb.errors import BatchElsewhere, BatchPruned, BatchTooLarge, QueueFull, Unavailable

_LARGEST_COMMIT = 4 << 20
"""Characters of rows that are written in one commit: some 50 ms of the writer's thread, or 10,000 small rows."""
_STEP = 100
"""Rows after which the loop may run other callbacks."""


class Sending:
    """One call of ``send`` or ``redo``. The caller holds the lock of the batch.

    :param sender: its place among the senders that wait for room, when it is served.
    """

    def __init__(self, commit_log: CommitLog, name: str, limits: Limits, sender: Sender | None = None) -> None:
        self._commit_log = commit_log
        self._name = name
        self._limits = limits
        self._sender = sender
        self._log = commit_log.log
        self._slices = Slices()
        self.load = Load(0, 0)
        """What it needs room for."""

    async def send(self, new_batch: NewBatch, state: BatchState | None) -> StoredBatch:
        """See :meth:`Batches.send`. ``state`` is the batch of that name; None if it is new."""
        earlier = None if state is None else state.facts
        if state is None:
            state = BatchState(new_batch.name, new_batch.actor, new_batch.queue, self._commit_log.clock.time())
            state.first = self._log.last_seq + 1
        elif (state.actor, state.queue) != (new_batch.actor, new_batch.queue):
            raise BatchElsewhere(state.name, state.actor, state.queue)
        found = await self._rows(new_batch, state)
        rows, replaced = _replaced(state, found) if new_batch.again else (found, {})
        given, total = spans(rows), len(state.ids)
        view = given if new_batch.whole else _joined(_substituted(state, replaced), given)
        new = [(body, new_batch.options) for row, body in zip(rows, new_batch.bodies, strict=True) if row >= total]
        if not new and list(state.view) == view and dict(state.facts) == dict(new_batch.facts):
            await self._commit_log.flushed()
        else:
            await self._store(state, view, new, replaced, new_batch.facts)
        return state.stored(given, added=len(new), earlier=earlier)

    async def redo(self, state: BatchState, numbers: Sequence[int]) -> StoredBatch:
        """See :meth:`Batches.redo`."""
        rows, replaced = _replaced(state, numbers)
        messages = [message for row in replaced if (message := state.ids[row]) is not None]
        sent = await in_long_thread(batch_log.read_sent, self._log, state, messages)
        if len(sent) < len(replaced):
            raise BatchPruned(state.name)
        new = [sent[message] for message in messages]
        view = _substituted(state, replaced)
        await self._store(state, view, new, replaced, state.facts)
        return state.stored(spans(rows), added=len(new), earlier=state.facts)

    async def _rows(self, new_batch: NewBatch, state: BatchState) -> Sequence[int]:
        """Return the row of each body: one that the batch has, or a new one."""
        total, bodies = len(state.ids), new_batch.bodies
        if not total:
            return range(total, total + len(bodies))
        counting = state.counting()
        if not new_batch.again and any(state.codes[row] == PRUNED for row in counting):
            raise BatchPruned(state.name)
        known = await in_long_thread(batch_log.read_contents, self._commit_log.log, state, counting)
        if len(known) < len(counting) and not new_batch.again:
            raise BatchPruned(state.name)
        wanted = await in_long_thread(lambda: list(map(digest, bodies)))
        return match_rows(known, wanted, total)

    async def _store(
        self,
        state: BatchState,
        view: Sequence[range],
        new: Sequence[tuple[bytes, StoredOptions]],
        replaced: Mapping[int, int],
        facts: Mapping[str, Any],
    ) -> None:
        entries = await self._enter(state, new)
        state.facts = facts
        pruned = [row for row in state.counting() if state.codes[row] == PRUNED] if PRUNED in state.codes else []
        if replaced or pruned:
            state.replaced = spans(sorted({*state.numbers(state.replaced), *replaced, *pruned}))
        await self._write(state, view, entries)

    async def _enter(self, state: BatchState, new: Sequence[tuple[bytes, StoredOptions]]) -> list[LiveMessage]:
        """Add new rows to memory, all or none; they are delivered only once they are durable."""
        after = {message for _, options in new for message in options.get("after", ())}
        if not after:
            return await self._enter_all(state, new)
        with self._commit_log.live_messages.dependents.sparing(after):
            await predecessor_check.look_up(self._commit_log, after, state.rows)
            return await self._enter_all(state, new, after)

    async def _enter_all(
        self, state: BatchState, new: Sequence[tuple[bytes, StoredOptions]], after: Collection[MessageId] = ()
    ) -> list[LiveMessage]:
        name, actor, queue, limits = self._name, state.actor, state.queue, self._limits
        live_messages = self._commit_log.live_messages
        self._check_room(state, new)
        ids = [mint_id() for _ in new]
        if self._sender is not None:
            self._sender.ids = frozenset(ids)
        entries: list[LiveMessage] = []
        row = len(state.ids)
        try:
            for message, (body, options) in zip(ids, new, strict=True):
                entry = live_messages.enter(NewMessage(message, actor, queue, body, options, *limits))
                entry.batch, entry.row = name, row
                entries.append(entry)
                row += 1
                if not row % _STEP:
                    await self._slices.pause()
                    self._check()
                    predecessor_check.check_again(self._commit_log, after)
        except BaseException:
            if self._commit_log.log is self._log:
                live_messages.withdraw(entries)
            raise
        return entries

    def _check_room(self, state: BatchState, new: Sequence[tuple[bytes, StoredOptions]]) -> None:
        """Raise QueueFull, BatchTooLarge or StoreFull unless there is room for all."""
        limits, commit_log = self._limits, self._commit_log
        self.load = load = Load(len(new), sum(len(body) for body, _ in new))
        queue_state = commit_log.live_messages.queue_state(state.actor, state.queue)
        if not new:
            return
        if (unit := refused(Load(0, 0), load, limits)) is not None:
            number = load.bytes if unit == "bytes" else load.messages
            raise BatchTooLarge(state.actor, state.queue, number, limits[unit == "bytes"] or 0, unit)
        if (unit := refused(Load(queue_state.live, queue_state.bytes), load, limits)) is not None:
            raise QueueFull(state.actor, state.queue, limits[unit == "bytes"] or 0, unit)
        if commit_log.store_limit.bytes is not None:
            commit_log.store_limit.check(commit_log.log, load.bytes)

    def _check(self) -> None:
        """Raise Unavailable if the file was opened again meanwhile: what was added to memory is gone."""
        self._commit_log.check()
        if self._commit_log.log is not self._log:
            raise Unavailable("A write failed meanwhile, so this was not sent. Send it again.")

    async def _write(self, state: BatchState, view: Sequence[range], entries: Sequence[LiveMessage]) -> None:
        """Write the rows, in one commit or a few; each records which of the view its rows are."""
        commit_log, total = self._commit_log, len(state.ids)
        if not state.count(0, state.view):
            state.pace.begin(commit_log.clock.monotonic())
        state.view = []
        left, start = list(view), 0
        while True:
            written = await self._rows_of_commit(entries, start)
            of_commit = entries[start : start + len(written)]
            is_last = start + len(of_commit) == len(entries)
            total += len(of_commit)
            part, left = _split(left, math.inf if is_last else total)
            for entry in of_commit:
                entry.first = commit_log.log.last_seq + 1
            facts = batch_log.sent_facts(state, part, more=start > 0)
            sent = event_rows.of_batch("batch.sent", state.actor, state.name, facts)
            self._check()
            durable = commit_log.write([sent, *written])
            for entry in of_commit:
                state.add(entry.id)
            state.view = [*state.view, *part]
            commit_log.batches.states[state.name] = state
            await durable
            await self._arrive(of_commit)
            start += len(of_commit)
            if is_last:
                return

    async def _rows_of_commit(self, entries: Sequence[LiveMessage], start: int) -> list[Row]:
        """Return the rows of the messages from ``start`` on that go into the next commit."""
        rows: list[Row] = []
        size = 0
        for number in range(start, len(entries)):
            row = event_rows.queued(entries[number])
            size += len(row)
            if size > _LARGEST_COMMIT and rows:
                break
            rows.append(row)
            if not number % _STEP:
                await self._slices.pause()
        return rows

    async def _arrive(self, entries: Sequence[LiveMessage]) -> None:
        """Make durable messages deliverable. Those that are due at once are announced together."""
        live_messages = self._commit_log.live_messages
        for start in range(0, len(entries), _STEP):
            some = [entry for entry in entries[start : start + _STEP] if not entry.gone]
            due = [entry for entry in some if not entry.due and not entry.unmet and entry.size <= LARGEST_BODY]
            for entry in due:
                entry.queue_state.add(entry)
            if due:
                live_messages.announce(due[0].queue_state)
            if len(due) < len(some):
                live_messages.arrive(entry for entry in some if entry.due or entry.unmet or entry.size > LARGEST_BODY)
            await self._slices.pause()


def _replaced(state: BatchState, found: Iterable[int]) -> tuple[list[int], dict[int, int]]:
    """Return rows with a new row in place of each that is settled, and which one that is. What is not settled stays."""
    rows: list[int] = []
    replaced: dict[int, int] = {}
    total = following = len(state.ids)
    for row in found:
        if row >= total:
            rows.append(following)
        elif state.codes[row] == LIVE:
            rows.append(row)
            continue
        else:
            replaced[row] = following
            rows.append(following)
        following += 1
    return rows, replaced


def _substituted(state: BatchState, replaced: Mapping[int, int]) -> list[range]:
    """Return what the batch consists of once rows are replaced: without those that were pruned."""
    if not replaced and PRUNED not in state.codes:
        return list(state.view)
    view = (row for span in state.view for row in span if row in replaced or state.codes[row] != PRUNED)
    return spans(replaced.get(row, row) for row in view)


def _joined(view: Sequence[range], given: Sequence[range]) -> list[range]:
    """Return the rows of a view, followed by the given ones that are not among them."""
    if not view:
        return list(given)
    present = {row for span in view for row in span}
    return spans(row for part in (view, given) for span in part for row in span if part is view or row not in present)


def _split(view: Sequence[range], end: float) -> tuple[list[range], list[range]]:
    """Split a view before its first row that is not below ``end``."""
    for number, span in enumerate(view):
        if span.stop > end:
            here = range(span.start, max(span.start, int(end)))
            return [*view[:number], *([here] if here else [])], [range(here.stop, span.stop), *view[number + 1 :]]
    return list(view), []


def match_rows(known: Iterable[tuple[int, bytes]], wanted: Iterable[bytes], following: int) -> list[int]:
    """Return the row of each item, by content and not by position: a known row of the same content, or else a new one.

    The second item of a content gets the second known row of it, and so on, so ten equal items are ten rows.

    :param known: the number and the content's digest of each known row, in ascending order.
    :param wanted: the digest of each item.
    :param following: the number of the first new row.
    """
    rows: defaultdict[bytes, list[int]] = defaultdict(list)
    for row, content in known:
        rows[content].append(row)
    for of_content in rows.values():
        of_content.reverse()
    found: list[int] = []
    for content in wanted:
        if of_content := rows.get(content):
            found.append(of_content.pop())
        else:
            found.append(following)
            following += 1
    return found


def spans(rows: Iterable[int]) -> list[range]:
    """Return numbers as ranges of consecutive ones, in the same order."""
    found: list[range] = []
    start = end = -1
    for row in rows:
        if row == end:
            end += 1
            continue
        if end > start:
            found.append(range(start, end))
        start, end = row, row + 1
    if end > start:
        found.append(range(start, end))
    return found
