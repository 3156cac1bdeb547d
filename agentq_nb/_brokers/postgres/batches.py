"""Batches in PostgreSQL. See :class:`agentq_nb._brokers.batches.Batches`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import psycopg

from agentq_nb._brokers.batches import BatchCounts, BatchRow, Cursor, NewBatch, SettledRows, StoredBatch
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._brokers.postgres import batch_enqueue, batch_rows, control, redelivery
from agentq_nb._brokers.postgres.admission import Sending
from agentq_nb._brokers.postgres.batch_rows import ROWS, BatchRecord
from agentq_nb._brokers.postgres.connection import Database, Transaction
from agentq_nb._brokers.postgres.dependents import lock_ahead
from agentq_nb._brokers.postgres.enqueue import Enqueuer
from agentq_nb._brokers.postgres.expirations import settle_all_expired
from agentq_nb._brokers.postgres.notifications import Notifications, Watch
from agentq_nb._brokers.postgres.results import read
from agentq_nb._brokers.postgres.rows import UNSETTLED, lock_messages
from agentq_nb._core.clock import Clock
from agentq_nb._policies.admission import Limits
from agentq_nb.errors import BatchUnknown, QueueFull

T = TypeVar("T")

_WINDOW = 300.0
"""Seconds over which the rate is measured."""
_AT_ONCE = 1000
"""Rows that one answer contains at most."""

_COUNTS = f"""
select
    count(*) filter (where m.status = 'completed'),
    count(*) filter (where m.status = 'failed'),
    count(*) filter (where m.status = 'cancelled'),
    count(*) filter (where m.status = 'expired'),
    count(*) filter (where m.status = 'running'),
    count(*) filter (where m.status in ('queued', 'blocked')),
    count(*) filter (where m.id is null),
    count(*) filter (where m.ended_at >= agentq.now() - {_WINDOW}),
    agentq.now(),
    (select b.created_at from agentq.batches b where b.name = %(name)s),
    (
        select q.stopped from agentq.queues q join agentq.batches b on b.actor = q.actor and b.queue = q.queue
        where b.name = %(name)s
    )
{ROWS}
"""

# Uses the index of unsettled messages. Counting the settled rows would repeat the same work whenever a row ends.
_ANY_LEFT = f"""
select exists (
    select from agentq.messages m join agentq.batch_rows r on r.message = m.id
    where m.actor = %(actor)s and m.queue = %(queue)s and m.status in {UNSETTLED}
      and r.batch = %(name)s and r.number = any(%(numbers)s)
)
"""

_SETTLED = f"""
select r.number, m.id, m.settled
from agentq.messages m join agentq.batch_rows r on r.message = m.id
where m.actor = %(actor)s and m.queue = %(queue)s and m.settled > %(place)s and r.batch = %(name)s
order by m.settled
limit {_AT_ONCE}
"""


class PostgresBatches:
    """See :class:`agentq_nb._brokers.batches.Batches`."""

    def __init__(
        self, database: Database, notifications: Notifications, clock: Clock, enqueuer: Enqueuer, session: str
    ) -> None:
        self._database = database
        self._notifications = notifications
        self._clock = clock
        self._enqueuer = enqueuer
        self._session = session

    # --- sending and finding ------------------------------------------------------------------------------------------

    async def send(self, new_batch: NewBatch, room_timeout: float | None = 0.0) -> StoredBatch:
        # Once it has started, it is carried to its end.
        async def attempt(sending: Sending) -> StoredBatch:
            return await asyncio.shield(asyncio.create_task(self._attempt(new_batch, sending)))

        place = (new_batch.actor, new_batch.queue)
        if room_timeout == 0:
            return await attempt(Sending([]))
        return await self._enqueuer.with_room([place], room_timeout, attempt)

    async def _attempt(self, new_batch: NewBatch, sending: Sending) -> StoredBatch:
        sent = await self._database.run(lambda tx: batch_enqueue.send(tx, new_batch, sending, self._session))
        if isinstance(sent, QueueFull):
            if sending.over:
                self._enqueuer.leave(sending)
            raise sent
        return sent

    async def find(self, name: str) -> StoredBatch:
        return await self._read(lambda tx: self._stored(tx, name))

    async def _stored(self, tx: Transaction, name: str) -> StoredBatch:
        batch = await batch_rows.find(tx, name)
        return batch.stored(await batch_rows.count_pruned(tx, batch))

    async def all(self) -> Sequence[StoredBatch]:
        return [batch.stored(0) for batch in await self._read(batch_rows.all_batches)]

    async def recent(self, most: int) -> Sequence[StoredBatch]:
        async def stored(tx: Transaction) -> list[StoredBatch]:
            found = await batch_rows.recent_batches(tx, most)
            return [batch.stored(await batch_rows.count_pruned(tx, batch)) for batch in found]

        return await self._read(stored)

    async def _read(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        return await self._database.run(work, repeatable=True)

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def counts(self, name: str, rows: Sequence[range]) -> BatchCounts:
        async def counts(tx: Transaction) -> BatchCounts:
            await settle_all_expired(tx)
            row = await tx.row(_COUNTS, name=name, numbers=batch_rows.numbers(rows))
            if row is None or row[9] is None:
                await batch_rows.find(tx, name)
            assert row is not None  # an aggregate has one
            return _counts(*row)

        return await self._read(counts)

    def counts_now(self, name: str, rows: Sequence[range]) -> BatchCounts:
        self._database.check()
        statement = self._database.address.statement(_COUNTS)
        with psycopg.connect(self._database.address.conninfo, autocommit=True) as connection:
            row = connection.execute(statement, {"name": name, "numbers": batch_rows.numbers(rows)}).fetchone()
        if row is None or row[9] is None:
            raise BatchUnknown(name, [])
        return _counts(*row)

    async def settled(self, name: str, cursor: Cursor | None, timeout: float | None) -> SettledRows:
        deadline = None if timeout is None else self._clock.monotonic() + timeout
        batch = await self._read(lambda tx: batch_rows.find(tx, name))
        with self._watch(batch) as watch:
            while True:
                watch.clear()
                found = await self._read(lambda tx: self._settled(tx, batch, cursor))
                over = deadline is not None and self._clock.monotonic() >= deadline
                if found.rows or found.stopped is not None or over:
                    return found
                await watch.wait(deadline)

    async def _settled(self, tx: Transaction, batch: BatchRecord, cursor: Cursor | None) -> SettledRows:
        await settle_all_expired(tx)
        batch = await batch_rows.find(tx, batch.name)
        place = 0 if cursor is None else cursor.place
        rows = await tx.rows(_SETTLED, name=batch.name, actor=batch.actor, queue=batch.queue, place=place)
        _, results = await read(tx, [message for _, message, _ in rows])
        found = [(number, results[message]) for number, message, _ in rows if message in results]
        stopped = None if found else await self._stopped(tx, batch, batch.view)
        return SettledRows(Cursor(0, rows[-1][2] if rows else place), found, stopped)

    def _watch(self, batch: BatchRecord) -> AbstractContextManager[Watch]:
        """Watch for anything that is settled in its queue, and for what stops that."""
        place = (batch.actor, batch.queue)
        return self._notifications.watch(("room", *place), ("stopped", *place), ("work", batch.actor))

    async def finished(self, name: str, rows: Sequence[range]) -> str | None:
        numbers = batch_rows.numbers(rows)
        batch = await self._read(lambda tx: batch_rows.find(tx, name))

        async def look(tx: Transaction) -> tuple[bool, str | None]:
            await settle_all_expired(tx)
            row = await tx.row(_ANY_LEFT, name=name, actor=batch.actor, queue=batch.queue, numbers=numbers)
            if row is None or not row[0]:
                return True, None
            reason = await self._stopped(tx, batch, numbers)
            return reason is not None, reason

        with self._watch(batch) as watch:
            while True:
                watch.clear()
                over, reason = await self._read(look)
                if over:
                    return reason
                await watch.wait()

    async def _stopped(self, tx: Transaction, batch: BatchRecord, numbers: Sequence[int]) -> str | None:
        """Return why failures have stopped the queue, once none of these rows is running."""
        row = await tx.row(
            f"""
            select q.stopped from agentq.queues q
            where q.actor = %(actor)s and q.queue = %(queue)s and q.stopped is not null
              and not exists (select {ROWS} and m.status = 'running')
            """,
            actor=batch.actor,
            queue=batch.queue,
            name=batch.name,
            numbers=list(numbers),
        )
        return None if row is None else row[0]

    # --- reading ------------------------------------------------------------------------------------------------------

    async def read(
        self, name: str, rows: Sequence[int], *, timed: bool = False, bodies: bool = False
    ) -> Sequence[BatchRow | None]:
        async def found(tx: Transaction) -> list[BatchRow | None]:
            await batch_rows.find(tx, name)
            # Bodies may be large, so they are read only if asked for.
            asked = await tx.rows(
                f"select r.number, m.id, m.seconds, {'m.body' if bodies else 'null'} {ROWS}",
                name=name,
                numbers=list(rows),
            )
            _, results = await read(tx, [message for _, message, _, _ in asked if message is not None])
            by_number = {
                number: BatchRow(results[message], seconds if timed else None, body)
                for number, message, seconds, body in asked
                if message in results
            }
            return [by_number.get(row) for row in rows]

        return await self._read(found)

    async def failed(self, name: str, rows: Sequence[range], most: int) -> Sequence[tuple[int, StoredResult]]:
        async def found(tx: Transaction) -> list[tuple[int, StoredResult]]:
            await batch_rows.find(tx, name)
            first = await tx.rows(
                f"select r.number, m.id {ROWS} and m.status = 'failed' order by r.number limit %(most)s",
                name=name,
                numbers=batch_rows.numbers(rows),
                most=most,
            )
            _, results = await read(tx, [message for _, message in first])
            return [(number, results[message]) for number, message in first]

        return await self._read(found)

    # --- changing -----------------------------------------------------------------------------------------------------

    async def retry_failed(self, name: str, rows: Sequence[range]) -> int:
        async def retry(tx: Transaction) -> int:
            await redelivery.one_at_a_time(tx)
            batch = await batch_rows.find(tx, name)
            dead, asked = f"{_IN_ROWS} and status = 'failed'", _asked(name, rows)
            await lock_ahead(tx, dead, **asked)
            failed = await lock_messages(tx, dead, **asked)
            await redelivery.put_back(tx, failed)
            await batch_enqueue.resume(tx, batch)
            return len(failed)

        return await self._database.run(retry)

    async def redo(self, name: str, rows: Sequence[range], limits: Limits) -> StoredBatch:
        return await self._database.run(
            lambda tx: batch_enqueue.redo(tx, name, batch_rows.numbers(rows), limits, self._session)
        )

    async def cancel(self, name: str, rows: Sequence[range]) -> int:
        async def cancel(tx: Transaction) -> int:
            await batch_rows.find(tx, name)
            unsettled, asked = f"{_IN_ROWS} and status in {UNSETTLED}", _asked(name, rows)
            await lock_ahead(tx, unsettled, **asked)
            live = await lock_messages(tx, unsettled, **asked)
            return await control.cancel(tx, live)

        return await self._database.run(cancel)

    async def resume(self, name: str) -> bool:
        async def resume(tx: Transaction) -> bool:
            return await batch_enqueue.resume(tx, await batch_rows.find(tx, name))

        return await self._database.run(resume)


_IN_ROWS = """
id in (
    select r.message from agentq.batch_rows r where r.batch = %(name)s and r.number = any(%(numbers)s)
)
"""


def _asked(name: str, rows: Sequence[range]) -> dict[str, Any]:
    return {"name": name, "numbers": batch_rows.numbers(rows)}


def _counts(
    completed: int,
    failed: int,
    cancelled: int,
    expired: int,
    running: int,
    waiting: int,
    pruned: int,
    recent: int,
    now: float,
    created_at: float,
    stopped: str | None,
) -> BatchCounts:
    length = min(now - created_at, _WINDOW)
    rate = 60 * recent / length if length > 0 else 0.0
    return BatchCounts(completed, failed, cancelled, expired, running, waiting, pruned, rate, stopped)
