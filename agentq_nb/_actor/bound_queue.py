"""``self.tasks``: an actor's mailbox restricted to one queue, with the types that the queue declares."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Generic

from agentq_nb._actor.mailbox import Mailbox
from agentq_nb._actor.message import Message
from agentq_nb._actor.queue import Body, Queue, Reply
from agentq_nb._core.suggestions import NearMisses


class BoundQueue(NearMisses, Generic[Body, Reply]):
    """One queue of a mailbox. See :class:`agentq_nb._actor.mailbox.Mailbox`."""

    def __init__(self, mailbox: Mailbox, queue: Queue[Body, Reply]) -> None:
        self._mailbox = mailbox
        self._queue = queue

    async def push(self, body: Body | dict[str, Any], **options: Any) -> Any:
        """Send a message to this queue; durable on return."""
        return await self._mailbox.push(self._queue.name, body, **options)

    def iter(self, completable: bool = False) -> AsyncIterator[Message[Body, Reply]]:
        """Iterate over the queue's messages: see :meth:`Mailbox.iter`."""
        return self._mailbox.iter(self._queue.name, completable)

    async def next(self, timeout: float | None = None, completable: bool = False) -> Message[Body, Reply] | None:
        """Return the next message, or None after ``timeout`` seconds: see :meth:`Mailbox.next`."""
        return await self._mailbox.next(self._queue.name, timeout, completable)

    async def next_batch(
        self, count: int, timeout: float | None = None, completable: bool = False
    ) -> list[Message[Body, Reply]]:
        """Return up to ``count`` messages as one delivery: see :meth:`Mailbox.next_batch`."""
        return await self._mailbox.next_batch(count, self._queue.name, timeout, completable)

    async def try_next(self, completable: bool = False) -> Message[Body, Reply] | None:
        """Return the next message if one is due and available: see :meth:`Mailbox.try_next`."""
        return await self._mailbox.try_next(self._queue.name, completable)

    async def try_next_batch(self, count: int, completable: bool = False) -> list[Message[Body, Reply]]:
        """Return up to ``count`` messages that are due and available: see :meth:`Mailbox.try_next_batch`."""
        return await self._mailbox.try_next_batch(count, self._queue.name, completable)

    @property
    def _written(self) -> str:
        return f"self.{self._queue.name}"

    def __repr__(self) -> str:
        return f"<queue {self._queue.name} of {self._mailbox!r}>"
