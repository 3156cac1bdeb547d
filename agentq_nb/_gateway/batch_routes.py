"""The server's side of batches that Python clients send, wait for and change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from agentq_nb._actor.queue import Queue
from agentq_nb._brokers.batches import BatchCounts, Batches, BatchRow, SettledRows, StoredBatch
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._core.ids import ActorId, actor_name
from agentq_nb._gateway import transport_calls as calls
from agentq_nb._gateway.transport_calls import Call
from agentq_nb._gateway.transport_checks import checked_batch
from agentq_nb._host.local_transport import LocalTransport
from agentq_nb._policies.admission import Limits

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


class OnHost(Protocol):
    """Calls a coroutine function with the host's transport, on the host's loop."""

    def __call__(
        self, function: Callable[[LocalTransport], Coroutine[Any, Any, Answered]], /
    ) -> Coroutine[Any, Any, Answered]: ...


class Add(Protocol):
    """Adds a call to those that the server answers."""

    def __call__(
        self, call: Call[Asked, Answered], carry_out: Callable[[Asked], Coroutine[Any, Any, Answered]], /
    ) -> None: ...


class BatchRoutes:
    """Carries out the calls about batches.

    :param queue: returns the declaration of an actor's queue; raises ActorUnknown and QueueUnknown.
    """

    def __init__(self, on_host: OnHost, queue: Callable[[ActorId, str], Queue[Any, Any]]) -> None:
        self._on_host = on_host
        self._queue = queue

    def add_to(self, add: Add) -> None:
        """Add the calls."""
        add(calls.SEND_BATCH, self._send)
        add(calls.REDO_BATCH, self._send)
        add(calls.FIND_BATCH, self._find)
        add(calls.ALL_BATCHES, self._all)
        add(calls.RECENT_BATCHES, self._recent)
        add(calls.COUNTS, self._counts)
        add(calls.SETTLED, self._settled)
        add(calls.FINISHED, self._finished)
        add(calls.READ, self._read)
        add(calls.FAILED, self._failed)
        add(calls.RETRY_FAILED, self._retry_failed)
        add(calls.REDO_ROWS, self._redo)
        add(calls.CANCEL_ROWS, self._cancel)
        add(calls.RESUME_BATCH, self._resume)

    async def _run(self, function: Callable[[Batches], Coroutine[Any, Any, Answered]]) -> Answered:
        return await self._on_host(lambda local: function(local.batches))

    # --- sending and finding ------------------------------------------------------------------------------------------

    async def _send(self, asked: calls.SendBatch) -> calls.BatchDescription:
        batch = await checked_batch(self._queue(asked.batch.actor, asked.batch.queue), asked.batch)
        return _described(await self._run(lambda batches: batches.send(batch, asked.room_timeout)))

    async def _find(self, name: str) -> calls.BatchDescription:
        return _described(await self._run(lambda batches: batches.find(name)))

    async def _all(self, _: None) -> Sequence[calls.BatchDescription]:
        return [_described(each) for each in await self._run(lambda batches: batches.all())]

    async def _recent(self, most: int) -> Sequence[calls.BatchDescription]:
        return [_described(each) for each in await self._run(lambda batches: batches.recent(most))]

    # --- progress and results -----------------------------------------------------------------------------------------

    async def _counts(self, asked: calls.BatchRows) -> BatchCounts:
        rows = calls.ranges(asked.rows)
        return await self._run(lambda batches: batches.counts(asked.name, rows))

    async def _settled(self, asked: calls.SettledSince) -> SettledRows:
        timeout = min(asked.timeout, calls.LONGEST_WAIT)
        return await self._run(lambda batches: batches.settled(asked.name, asked.cursor, timeout))

    async def _finished(self, asked: calls.UntilFinished) -> calls.Finished:
        rows = calls.ranges(asked.rows)

        async def finished(batches: Batches) -> calls.Finished:
            scope = asyncio.timeout(min(asked.timeout, calls.LONGEST_WAIT))
            try:
                async with scope:
                    return calls.Finished(True, await batches.finished(asked.name, rows))
            except TimeoutError:
                if not scope.expired():
                    raise
                return calls.Finished(False)

        return await self._run(finished)

    async def _read(self, asked: calls.RowsToRead) -> Sequence[BatchRow | None]:
        return await self._run(
            lambda batches: batches.read(asked.name, asked.rows, timed=asked.timed, bodies=asked.bodies)
        )

    async def _failed(self, asked: calls.FailedRows) -> Sequence[tuple[int, StoredResult]]:
        rows = calls.ranges(asked.rows)
        return await self._run(lambda batches: batches.failed(asked.name, rows, asked.most))

    # --- changing -----------------------------------------------------------------------------------------------------

    async def _retry_failed(self, asked: calls.BatchRows) -> int:
        rows = calls.ranges(asked.rows)
        return await self._run(lambda batches: batches.retry_failed(asked.name, rows))

    async def _redo(self, asked: calls.BatchRows) -> calls.BatchDescription:
        rows = calls.ranges(asked.rows)

        async def redo(local: LocalTransport) -> StoredBatch:
            stored = await local.batches.find(asked.name)
            cls = local.classes.get(actor_name(stored.actor))
            declared = None if cls is None else cls.declared.queues.get(stored.queue)
            limits = Limits() if declared is None else Limits(declared.max_size, declared.max_bytes)
            return await local.batches.redo(asked.name, rows, limits)

        return _described(await self._on_host(redo))

    async def _cancel(self, asked: calls.BatchRows) -> int:
        rows = calls.ranges(asked.rows)
        return await self._run(lambda batches: batches.cancel(asked.name, rows))

    async def _resume(self, name: str) -> bool:
        return await self._run(lambda batches: batches.resume(name))


def _described(stored: StoredBatch) -> calls.BatchDescription:
    written: dict[str, Any] = {
        **stored._asdict(),
        "rows": calls.spans(stored.rows),
        "facts": dict(stored.facts),
        "earlier": None if stored.earlier is None else dict(stored.earlier),
    }
    return calls.BatchDescription(**written)
