"""All batches of a file, with how far they are, as a table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from agentq_nb._brokers.batches import Batches
from agentq_nb._client.progress import progress_of
from agentq_nb._core.result_table import Table
from agentq_nb._core.safe_text import LONGEST_CELL

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
