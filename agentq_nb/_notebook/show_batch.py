"""Show a batch live at the end of a cell."""

from __future__ import annotations

import asyncio
from typing import Any

from agentq_nb._batches.sync_batch import SyncBatch
from agentq_nb._client.batch import Batch
from agentq_nb._host.registry import current_registry
from agentq_nb.errors import AgentqError


def show_batch(batch: Batch[Any] | SyncBatch) -> None:
    """Show a batch live until it is done. Raises NotImplementedError where that is impossible or of no use."""
    batch = batch.batch if isinstance(batch, SyncBatch) else batch
    registry = current_registry()
    if registry is None or not registry.running:
        raise NotImplementedError
    try:
        loop = asyncio.get_running_loop()
        progress = batch.progress()
    except (RuntimeError, AgentqError):
        raise NotImplementedError from None
    from agentq_nb._notebook.batch_view import BatchView
    from agentq_nb._notebook.dashboard.open_views import room

    if not room() or (progress.finished and not progress.failed):
        raise NotImplementedError
    BatchView(batch, registry, progress, loop).show()
