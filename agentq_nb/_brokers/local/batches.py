"""Batches over the local broker: send them, load them, wait for their rows, retry and cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from agentq_nb._brokers.batches import (
    BatchCounts,
    BatchRow,
    Cursor,
    NewBatch,
    SettledRows,
    StoredBatch,
)
from agentq_nb._brokers.changes import Cancel, Resume
from agentq_nb._brokers.local import batch_log, control
from agentq_nb._brokers.local.batch_enqueue import Sending
from agentq_nb._brokers.local.batch_index import CODES, LIVE, PRUNED, BatchState
from agentq_nb._brokers.local.commit import CommitLog, Settled
from agentq_nb._brokers.local.waiting_senders import Sender, line_of
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._core.ids import MessageId
from agentq_nb._core.threads import in_long_thread
from agentq_nb._core.time_slice import Slices
from agentq_nb._policies.admission import Limits, Load
from agentq_nb._store import EventLog
from agentq_nb.errors import BatchTooLarge, BatchUnknown, QueueFull

T = TypeVar("T")

_AT_ONCE = 1000
"""Rows whose results are returned, or read from the log, at a time."""
_WHILE_STOPPING = 0.1
"""Seconds between two looks at what is still running in a batch that was stopped."""
_RECALLED, _RECALLED_ROWS, _RECALLED_AGE = 8, 20_000, 86_400.0
"""How many settled batches of earlier processes are recent, of how many rows each, and within how many seconds."""


class LocalBatches:
    """See :class:`agentq_nb._brokers.batches.Batches`."""

    def __init__(self, commit_log: CommitLog) -> None:
        self._commit_log = commit_log
        self._locks: dict[str, asyncio.Lock] = {}
        self._recalled: EventLog | None = None
        """The log whose recent batches were loaded."""
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- sending and finding ------------------------------------------------------------------------------------------

    async def send(self, new_batch: NewBatch, room_timeout: float | None = 0.0) -> StoredBatch:
        self._commit_log.check()
        limits = Limits(new_batch.max_size, new_batch.max_bytes)
        sending = Sending(self._commit_log, new_batch.name, limits)
        try:
            return await self._to_its_end(self._send(new_batch, sending))
        except BatchTooLarge:
            raise
        except QueueFull as full:
            if room_timeout == 0:
                raise
            return await self._send_in_turn(new_batch, sending.load, limits, full, room_timeout)

    async def _send(self, new_batch: NewBatch, sending: Sending) -> StoredBatch:
        async with self._lock(new_batch.name):
            return await sending.send(new_batch, await self._loaded(new_batch.name))

    async def _send_in_turn(
        self, new_batch: NewBatch, load: Load, limits: Limits, full: QueueFull, timeout: float | None
    ) -> StoredBatch:
        """Wait until there is room for all, in the order of all who wait, and send it. Cancelled before: sends nothing."""
        commit_log = self._commit_log
        deadline = None if timeout is None else commit_log.clock.monotonic() + timeout
        line, sender = line_of(commit_log.live_messages.queue_state(new_batch.actor, new_batch.queue)), Sender()
        with line.place(sender, load, limits):
            while True:
                try:
                    await line.until_called(sender, deadline, commit_log.clock)
                except TimeoutError:
                    raise full.after(timeout or 0.0) from None
                commit_log.check()
                sending = Sending(commit_log, new_batch.name, limits, sender)
                try:
                    return await self._to_its_end(self._send(new_batch, sending))
                except BatchTooLarge:
                    raise
                except QueueFull:  # meanwhile the batch was sent to, or less of it was
                    line.keep_place(sender, sending.load, limits)

    async def find(self, name: str) -> StoredBatch:
        return (await self._state(name)).stored()

    async def all(self) -> Sequence[StoredBatch]:
        self._commit_log.check()
        states = await in_long_thread(batch_log.read_all, self._commit_log.log)
        return [self._commit_log.batches.states.get(state.name, state).stored() for state in states]

    async def recent(self, most: int) -> Sequence[StoredBatch]:
        self._commit_log.check()
        if self._recalled is not (log := self._commit_log.log):
            await self._recall(log)
            self._recalled = log
        newest = sorted(self._commit_log.batches.states.values(), key=lambda state: -state.created_at)
        newest.sort(key=lambda state: not state.count(LIVE, state.view))
        return [state.stored() for state in newest[:most]]

    async def _recall(self, log: EventLog) -> None:
        """Load the batches with unsettled rows, and a few of those that were settled lately."""
        stored = sorted(await in_long_thread(batch_log.read_all, log), key=lambda state: -state.created_at)
        live = {entry.batch for entry in self._commit_log.live_messages.entries.values()}
        since = self._commit_log.clock.time() - _RECALLED_AGE
        late = [one.name for one in stored if one.created_at > since and len(one.codes) <= _RECALLED_ROWS]
        for state in stored:
            if state.name in live or state.name in late[:_RECALLED]:
                await self._state(state.name)

    async def _state(self, name: str) -> BatchState:
        """Return a batch, loaded. Raises BatchUnknown."""
        self._commit_log.check()
        state = self._commit_log.batches.states.get(name)
        if state is None:
            async with self._lock(name):
                state = await self._loaded(name)
        if state is None:
            names = [stored.name for stored in await self.all()]
            raise BatchUnknown(name, names)
        return state

    async def _loaded(self, name: str) -> BatchState | None:
        """Load a batch unless it is in memory; None if there is none. The caller holds its lock."""
        index, commit_log = self._commit_log.batches, self._commit_log
        while (state := index.states.get(name)) is None:
            log = commit_log.log
            index.begin_loading(name)
            try:
                read = await in_long_thread(batch_log.read_one, log, name)
            finally:
                settled = index.end_loading(name)
            if read is None:
                return None
            commit_log.check()
            if commit_log.log is log and name not in index.states:
                index.states[name] = batch_log.joined(read, settled, commit_log)
        return state

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` to its end even if the caller is cancelled: its rows may be durable already."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the caller got it, unless it was cancelled

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def counts(self, name: str, rows: Sequence[range]) -> BatchCounts:
        return self._counts(await self._state(name), rows)

    def counts_now(self, name: str, rows: Sequence[range]) -> BatchCounts:
        self._commit_log.check()
        index = self._commit_log.batches
        if name not in index.states:
            read = batch_log.read_one(self._commit_log.log, name)
            if read is None:
                raise BatchUnknown(name, ())
            index.states[name] = batch_log.joined(read, {}, self._commit_log)
        return self._counts(index.states[name], rows)

    def _counts(self, state: BatchState, rows: Sequence[range]) -> BatchCounts:
        live, running = state.count(LIVE, rows), self._count_running(state, rows)
        return BatchCounts(
            completed=state.count(CODES["completed"], rows),
            failed=state.count(CODES["failed"], rows),
            cancelled=state.count(CODES["cancelled"], rows),
            expired=state.count(CODES["expired"], rows),
            running=running,
            waiting=live - running,
            pruned=state.count(PRUNED, rows),
            per_minute=round(state.pace.per_minute(self._commit_log.clock.monotonic()), 1),
            stopped=self._stopped(state),
        )

    def _count_running(self, state: BatchState, rows: Sequence[range]) -> int:
        running = self._commit_log.live_messages.queue_state(state.actor, state.queue).running.values()
        return sum(entry.batch == state.name and any(entry.row in span for span in rows) for entry in running)

    async def settled(self, name: str, cursor: Cursor | None, timeout: float | None) -> SettledRows:
        state = await self._state(name)
        place = cursor.place if cursor is not None and cursor.state == state.number else 0
        if place >= len(state.order) and not self._has_stopped(state):
            await self._changed(state, timeout if self._stopped(state) is None else _WHILE_STOPPING)
            state = await self._state(name)
            place = cursor.place if cursor is not None and cursor.state == state.number else 0
        fresh = state.order[place : place + _AT_ONCE]
        numbers = [row for row in fresh if state.codes[row] != LIVE]
        read = await self._read(state, [message for row in numbers if (message := state.ids[row]) is not None], False)
        cursor = Cursor(state.number, place + len(fresh))
        rows = [(row, found.result) for row, found in zip(numbers, read, strict=True)]
        return SettledRows(cursor, rows, self._stopped(state) if not rows and self._has_stopped(state) else None)

    def _has_stopped(self, state: BatchState) -> bool:
        """Whether the batch is stopped, and what was running then has ended."""
        return self._stopped(state) is not None and not self._count_running(state, state.view)

    def _stopped(self, state: BatchState) -> str | None:
        """Return why failures have stopped the batch's queue; None: they have not."""
        pause = self._commit_log.live_messages.pauses.of(state.actor, state.queue)
        return None if pause is None else pause.reason

    async def _changed(self, state: BatchState, timeout: float | None) -> None:
        timer = None if timeout is None else self._commit_log.clock.call_later(timeout, state.wake)
        try:
            await state.changed()
        finally:
            if timer is not None:
                timer.cancel()

    async def finished(self, name: str, rows: Sequence[range]) -> str | None:
        while True:
            state = await self._state(name)
            live = state.count(LIVE, rows)
            if not live:
                return None
            target = len(state.order) + live  # no sooner can all be settled
            while len(state.order) < target:
                stopped = self._stopped(state)
                if stopped is not None and not self._count_running(state, rows):
                    return stopped
                # Nothing tells when an attempt ends that is to be repeated.
                await self._changed(state, None if stopped is None else _WHILE_STOPPING)
                if self._commit_log.batches.states.get(name) is not state:
                    break

    # --- reading ------------------------------------------------------------------------------------------------------

    async def read(
        self, name: str, rows: Sequence[int], *, timed: bool = False, bodies: bool = False
    ) -> Sequence[BatchRow | None]:
        state = await self._state(name)
        found: dict[MessageId, BatchRow] = {}
        messages = [message for row in rows if (message := state.ids[row]) is not None]
        for start in range(0, len(messages), _AT_ONCE):
            some = messages[start : start + _AT_ONCE]
            found.update(zip(some, await self._read(state, some, timed, bodies=bodies), strict=True))
        return [None if (message := state.ids[row]) is None else found[message] for row in rows]

    async def _read(
        self, state: BatchState, messages: Sequence[MessageId], timed: bool, *, bodies: bool = False
    ) -> list[BatchRow]:
        """Return the results of messages; ``timed``: with the seconds of their last attempts, tokens and costs."""
        commit_log = self._commit_log
        remembered = {} if timed else {m: r for m in messages if (r := commit_log.results.get(m)) is not None}
        missing = [message for message in messages if message not in remembered]
        stored = await in_long_thread(batch_log.read_results, commit_log.log, state, missing) if missing else {}
        texts = await in_long_thread(batch_log.read_bodies, commit_log.log, state, messages) if bodies else {}
        rows = [self._row(message, remembered.get(message), stored.get(message), state, texts) for message in messages]
        if not timed:
            return rows
        used = await in_long_thread(batch_log.read_usage, commit_log.log, state, messages)
        measured = (used.get(message, (None, None)) for message in messages)
        return [row._replace(tokens=tokens, cost=cost) for row, (tokens, cost) in zip(rows, measured, strict=True)]

    def _row(
        self,
        message: MessageId,
        remembered: StoredResult | None,
        stored: BatchRow | None,
        state: BatchState,
        texts: dict[MessageId, bytes],
    ) -> BatchRow:
        live_messages, body = self._commit_log.live_messages, texts.get(message)
        if (entry := live_messages.entries.get(message)) is not None:
            return BatchRow(entry.standing(self._commit_log.clock.time()), None, body)
        if remembered is not None:
            return BatchRow(remembered, None, body)
        if stored is not None and stored.result.status != "queued":
            return stored._replace(body=body)
        return BatchRow(StoredResult(message, state.actor, state.queue, "running"), None, body)  # it is being written

    async def failed(self, name: str, rows: Sequence[range], most: int) -> Sequence[tuple[int, StoredResult]]:
        state = await self._state(name)
        messages = state.having(CODES["failed"], rows)[:most]
        found = await self._read(state, messages, False)
        return [(state.rows[message], row.result) for message, row in zip(messages, found, strict=True)]

    # --- changing -----------------------------------------------------------------------------------------------------

    async def retry_failed(self, name: str, rows: Sequence[range]) -> int:
        state, commit_log = await self._state(name), self._commit_log
        await commit_log.learn_keys()
        failed = state.having(CODES["failed"], rows)
        asked = commit_log.live_messages.settled
        found = await in_long_thread(batch_log.read_places, commit_log.log, state, failed) if failed else []
        moved = await self._to_its_end(control.redeliver_found(commit_log, found, asked))
        await self.resume(name)
        return moved

    async def redo(self, name: str, rows: Sequence[range], limits: Limits) -> StoredBatch:
        await self._state(name)
        sent = await self._to_its_end(self._redo(name, rows, limits))
        await self.resume(name)
        return sent

    async def _redo(self, name: str, rows: Sequence[range], limits: Limits) -> StoredBatch:
        async with self._lock(name):
            state = await self._loaded(name)
            if state is None:
                raise BatchUnknown(name, ())
            return await Sending(self._commit_log, name, limits).redo(state, list(state.numbers(rows)))

    async def cancel(self, name: str, rows: Sequence[range]) -> int:
        state, commit_log, slices = await self._state(name), self._commit_log, Slices()
        live = state.having(LIVE, rows)
        running: list[MessageId] = []
        settled: list[Settled] = []
        durable: list[asyncio.Future[None]] = []
        for message in live:
            entry = commit_log.live_messages.entries.get(message)
            if entry is not None and entry.running:
                running.append(message)
            elif entry is not None:
                settled.append(commit_log.cancel(entry))
            if len(settled) == _AT_ONCE:
                durable.append(commit_log.write_settled(settled))
                settled = []
                await slices.pause()
        if settled:
            durable.append(commit_log.write_settled(settled))
        for written in durable:
            await written
        asked = [await control.apply(commit_log, state.actor, Cancel(message)) for message in running]
        return len(live) - len(running) + sum(asked)

    async def resume(self, name: str) -> bool:
        state, commit_log = await self._state(name), self._commit_log
        if self._stopped(state) is None:
            await commit_log.flushed()
            return False
        await control.apply(commit_log, state.actor, Resume(state.queue))
        return True
