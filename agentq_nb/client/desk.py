"""Where receipts ask, in the process of the host."""

from __future__ import annotations

from contextlib import suppress

from agentq_nb.client.access import Access
from agentq_nb.errors import AgentqError
from agentq_nb.host import Host
from agentq_nb.mailboxes.protocol import Cancel, StoredResult
from agentq_nb.naming import MessageId, actor_name
from agentq_nb.receipts import Standing, is_live


async def standing_of(host: Host, stored: StoredResult, *, explained: bool) -> Standing:
    """With the type of its replies; where it is ``explained``, with the reason why it is not settled."""
    cls = host.classes.get(actor_name(stored.actor))
    queue = None if cls is None else cls.declared.queues.get(stored.queue)
    reason = None
    if explained and is_live(stored):
        with suppress(AgentqError):  # the host has stopped: the result of the wait matters more
            reason = await host.enter(host.why, stored)
    return Standing(stored, None if queue is None else queue.reply, reason)


class LocalDesk:
    """See :class:`agentq_nb.receipts.Desk`."""

    def __init__(self, host: Access) -> None:
        self._host = host

    async def standing(self, message: MessageId, timeout: float | None, *, explained: bool = False) -> Standing:
        host = await self._host.ready()
        stored = await host.enter(host.wait, message, timeout)
        return await standing_of(host, stored, explained=explained)

    async def cancel(self, message: MessageId) -> bool:
        host = await self._host.ready()
        standing = await host.enter(host.wait, message, 0)
        return await host.enter(host.change, standing.actor, Cancel(message)) > 0
