"""Starts of calls under limits, such as prompts in VMs: a call waits as a message does, though no queue delivers it.

The calls of an actor are served in the order they came, and take turns with messages by age. Only what was started
leaves rows: a call that waits ends with its caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from agentq_nb._actor.actor_context import CallStart
from agentq_nb._brokers.local import provider_pauses
from agentq_nb._brokers.local.commit import CommitLog
from agentq_nb._brokers.local.queues import ActorQueues, LiveMessage, QueueState, Waiter
from agentq_nb._core.ids import ActorId, MessageId, actor_name, mint_id
from agentq_nb._policies.rate_limit import RateLimit
from agentq_nb._store import Row
from agentq_nb.errors import RateLimited


class CallStarts:
    """See :class:`agentq_nb._actor.actor_context.CallLimits`."""

    def __init__(self, commit_log: CommitLog) -> None:
        self._commit_log = commit_log
        self._limits = commit_log.live_messages.limits
        self._turns: dict[QueueState, asyncio.Lock] = {}

    def bound_to(self, provider: str, model: str | None) -> Sequence[str]:
        declared = (limit.declared for limit in self._limits.limits.values())
        return [
            limit.name
            for limit in declared
            if isinstance(limit, RateLimit) and limit.name is not None and limit.binds(provider, model)
        ]

    async def start(self, actor: ActorId, call: str, bound: Sequence[str]) -> CallStart:
        self._refuse_if_paused(bound)
        if not self._limits.declares(actor_name(actor)):
            return _Unlimited()
        queue_state = self._line(actor).queue_state(call)
        entry = self._entry(queue_state)
        # Only the first in line is in the queue. The others keep their age, and a lock its order.
        async with self._turns.setdefault(queue_state, asyncio.Lock()):
            await self._until_taken(entry, bound)
        return _Start(self._commit_log, entry)

    def met(self, actor: ActorId, names: Sequence[str], error: RateLimited, since: float) -> None:
        clock = self._commit_log.clock
        known = [name for name in names if name in self._limits.limits]
        until, reason = error.ends_at(clock.time()), error.message
        self._append(provider_pauses.pause_named(self._limits, clock, actor, known, until, reason, since))

    def answered(self, names: Sequence[str], since: float) -> None:
        self._append(provider_pauses.answered(self._limits, self._commit_log.clock, names, since))

    def _line(self, actor: ActorId) -> ActorQueues:
        line = self._limits.calls.get(actor)
        if line is None:
            line = self._limits.calls[actor] = ActorQueues(actor, lease=_CALLERS)
            line.gate(self._limits, True)
        return line

    def _entry(self, queue_state: QueueState) -> LiveMessage:
        order, now = self._commit_log.live_messages.next_order(), self._commit_log.clock.time()
        entry = LiveMessage(mint_id(), queue_state.actor_queues.actor, queue_state.name, b"", 0, order, now, {})
        entry.queue_state = queue_state
        return entry

    async def _until_taken(self, entry: LiveMessage, bound: Sequence[str]) -> None:
        """Wait until the limits let the call start, as the first of its line. Raises RateLimited when a pause begins."""
        queue_state, line = entry.queue_state, entry.queue_state.actor_queues
        queues = (queue_state.name,)
        queue_state.add(entry)
        try:
            while True:
                self._commit_log.check_open()
                self._refuse_if_paused([*bound, *self._named(entry)])
                if line.take(queues, 1):
                    return
                waiter = Waiter(queues, asyncio.get_running_loop().create_future())
                line.waiters.append(waiter)
                try:
                    await waiter.woken
                finally:
                    line.waiters.remove(waiter)
        finally:
            if not entry.running:
                queue_state.discard(entry)

    def _named(self, entry: LiveMessage) -> list[str]:
        return [limit.name for limit in self._limits.of(entry.queue_state).limits if limit.declared.name is not None]

    def _refuse_if_paused(self, names: Sequence[str]) -> None:
        """Raise RateLimited while one of these limits is paused. Once its end was only guessed, calls are let through."""
        now = self._commit_log.clock.time()
        for name in names:
            group = self._limits.groups.get(name)
            if group is not None and group.pause is not None and now < group.pause.until:
                raise RateLimited(
                    f"The agent was not asked, since limit '{name}' is paused: {group.pause.reason}",
                    until=group.pause.until,
                    limit=name,
                )

    def _append(self, rows: Sequence[Row]) -> None:
        if rows and self._commit_log.failure is None and not self._commit_log.closed:
            self._commit_log.append(rows)


class _Callers:
    """Those who call hold a line as a lease holds an actor's queues. They are not asked to cancel or to end."""

    cancelling: Callable[[MessageId], None] | None = None

    def lose(self) -> None:
        """Do nothing: those who wait continue when the file is open again."""


_CALLERS = _Callers()


class _Start:
    """A call that may start. Until it has started, it counts in windows as one that starts just now."""

    def __init__(self, commit_log: CommitLog, entry: LiveMessage) -> None:
        self._commit_log = commit_log
        self._limits = commit_log.live_messages.limits
        self._entry = entry
        self._begun = False

    async def begin(self) -> None:
        rows = self._limits.start_rows([self._entry])
        while rows:
            self._commit_log.check()
            await self._commit_log.write(rows)
            rows = self._limits.late_rows([self._entry])
        self._begun = True
        self._limits.started([self._entry])

    def leave(self) -> None:
        entry = self._entry
        if entry.queue_state.running.pop(entry.id, None) is None:
            return
        entry.running = False
        if self._begun:
            self._limits.ended(entry)
        else:
            self._limits.put_back(entry)


class _Unlimited:
    """A call of an actor whose calls have no limits."""

    async def begin(self) -> None:
        """Begin at once."""

    def leave(self) -> None:
        """Leave no place."""
