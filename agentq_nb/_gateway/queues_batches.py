"""The batches of queues on PostgreSQL, for a client that has no host."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from agentq_nb._brokers.batches import BatchCounts, Batches, BatchRow, Cursor, NewBatch, SettledRows, StoredBatch
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._core.loop_portal import LoopPortal
from agentq_nb._core.origin import current_origin
from agentq_nb._policies.admission import Limits

Answered = TypeVar("Answered")


class OnBatches(Protocol):
    """Runs a coroutine function with the broker's batches, on the client's loop."""

    def __call__(
        self, function: Callable[[Batches], Coroutine[Any, Any, Answered]], /
    ) -> Coroutine[Any, Any, Answered]: ...


class QueuesBatches:
    """See :class:`agentq_nb._brokers.batches.Batches`."""

    def __init__(self, run: OnBatches, portal: LoopPortal) -> None:
        self._run = run
        self._portal = portal

    async def send(self, new_batch: NewBatch, room_timeout: float | None = 0.0) -> StoredBatch:
        sent = new_batch.from_origin(current_origin.get())
        return await self._run(lambda batches: batches.send(sent, room_timeout))

    async def find(self, name: str) -> StoredBatch:
        return await self._run(lambda batches: batches.find(name))

    async def all(self) -> Sequence[StoredBatch]:
        return await self._run(lambda batches: batches.all())

    async def recent(self, most: int) -> Sequence[StoredBatch]:
        return await self._run(lambda batches: batches.recent(most))

    async def counts(self, name: str, rows: Sequence[range]) -> BatchCounts:
        return await self._run(lambda batches: batches.counts(name, rows))

    def counts_now(self, name: str, rows: Sequence[range]) -> BatchCounts:
        return self._portal.submit(self.counts, name, rows).result()

    async def settled(self, name: str, cursor: Cursor | None, timeout: float | None) -> SettledRows:
        return await self._run(lambda batches: batches.settled(name, cursor, timeout))

    async def finished(self, name: str, rows: Sequence[range]) -> str | None:
        return await self._run(lambda batches: batches.finished(name, rows))

    async def read(
        self, name: str, rows: Sequence[int], *, timed: bool = False, bodies: bool = False
    ) -> Sequence[BatchRow | None]:
        return await self._run(lambda batches: batches.read(name, rows, timed=timed, bodies=bodies))

    async def failed(self, name: str, rows: Sequence[range], most: int) -> Sequence[tuple[int, StoredResult]]:
        return await self._run(lambda batches: batches.failed(name, rows, most))

    async def retry_failed(self, name: str, rows: Sequence[range]) -> int:
        return await self._run(lambda batches: batches.retry_failed(name, rows))

    async def redo(self, name: str, rows: Sequence[range], limits: Limits) -> StoredBatch:
        return await self._run(lambda batches: batches.redo(name, rows, limits))

    async def cancel(self, name: str, rows: Sequence[range]) -> int:
        return await self._run(lambda batches: batches.cancel(name, rows))

    async def resume(self, name: str) -> bool:
        return await self._run(lambda batches: batches.resume(name))
