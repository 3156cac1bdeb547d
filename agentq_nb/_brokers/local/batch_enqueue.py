"""Send the rows of a batch: find those that it has, check capacity, write the others in as few commits as possible."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from agentq_nb._brokers.batches import NewBatch, StoredBatch
from agentq_nb._brokers.local import batch_log, event_rows
from agentq_nb._brokers.local.batch_index import PRUNED, BatchState
from agentq_nb._brokers.local.commit import CommitLog
from agentq_nb._brokers.local.idempotency import digest
from agentq_nb._brokers.local.queues import LARGEST_BODY, LiveMessage
from agentq_nb._brokers.values import NewMessage
from agentq_nb._core.ids import mint_id
from agentq_nb._core.threads import in_long_thread
from agentq_nb._core.time_slice import Slices
from agentq_nb._policies.admission import exceeded
from agentq_nb._store import Row
from agentq_nb.errors import BatchElsewhere, BatchPruned, QueueFull, Unavailable

_LARGEST_COMMIT = 4 << 20
"""Characters of rows that are written in one commit: some 50 ms of the writer's thread, or 10,000 small rows."""
_STEP = 100
"""Rows after which the loop may run other callbacks."""


class Sending:
    """One call of ``send``. ``state`` is the batch of that name; None if it is new. The caller holds its lock."""

    def __init__(self, commit_log: CommitLog, new_batch: NewBatch, state: BatchState | None) -> None:
        self._commit_log = commit_log
        self._new_batch = new_batch
        self._known = state
        self._log = commit_log.log
        self._slices = Slices()

    async def run(self) -> StoredBatch:
        """Send it. Raises QueueFull, StoreFull, BatchElsewhere, BatchPruned, StoreWriteFailed."""
        new_batch, state = self._new_batch, self._known
        earlier = None if state is None else state.facts
        if state is None:
            state = BatchState(new_batch.name, new_batch.actor, new_batch.queue, self._commit_log.clock.time())
            state.first = self._log.last_seq + 1
        elif (state.actor, state.queue) != (new_batch.actor, new_batch.queue):
            raise BatchElsewhere(state.name, state.actor, state.queue)
        total = len(state.ids)
        rows = await self._rows(state)
        given = spans(rows)
        view = given if new_batch.whole or new_batch.again else _joined(state.view, given)
        bodies = [body for row, body in zip(rows, new_batch.bodies, strict=True) if row >= total]
        unchanged = not bodies and list(state.view) == view and dict(state.facts) == dict(new_batch.facts)
        if unchanged:
            await self._commit_log.flushed()
            return state.stored(given, earlier=earlier)
        entries = await self._enter(state, bodies)
        state.facts = new_batch.facts
        if new_batch.again:
            state.since = total
        await self._write(state, view, entries)
        return state.stored(given, added=len(bodies), earlier=earlier)

    async def _rows(self, state: BatchState) -> Sequence[int]:
        """Return the row of each body: one that the batch has, or a new one."""
        total, bodies = len(state.ids), self._new_batch.bodies
        if self._new_batch.again or not total:
            return range(total, total + len(bodies))
        if PRUNED in state.codes[state.since :]:
            raise BatchPruned(state.name)
        known = await in_long_thread(batch_log.read_contents, self._commit_log.log, state)
        wanted = await in_long_thread(lambda: list(map(digest, bodies)))
        return match_rows(known, wanted, total)

    async def _enter(self, state: BatchState, bodies: Sequence[bytes]) -> list[LiveMessage]:
        """Add new rows to memory, all or none; they are delivered only once they are durable."""
        new_batch = self._new_batch
        name, actor, queue = new_batch.name, new_batch.actor, new_batch.queue
        options, limits = new_batch.options, (new_batch.max_size, new_batch.max_bytes)
        live_messages = self._commit_log.live_messages
        self._check_room(bodies)
        entries: list[LiveMessage] = []
        row = len(state.ids)
        try:
            for body in bodies:
                entry = live_messages.enter(NewMessage(mint_id(), actor, queue, body, options, *limits))
                entry.batch, entry.row = name, row
                entries.append(entry)
                row += 1
                if not row % _STEP:
                    await self._slices.pause()
                    self._check()
        except BaseException:
            if self._commit_log.log is self._log:
                live_messages.withdraw(entries)
            raise
        return entries

    def _check_room(self, bodies: Sequence[bytes]) -> None:
        """Raise QueueFull or StoreFull unless there is room for all."""
        new_batch, commit_log = self._new_batch, self._commit_log
        size = sum(map(len, bodies))
        queue_state = commit_log.live_messages.queue_state(new_batch.actor, new_batch.queue)
        limits = (new_batch.max_size, new_batch.max_bytes)
        unit = exceeded(queue_state.live, queue_state.bytes, len(bodies), size, *limits) if bodies else None
        if unit is not None:
            raise QueueFull(new_batch.actor, new_batch.queue, limits[unit == "bytes"] or 0, unit)
        if commit_log.store_limit.bytes is not None:
            commit_log.store_limit.check(commit_log.log, size)

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
            due = [entry for entry in some if not entry.due and entry.size <= LARGEST_BODY]
            for entry in due:
                entry.queue_state.add(entry)
            if due:
                live_messages.announce(due[0].queue_state)
            if len(due) < len(some):
                live_messages.arrive(entry for entry in some if entry.due or entry.size > LARGEST_BODY)
            await self._slices.pause()


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
