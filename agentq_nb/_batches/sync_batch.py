"""``map`` from synchronous code: the call and the batch block the thread; the host has a thread of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentq_nb._batches.map import map as map_async
from agentq_nb._client.batch import Batch
from agentq_nb._client.progress import Progress
from agentq_nb._client.receipt import Result
from agentq_nb._core.blocking import block_on
from agentq_nb._host.registry import current_registry
from agentq_nb.errors import WouldBlockHost


class SyncBatch:
    """A :class:`Batch` for synchronous code: its methods block until they are done, and are called without ``await``.

    batch = agentq_nb.map_sync(classify, reviews, name="reviews-v1", concurrency=4)
    table = batch.frame()
    """

    def __init__(self, batch: Batch[Any]) -> None:
        self.batch = batch
        """The same batch for asynchronous code."""
        self.name = batch.name

    def __len__(self) -> int:
        return len(self.batch)

    def __iter__(self) -> Iterator[Result[Any]]:
        """Yield the result of each row once, in the order they end."""
        results = aiter(self.batch)

        async def following() -> Result[Any] | None:
            return await anext(results, None)

        while (result := block_on(following())) is not None:
            yield result

    def progress(self) -> Progress:
        """Return the progress of the batch."""
        return self.batch.progress()

    def wait(self) -> SyncBatch:
        """Wait until every row is settled; return the batch. Raises ``batch.stopped``."""

        async def settled() -> None:
            await self.batch

        block_on(settled())
        return self

    def results(self, timeout: float | None = None) -> list[Result[Any]]:
        """Wait, and return the results in the order of the items: see ``Batch.results``."""
        return block_on(self.batch.results(timeout))

    def frame(self, *, wait: bool = True) -> Any:
        """Return a DataFrame: see ``Batch.frame``."""
        return block_on(self.batch.frame(wait=wait))

    def retry_failed(self) -> int:
        """Put the rows that failed back into their queue; return their number."""
        return block_on(self.batch.retry_failed())

    def redo(self) -> int:
        """Do every row once more: see ``Batch.redo``."""
        return block_on(self.batch.redo())

    def resume(self) -> bool:
        """Resume a batch that has stopped. Returns False if it had not stopped."""
        return block_on(self.batch.resume())

    def cancel(self) -> int:
        """Cancel every row that is not settled; return their number."""
        return block_on(self.batch.cancel())

    def __repr__(self) -> str:
        return repr(self.batch)


def map_sync(function: Any, items: Any, *, name: str, **options: Any) -> SyncBatch:
    """Call ``map``, with the same parameters, from code that cannot await.

        batch = agentq_nb.map_sync(classify, reviews, name="reviews-v1", concurrency=4)
        table = batch.frame()

    If no host runs, it starts one in a thread of its own. Raises ``host.would_block`` if the host runs in this thread:
    write ``await agentq_nb.map(...)`` instead.
    """
    registry = current_registry()
    if registry is not None and registry.running and registry.host.portal.inside and options.get("store") is None:
        raise WouldBlockHost()
    if registry is None or not registry.running:
        options.setdefault("background", True)
    return SyncBatch(block_on(map_async(function, items, name=name, **options)))
