"""The in-process broker: live messages in memory over the event log.

Live messages are in memory (``live_messages``), replayed from the log when it is opened (``event_rows``); every change
is a row that is durable before it is visible (``commit``). When a write fails, changes that were not durable count as
never made: leases are lost, and :meth:`LocalBroker.renew` restarts from the file, as after a crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from types import CoroutineType
from typing import Any

from agentq_nb._brokers.batches import Batches
from agentq_nb._brokers.changes import Change, DeadLetters
from agentq_nb._brokers.local import control, queue_status, result_waits, schedules
from agentq_nb._brokers.local.batches import LocalBatches
from agentq_nb._brokers.local.commit import CommitLog
from agentq_nb._brokers.local.enqueue import accept
from agentq_nb._brokers.local.lease import LocalLease
from agentq_nb._brokers.local.limit_control import LocalLimits
from agentq_nb._brokers.local.provider_pauses import works_until
from agentq_nb._brokers.local.ready_actors import ReadyActors
from agentq_nb._brokers.local.recovery import recover
from agentq_nb._brokers.local.store_limit import StoreLimit
from agentq_nb._brokers.messages import Enqueued, NewMessage, Place, StoredResult, Unsettled
from agentq_nb._brokers.statuses import ActorHome, QueueStatus
from agentq_nb._core.clock import Clock, SystemClock
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.threads import in_long_thread
from agentq_nb._core.time_slice import Slices
from agentq_nb._store import EventLog
from agentq_nb.errors import StoreError, Unavailable


class LocalBroker:
    """See :class:`agentq_nb._brokers.base.Broker`. Make it with :meth:`open`; call it from one event loop only."""

    look_every = 2.0
    """Seconds after which those who look for work by themselves may look again."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self._commit_log = CommitLog(self.clock)
        self.limits = LocalLimits(self._commit_log)
        self._facts: Mapping[str, Any] = {}
        self.batches: Batches = LocalBatches(self._commit_log)
        self.exchange = None  # no other host can have the file open

    @property
    def log(self) -> EventLog:
        """The open log; replaced by :meth:`renew`."""
        return self._commit_log.log

    @property
    def broken(self) -> asyncio.Event:
        """Set when a write failed: nothing is delivered or accepted until :meth:`renew`."""
        return self._commit_log.broken

    @property
    def failure(self) -> StoreError | None:
        """The error of a failed write, until :meth:`renew`."""
        return self._commit_log.failure

    @property
    def trouble(self) -> str | None:
        """A current problem that is being retried; None if there is none."""
        error = self._commit_log.failure or self._commit_log.unreadable
        if error is not None:
            return error.message
        return self.log.trouble or self.store_limit.trouble(self.log)

    @property
    def store_limit(self) -> StoreLimit:
        """The limit on the size of the files."""
        return self._commit_log.store_limit

    # --- opening ------------------------------------------------------------------------------------------------------

    @classmethod
    async def open(
        cls, log: EventLog, *, clock: Clock | None = None, facts: Mapping[str, Any] | None = None
    ) -> LocalBroker:
        """Start a broker on an open log. ``facts`` (JSON-able) are logged with the start of this host."""
        broker = cls(clock)
        broker._facts = facts or {}
        await recover(broker._commit_log, log, broker._facts, crashed=True)
        return broker

    async def renew(self, log: EventLog) -> None:
        """Restart from the file after a failed write. Messages in flight are delivered again, uncounted."""
        try:
            await recover(self._commit_log, log, self._facts, crashed=False)
        except BaseException as error:
            self._commit_log.abandon(error)
            raise
        results = self._commit_log.results
        for message in results.waited_for():
            if message not in self._commit_log.live_messages.entries:
                stored = await self._commit_log.read(message)
                if stored is None:
                    results.give_up(
                        message, Unavailable(f"Message {message} did not reach the disk and is lost: send it again.")
                    )
                else:
                    results.publish([stored])

    async def prune(self, before: float) -> int:
        """Delete history from before this time, in seconds since 1970; return the number of deleted rows."""
        try:
            return await self.log.prune(before, spared=self._commit_log.live_messages.dependents.needed)
        finally:
            self._commit_log.batches.forget_settled()

    # --- running ------------------------------------------------------------------------------------------------------

    def enqueue(
        self, new_messages: Sequence[NewMessage], room_timeout: float | None = 0.0
    ) -> CoroutineType[Any, Any, Sequence[Enqueued]]:
        self._commit_log.check()
        return accept(self._commit_log, new_messages, room_timeout)

    async def acquire(self, actor: ActorId, host: str, *, keeps_files: bool = False) -> LocalLease | None:
        self._commit_log.check()
        actor_queues = self._commit_log.live_messages.actor_queues(actor)
        if actor_queues.lease is not None:
            return None
        actor_queues.lease = LocalLease(self._commit_log, actor_queues)
        return actor_queues.lease

    async def homes(self, actor: ActorId | None = None) -> Mapping[ActorId, ActorHome]:
        return {}

    async def give_up_home(self, actor: ActorId, *, back: bool = False) -> bool:
        return False

    async def exists(self, actor: ActorId) -> bool:
        self._commit_log.check()
        actor_queues = self._commit_log.live_messages.actors.get(actor)
        return actor_queues is not None and (
            actor_queues.state is not None or any(queue_state.live for queue_state in actor_queues.queues.values())
        )

    async def states(self, name: str) -> Mapping[ActorId, bytes]:
        self._commit_log.check()
        actors = [one for one in self._commit_log.live_messages.actors.values() if one.name == name]
        return {one.actor: one.state for one in actors if one.state is not None}

    async def unsettled(self, name: str, queue: str) -> Mapping[ActorId, Sequence[Unsettled]]:
        self._commit_log.check()
        return await schedules.unsettled_of_all(self._commit_log, name, queue)

    def ready_actors(self, queues: Mapping[str, Collection[str] | None]) -> ReadyActors:
        return self._commit_log.live_messages.subscribe(queues)

    def wait(
        self, message: MessageId, timeout: float | None, waiter: ActorId | None = None
    ) -> CoroutineType[Any, Any, StoredResult]:
        return result_waits.wait(self._commit_log, message, timeout, waiter)

    async def unsettled_before(self, messages: Sequence[MessageId]) -> Sequence[Place]:
        self._commit_log.check()
        entries, slices = self._commit_log.live_messages.entries, Slices()
        found: dict[MessageId, Place] = {}
        pending = list(messages)
        while pending:
            entry = entries.get(pending.pop())
            if entry is not None and entry.id not in found:
                found[entry.id] = Place(entry.id, entry.actor, entry.queue)
                pending += entry.unmet or ()
                await slices.pause()
        return list(found.values())

    async def change(self, actor: ActorId, change: Change) -> int:
        self._commit_log.check()
        return await control.apply(self._commit_log, actor, change)

    async def redeliver(self, which: DeadLetters) -> int:
        return await control.redeliver(self._commit_log, which)

    async def status(self, actor: ActorId | None = None, *, totals: bool = True) -> Sequence[QueueStatus]:
        if totals:
            await self._commit_log.learn_counts()
        live_messages, clock = self._commit_log.live_messages, self.clock
        if actor is not None:
            return queue_status.statuses(live_messages, clock, actor)
        found: list[QueueStatus] = []
        slices = Slices()
        for actor_queues in list(live_messages.actors.values()):
            found += queue_status.statuses_of(live_messages, clock, actor_queues)
            await slices.pause()
        return found

    @property
    def settled(self) -> int:
        """How many messages were settled since the file was opened."""
        return self._commit_log.live_messages.settled

    @property
    def unfinished(self) -> int:
        """How many messages are not settled. The next calls of cron schedules do not count: there always are some."""
        return schedules.count_others(self._commit_log.live_messages)

    async def works_until(self, queues: Mapping[str, Collection[str]], moment: float) -> bool:
        """Whether actors have messages in flight, due now, or due by ``moment``.

        ``queues`` maps the registered names of the actors that count to their queues that count.
        """
        live_messages, slices = self._commit_log.live_messages, Slices()
        if not live_messages.entries:
            return False
        for actor_queues in list(live_messages.actors.values()):
            counting = queues.get(actor_queues.name, ())
            if any(
                name in counting
                and queue_state.works_until(moment)
                and (
                    bool(queue_state.running)
                    or live_messages.limits not in actor_queues.gates
                    or works_until(live_messages.limits, self.clock, queue_state, moment)
                )
                for name, queue_state in actor_queues.queues.items()
            ):
                return True
            await slices.pause()
        return False

    async def flushed(self) -> None:
        """Return when everything written so far is on disk. Raises Unavailable."""
        await self._commit_log.flushed()

    # --- closing ------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        if not self._commit_log.closed:
            self._commit_log.end()
            await in_long_thread(self.log.close)

    def close_now(self, facts: Mapping[str, Any] | None = None) -> None:
        """Close without an event loop, at the end of the process. Blocking.

        ``facts`` (JSON-able) are logged with the end of this host.
        """
        if not self._commit_log.closed:
            self._commit_log.end({"at_exit": True, "unfinished": self.unfinished, **(facts or {})})
            self.log.close()
