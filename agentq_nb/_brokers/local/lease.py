"""The in-process broker's lease: delivers an actor's messages and commits their settlement."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from agentq_nb._actor.send_options import origin_of
from agentq_nb._brokers.local import event_rows, schedules
from agentq_nb._brokers.local.applied_commit import Applied, apply
from agentq_nb._brokers.local.commit import CommitLog
from agentq_nb._brokers.local.queues import LARGEST_BODY, ActorQueues, LiveMessage, Waiter
from agentq_nb._brokers.messages import Commit, Delivery, Take, Unsettled
from agentq_nb._core.ids import MessageId
from agentq_nb._store import Row
from agentq_nb.errors import LeaseLost, StoreError, Unavailable

_READ_AGAIN = 1.0
"""Seconds after which reading a body is tried again."""


class LocalLease:
    """See :class:`agentq_nb._brokers.base.Lease`."""

    moved = False

    def __init__(self, commit_log: CommitLog, actor_queues: ActorQueues) -> None:
        self.actor = actor_queues.actor
        self.lost: asyncio.Event = asyncio.Event()
        self.cancelling: Callable[[MessageId], None] | None = None
        self.leaving: Callable[[], None] | None = None
        self._commit_log = commit_log
        self._actor_queues = actor_queues
        self._expirations = commit_log.live_messages.expirations
        self._over = False

    @property
    def state(self) -> bytes | None:
        return self._actor_queues.state

    def check(self) -> None:
        """Raise LeaseLost when this lease has ended."""
        if self._over:
            raise LeaseLost(
                f"Actor '{self.actor}' is not run here any more (it was stopped, or a write failed): nothing was "
                "written. What it had not settled comes again."
            )

    async def turn(self, settle: Commit | None, take: Take) -> Sequence[Delivery]:
        self.check()
        queues, limit, _ = take
        applied = None if settle is None else apply(self._commit_log, self._actor_queues, settle)
        entries = self._actor_queues.take(queues, limit)
        if self._expirations.count:
            entries = self._expirations.take(self._actor_queues, queues, limit, entries)
        if not entries or not _are_in_memory(entries):
            if applied is not None:
                self._append(applied)
                applied = None
            if not (entries := await self._readable(entries, take)):
                return ()
        if (durable := self._write_starts(entries, applied)) is not None:
            await self._until_started(entries, durable)
        return [_delivery(entry) for entry in entries if entry.running]

    async def _readable(self, entries: list[LiveMessage], take: Take) -> list[LiveMessage]:
        """Return these messages, or else the first to come in time, with their bodies."""
        queues, limit, timeout = take
        deadline = self._deadline(timeout)
        while True:
            if not entries:
                if self._is_past(deadline):
                    return entries
                await self._woken(queues, deadline)
            elif _are_in_memory(entries) or (entries := await self._read(entries)):
                return entries
            entries = self._expirations.take(self._actor_queues, queues, limit)

    async def _read(self, entries: list[LiveMessage]) -> list[LiveMessage]:
        """Load large bodies, and the results of what messages were sent after, from the log. Return the messages still to be delivered; none when reading fails.

        Nothing counts as delivered until then: when it is cancelled or fails, all messages go back to their places.
        """
        commit_log = self._commit_log
        large = [entry for entry in entries if not entry.body]
        for entry in entries:
            entry.reading = True
        try:
            await commit_log.read_predecessors([entry for entry in entries if entry.after])
            bodies = await commit_log.read_bodies(large) if large else []
        except StoreError:
            self.check()
            self._put_back_undelivered(entries, commit_log.clock.time() + _READ_AGAIN)
            return []
        except BaseException:
            if not self._over:
                self._put_back_undelivered(entries)
            raise
        self.check()
        for entry, body in zip(large, bodies, strict=True):
            entry.body = body
        for entry in entries:
            entry.reading = False
        self._put_back([entry for entry in entries if entry.cancelling])
        return [entry for entry in entries if entry.running]

    def _put_back_undelivered(self, entries: Sequence[LiveMessage], until: float = 0.0) -> None:
        """Put messages back in their places. ``until``: those with large bodies are retried then, and not overtaken."""
        for entry in entries:
            if not entry.running:
                continue
            if entry.cancelling:
                self._put_back([entry])
            else:
                waits = not entry.body or (entry.after and entry.predecessors is None)
                entry.predecessors = None
                self._commit_log.live_messages.put_back(entry, until if waits else 0.0)

    async def until_due(
        self, queues: Collection[str] | None, timeout: float | None, *, may_be_early: bool = False
    ) -> None:
        self.check()
        deadline = self._deadline(timeout)
        while self._actor_queues.next_queue(queues) is None and not self._is_past(deadline):
            await self._woken(queues, deadline)

    def _deadline(self, timeout: float | None) -> float | None:
        return None if timeout is None else self._commit_log.clock.monotonic() + timeout

    def _is_past(self, deadline: float | None) -> bool:
        return deadline is not None and self._commit_log.clock.monotonic() >= deadline

    async def _woken(self, queues: Collection[str] | None, deadline: float | None) -> None:
        """Return when a message may be due, or at the deadline. Raises LeaseLost when the lease has ended."""
        waiter = Waiter(queues, asyncio.get_running_loop().create_future())
        self._actor_queues.waiters.append(waiter)
        clock = self._commit_log.clock
        timer = None if deadline is None else clock.call_later(deadline - clock.monotonic(), waiter.wake)
        try:
            await waiter.woken
        finally:
            self._actor_queues.waiters.remove(waiter)
            if timer is not None:
                timer.cancel()
        self.check()

    async def _until_started(self, entries: list[LiveMessage], durable: asyncio.Future[None]) -> None:
        """Wait until the starts are durable, and put back the messages cancelled meanwhile."""
        limits = self._commit_log.live_messages.limits
        try:
            await durable
            while late := limits.late_rows(entries):
                await self._commit_log.write(late)
        except asyncio.CancelledError:
            if not self._over:
                self._put_back(entries)
            raise
        except StoreError as error:
            raise LeaseLost(str(error)) from error
        self._put_back([entry for entry in entries if entry.cancelling])
        limits.started(entries)

    def _write_starts(self, entries: Sequence[LiveMessage], applied: Applied | None) -> asyncio.Future[None] | None:
        """Write that these messages were started, after the rows of ``applied``. Return a future to await if needed.

        After an unclean shutdown, starts of messages from before must be durable first: one that crashes the kernel at
        once would otherwise take its own start with it, and never be counted. While any message may crash the kernel,
        all starts must be: what else was in flight must be known. What has a ttl never expires from its start on.
        """
        rows: list[Row] = [] if applied is None else applied.rows
        rows += map(event_rows.started, entries)
        careful = self._commit_log.careful and any(entry.old for entry in entries)
        if self._actor_queues.gates and (starts := self._commit_log.live_messages.limits.start_rows(entries)):
            rows += starts
            careful = True
        if self._expirations.count and self._expirations.started(entries):
            careful = True
        suspects = self._commit_log.live_messages.suspects
        if careful or (suspects.doubtful and suspects.doubt()):
            applied = applied or Applied(rows, [])
            return self._commit_log.write(rows, applied.tell, self._commit_log)
        if applied is None:
            self._commit_log.append(rows)
        else:
            # A receiver that asks for one message after the other may never wait: each turn of the loop makes them durable.
            self._commit_log.append(rows, applied.tell, self._commit_log, awaited=True)
        return None

    def _append(self, applied: Applied) -> None:
        if applied.rows:
            self._commit_log.append(applied.rows, applied.tell, self._commit_log)

    def _put_back(self, entries: Sequence[LiveMessage]) -> None:
        """Put messages back uncounted, first in their queues. After a failed write nothing is left to put back."""
        if self._commit_log.failure is not None:
            return
        for entry in entries:
            if not entry.running:
                continue
            self._commit_log.live_messages.take_back(entry)
            if entry.cancelling:
                self._commit_log.write_settled([self._commit_log.cancel(entry)])
                continue
            entry.front, entry.due = True, 0.0
            self._commit_log.append([event_rows.of_message("message.released", entry)])
            self._commit_log.live_messages.place(entry)

    def withhold(self, message: MessageId) -> Callable[[], None]:
        live_messages = self._commit_log.live_messages
        allow = live_messages.withhold(message)
        entry = live_messages.entries.get(message)
        leave = live_messages.limits.occupy(message, None if entry is None else entry.queue_state)

        def end() -> None:
            allow()
            leave()

        return end

    async def started(self, deliveries: Sequence[Delivery]) -> None:
        self.check()
        await self._commit_log.flushed()

    async def commit(self, commit: Commit) -> None:
        self.check()
        applied = apply(self._commit_log, self._actor_queues, commit)
        try:
            if applied.rows:
                await self._commit_log.write(applied.rows, applied.tell, self._commit_log)
            else:
                await self._commit_log.log.flushed()
        except StoreError as error:
            raise Unavailable(f"What '{self.actor}' settled did not reach the disk: {error.message}") from error

    def commit_soon(self, commit: Commit) -> None:
        self.check()
        self._append(apply(self._commit_log, self._actor_queues, commit))

    async def unsettled(self, queue: str) -> Sequence[Unsettled]:
        self.check()
        return await schedules.unsettled(self._commit_log, self._actor_queues, queue)

    async def release(self) -> None:
        if self._over:
            return
        self._over = True
        self._actor_queues.lease = None
        running = [
            entry for queue_state in self._actor_queues.queues.values() for entry in queue_state.running.values()
        ]
        self._put_back_undelivered([entry for entry in running if entry.reading])
        self._put_back(running)
        for queue_state in self._actor_queues.queues.values():
            self._commit_log.live_messages.announce(queue_state)
        for waiter in self._actor_queues.waiters:
            waiter.wake()

    def lose(self) -> None:
        """End the lease on behalf of the broker."""
        self._over = True
        self.lost.set()
        for waiter in self._actor_queues.waiters:
            waiter.wake()


def _are_in_memory(entries: Sequence[LiveMessage]) -> bool:
    for entry in entries:  # noqa: SIM110  # all() takes three times as long for a single entry, the usual case
        if not entry.body or (entry.after and entry.predecessors is None):
            return False
    return True


def _delivery(entry: LiveMessage) -> Delivery:
    body, predecessors = entry.body, entry.predecessors
    entry.predecessors = None
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
        origin_of(entry.options),
        predecessors or (),
        entry.batch,
        entry.released_because,
    )
