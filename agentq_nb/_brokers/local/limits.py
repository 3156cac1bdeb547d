"""The gate of limited queues: a message starts only when its limits have room and no provider's limit pauses its queue.

A queue that is refused waits. When there is room again, as many queues are called as there is room for, those with the
oldest messages first, over all actors; and no message overtakes an older one that could start and is asked for.

A start counts from when it is handed to the handler; its stored time is no earlier, and durable before, also for crashes.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from agentq_nb._brokers.local.limit_register import LimitRegister
from agentq_nb._brokers.local.limit_rows import Change, LimitFacts, Start, StoredStarts
from agentq_nb._brokers.local.live_limits import GatedQueue, LiveLimit, PauseGroup, Taken, ThreadAtWork
from agentq_nb._brokers.local.queues import ActorQueues, LiveMessage, QueueState, wanted
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId, MessageId, mint_id
from agentq_nb._policies.limits import Limit
from agentq_nb._store import Row

RESERVE = 0.05
"""Seconds that a start may take to become durable. A stored time is later than now by as much."""
_LEEWAY = 0.01
"""Seconds between handing a message out and the handler's first line, at most a hundredth of the window."""
_LOOK_AGAIN = 1.0
"""Seconds after which queues are called again that could start but have not."""
_WAKING = 5.0
"""Seconds for which a place is kept for a sleeping actor that is being woken."""


