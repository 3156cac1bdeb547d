"""The batches of a registry's file."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from agentq_nb._brokers.batches import Batches
from agentq_nb._client.batch import Batch
from agentq_nb._client.progress import progress_of
from agentq_nb._core.result_table import Table
from agentq_nb._core.safe_text import LONGEST_CELL
from agentq_nb._host.host import Host
from agentq_nb._host.local_transport import LocalTransport
from agentq_nb._host.thread_safe_batches import ThreadSafeBatches

__all__ = ["Batch", "all_batches", "find_batch"]


async def find_batch(host: Callable[[], Host], name: str) -> Batch[Any]:
    """Return the batch of this name. Raises BatchUnknown."""
    transport = LocalTransport(host, of_user=True)
    await transport.ready()
    return Batch(transport, await transport.batches.find(name))


async def all_batches(host: Host) -> Table:
    """Return the batches in the order they were first sent, with their progress. Times are UTC."""
    return await batch_table(ThreadSafeBatches(host))


_COLUMNS = {
    "batch": "VARCHAR",
    "actor_id": "VARCHAR",
    "queue": "VARCHAR",
    "created_at": "TIMESTAMP",
    "rows": "BIGINT",
    "done": "BIGINT",
    "failed": "BIGINT",
    "cancelled": "BIGINT",
    "running": "BIGINT",
    "waiting": "BIGINT",
    "pruned": "BIGINT",
    "stopped": "VARCHAR",
}


async def batch_table(batches: Batches) -> Table:
    """Return a row for each batch, in the order in which they were first sent."""
    rows: list[tuple[Any, ...]] = []
    for stored in await batches.all():
        counts = await batches.counts(stored.name, stored.rows)
        progress = progress_of(counts)
        rows.append(
            (
                stored.name,
                stored.actor,
                stored.queue,
                datetime.fromtimestamp(stored.created_at, UTC).replace(tzinfo=None),
                progress.total,
                progress.done,
                progress.failed,
                progress.cancelled,
                progress.running,
                progress.waiting,
                counts.pruned,
                progress.stopped,
            )
        )
    return Table(list(_COLUMNS), rows, list(_COLUMNS.values()), "There are no batches.", LONGEST_CELL)
