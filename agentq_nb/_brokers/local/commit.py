"""Keeps memory and the event log consistent: append first, notify when durable.

The other modules of the local broker share it: ``enqueue`` (new messages), ``lease`` (deliveries), ``applied_commit``
(their settlement), and ``control`` (users' changes).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeAlias, TypeVar, TypeVarTuple

from agentq_nb._actor.message import describe, describe_text, headline
from agentq_nb._brokers.chains import lost, reason
from agentq_nb._brokers.local import event_rows, predecessors, results
from agentq_nb._brokers.local.batch_index import BatchIndex
from agentq_nb._brokers.local.event_rows import Memory
from agentq_nb._brokers.local.expirations import expired_text
from agentq_nb._brokers.local.idempotency import StoredKeys
from agentq_nb._brokers.local.live_messages import LiveMessages
from agentq_nb._brokers.local.queues import LiveMessage
from agentq_nb._brokers.local.results import Results
from agentq_nb._brokers.local.store_limit import StoreLimit
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import MessageId, earliest_id
from agentq_nb._core.message_status import FinalStatus
from agentq_nb._core.threads import in_long_thread, in_thread
from agentq_nb._store import Connection, EventLog, Row
from agentq_nb.errors import MessageExpired, StoreError, StoreWriteFailed, Unavailable

T = TypeVar("T")

Given = TypeVarTuple("Given")

Settled: TypeAlias = tuple[Row, StoredResult]
"""A message removed from memory: its row, still to be written, and the result to publish after that."""


class CommitLog:
    """Writes rows for changes in memory, from one event loop. After a failed write it stops until :meth:`begin`."""

    log: EventLog
    opened: MessageId
    """Messages with smaller ids may be in the log though not in memory."""
    careful: bool
    """Whether the log was not closed cleanly: messages in it are then delivered only once their start is durable."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.live_messages = LiveMessages(clock, self.append)
        self.live_messages.expirations.expire = self._expire
        self.live_messages.dependents.cancel = self._cancel_dependents
        self.store_limit = StoreLimit(clock)
        self.batches = BatchIndex(clock)
        self.results = Results(self.batches, self.live_messages.dependents)
        self.failure: StoreError | None = None
        self.unreadable: StoreError | None = None
        """Why messages whose bodies are only in the log cannot be delivered."""
        self.broken = asyncio.Event()
        """Set when a write failed."""
        self.closed = False
        self.redelivering = asyncio.Lock()
        """Held while messages are put back together with those that were cancelled because of them."""
        self.coming_back: set[MessageId] = set()
        """The messages that are put back by calls that are not over."""
        self._deciding = asyncio.Lock()
        self._decisions: set[asyncio.Future[Any]] = set()

    def begin(self, log: EventLog, memory: Memory) -> None:
        """Start, or continue after a failure, with what this log holds."""
        self.log = log
        log.on_failure(self.fail)
        self.failure = self.unreadable = None
        self.broken.clear()
        self.careful = not log.closed_cleanly()
        self.opened = earliest_id()
        self.live_messages.fill(memory, log.last_seq)
        self.results.settling.clear()
        self.batches.clear()

    def check_open(self) -> None:
        """Raise Unavailable when the host is stopped."""
        if self.closed:
            raise Unavailable("The host is stopped. Start it again: %agentq start, or await registry.start().")

    def check(self) -> None:
        """Raise Unavailable when the host is stopped, StoreWriteFailed after a failed write."""
        if self.closed:
            self.check_open()
        if self.failure is not None:
            raise StoreWriteFailed(
                f"Nothing can be written now; the host tries again by itself. {self.failure.message}"
            )

    # --- writing ------------------------------------------------------------------------------------------------------

    def append(
        self,
        written: Sequence[Row],
        durable: Callable[[*Given], None] | None = None,
        *given: *Given,
        awaited: bool = False,
    ) -> None:
        """Write without waiting; ``durable(*given)`` is called once the rows are on disk, soon if that is ``awaited``."""
        done = None if durable is None else _Written(self, None, durable, given)
        self.log.append(written, done, self.clock.time(), awaited=awaited)

    def write(
        self, written: Sequence[Row], durable: Callable[[*Given], None] | None = None, *given: *Given
    ) -> asyncio.Future[None]:
        """Write, and call ``durable(*given)`` once on disk. The future ends after that, or raises StoreWriteFailed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.log.append(written, _Written(self, future, durable, given), self.clock.time())
        return future

    def fail(self, error: StoreError) -> None:
        """Record a failed write: changes that were not durable count as never made."""
        if self.failure is not None:
            return
        self.failure = error
        self.live_messages.lose_leases()
        self.broken.set()

    def abandon(self, error: BaseException) -> None:
        """Record that the file could not be opened again: nothing is written until it is."""
        self.fail(
            StoreError(
                f"{self.log.path} could not be opened again after a failed write; the host tries again by itself: "
                f"{headline(describe(error, with_traceback=False))}"
            )
        )

    async def flushed(self) -> None:
        """Return when all rows written so far are on disk."""
        self.check()
        await self.log.flushed()

    # --- settling -----------------------------------------------------------------------------------------------------

    def settle(
        self,
        entry: LiveMessage,
        status: FinalStatus,
        reply: bytes | None = None,
        error: dict[str, Any] | None = None,
        *,
        handled: bool = False,
    ) -> StoredResult:
        """Remove a message from memory. Its result is hidden until published. ``handled``: count one more attempt."""
        self.live_messages.remove(entry, status)
        attempts = entry.ended + (1 if handled else 0)
        result = StoredResult(entry.id, entry.actor, entry.queue, status, attempts, reply, error, batch=entry.batch)
        self.results.settling[entry.id] = result
        return result

    def cancel(self, entry: LiveMessage, *, handled: bool = False, error: dict[str, Any] | None = None) -> Settled:
        """Remove a message from memory as cancelled. ``error``: why, if no user has cancelled it."""
        result = self.settle(entry, "cancelled", error=error, handled=handled)
        facts = None if error is None else {"error": error}
        return event_rows.of_message("message.cancelled", entry, facts), result

    def _cancel_dependents(self, causes: Sequence[tuple[LiveMessage, StoredResult]]) -> None:
        cancelled = [self.cancel(entry, error=reason(cause)) for entry, cause in causes]
        written, finished = zip(*cancelled, strict=True)
        self.append(written, self.results.publish, finished)

    def expired(self, entry: LiveMessage) -> Settled:
        """Remove a message from memory as expired."""
        text = expired_text(entry.queue, entry.options.get("ttl", 0.0))
        error = {**describe_text(text), "group": MessageExpired.group, "code": MessageExpired.code}
        result = self.settle(entry, "expired", error=error)
        return event_rows.of_message("message.expired", entry, {"error": error}), result

    def _expire(self, entries: Sequence[LiveMessage]) -> None:
        written, finished = zip(*map(self.expired, entries), strict=True)
        self.append(written, self.results.publish, finished)

    def write_settled(self, settled: Sequence[Settled]) -> asyncio.Future[None]:
        """Write the rows of settled messages, at least one, then publish their results."""
        written, finished = zip(*settled, strict=True)
        return self.write(written, self.results.publish, finished)

    # --- waiting for results ------------------------------------------------------------------------------------------

    # --- reading ------------------------------------------------------------------------------------------------------

    async def read(self, message: MessageId) -> StoredResult | None:
        """Return what the log knows of a message; None if it has no rows."""
        return results.read(message, await in_thread(self.log.message_rows, message))

    async def read_bodies(self, entries: Sequence[LiveMessage]) -> list[bytes]:
        """Return bodies that are only in the log. Raises StoreError, which is kept as trouble until a read succeeds."""
        log = self.log
        try:
            bodies = await in_thread(lambda: [log.body(entry.id, entry.first) for entry in entries])
        except StoreError as error:
            if self.log is log and not self.closed and self.unreadable is None:
                self.unreadable = error
                logging.getLogger("agentq").warning("%s It is tried again.", error.message)
            raise
        self.unreadable = None
        return bodies

    async def read_predecessors(self, entries: Sequence[LiveMessage]) -> None:
        """Give messages the results of those that they were sent after. Raises StoreError."""
        named = {message for entry in entries for message in entry.after}
        found = {message: result for message in named if (result := self.results.get(message)) is not None}
        if missing := named - found.keys():
            found |= await in_thread(predecessors.read_results, self.log.fetch, missing)
        for entry in entries:
            entry.predecessors = [found.get(message) or lost(message) for message in entry.after]

    async def learn_keys(self) -> None:
        """Load the index of idempotency keys completed in earlier runs, once."""
        keys, log = self.live_messages.keys, self.log
        if not keys.complete:
            keys.learn(await in_thread(lambda: StoredKeys(log.completed_keys())))

    async def learn_counts(self) -> None:
        """Load how many messages had completed and expired before. A failed read is retried the next time."""
        live_messages, log = self.live_messages, self.log
        if live_messages.settled_before is None and self.failure is None and not self.closed:
            with suppress(StoreError):
                counts = await in_long_thread(log.settled_counts)
                if self.log is log:
                    live_messages.settled_before = {
                        (actor, queue, status): count for actor, queue, status, count in counts
                    }

    async def decide(
        self, job: Callable[[Connection], tuple[Sequence[Row], T]], then: Callable[[T], None] | None = None
    ) -> T:
        """Decide from stored rows in the writer's thread, and apply the decision to memory with ``then``.

        Decisions are made one at a time, each with memory consistent with it. A decision runs to its end even when the
        caller is cancelled, for its rows may be durable already. Raises what ``job`` raises, and StoreWriteFailed.
        """

        async def make() -> T:
            async with self._deciding:
                self.check()
                log = self.log
                value = await log.decide(job, self.clock.time())
                if self.log is not log:
                    raise Unavailable(
                        "A write failed meanwhile, so whether this was written is not known. Look with await "
                        "registry.messages(), and do it again if it was not."
                    )
                if then is not None:
                    then(value)
                return value

        task = asyncio.ensure_future(make())
        self._decisions.add(task)
        task.add_done_callback(self._decided)
        return await asyncio.shield(task)

    async def back(self, message: MessageId) -> None:
        """Return when nothing is about to put this message back, and all pending decisions are applied to memory."""
        while message in self.coming_back:
            async with self.redelivering:
                await asyncio.sleep(0)
        await self.decided()

    async def decided(self) -> None:
        """Return when all pending decisions are applied to memory."""
        while self._decisions:
            await asyncio.wait(self._decisions)

    def _decided(self, task: asyncio.Future[Any]) -> None:
        self._decisions.discard(task)
        if not task.cancelled():
            task.exception()  # the caller got it, unless it was cancelled

    # --- shutdown -----------------------------------------------------------------------------------------------------

    def end(self, facts: Mapping[str, Any] | None = None) -> None:
        """Put back the messages in flight and accept nothing more. Written rows still have to reach the disk."""
        if self.failure is None:
            in_flight = self.live_messages.running()
            kinds = ["message.cancelled" if entry.cancelling else "message.released" for entry in in_flight]
            self.log.append([event_rows.of_message(kind, entry) for kind, entry in zip(kinds, in_flight, strict=True)])
            self.log.append([event_rows.of_host("host.stopped", facts)])
        self.closed = True
        self.live_messages.close()
        self.results.close()
        self.batches.clear()


class _Written(Generic[*Given]):
    """Callback for when rows are on disk, or could not be written. A slotted object is cheaper here than a closure."""

    __slots__ = ("commit_log", "durable", "future", "given")

    def __init__(
        self,
        commit_log: CommitLog,
        future: asyncio.Future[None] | None,
        durable: Callable[[*Given], None] | None,
        given: tuple[*Given],
    ) -> None:
        self.commit_log = commit_log
        self.future = future
        self.durable = durable
        self.given = given

    def __call__(self, error: StoreError | None) -> None:
        future = self.future
        if error is not None:
            self.commit_log.fail(error)
            if future is not None and not future.done():
                future.set_exception(error)
            return
        if self.durable is not None:
            self.durable(*self.given)
        if future is not None and not future.done():
            future.set_result(None)