class Limits(LimitRegister):
    """The limits and providers' pauses of one broker: the ``gate`` of the actors that have any."""

    def __init__(
        self, clock: Clock, write: Callable[[Sequence[Row]], None], announce: Callable[[QueueState], None]
    ) -> None:
        super().__init__(clock, write)
        self._announce = announce
        self._taken: dict[MessageId, Taken] = {}
        self._threads: dict[MessageId, ThreadAtWork] = {}
        """By message: threads that go on when their attempt has ended."""

    # --- declarations -------------------------------------------------------------------------------------------------

    def fill(self, actors: dict[ActorId, ActorQueues], facts: LimitFacts) -> None:
        """Load pauses and changes from what the log held. What was in flight before counts as started now."""
        self.stop()
        self._actors, self.changes = actors, facts.changes
        now = self._clock.monotonic()
        for taken in self._taken.values():
            self._count_start(taken, now)
        at_work = self.calls_at_work()
        self._taken = {message: taken for message, taken in self._taken.items() if message in at_work}
        for limit in self.limits.values():
            if limit.places is not None:
                limit.places.clear()
        for message, taken in self._taken.items():
            taken.occupy(message)
        for thread in self._threads.values():
            thread.take_places()
        self.groups.clear()
        for name, pause in facts.pauses.items():
            if not pause.is_over(self._clock.time()):
                self._paused_actors.add(name.rpartition(" ")[0])
                group = self.group(name)
                group.pause = pause
                self.expect_end(group)
        for name, history in facts.histories.items():
            self.group(name).history = history
        self._begin_again()

    def declare(self, name: str, limits: Mapping[str, Sequence[Limit]], stored: StoredStarts) -> None:
        super().declare(name, limits, stored)
        self._begin_again()

    def change(self, limit: LiveLimit, change: Change | None, stored: StoredStarts) -> None:
        super().change(limit, change, stored)
        self.call(limit)

    def _begin_again(self) -> None:
        """Gate the actors that have limits now, and let everything that waits ask again."""
        self._queues.clear()
        for limit in self.limits.values():
            limit.waiting.clear()
        for group in self.groups.values():
            group.waiting.clear()
        for actor_queues in (*self._actors.values(), *self.calls.values()):
            if self.gates(actor_queues):
                actor_queues.gate(self, True)
            if self in actor_queues.gates:
                for queue_state in actor_queues.queues.values():
                    self._announce(queue_state)

    def watch(self, actor_queues: ActorQueues) -> None:
        """Gate an actor that a provider's limit may pause."""
        self._paused_actors.add(actor_queues.actor)
        actor_queues.gate(self, True)

    # --- the gate -----------------------------------------------------------------------------------------------------

    def permits(self, entry: LiveMessage) -> bool:
        """Whether the message may start now; a refused receiver is woken when that may have changed."""
        gated = self.of(entry.queue_state)
        if self.is_open(gated) and not self._overtakes(gated, entry.order):
            return True
        self._wait(gated)
        return False

    def shuts(self, queue_state: QueueState) -> bool:
        """Whether limits and pauses let no message of this queue start now."""
        return not self.is_open(self.of(queue_state))

    def hints(self, queue_state: QueueState) -> bool:
        """Whether a sleeping actor may be woken for this queue now; otherwise that is done when it may."""
        gated = self.of(queue_state)
        if self.is_open(gated):
            gated.hinted = self._clock.monotonic()
            return True
        self._wait(gated)
        return False

    def is_open(self, gated: GatedQueue) -> bool:
        """Whether limits and pauses let a message of this queue start now."""
        for group in gated.groups:
            if group.pause is not None and not group.is_open(self._clock.time()):
                return False
        now = self._clock.monotonic()
        return all(limit.room(now) > 0 for limit in gated.limits)

    def taken_at(self, entry: LiveMessage) -> float:
        """Return when the message was taken, on the monotonic clock; infinitely early if its queue was not gated then."""
        taken = self._taken.get(entry.id)
        return -math.inf if taken is None else taken.at

    def next_start(self, limit: LiveLimit) -> float | None:
        """Return when the limit lets the next message start, in seconds since 1970; None if that cannot be known."""
        now = self._clock.monotonic()
        if limit.window is not None and (upcoming := limit.window.next_start(now)) < math.inf:
            return self._clock.time() + upcoming - now
        return self._clock.time() if limit.room(now) > 0 else None

    def _overtakes(self, gated: GatedQueue, order: int) -> bool:
        """Whether older messages, which could start now, need all the room there is."""
        now, moment = self._clock.monotonic(), self._clock.time()
        for limit in gated.limits:
            if len(limit.waiting) > (gated in limit.waiting) and self._older(limit, gated, order) >= limit.room(now):
                return True
        return any(group.is_trying(moment) and self._older(group, gated, order) for group in gated.groups)

    def _older(self, which: LiveLimit | PauseGroup, gated: GatedQueue, order: int) -> int:
        older = 0
        for other in which.waiting:
            head = other.queue_state.head()
            if other is not gated and head is not None and head.order < order and self._asks(other):
                older += self.is_open(other)
        return older

    def _asks(self, gated: GatedQueue) -> bool:
        """Whether a receiver waits for messages of this queue, or its actor is about to be woken."""
        actor_queues = gated.queue_state.actor_queues
        if actor_queues.lease is None:
            return gated.hinted is None or self._clock.monotonic() < gated.hinted + _WAKING
        return any(wanted(gated.queue_state.name, waiter.queues) for waiter in actor_queues.waiters)

    def taken(self, entry: LiveMessage) -> None:
        """Count a message that is handed out."""
        gated = self.of(entry.queue_state)
        taken = self._taken[entry.id] = Taken(gated.limits, self._clock.monotonic())
        gated.hinted = None
        for limit in gated.limits:
            limit.waiting.pop(gated, None)
            if limit.window is not None:
                limit.window.pending += 1
                taken.pending = True
            elif limit.places is not None:
                limit.places.take(entry.id)
        for group in gated.groups:
            group.waiting.pop(gated, None)
            if group.is_trying(self._clock.time()):
                group.probe = entry.id

    def ended(self, entry: LiveMessage) -> None:
        """Count a message as no longer at work. If its start was being written, it counts as started."""
        taken = self._taken.pop(entry.id, None)
        if taken is not None:
            self._count_start(taken, self._clock.monotonic())
            self._leave(entry, taken)

    def put_back(self, entry: LiveMessage) -> None:
        """Put a message back that was taken, but never started."""
        taken = self._taken.pop(entry.id, None)
        if taken is not None:
            for limit in taken.limits:
                if taken.pending and limit.window is not None:
                    limit.window.pending -= 1
            self._leave(entry, taken)

    def _leave(self, entry: LiveMessage, taken: Taken) -> None:
        for group in self.of(entry.queue_state).groups:
            if group.probe == entry.id:
                group.probe = None
                self.call(group)
        for limit in taken.limits:
            if limit.places is not None:
                limit.places.leave(entry.id)
            if limit.waiting:
                self.call(limit)

    def occupy(self, message: MessageId, queue_state: QueueState | None) -> Callable[[], None]:
        """Keep the places that a message at work has, also when its attempt ends, until the returned function is called.

        A thread that cannot be stopped goes on when its attempt has failed, or a write has. ``queue_state`` is the
        message's queue, if it is live: after a failed write the message itself is not at work any more.
        """
        if message not in self._threads:
            taken = self._taken.get(message)
            limits: Sequence[LiveLimit] = () if taken is None else taken.limits
            if taken is None and queue_state is not None and self.gates(queue_state.actor_queues):
                limits = self.of(queue_state).limits
            self._threads[message] = ThreadAtWork(message, limits)
            self._threads[message].take_places()

        def leave() -> None:
            if (thread := self._threads.pop(message, None)) is not None:
                for limit in thread.leave_places():
                    self.call(limit)

        return leave

    # --- starts -------------------------------------------------------------------------------------------------------

    def start_rows(self, entries: Iterable[LiveMessage]) -> list[Row]:
        """Return rows of starts that must be durable before these messages are handed out; none without windows."""
        return [self._store(entry, taken, RESERVE) for entry, taken in self._pending(entries)]

    def late_rows(self, entries: Iterable[LiveMessage]) -> list[Row]:
        """Return the rows again for starts that took too long to become durable, with later times."""
        now = self._clock.time()
        late = [
            (entry, taken)
            for entry, taken in self._pending(entries)
            if taken.start is not None and now > taken.start.at - _LEEWAY
        ]
        return [self._store(entry, taken, 10 * RESERVE) for entry, taken in late]

    def started(self, entries: Iterable[LiveMessage]) -> None:
        """Count the starts of these messages, which are handed to their handlers now."""
        now = self._clock.monotonic()
        for _, taken in self._pending(entries):
            self._count_start(taken, now)
            for limit in taken.limits:
                if limit.waiting:
                    self.call(limit)

    def _pending(self, entries: Iterable[LiveMessage]) -> list[tuple[LiveMessage, Taken]]:
        found = [(entry, self._taken.get(entry.id)) for entry in entries if entry.running]
        return [(entry, taken) for entry, taken in found if taken is not None and taken.pending]

    def _store(self, entry: LiveMessage, taken: Taken, reserve: float) -> Row:
        at = self._clock.time() + reserve
        named = [limit.declared.name for limit in taken.limits if limit.window is not None and limit.declared.name]
        longest = max(limit.per or 0.0 for limit in taken.limits)
        identity = mint_id() if taken.start is None else taken.start.identity
        taken.start = Start(identity, entry.actor, entry.queue, named, at, at + longest)
        return taken.start.row()

    def _count_start(self, taken: Taken, now: float) -> None:
        """Count a start that was pending. One that was never written was none: the message expired, for one."""
        if not taken.pending:
            return
        taken.pending = False
        for limit in taken.limits:
            if limit.window is None:
                continue
            limit.window.pending -= 1
            if taken.start is not None:
                limit.window.start(now + min(_LEEWAY, limit.window.per / 100))

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _wait(self, gated: GatedQueue) -> None:
        gated.hinted = None
        overtaken = self.is_open(gated)
        for limit in gated.limits:
            limit.waiting[gated] = None
            self._expect_room(limit, overtaken)
        for group in gated.groups:
            if group.pause is not None:
                group.waiting[gated] = None

    def _expect_room(self, limit: LiveLimit, called: bool) -> None:
        """Call waiting queues when the limit has room again.

        Where others were ``called`` first, call again soon: they may not come.
        """
        now = self._clock.monotonic()
        seconds = _LOOK_AGAIN if called else math.inf
        if limit.window is not None and limit.waiting and not limit.room(now):
            seconds = limit.window.next_start(now) - now
        if now + seconds < limit.rings_at:
            limit.stop()
            limit.rings_at = now + seconds
            limit.timer = self._clock.call_later(seconds, lambda: self._ring(limit))

    def expect_end(self, group: PauseGroup) -> None:
        group.stop()
        if group.pause is not None:
            group.timer = self._clock.call_at(group.pause.until, lambda: self._ring(group))

    def _ring(self, which: LiveLimit | PauseGroup) -> None:
        which.stop()
        self.call(which)

    def call(self, which: LiveLimit | PauseGroup) -> None:
        """Call the waiting queues with the oldest messages, as many as there is room for."""
        able: list[GatedQueue] = []
        for gated in list(which.waiting):
            if gated.queue_state.head() is None or not self._asks(gated):
                del which.waiting[gated]  # it asks again by itself
            elif self.is_open(gated):
                able.append(gated)
        if isinstance(which, LiveLimit):
            room = which.room(self._clock.monotonic())
        else:
            room = 1 if which.is_trying(self._clock.time()) else len(able)
        for gated in heapq.nsmallest(room, able, key=_age):
            self._announce(gated.queue_state)
            if gated.queue_state.actor_queues.lease is None and gated.hinted is None:
                gated.hinted = self._clock.monotonic()
        if isinstance(which, LiveLimit):
            self._expect_room(which, bool(able))

    def call_callers(self) -> None:
        """Let calls that wait for a start look again: what is paused refuses them."""
        for line in self.calls.values():
            for queue_state in line.queues.values():
                self._announce(queue_state)

    def stop(self) -> None:
        """Cancel all timers."""
        for one in (*self.limits.values(), *self.groups.values()):
            one.stop()


def _age(gated: GatedQueue) -> float:
    head = gated.queue_state.head()
    return math.inf if head is None else head.order
