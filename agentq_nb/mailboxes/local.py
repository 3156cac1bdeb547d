"""The keeper in this process: memory over the log.

What is live is in memory (``stock``) and is folded from the log when it is opened (``fold``); every change is a row
(``rows``) that is durable before anybody is told. When a write fails, all that was not durable is as if it had not
happened: leases are lost, and :meth:`LocalMailboxes.renew` begins again from the file, as after a crash.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from agentq_nb.clock import Clock, SystemClock, Timer
from agentq_nb.errors import (
    LeaseLost,
    MessageUnknown,
    StoreError,
    StoreWriteFailed,
    Unavailable,
)
from agentq_nb.mailboxes import fold, results, rows
from agentq_nb.mailboxes.accepting import decide
from agentq_nb.mailboxes.lease import LocalLease
from agentq_nb.mailboxes.memory import Box, Entry
from agentq_nb.mailboxes.protocol import (
    Accepted,
    Cancel,
    Change,
    Commit,
    FinalStatus,
    Offer,
    Pause,
    Purge,
    QueueStatus,
    Resume,
    Settlement,
    StoredResult,
)
from agentq_nb.mailboxes.results import Results
from agentq_nb.mailboxes.stock import Stock
from agentq_nb.mailboxes.wakeful import Wakeful
from agentq_nb.naming import ActorId, MessageId, earliest_id
from agentq_nb.store import EventLog, Row


class LocalMailboxes:
    """See :class:`agentq_nb.mailboxes.protocol.Mailboxes`. Make it with :meth:`open`; all calls from one event loop."""

    log: EventLog
    clock: Clock
    broken: asyncio.Event
    """Set when a write failed: nothing is handed out or accepted until :meth:`renew`."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.broken = asyncio.Event()
        self.failure: StoreError | None = None
        self._facts: Mapping[str, Any] = {}
        self._stock = Stock(self.clock)
        self._settling: dict[MessageId, StoredResult] = {}
        self._results = Results()
        self._opened: MessageId = ""
        self._queue_json: dict[str, str] = {}
        self._careful = False
        self._closed = False

    @classmethod
    async def open(
        cls, log: EventLog, *, clock: Clock | None = None, facts: Mapping[str, Any] | None = None
    ) -> LocalMailboxes:
        """Keep the mailboxes of an open log. ``facts`` (JSON-able) are written beside the start of this host."""
        keeper = cls(clock)
        keeper._facts = facts or {}
        await keeper._begin(log, crashed=True)
        return keeper

    async def renew(self, log: EventLog) -> None:
        """Begin again from the file after a failed write. What was in flight comes again and counts no attempt."""
        await self._begin(log, crashed=False)
        for message in self._results.waited_for():
            if message not in self._stock.entries:
                stored = await asyncio.to_thread(self._read, message)
                if stored is None:
                    self._results.give_up(
                        message, Unavailable(f"Message {message} did not reach the disk: send it again.")
                    )
                else:
                    self._results.publish(stored)

    async def _begin(self, log: EventLog, *, crashed: bool) -> None:
        memory = await asyncio.to_thread(fold.recall, log)
        self.log = log
        self.failure = None
        self.broken.clear()
        self._careful = not log.closed_cleanly()
        self._opened = earliest_id()
        self._stock.fill(memory, log.last_seq)
        self._settling = {}
        written = [rows.of_host("host.started", {"pid": os.getpid(), **self._facts})]
        written += [self._recover(entry, crashed) for entry in memory.in_flight]
        await self._write(written, lambda: self._publish(list(self._settling.values())))
        self._stock.arrive(list(self._stock.entries.values()))

    def _recover(self, entry: Entry, crashed: bool) -> Row:
        """What was in flight when the log ended comes again, first; one that was to be cancelled does not."""
        entry.running = False
        entry.front, entry.due = True, 0.0
        if entry.cancelling:
            self._drop(entry, "cancelled")
            return rows.of_message("message.cancelled", entry)
        if not crashed:
            return rows.of_message("message.released", entry)
        entry.crashes += 1
        entry.ended += 1
        return rows.of_message("message.crashed", entry, {"crashes": entry.crashes})

    # --- writing ------------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("The host is stopped. Start it again: %agentq start, or await registry.start().")

    def _check(self) -> None:
        self._check_open()
        if self.failure is not None:
            raise StoreWriteFailed(f"Writing failed and is tried again: {self.failure.message}")

    def _append(self, written: Sequence[Row], durable: Callable[[], None] | None = None) -> None:
        """Write without waiting; ``durable`` is called once it is on disk."""

        def done(error: StoreError | None) -> None:
            if error is not None:
                self._fail(error)
            elif durable is not None:
                durable()

        self.log.append(written, done, self.clock.time())

    def _write(self, written: Sequence[Row], durable: Callable[[], None] | None = None) -> asyncio.Future[None]:
        """Write; the future is done once it is on disk, or raises StoreWriteFailed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: StoreError | None) -> None:
            if error is not None:
                self._fail(error)
                if not future.done():
                    future.set_exception(error)
                return
            if durable is not None:
                durable()
            if not future.done():
                future.set_result(None)

        self.log.append(written, done, self.clock.time())
        return future

    def _fail(self, error: StoreError) -> None:
        if self.failure is not None:
            return
        self.failure = error
        self._stock.lose_leases()
        self.broken.set()

    async def flushed(self) -> None:
        """Return when all that was written so far is on disk."""
        self._check()
        await self.log.flushed()

    # --- sending ------------------------------------------------------------------------------------------------------

    async def offer(self, offers: Sequence[Offer]) -> Sequence[Accepted]:
        self._check()
        known = await self._known_before(offers) if self._needs_a_look(offers) else frozenset[MessageId]()
        accepted, fresh = decide(self._stock, offers, known)
        if fresh:
            entries = [self._stock.enter(offer) for offer in fresh]
            await self._write([self._queued_row(entry) for entry in entries], lambda: self._stock.arrive(entries))
        if len(fresh) < len(offers):
            await self.flushed()
        return accepted

    def _needs_a_look(self, offers: Sequence[Offer]) -> bool:
        """An id minted before we began, or settled since, or a key: rare, and then the live ones do not say it all."""
        for offer in offers:
            if offer.id < self._opened or offer.idempotency_key is not None or self._settled_lately(offer.id):
                return True
        return False

    def _settled_lately(self, message: MessageId) -> bool:
        return message in self._settling or self._results.get(message) is not None

    async def _known_before(self, offers: Sequence[Offer]) -> set[MessageId]:
        """Which ids the log may hold though memory does not; and the keys of earlier runs, when a key is used."""
        known: set[MessageId] = set()
        for offer in offers:
            if offer.id < self._opened and offer.id not in self._stock.entries:
                if await asyncio.to_thread(self._read, offer.id) is not None:
                    known.add(offer.id)
            elif self._settled_lately(offer.id):
                known.add(offer.id)
            if offer.idempotency_key is not None:
                await self._learn_keys()
        return known

    async def _learn_keys(self) -> None:
        if not self._stock.keys.complete:
            self._stock.keys.learn(await asyncio.to_thread(self.log.completed_keys))

    def _queued_row(self, entry: Entry) -> Row:
        queue_json = self._queue_json.get(entry.queue)
        if queue_json is None:
            queue_json = self._queue_json[entry.queue] = json.dumps(entry.queue)
        return rows.queued(entry, queue_json)

    # --- leases -------------------------------------------------------------------------------------------------------

    async def claim(self, actor: ActorId, host: str) -> LocalLease | None:
        self._check()
        box = self._stock.box(actor)
        if box.lease is not None:
            return None
        box.lease = LocalLease(self, box)
        return box.lease

    def start(self, entries: Sequence[Entry]) -> asyncio.Future[None] | None:
        """Write that these were handed out. A future when that must be durable first.

        After an unclean end that is so for all that was there before: a message that kills the kernel at once would
        otherwise take its own start with it, and never be counted.
        """
        written = [rows.started(entry) for entry in entries]
        if self._careful and any(entry.old for entry in entries):
            return self._write(written)
        self._append(written)
        return None

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Uncounted, first in their queues. Nothing to do when a failed write has taken everything back already."""
        if self.failure is not None:
            return
        for entry in entries:
            self._stock.take_back(entry)
            if entry.cancelling:
                self._settle_as(entry, "cancelled")
                continue
            entry.front, entry.due = True, 0.0
            self._append([rows.of_message("message.released", entry)])
            self._stock.place(entry)

    def release(self, box: Box) -> None:
        box.lease = None
        self.put_back([entry for shelf in box.shelves.values() for entry in list(shelf.running.values())])
        self._stock.announce(box, "")
        for waiter in box.waiters:
            waiter.wake()

    async def apply(self, box: Box, commit: Commit) -> None:
        self._check()
        written, durable = self._take_in(box, commit)
        try:
            if written:
                await self._write(written, durable)
            else:
                await self.log.flushed()
        except StoreError as error:
            raise Unavailable(f"What '{box.actor}' settled did not reach the disk: {error.message}") from error

    def apply_soon(self, box: Box, commit: Commit) -> None:
        self._check()
        written, durable = self._take_in(box, commit)
        if written:
            self._append(written, durable)

    def _take_in(self, box: Box, commit: Commit) -> tuple[list[Row], Callable[[], None]]:
        """Apply to memory at once. The rows go out in order, so nobody can learn of it before it is durable."""
        held = [self._held(settlement) for settlement in commit.settlements]
        written: list[Row] = []
        finished: list[StoredResult] = []
        for entry, settlement in zip(held, commit.settlements, strict=True):
            self._settle(entry, settlement, written, finished)
        if commit.state is not None:
            if box.state is None:
                written.append(rows.of_actor("actor.created", box.actor))
            box.state = commit.state
            written.append(rows.state(box.actor, commit.state))
        arrivals = [self._stock.enter(offer) for offer in commit.schedule if offer.id not in self._stock.entries]
        written += [self._queued_row(entry) for entry in arrivals]
        if commit.destroy:
            for entry in [entry for entry in self._stock.entries.values() if entry.actor == box.actor]:
                finished.append(self._drop(entry, "cancelled"))
                written.append(rows.of_message("message.cancelled", entry))
            box.state = None
            written.append(rows.of_actor("actor.destroyed", box.actor))
        ended = [shelf.pause for shelf in box.shelves.values() if shelf.pause is not None] if commit.destroy else []

        def durable() -> None:
            for pause in ended:
                self._stock.end_pause(pause)
            self._stock.arrive(arrivals)
            self._publish(finished)

        return written, durable

    def _held(self, settlement: Settlement) -> Entry:
        delivery = settlement.delivery
        entry = self._stock.entries.get(delivery.id)
        if entry is None or not entry.running or entry.starts != delivery.token:
            raise LeaseLost(f"Message {delivery.id} is not held here any more: nothing was written.")
        return entry

    def _settle(self, entry: Entry, settlement: Settlement, written: list[Row], finished: list[StoredResult]) -> None:
        self._stock.take_back(entry)
        outcome = settlement.outcome
        if outcome in ("again", "released") and entry.cancelling:
            finished.append(self._drop(entry, "cancelled", handled=True))
            written.append(rows.of_message("message.cancelled", entry))
            return
        due = self.clock.time() + settlement.delay if settlement.delay > 0 else 0.0
        written.append(rows.settled(entry, settlement, due))
        if outcome in ("again", "released"):
            self._again(entry, settlement, due)
        else:
            status: FinalStatus = "completed" if outcome == "completed" else "failed"
            finished.append(self._drop(entry, status, settlement.reply, settlement.error, handled=True))

    def _again(self, entry: Entry, settlement: Settlement, due: float) -> None:
        if settlement.outcome == "again":
            entry.failures += 1
            entry.ended += 1
            entry.crashes = 0
            entry.front, entry.due, entry.in_order = settlement.front, due, settlement.in_order
        else:
            entry.front, entry.due = True, 0.0
        self._stock.place(entry)

    def _drop(
        self,
        entry: Entry,
        status: FinalStatus,
        reply: bytes | None = None,
        error: dict[str, Any] | None = None,
        *,
        handled: bool = False,
    ) -> StoredResult:
        """Out of memory. Until that is durable its result is in ``_settling``, where nobody can read it."""
        self._stock.remove(entry, status)
        attempts = entry.ended + (1 if handled else 0)
        result = StoredResult(entry.id, entry.actor, entry.queue, status, attempts, reply, error)
        self._settling[entry.id] = result
        return result

    def _publish(self, finished: Iterable[StoredResult]) -> None:
        for result in finished:
            self._settling.pop(result.message, None)
            self._results.publish(result)

    def _settle_as(self, entry: Entry, status: FinalStatus) -> asyncio.Future[None]:
        result = self._drop(entry, status)
        return self._write([rows.of_message(f"message.{status}", entry)], lambda: self._publish([result]))

    # --- asking and changing ------------------------------------------------------------------------------------------

    async def exists(self, actor: ActorId) -> bool:
        self._check()
        return self._stock.exists(actor)

    async def states(self, name: str) -> Mapping[ActorId, bytes]:
        self._check()
        return self._stock.states(name)

    def wakeful(self, names: Collection[str]) -> Wakeful:
        return self._stock.subscribe(names)

    async def wait(self, message: MessageId, timeout: float | None, waiter: ActorId | None = None) -> StoredResult:
        self._check_open()
        if message not in self._stock.entries and message not in self._settling:
            stored = self._results.get(message) or await asyncio.to_thread(self._read, message)
            if stored is None:
                raise MessageUnknown(message)
            if results.is_final(stored.status) and message not in self._stock.entries:
                return stored
        if timeout is not None and timeout <= 0 and message not in self._settling:
            return self._standing(message)
        return await self._settled(message, timeout)

    async def _settled(self, message: MessageId, timeout: float | None) -> StoredResult:
        future = self._results.waiting(message)
        timer: Timer | None = None
        if timeout is not None:
            timer = self.clock.call_at(self.clock.time() + timeout, lambda: _time_out(future))
        try:
            return await future
        except TimeoutError:
            return self._standing(message)
        finally:
            self._results.leave(message, future)
            if timer is not None:
                timer.cancel()

    def _standing(self, message: MessageId) -> StoredResult:
        entry = self._stock.entries.get(message)
        if entry is None:
            if (settling := self._settling.get(message)) is not None:  # a crash may still undo it
                return settling._replace(status="running", reply=None, error=None)
            if (settled := self._results.get(message)) is None:
                raise MessageUnknown(message)
            return settled
        return self._stock.standing(entry)

    def _read(self, message: MessageId) -> StoredResult | None:
        return results.read(message, self.log.message_rows(message))

    async def change(self, actor: ActorId, change: Change) -> int:
        self._check()
        if isinstance(change, Cancel):
            return await self._cancel(change.message)
        if isinstance(change, Purge):
            return await self._purge(actor, change.queue)
        if isinstance(change, Pause):
            return await self._pause(actor, change.queue, change.until)
        if isinstance(change, Resume):
            return await self._resume(actor, change.queue)
        return await self._redeliver(change.message)

    async def _cancel(self, message: MessageId) -> int:
        entry = self._stock.entries.get(message)
        if entry is None:
            await self.wait(message, 0)
            return 0
        if not entry.running:
            await self._settle_as(entry, "cancelled")
            return 1
        if not entry.cancelling:
            entry.cancelling = True
            await self._write([rows.of_message("message.cancel_requested", entry)])
        else:
            await self.flushed()
        lease = self._stock.box(entry.actor).lease
        if entry.running and lease is not None and lease.cancelling is not None:
            lease.cancelling(message)
        return 1

    async def _purge(self, actor: ActorId, queue: str) -> int:
        everywhere = self._stock.entries.values()
        entries = [e for e in everywhere if e.actor == actor and e.queue == queue and not e.running]
        if not entries:
            await self.flushed()
            return 0
        finished = [self._drop(entry, "cancelled") for entry in entries]
        written = [rows.of_message("message.cancelled", entry) for entry in entries]
        await self._write(written, lambda: self._publish(finished))
        return len(entries)

    async def _pause(self, actor: ActorId, queue: str, until: float | None) -> int:
        pause = self._stock.pause(actor, queue, until)
        await self._write([rows.paused(actor, queue, until)], lambda: self._stock.expect_end(pause))
        return 1

    async def _resume(self, actor: ActorId, queue: str) -> int:
        """Nothing is handed out before it is durable; a pause that is made meanwhile stays."""
        pause = self._stock.paused(actor, queue)
        if pause is None or pause.ending:
            await self.flushed()
            return 0
        pause.ending = True
        await self._write([rows.resumed(actor, queue)], lambda: self._stock.end_pause(pause))
        return 1

    async def _redeliver(self, message: MessageId) -> int:
        if message in self._stock.entries:
            return 0
        if message in self._settling:
            await self.flushed()
        read = await asyncio.to_thread(self.log.message_rows, message)
        stored = results.read(message, read)
        if stored is None:
            raise MessageUnknown(message)
        if stored.status not in ("failed", "cancelled", "expired") or message in self._stock.entries:
            return 0
        revived: dict[MessageId, Entry] = {}
        order = self._stock.next_order()
        fold.replay(revived, [*read, (order, 0.0, "message.redelivered", stored.actor, message, "{}")])
        entry = revived[message]
        await self._reclaim_key(entry)
        self._stock.hold(entry)
        self._stock.shelf(entry).dead.pop(message, None)
        self._results.forget(message)
        await self._write([rows.of_message("message.redelivered", entry)], lambda: self._stock.arrive([entry]))
        return 1

    async def _reclaim_key(self, entry: Entry) -> None:
        """A message that failed has lost its key; it takes it again unless another message has it by now."""
        if entry.key is None:
            return
        await self._learn_keys()
        if self._stock.keys.find(entry.actor, entry.queue, entry.key) is None:
            self._stock.keys.name(entry.actor, entry.queue, entry.key, entry.id, entry.body)
        else:
            entry.key = None

    async def status(self, actor: ActorId | None = None) -> Sequence[QueueStatus]:
        return self._stock.status(actor)

    # --- the end ------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        if self._closed:
            return
        self._begin_end()
        await asyncio.to_thread(self.log.close)

    def close_now(self) -> None:
        """The same without an event loop, for the end of the process. Blocking."""
        if not self._closed:
            self._begin_end()
            self.log.close()

    def _begin_end(self) -> None:
        if self.failure is None:
            in_flight = self._stock.running()
            kinds = ["message.cancelled" if entry.cancelling else "message.released" for entry in in_flight]
            self.log.append([rows.of_message(kind, entry) for kind, entry in zip(kinds, in_flight, strict=True)])
            self.log.append([rows.of_host("host.stopped")])
        self._closed = True
        self._stock.close()
        self._results.close()


def _time_out(future: asyncio.Future[StoredResult]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
