"""The protocol of batches, messages that belong together under a name, and the values that it exchanges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from agentq_nb._actor.send_options import NO_OPTIONS, StoredOptions, with_origin
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._core.ids import ActorId
from agentq_nb._core.origin import Origin
from agentq_nb._policies.admission import Limits


class NewBatch(NamedTuple):
    """Bodies (JSON) to enqueue under a name. ``facts`` (JSON-able) are stored with them.

    :ivar again: whether to enqueue a new row also in place of each settled row of that content. Unsettled ones stay.
    :ivar whole: whether the batch is these bodies from now on; False: it is these and those that were sent before.
    """

    name: str
    actor: ActorId
    queue: str
    bodies: Sequence[bytes]
    options: StoredOptions = NO_OPTIONS
    max_size: int | None = None
    max_bytes: int | None = None
    facts: Mapping[str, Any] = {}
    again: bool = False
    whole: bool = False

    def from_origin(self, origin: Origin) -> NewBatch:
        """The same batch, its messages coming from there; see :meth:`NewMessage.from_origin`."""
        options = with_origin(self.options, origin)
        return self if options is self.options else self._replace(options=options)


class StoredBatch(NamedTuple):
    """A batch as it is stored.

    :ivar rows: the numbers of its rows; for a batch just sent, of the rows of its bodies, in their order. Rows are numbered
        from 0 in the order in which they were enqueued, and keep their number.
    :ivar total: how many rows it ever had.
    :ivar pruned: how many of ``rows`` were pruned, with their results.
    :ivar facts: what was stored with the items that were given last.
    :ivar added: for a batch just sent, how many rows were enqueued.
    :ivar earlier: for a batch just sent, the facts before; None if it is new.
    """

    name: str
    actor: ActorId
    queue: str
    created_at: float
    rows: Sequence[range]
    total: int
    pruned: int = 0
    facts: Mapping[str, Any] = {}
    added: int = 0
    earlier: Mapping[str, Any] | None = None


class BatchCounts(NamedTuple):
    """How many rows have each status, the rate in rows settled per minute, and why failures stopped its queue, if so."""

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    running: int = 0
    waiting: int = 0
    pruned: int = 0
    per_minute: float = 0.0
    stopped: str | None = None


class Cursor(NamedTuple):
    """A place in the order in which rows are settled. It is private to the broker."""

    state: int
    place: int


class SettledRows(NamedTuple):
    """Rows that were settled since ``cursor``, each with its number. A row that was put back may occur twice."""

    cursor: Cursor
    rows: Sequence[tuple[int, StoredResult]]
    stopped: str | None = None


class BatchRow(NamedTuple):
    """One row: its result, and the seconds of its last attempt, if that has ended. ``body`` is JSON, if asked for.

    :ivar tokens: what all its attempts took of language models behind the meter; None if that is nothing.
    :ivar cost: what they cost, in US dollars; None if that is not known.
    """

    result: StoredResult
    seconds: float | None = None
    body: bytes | None = None
    tokens: int | None = None
    cost: float | None = None


class Batches(Protocol):
    """The batches of a broker. Every method raises Unavailable; those with a name raise BatchUnknown.

    ``rows`` are numbers of rows, as in :class:`StoredBatch`.
    """

    async def send(self, new_batch: NewBatch, room_timeout: float | None = 0.0) -> StoredBatch:
        """Enqueue the bodies for which the batch has no row yet, all or none, durable on return.

        Waits up to ``room_timeout`` seconds (None: no limit) until the queue has room for all, in the order of all who wait
        for room in it; if the caller is cancelled then, nothing is sent. Once it has started, it is carried to its end. More
        bodies than fit into one commit are written in several, each with its rows or none. Raises QueueFull, BatchTooLarge
        (an empty queue has no room for all), BatchElsewhere, BatchPruned: nothing was written.
        """
        ...

    async def find(self, name: str) -> StoredBatch:
        """Return a batch as it is stored."""
        ...

    async def all(self) -> Sequence[StoredBatch]:
        """Return all batches, in the order in which they were first sent; ``pruned`` is 0 in all."""
        ...

    async def recent(self, most: int) -> Sequence[StoredBatch]:
        """Return the batches with unsettled rows, then the latest others; each the newest first, ``most`` in all.

        Reads the log once: the batches of earlier processes with unsettled rows, and a few others of the last day.
        """
        ...

    async def counts(self, name: str, rows: Sequence[range]) -> BatchCounts:
        """Return how many of the rows have each status. Reads nothing from the disk for a batch in use."""
        ...

    def counts_now(self, name: str, rows: Sequence[range]) -> BatchCounts:
        """Return ``counts`` without an event loop. Blocks where the batch is not in use yet."""
        ...

    async def settled(self, name: str, cursor: Cursor | None, timeout: float | None) -> SettledRows:
        """Return rows settled since the cursor (None: the first), at least one; none after ``timeout`` seconds.

        Also returns without rows when the batch is stopped, or when the broker opened its file again.
        """
        ...

    async def finished(self, name: str, rows: Sequence[range]) -> str | None:
        """Return None when every row is settled, or the reason once the batch is stopped and none is running."""
        ...

    async def read(
        self, name: str, rows: Sequence[int], *, timed: bool = False, bodies: bool = False
    ) -> Sequence[BatchRow | None]:
        """Return the rows in this order, with ``seconds``, ``tokens`` and ``cost`` if ``timed``; None for those that were pruned."""
        ...

    async def failed(self, name: str, rows: Sequence[range], most: int) -> Sequence[tuple[int, StoredResult]]:
        """Return the first of the rows that failed, ``most`` at most, each with its number."""
        ...

    async def retry_failed(self, name: str, rows: Sequence[range]) -> int:
        """Put failed rows back into their queue, and resume a stopped batch. Durable on return; returns their number."""
        ...

    async def redo(self, name: str, rows: Sequence[range], limits: Limits) -> StoredBatch:
        """Enqueue a new row in place of each settled one, with its body and options, and resume a stopped batch.

        Durable on return; returns the batch with the rows that take their places. ``limits`` are the queue's. Raises
        QueueFull, BatchTooLarge, BatchPruned: nothing was written.
        """
        ...

    async def cancel(self, name: str, rows: Sequence[range]) -> int:
        """Cancel unsettled rows; running ones are asked to stop. Durable on return; returns their number."""
        ...

    async def resume(self, name: str) -> bool:
        """Resume the batch's queue if failures have stopped it; durable on return. Returns False if they have not."""
        ...
