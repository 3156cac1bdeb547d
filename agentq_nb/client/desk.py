"""Where receipts ask, in the process of the host."""

from __future__ import annotations

from typing import Any

from agentq_nb.client.access import Access
from agentq_nb.mailboxes.protocol import Cancel, StoredResult
from agentq_nb.naming import MessageId, actor_name
from agentq_nb.schema import Schema


class LocalDesk:
    """See :class:`agentq_nb.receipts.Desk`."""

    def __init__(self, host: Access) -> None:
        self._host = host

    async def standing(self, message: MessageId, timeout: float | None) -> tuple[StoredResult, Schema[Any] | None]:
        host = await self._host.ready()
        standing = await host.enter(host.wait, message, timeout)
        cls = host.classes.get(actor_name(standing.actor))
        queue = None if cls is None else cls.declared.queues.get(standing.queue)
        return standing, None if queue is None else queue.reply

    async def cancel(self, message: MessageId) -> bool:
        host = await self._host.ready()
        standing = await host.enter(host.wait, message, 0)
        return await host.enter(host.change, standing.actor, Cancel(message)) > 0
