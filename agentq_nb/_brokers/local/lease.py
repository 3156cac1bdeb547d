"""One actor running on the one host there is: the local keeper's :class:`Lease`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from agentq_nb._brokers.base import Commit, Delivery, Take
from agentq_nb._brokers.local import event_rows, lease_commit
from agentq_nb._brokers.local.commit import Ledger
from agentq_nb._brokers.local.lease_commit import Applied
from agentq_nb._brokers.local.queues import LARGEST_BODY, Box, Entry, Waiter
from agentq_nb._core.ids import MessageId
from agentq_nb.errors import LeaseLost, StoreError, Unavailable

_READ_AGAIN = 1.0
"""Seconds after which a body that could not be read is tried again."""


class LocalLease:
    """See :class:`agentq_nb._brokers.base.Lease`."""

    def __init__(self, ledger: Ledger, box: Box) -> None:
        self.actor = box.actor
        self.lost: asyncio.Event = asyncio.Event()
        self.cancelling: Callable[[MessageId], None] | None = None
        self._ledger = ledger
        self._box = box
        self._over = False

    @property
    def state(self) -> bytes | None:
        return self._box.state

    def check(self) -> None:
        """Raise LeaseLost when this lease is over."""
        if self._over:
            raise LeaseLost(
                f"Actor '{self.actor}' is not run here any more (it was stopped, or a write failed): nothing was "
                "written. What it had not settled comes again."
            )

    async def turn(self, settle: Commit | None, take: Take) -> Sequence[Delivery]:
        self.check()
        queues, limit, _ = take
        applied = None if settle is None else lease_commit.apply(self._ledger, self._box, settle)
        entries = self._box.take(queues, limit)
        if not entries or not _are_in_memory(entries):
            if applied is not None:
                self._append(applied)
                applied = None
            entries = await self._readable(entries, take)
            if not entries:
                return ()
        if (durable := self._write_starts(entries, applied)) is not None:
            await self._until_started(entries, durable)
        return [_delivery(entry) for entry in entries if entry.running]

    async def _readable(self, entries: list[Entry], take: Take) -> list[Entry]:
        """These, or else the first ones to come in time, with their bodies."""
        queues, limit, timeout = take
        deadline = self._deadline(timeout)
        while True:
            if not entries:
                if self._is_past(deadline):
                    return entries
                await self._woken(queues, deadline)
            elif _are_in_memory(entries) or (entries := await self._read(entries)):
                return entries
            entries = self._box.take(queues, limit)

    async def _read(self, entries: list[Entry]) -> list[Entry]:
        """Get large bodies from the log. Returns those that are still to be handed out; none when it cannot be read.

        Until it is done nothing was handed out: all goes back to its place when it is cancelled or fails.
        """
        ledger = self._ledger
        large = [entry for entry in entries if not entry.body]
        for entry in entries:
            entry.reading = True
        try:
            bodies = await ledger.read_bodies(large)
        except StoreError:
            self.check()
            self._untake(entries, ledger.clock.time() + _READ_AGAIN)
            return []
        except BaseException:
            if not self._over:
                self._untake(entries)
            raise
        self.check()
        for entry, body in zip(large, bodies, strict=True):
            entry.body = body
        for entry in entries:
            entry.reading = False
        self._put_back([entry for entry in entries if entry.cancelling])
        return [entry for entry in entries if entry.running]

    def _untake(self, entries: Sequence[Entry], until: float = 0.0) -> None:
        """Back to where they were; ``until``: nothing overtakes those with large bodies, which are tried again then."""
        for entry in entries:
            if not entry.running:
                continue
            if entry.cancelling:
                self._put_back([entry])
            else:
                self._ledger.stock.untake(entry, until if not entry.body else 0.0)

    async def until_due(self, queues: Collection[str] | None, timeout: float | None) -> None:
        self.check()
        deadline = self._deadline(timeout)
        while self._box.next_shelf(queues) is None and not self._is_past(deadline):
            await self._woken(queues, deadline)

    def _deadline(self, timeout: float | None) -> float | None:
        return None if timeout is None else self._ledger.clock.monotonic() + timeout

    def _is_past(self, deadline: float | None) -> bool:
        return deadline is not None and self._ledger.clock.monotonic() >= deadline

    async def _woken(self, queues: Collection[str] | None, deadline: float | None) -> None:
        """Return when a look is worth while, or at the deadline. Raises LeaseLost when it is not any more."""
        waiter = Waiter(queues, asyncio.get_running_loop().create_future())
        self._box.waiters.append(waiter)
        clock = self._ledger.clock
        timer = None if deadline is None else clock.call_later(deadline - clock.monotonic(), waiter.wake)
        try:
            await waiter.woken
        finally:
            self._box.waiters.remove(waiter)
            if timer is not None:
                timer.cancel()
        self.check()

    async def _until_started(self, entries: list[Entry], durable: asyncio.Future[None]) -> None:
        """What is cancelled meanwhile is not running any more."""
        try:
            await durable
        except asyncio.CancelledError:
            if not self._over:
                self._put_back(entries)
            raise
        except StoreError as error:
            raise LeaseLost(str(error)) from error
        self._put_back([entry for entry in entries if entry.cancelling])

    def _write_starts(self, entries: Sequence[Entry], applied: Applied | None) -> asyncio.Future[None] | None:
        """Write that these were handed out, after what was settled before. A future when that must be durable first.

        After an unclean end that is so for all that was there before: a message that kills the kernel at once would
        otherwise take its own start with it, and never be counted. It is so for all while a message is there that may
        kill the kernel: who else was in flight then must be known.
        """
        applied = applied or Applied([], [])
        for entry in entries:
            applied.rows.append(event_rows.started(entry))
        careful = self._ledger.careful and any(entry.old for entry in entries)
        if careful or self._ledger.stock.suspects.doubt:
            return self._ledger.write(applied.rows, applied.tell, self._ledger)
        self._append(applied)
        return None

    def _append(self, applied: Applied) -> None:
        if applied.rows:
            self._ledger.append(applied.rows, applied.tell, self._ledger)

    def _put_back(self, entries: Sequence[Entry]) -> None:
        """Uncounted, first in their queues. Nothing to do when a failed write has taken everything back already."""
        if self._ledger.failure is not None:
            return
        for entry in entries:
            if not entry.running:
                continue
            self._ledger.stock.take_back(entry)
            if entry.cancelling:
                self._ledger.write_settled([self._ledger.cancel(entry)])
                continue
            entry.front, entry.due = True, 0.0
            self._ledger.append([event_rows.of_message("message.released", entry)])
            self._ledger.stock.place(entry)

    async def started(self, deliveries: Sequence[Delivery]) -> None:
        self.check()
        await self._ledger.flushed()

    async def commit(self, commit: Commit) -> None:
        self.check()
        applied = lease_commit.apply(self._ledger, self._box, commit)
        try:
            if applied.rows:
                await self._ledger.write(applied.rows, applied.tell, self._ledger)
            else:
                await self._ledger.log.flushed()
        except StoreError as error:
            raise Unavailable(f"What '{self.actor}' settled did not reach the disk: {error.message}") from error

    def commit_soon(self, commit: Commit) -> None:
        self.check()
        self._append(lease_commit.apply(self._ledger, self._box, commit))

    async def release(self) -> None:
        if self._over:
            return
        self._over = True
        self._box.lease = None
        running = [entry for shelf in self._box.shelves.values() for entry in shelf.running.values()]
        self._untake([entry for entry in running if entry.reading])
        self._put_back(running)
        for shelf in self._box.shelves.values():
            self._ledger.stock.announce(shelf)
        for waiter in self._box.waiters:
            waiter.wake()

    def lose(self) -> None:
        """The keeper takes it away."""
        self._over = True
        self.lost.set()
        for waiter in self._box.waiters:
            waiter.wake()


def _are_in_memory(entries: Sequence[Entry]) -> bool:
    for entry in entries:  # noqa: SIM110  # all() takes three times as long for the one there mostly is
        if not entry.body:
            return False
    return True


def _delivery(entry: Entry) -> Delivery:
    body = entry.body
    if entry.size > LARGEST_BODY:
        entry.body = b""
    return Delivery(
        entry.id,
        entry.queue,
        body,
        entry.failures,
        entry.crashes,
        entry.created_at,
        entry.starts,  # the token
        1 + entry.ended,  # the attempt
    )
