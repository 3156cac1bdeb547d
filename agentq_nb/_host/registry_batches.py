"""The batches of a registry's file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentq_nb._client.batch import Batch
from agentq_nb._client.batch_table import batch_table
from agentq_nb._core.result_table import Table
from agentq_nb._host.entered_batches import EnteredBatches
from agentq_nb._host.host import Host
from agentq_nb._host.local_transport import LocalTransport

__all__ = ["Batch", "all_batches", "find_batch"]


async def find_batch(host: Callable[[], Host], name: str) -> Batch[Any]:
    """Return the batch of this name. Raises BatchUnknown."""
    transport = LocalTransport(host, of_user=True)
    await transport.ready()
    return Batch(transport, await transport.batches.find(name))


async def all_batches(host: Host) -> Table:
    """Return the batches in the order they were first sent, with their progress. Times are UTC."""
    return await batch_table(EnteredBatches(host))
