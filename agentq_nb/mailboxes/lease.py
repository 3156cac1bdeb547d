"""One actor running on the one host there is: the local keeper's :class:`Lease`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from agentq_nb.errors import LeaseLost, StoreError
from agentq_nb.mailboxes.memory import Box, Entry, Waiter
from agentq_nb.mailboxes.protocol import Commit, Delivery
from agentq_nb.naming import MessageId

if TYPE_CHECKING:
    from agentq_nb.mailboxes.local import LocalMailboxes


class LocalLease:
    """See :class:`agentq_nb.mailboxes.protocol.Lease`."""

    def __init__(self, keeper: LocalMailboxes, box: Box) -> None:
        self.actor = box.actor
        self.lost: asyncio.Event = asyncio.Event()
        self.cancelling: Callable[[MessageId], None] | None = None
        self._keeper = keeper
        self._box = box
        self._released = False

    @property
    def state(self) -> bytes | None:
        return self._box.state

    def check(self) -> None:
        """Raise LeaseLost when this lease is over."""
        if self.lost.is_set() or self._released:
            raise LeaseLost(f"Actor '{self.actor}' is not run here any more: nothing was written.")

    async def receive(self, queues: Collection[str] | None, count: int, timeout: float | None) -> Sequence[Delivery]:
        self.check()
        deadline = None if timeout is None else self._keeper.clock.time() + timeout
        while True:
            if count == 0 and self._box.next_shelf(queues) is not None:
                return ()
            if entries := self._box.take(queues, count):
                return await self._hand_out(entries)
            if deadline is not None and self._keeper.clock.time() >= deadline:
                return ()
            await self._woken(queues, deadline)
            self.check()

    async def _woken(self, queues: Collection[str] | None, deadline: float | None) -> None:
        waiter = Waiter(queues, asyncio.get_running_loop().create_future())
        self._box.waiters.append(waiter)
        timer = None if deadline is None else self._keeper.clock.call_at(deadline, waiter.wake)
        try:
            await waiter.woken
        finally:
            self._box.waiters.remove(waiter)
            if timer is not None:
                timer.cancel()

    async def _hand_out(self, entries: list[Entry]) -> Sequence[Delivery]:
        durable = self._keeper.start(entries)
        if durable is not None:
            try:
                await durable
            except asyncio.CancelledError:
                self._keeper.put_back(entries)
                raise
            except StoreError as error:
                raise LeaseLost(str(error)) from error
            self._keeper.put_back([entry for entry in entries if entry.cancelling])
        return [
            Delivery(
                id=entry.id,
                queue=entry.queue,
                body=entry.body,
                failures=entry.failures,
                crashes=entry.crashes,
                created_at=entry.created_at,
                token=entry.starts,
                attempt=1 + entry.ended,
            )
            for entry in entries
            if entry.running
        ]

    async def started(self, deliveries: Sequence[Delivery]) -> None:
        self.check()
        await self._keeper.flushed()

    async def commit(self, commit: Commit) -> None:
        self.check()
        await self._keeper.apply(self._box, commit)

    def commit_soon(self, commit: Commit) -> None:
        self.check()
        self._keeper.apply_soon(self._box, commit)

    async def release(self) -> None:
        if self._released or self.lost.is_set():
            return
        self._released = True
        self._keeper.release(self._box)

    def lose(self) -> None:
        """The keeper takes it away."""
        self.lost.set()
        for waiter in self._box.waiters:
            waiter.wake()
