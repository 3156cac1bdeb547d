"""The batches of a host in another process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentq_nb._brokers.batches import BatchCounts, BatchRow, Cursor, NewBatch, SettledRows, StoredBatch
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._core.loop_portal import LoopPortal
from agentq_nb._gateway import transport_calls as calls
from agentq_nb._gateway.remote_calls import Patience
from agentq_nb._gateway.remote_waits import Ask, wait_until
from agentq_nb._policies.admission import Limits

_ROWS_AT_ONCE = 1000
"""Rows that one answer holds at most: replies may be large."""


class RemoteBatches:
    """See :class:`agentq_nb._brokers.batches.Batches`."""

    def __init__(self, ask: Ask, portal: LoopPortal) -> None:
        self._ask = ask
        self._portal = portal

    async def send(self, new_batch: NewBatch, room_timeout: float | None = 0.0) -> StoredBatch:
        plain = new_batch._replace(options=dict(new_batch.options), facts=dict(new_batch.facts))
        call = calls.REDO_BATCH if new_batch.again else calls.SEND_BATCH
        return _stored(await self._ask(call, calls.SendBatch(plain, room_timeout), read_timeout=None))

    async def find(self, name: str) -> StoredBatch:
        return _stored(await self._ask(calls.FIND_BATCH, name))

    async def all(self) -> Sequence[StoredBatch]:
        return [_stored(each) for each in await self._ask(calls.ALL_BATCHES, None)]

    async def recent(self, most: int) -> Sequence[StoredBatch]:
        return [_stored(each) for each in await self._ask(calls.RECENT_BATCHES, most)]

    async def counts(self, name: str, rows: Sequence[range]) -> BatchCounts:
        return await self._ask(calls.COUNTS, calls.BatchRows(name, calls.spans(rows)))

    def counts_now(self, name: str, rows: Sequence[range]) -> BatchCounts:
        return self._portal.submit(self.counts, name, rows).result()

    async def settled(self, name: str, cursor: Cursor | None, timeout: float | None) -> SettledRows:
        async def ask(seconds: float, patience: Patience) -> SettledRows:
            nonlocal cursor
            asked = calls.SettledSince(name, cursor, seconds)
            found = await self._ask(calls.SETTLED, asked, patience=patience)
            cursor = found.cursor
            return found

        return await wait_until(lambda found: bool(found.rows) or found.stopped is not None, ask, timeout)

    async def finished(self, name: str, rows: Sequence[range]) -> str | None:
        spans = calls.spans(rows)

        async def ask(seconds: float, patience: Patience) -> calls.Finished:
            return await self._ask(calls.FINISHED, calls.UntilFinished(name, spans, seconds), patience=patience)

        return (await wait_until(lambda found: found.ended, ask, None)).stopped

    async def read(
        self, name: str, rows: Sequence[int], *, timed: bool = False, bodies: bool = False
    ) -> Sequence[BatchRow | None]:
        found: list[BatchRow | None] = []
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = list(rows[start : start + _ROWS_AT_ONCE])
            found += await self._ask(calls.READ, calls.RowsToRead(name, part, timed, bodies))
        return found

    async def failed(self, name: str, rows: Sequence[range], most: int) -> Sequence[tuple[int, StoredResult]]:
        return await self._ask(calls.FAILED, calls.FailedRows(name, calls.spans(rows), most))

    async def retry_failed(self, name: str, rows: Sequence[range]) -> int:
        return await self._ask(calls.RETRY_FAILED, calls.BatchRows(name, calls.spans(rows)))

    async def redo(self, name: str, rows: Sequence[range], limits: Limits) -> StoredBatch:
        """See the protocol. The limits are those that the host knows."""
        return _stored(await self._ask(calls.REDO_ROWS, calls.BatchRows(name, calls.spans(rows))))

    async def cancel(self, name: str, rows: Sequence[range]) -> int:
        return await self._ask(calls.CANCEL_ROWS, calls.BatchRows(name, calls.spans(rows)))

    async def resume(self, name: str) -> bool:
        return await self._ask(calls.RESUME_BATCH, name)


def _stored(described: calls.BatchDescription) -> StoredBatch:
    stored: dict[str, Any] = {**described._asdict(), "rows": calls.ranges(described.rows)}
    return StoredBatch(**stored)
