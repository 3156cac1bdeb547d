"""One actor running on the one host there is: the local keeper's :class:`Lease`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from agentq_nb.errors import LeaseLost, StoreError, Unavailable
from agentq_nb.mailboxes import committing, rows
from agentq_nb.mailboxes.ledger import Ledger
from agentq_nb.mailboxes.memory import Box, Entry, Waiter
from agentq_nb.mailboxes.protocol import Commit, Delivery
from agentq_nb.naming import MessageId
from agentq_nb.store import Row


class LocalLease:
    """See :class:`agentq_nb.mailboxes.protocol.Lease`."""

    def __init__(self, ledger: Ledger, box: Box) -> None:
        self.actor = box.actor
        self.lost: asyncio.Event = asyncio.Event()
        self.cancelling: Callable[[MessageId], None] | None = None
        self._ledger = ledger
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
        deadline = None if timeout is None else self._ledger.clock.time() + timeout
        while True:
            if count == 0 and self._box.next_shelf(queues) is not None:
                return ()
            if entries := self._box.take(queues, count):
                return await self._hand_out(entries)
            if deadline is not None and self._ledger.clock.time() >= deadline:
                return ()
            await self._woken(queues, deadline)
            self.check()

    async def _woken(self, queues: Collection[str] | None, deadline: float | None) -> None:
        waiter = Waiter(queues, asyncio.get_running_loop().create_future())
        self._box.waiters.append(waiter)
        timer = None if deadline is None else self._ledger.clock.call_at(deadline, waiter.wake)
        try:
            await waiter.woken
        finally:
            self._box.waiters.remove(waiter)
            if timer is not None:
                timer.cancel()

    async def _hand_out(self, entries: list[Entry]) -> Sequence[Delivery]:
        durable = self._write_starts(entries)
        if durable is not None:
            try:
                await durable
            except asyncio.CancelledError:
                self._put_back(entries)
                raise
            except StoreError as error:
                raise LeaseLost(str(error)) from error
            self._put_back([entry for entry in entries if entry.cancelling])
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

    def _write_starts(self, entries: Sequence[Entry]) -> asyncio.Future[None] | None:
        """Write that these were handed out. A future when that must be durable first.

        After an unclean end that is so for all that was there before: a message that kills the kernel at once would
        otherwise take its own start with it, and never be counted.
        """
        written = [rows.started(entry) for entry in entries]
        if self._ledger.careful and any(entry.old for entry in entries):
            return self._ledger.write(written)
        self._ledger.append(written)
        return None

    def _put_back(self, entries: Sequence[Entry]) -> None:
        """Uncounted, first in their queues. Nothing to do when a failed write has taken everything back already."""
        if self._ledger.failure is not None:
            return
        for entry in entries:
            self._ledger.stock.take_back(entry)
            if entry.cancelling:
                self._ledger.write_settled([self._ledger.cancel(entry)])
                continue
            entry.front, entry.due = True, 0.0
            self._ledger.append([rows.of_message("message.released", entry)])
            self._ledger.stock.place(entry)

    async def started(self, deliveries: Sequence[Delivery]) -> None:
        self.check()
        await self._ledger.flushed()

    async def commit(self, commit: Commit) -> None:
        written, durable = self._take_in(commit)
        try:
            if written:
                await self._ledger.write(written, durable)
            else:
                await self._ledger.log.flushed()
        except StoreError as error:
            raise Unavailable(f"What '{self.actor}' settled did not reach the disk: {error.message}") from error

    def commit_soon(self, commit: Commit) -> None:
        written, durable = self._take_in(commit)
        if written:
            self._ledger.append(written, durable)

    def _take_in(self, commit: Commit) -> tuple[list[Row], Callable[[], None]]:
        self.check()
        self._ledger.check()
        return committing.take_in(self._ledger, self._box, commit)

    async def release(self) -> None:
        if self._released or self.lost.is_set():
            return
        self._released = True
        self._box.lease = None
        self._put_back([entry for shelf in self._box.shelves.values() for entry in list(shelf.running.values())])
        self._ledger.stock.announce(self._box, "")
        for waiter in self._box.waiters:
            waiter.wake()

    def lose(self) -> None:
        """The keeper takes it away."""
        self.lost.set()
        for waiter in self._box.waiters:
            waiter.wake()
