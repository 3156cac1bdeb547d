"""A batch: messages that belong together under a name, with their progress and results."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import suppress
from typing import Any, Generic

from typing_extensions import TypeVar

from agentq_nb._brokers.batches import BatchRow, Cursor, SettledRows, StoredBatch
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._client.batch_frame import frame_of
from agentq_nb._client.estimate import Estimate, estimate_of
from agentq_nb._client.progress import Progress, progress_of
from agentq_nb._client.progress_bar import progress_bar, waited
from agentq_nb._client.receipt import Result, result_of
from agentq_nb._client.transport import Standing, Transport
from agentq_nb._core import number_options
from agentq_nb._core.codec import Schema
from agentq_nb._core.ids import actor_name
from agentq_nb._core.threads import in_long_thread
from agentq_nb._policies.admission import Limits
from agentq_nb.errors import AgentqError, BatchPruned, BatchStopped

Reply = TypeVar("Reply", default=Any)


class Batch(Generic[Reply]):
    """A named group of messages, which are called the rows of the batch. It has their progress, results and errors.

        batch = await runner.send_many("tasks", bodies, name="reviews-v1")
        print(batch.progress())                 # 17 of 30 done, 1 failed, 3 running, 9 waiting, 12.5 a minute, 58 s left
        async for result in batch:              # in the order they end; result.row is the position of its item
            ...
        table = await batch.frame()             # the items, then status, reply, error, attempts, seconds

    A batch survives restarts: ``await registry.batch(name)`` finds it again. ``await batch`` waits until every row is
    settled, and returns the batch. Waiting for a batch that has stopped (see ``stop_after`` of ``map``) raises
    ``batch.stopped``.

    :ivar name: the name of the batch, unique in its file.
    :ivar actor_id: the actor that works on it.
    :ivar queue: the name of the queue that its messages are in.
    """

    def __init__(self, transport: Transport, stored: StoredBatch, items: Any = None) -> None:
        """``items``: what was sent, for :meth:`frame`; None: the bodies are read from the file."""
        self._transport = transport
        self._rows = stored.rows
        self._pruned = stored.pruned > 0
        self._items = items
        self._reply_fields: Sequence[str] = stored.facts.get("reply_fields", ())
        self.name = stored.name
        self.actor_id = stored.actor
        self.queue = stored.queue
        self.added = stored.added
        """How many rows were sent by the call that returned this batch. Earlier calls sent the rest."""

    def __len__(self) -> int:
        return sum(map(len, self._rows))

    # --- progress -----------------------------------------------------------------------------------------------------

    def progress(self) -> Progress:
        """Return the progress of the batch, without reading the file. ``await batch.progress()`` returns the same."""
        return progress_of(self._transport.batches.counts_now(self.name, self._rows))

    # --- results ------------------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, Any, Batch[Reply]]:
        return self._finished().__await__()

    async def _finished(self) -> Batch[Reply]:
        """Return the batch when every row is settled. Raises BatchStopped."""
        try:
            async with progress_bar(self.name, self.progress):
                stopped = await self._transport.batches.finished(self.name, self._rows)
        except asyncio.CancelledError as interruption:
            self._note_that_it_goes_on(interruption)
            raise
        if stopped is not None:
            raise BatchStopped(self.name, stopped)
        return self

    def __aiter__(self) -> ComingResults[Reply]:
        """Yield the result of each row once: first the rows that are settled already, then the others as they end.

        ``result.row`` is the position of its item. Raises BatchStopped.
        """
        self._check_complete()
        positions = {row: position for position, row in enumerate(row for span in self._rows for row in span)}

        async def settled(cursor: Cursor | None) -> SettledRows:
            return await self._transport.batches.settled(self.name, cursor, None)

        return ComingResults(self.name, positions, settled, lambda row, at: self._result(row, self._replies, at))

    async def results(self, timeout: float | None = None) -> list[Result[Reply]]:
        """Wait until every row is settled, and return the results in the order of the items.

        :param timeout: seconds after which the wait ends, but not the work. Rows that are not settled by then have the
            status ``timed_out``. None: no limit.

        Raises ``batch.stopped`` and ``batch.pruned``.
        """
        timeout = number_options.seconds("timeout", timeout)
        self._check_complete()
        await self._wait(timeout)
        replies = self._replies
        return [
            self._result(row.result, replies, position)
            for position, row in enumerate(await self._read())
            if row is not None
        ]

    async def frame(self, *, wait: bool = True) -> Any:
        """Return a DataFrame: the columns of the input, then status, reply, error, attempts and seconds.

        The DataFrame has the index of the input, so that you can join the two; for a polars frame, a column with the
        row's number instead. A reply that is a model or dict becomes a column for each field, named ``reply_FIELD`` where
        the input has a column of that name. Any other reply becomes the column ``reply``. ``error`` is the text of the
        error, and ``seconds`` the duration of the last attempt. Where language models were asked through
        ``agent_os(llm=...)``, ``tokens`` and ``cost`` (in US dollars) are those of all attempts.

        :param wait: whether to wait until every row is settled; False returns the present state.

        Raises ``batch.stopped`` and ``batch.pruned``. Returns a table where neither pandas nor polars is installed.
        """
        self._check_complete()
        if wait:
            await self._wait(None)
        rows = await self._read(timed=True, bodies=self._items is None)
        fields = self._reply_fields or (self._replies.fields if self._replies is not None else ())
        return await in_long_thread(frame_of, self._items, [row for row in rows if row is not None], fields)

    async def estimate(self) -> Estimate:
        """Return what the whole batch will cost, judged by the rows that are done. Does not wait.

            print(await batch.estimate())           # about $14.20 ($11.80 to $16.60): $1.42 for 3 of 30 rows so far

        Only requests to ``agent_os(llm=...)`` are counted, those for rows that are not done yet too. Raises ``batch.pruned``.
        """
        self._check_complete()
        return estimate_of([row for row in await self._read(timed=True) if row is not None])

    def _note_that_it_goes_on(self, interruption: BaseException) -> None:
        """Say in the error of an interrupted cell that the work, which may cost money, was not interrupted."""
        with suppress(AgentqError):
            goes_on = (
                f"Stopped waiting; batch '{self.name}' continues: {self.progress()}. To end it: await batch.cancel()"
            )
            interruption.args = interruption.args or (goes_on,)

    async def _wait(self, timeout: float | None) -> None:
        scope = asyncio.timeout(timeout)
        try:
            async with scope:
                await self._finished()
        except TimeoutError:
            if not scope.expired():
                raise

    async def _read(self, *, timed: bool = False, bodies: bool = False) -> list[BatchRow | None]:
        numbers = [row for span in self._rows for row in span]
        return list(await self._transport.batches.read(self.name, numbers, timed=timed, bodies=bodies))

    @property
    def _replies(self) -> Schema[Any] | None:
        cls = self._transport.classes.get(actor_name(self.actor_id))
        queue = None if cls is None else cls.declared.queues.get(self.queue)
        return None if queue is None else queue.reply

    def _result(self, stored: StoredResult, replies: Schema[Any] | None, position: int) -> Result[Any]:
        return result_of(Standing(stored, replies), position)

    def _check_complete(self) -> None:
        if self._pruned:
            raise BatchPruned(self.name)

    async def failures(self, most: int = 10) -> list[Result[Reply]]:
        """Return the results of the rows that failed, in the order of the items, ``most`` at most. Does not wait."""
        positions = {row: position for position, row in enumerate(row for span in self._rows for row in span)}
        found = await self._transport.batches.failed(self.name, self._rows, most)
        return [self._result(stored, self._replies, positions[row]) for row, stored in found]

    # --- changing -----------------------------------------------------------------------------------------------------

    async def retry_failed(self) -> int:
        """Put the rows that failed back into their queue, with their attempts reset; return their number.

        A batch that has stopped is resumed. Durable on return.
        """
        return await self._transport.batches.retry_failed(self.name, self._rows)

    async def redo(self) -> int:
        """Repeat every row that is settled, also those that completed; return how many.

        Rows that are not settled are left alone: they will run anyway. Each other row is replaced by a new one; its old
        result stays in the file's history. If the batch has stopped, it
        continues. Durable on return. Raises ``batch.pruned`` and ``queue.full``.
        """
        self._check_complete()
        cls = self._transport.classes.get(actor_name(self.actor_id))
        declared = None if cls is None else cls.declared.queues.get(self.queue)
        limits = Limits() if declared is None else Limits(declared.max_size, declared.max_bytes)
        sent = await self._transport.batches.redo(self.name, self._rows, limits)
        self._rows = sent.rows
        return sent.added

    async def resume(self) -> bool:
        """Resume a batch that has stopped; durable on return. Returns False if it had not stopped.

        Rows that failed stay failed: see :meth:`retry_failed`.
        """
        return await self._transport.batches.resume(self.name)

    async def cancel(self) -> int:
        """Cancel every row that is not settled, and return their number. Running handlers are asked to stop.

        Durable on return. Cancelled rows are settled: sending the same items again does not repeat them.
        """
        return await self._transport.batches.cancel(self.name, self._rows)

    def __repr__(self) -> str:
        return f"<Batch {self.name!r}: {len(self)} rows>"


class ComingResults(Generic[Reply]):
    """The results of a batch as they come. No generator, so that it may be continued on another event loop.

    :param left: the position of the item of each row.
    :param settled: returns the rows settled since a cursor; ``result`` makes the result of one for its position.
    """

    def __init__(
        self,
        name: str,
        left: dict[int, int],
        settled: Callable[[Cursor | None], Awaitable[SettledRows]],
        result: Callable[[StoredResult, int], Result[Reply]],
    ) -> None:
        self._name = name
        self._left = left
        self._settled = settled
        self._result = result
        self._cursor: Cursor | None = None
        self._here: deque[Result[Reply]] = deque()

    def __aiter__(self) -> ComingResults[Reply]:
        return self

    async def __anext__(self) -> Result[Reply]:
        while not self._here:
            if not self._left:
                await waited(self._name)
                raise StopAsyncIteration
            settled = await self._settled(self._cursor)
            self._cursor = settled.cursor
            for row, stored in settled.rows:
                if (position := self._left.pop(row, None)) is not None:
                    self._here.append(self._result(stored, position))
            if settled.stopped is not None:
                await waited(self._name)
                raise BatchStopped(self._name, settled.stopped)
        return self._here.popleft()
