"""The batches of a host's broker, for calls from any event loop and thread."""

from __future__ import annotations

from collections.abc import Sequence

from agentq_nb._brokers.batches import BatchCounts, BatchRow, Cursor, NewBatch, SettledRows, StoredBatch
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._core.origin import current_origin
from agentq_nb._host.host import Host
from agentq_nb._policies.admission import Limits
from agentq_nb.errors import BatchTooLarge, QueueFull


class ThreadSafeBatches:
    """See :class:`agentq_nb._brokers.batches.Batches`. Each call runs on the host's event loop."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._batches = host.broker.batches

    async def send(self, new_batch: NewBatch, room_timeout: float | None = 0.0) -> StoredBatch:
        return await self._host.enter(self._send, new_batch, room_timeout)

    async def _send(self, new_batch: NewBatch, room_timeout: float | None) -> StoredBatch:
        new_batch = new_batch.from_origin(current_origin.get())
        try:
            return await self._batches.send(new_batch)
        except BatchTooLarge:
            raise
        except QueueFull:
            if room_timeout == 0:
                raise
        with self._host.waits.waiting(f"of batch '{new_batch.name}'", new_batch.actor, new_batch.queue, room=True):
            return await self._batches.send(new_batch, room_timeout)

    async def find(self, name: str) -> StoredBatch:
        return await self._host.enter(self._batches.find, name)

    async def all(self) -> Sequence[StoredBatch]:
        return await self._host.enter(self._batches.all)

    async def recent(self, most: int) -> Sequence[StoredBatch]:
        return await self._host.enter(self._batches.recent, most)

    async def counts(self, name: str, rows: Sequence[range]) -> BatchCounts:
        return await self._host.enter(self._batches.counts, name, rows)

    def counts_now(self, name: str, rows: Sequence[range]) -> BatchCounts:
        host = self._host
        if host.portal.inside:
            return self._batches.counts_now(name, rows)
        return host.portal.submit(self._batches.counts, name, rows).result()

    async def settled(self, name: str, cursor: Cursor | None, timeout: float | None) -> SettledRows:
        return await self._host.enter(self._settled, name, cursor, timeout)

    async def _settled(self, name: str, cursor: Cursor | None, timeout: float | None) -> SettledRows:
        stored = await self._batches.find(name)
        with self._host.waits.waiting(f"of batch '{name}'", stored.actor, stored.queue):
            return await self._batches.settled(name, cursor, timeout)

    async def finished(self, name: str, rows: Sequence[range]) -> str | None:
        return await self._host.enter(self._finished, name, rows)

    async def _finished(self, name: str, rows: Sequence[range]) -> str | None:
        stored = await self._batches.find(name)
        with self._host.waits.waiting(f"of batch '{name}'", stored.actor, stored.queue):
            return await self._batches.finished(name, rows)

    async def read(
        self, name: str, rows: Sequence[int], *, timed: bool = False, bodies: bool = False
    ) -> Sequence[BatchRow | None]:
        return await self._host.enter(self._batches.read, name, rows, timed=timed, bodies=bodies)

    async def failed(self, name: str, rows: Sequence[range], most: int) -> Sequence[tuple[int, StoredResult]]:
        return await self._host.enter(self._batches.failed, name, rows, most)

    async def retry_failed(self, name: str, rows: Sequence[range]) -> int:
        return await self._host.enter(self._batches.retry_failed, name, rows)

    async def redo(self, name: str, rows: Sequence[range], limits: Limits) -> StoredBatch:
        return await self._host.enter(self._batches.redo, name, rows, limits)

    async def cancel(self, name: str, rows: Sequence[range]) -> int:
        return await self._host.enter(self._batches.cancel, name, rows)

    async def resume(self, name: str) -> bool:
        return await self._host.enter(self._batches.resume, name)
