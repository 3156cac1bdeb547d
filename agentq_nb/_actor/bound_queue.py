"""``self.tasks``: an actor's mailbox seen through one of its queues, with the types that the queue declares."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Generic, Unpack

from agentq_nb._actor.mailbox import Mailbox
from agentq_nb._actor.message import Message
from agentq_nb._actor.queue import Body, Queue, Reply, SendOptions, shows_options
from agentq_nb._core.suggestions import NearMisses


class BoundQueue(NearMisses, Generic[Body, Reply]):
    """See :class:`agentq_nb._actor.mailbox.Mailbox`."""

    def __init__(self, mailbox: Mailbox, queue: Queue[Body, Reply]) -> None:
        self._mailbox = mailbox
        self._queue = queue

    @shows_options
    async def push(
        self,
        body: Body | dict[str, Any],
        *,
        wait: bool = False,
        timeout: float | None = None,
        **options: Unpack[SendOptions],
    ) -> Any:
        """Send to this queue; durable on return: see :meth:`Mailbox.push`."""
        return await self._mailbox.push(self._queue.name, body, wait=wait, timeout=timeout, **options)

    def iter(self, completable: bool = False) -> AsyncIterator[Message[Body, Reply]]:
        """One message after the other: see :meth:`Mailbox.iter`."""
        return self._mailbox.iter(self._queue.name, completable)

    async def next(self, timeout: float | None = None, completable: bool = False) -> Message[Body, Reply] | None:
        """The next message, or None after ``timeout`` seconds: see :meth:`Mailbox.next`."""
        return await self._mailbox.next(self._queue.name, timeout, completable)

    async def next_batch(
        self, count: int, timeout: float | None = None, completable: bool = False
    ) -> list[Message[Body, Reply]]:
        """Up to ``count`` messages as one delivery: see :meth:`Mailbox.next_batch`."""
        return await self._mailbox.next_batch(count, self._queue.name, timeout, completable)

    async def try_next(self, completable: bool = False) -> Message[Body, Reply] | None:
        """The next message if one is due and free: see :meth:`Mailbox.try_next`."""
        return await self._mailbox.try_next(self._queue.name, completable)

    async def try_next_batch(self, count: int, completable: bool = False) -> list[Message[Body, Reply]]:
        """Up to ``count`` messages that are due and free: see :meth:`Mailbox.try_next_batch`."""
        return await self._mailbox.try_next_batch(count, self._queue.name, completable)

    @property
    def _written(self) -> str:
        return f"self.{self._queue.name}"

    def __repr__(self) -> str:
        return f"<queue {self._queue.name} of {self._mailbox!r}>"
