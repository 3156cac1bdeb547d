"""Starts of calls under limits, such as prompts in VMs: a call waits as a message does, though no queue delivers it.

The calls of an actor are served in the order they came, and take turns with messages of all hosts by age. A call that waits
ends with its caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Protocol

from agentq_nb._actor.actor_context import CallStart
from agentq_nb._brokers.postgres import limit_line
from agentq_nb._brokers.postgres.connection import Database, Transaction
from agentq_nb._brokers.postgres.limit_line import PATIENCE, Wait, read_waits, write_waits
from agentq_nb._brokers.postgres.limit_register import LimitRegister, QueueLimit
from agentq_nb._brokers.postgres.limit_starts import (
    LEEWAY,
    LONG_RESERVE,
    RESERVE,
    has_windows,
    move_starts,
    store_starts,
)
from agentq_nb._brokers.postgres.limit_states import LimitState, lock_limits, read_states
from agentq_nb._brokers.postgres.limited_work import begin_work
from agentq_nb._brokers.postgres.notifications import Notifications, by_this_clock
from agentq_nb._brokers.postgres.provider_pause import Group, groups_named, next_pause, write
from agentq_nb._brokers.statuses import LimitStatus
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId, mint_id
from agentq_nb._policies.limits import ConcurrencyLimit
from agentq_nb._policies.rate_limit import RateLimit
from agentq_nb.errors import RateLimited, Unavailable


class Owner(Protocol):
    """What calls need of the limits that they start under."""

    register: LimitRegister

    def status(self) -> Sequence[LimitStatus]: ...
    def end_work(self, work: str) -> None: ...
    def spawn(self, work: Awaitable[None]) -> asyncio.Task[None]: ...


class CallStarts:
    """See :class:`agentq_nb._actor.actor_context.CallLimits`."""

    def __init__(
        self, owner: Owner, database: Database, notifications: Notifications, clock: Clock, session: str
    ) -> None:
        self.owner = owner
        self.database = database
        self.notifications = notifications
        self.clock = clock
        self._session = session
        self._turns: dict[tuple[ActorId, str], asyncio.Lock] = {}

    def bound_to(self, provider: str, model: str | None) -> Sequence[str]:
        declared = (limit.declared for limit in self.owner.status())
        return [
            limit.name
            for limit in declared
            if isinstance(limit, RateLimit) and limit.name is not None and limit.binds(provider, model)
        ]

    async def start(self, actor: ActorId, call: str, bound: Sequence[str]) -> CallStart:
        limits = self.owner.register.limits(actor).get(call, ())
        if not limits:
            if bound:
                await self.database.run(lambda tx: _refuse_if_paused(tx, bound), repeatable=True)
            return _Unlimited()
        work, place = mint_id(), await self.database.run(_next_place, repeatable=True)
        # Only the first in line is in the database. The others keep their age, and a lock its order.
        async with self._turns.setdefault((actor, call), asyncio.Lock()):
            wait = Wait(actor, call, place, [], None, False)
            token = await self._until_taken(work, wait, limits, bound)
        return _Start(self, work, token, limits)

    async def _until_taken(self, work: str, wait: Wait, limits: Sequence[QueueLimit], bound: Sequence[str]) -> int:
        """Wait until the limits let a call start; return the token of its start. Raises RateLimited when a pause begins."""
        names = [limit.name for limit in limits]
        taking: asyncio.Future[tuple[int | None, float, float | None]] | None = None
        keys = [*(("limit", name) for name in {*names, *bound}), ("turn", wait.actor)]
        with self.notifications.watch(*keys) as watch:
            try:
                while True:
                    watch.clear()
                    before = self.clock.time()
                    taking = asyncio.ensure_future(
                        self.database.run(lambda tx: _take(tx, work, wait, limits, bound, self._session))
                    )
                    token, now, moment = await asyncio.shield(taking)
                    if token is not None:
                        return token
                    await watch.wait(None, by_this_clock(moment, now, before))
                    self.database.check()
            except BaseException:
                self.owner.spawn(self._undo(taking, work, wait))
                raise

    async def _undo(
        self, taking: asyncio.Future[tuple[int | None, float, float | None]] | None, work: str, wait: Wait
    ) -> None:
        """Leave the line, and the place that was taken meanwhile."""
        if taking is not None:
            await asyncio.wait([taking])
        self.owner.end_work(work)
        await self.database.run(lambda tx: limit_line.leave_line(tx, wait.actor, [wait.queue]), repeatable=True)

    def met(self, actor: ActorId, names: Sequence[str], error: RateLimited, since: float) -> None:
        known = {limit.name for limit in self.owner.status()}
        met = sorted(name for name in names if name in known)
        if met:
            until, ago = error.ends_at(self.clock.time()), self.clock.monotonic() - since
            self.owner.spawn(self.database.run(lambda tx: _pause(tx, met, until, error.message, ago)))

    def answered(self, names: Sequence[str], since: float) -> None:
        if names:
            ago = self.clock.monotonic() - since
            self.owner.spawn(self.database.run(lambda tx: _answered(tx, sorted(names), ago), repeatable=True))


async def _next_place(tx: Transaction) -> int:
    row = await tx.row("select nextval('agentq.places')")
    assert row is not None  # it has no condition
    return row[0]


# --- starting ---------------------------------------------------------------------------------------------------------


async def _take(
    tx: Transaction, work: str, wait: Wait, limits: Sequence[QueueLimit], bound: Sequence[str], session: str
) -> tuple[int | None, float, float | None]:
    """Take the places of a call; return the token of its start, the time, and when to look again if there was no room."""
    await lock_limits(tx, sorted(limit.name for limit in limits))
    named = [limit.name for limit in limits if limit.declared.name is not None]
    now = await _refuse_if_paused(tx, [*bound, *named])
    states = await read_states(tx, limits)
    waits = await read_waits(tx, wait.actor, list(states))
    full = {name: state.next_start(now) for name, state in states.items() if state.room(now) <= 0}
    older = [one for one in waits if one.place < wait.place and _could_start(one, states, now)]
    for name, state in states.items():
        if name not in full and sum(name in one.limits for one in older) >= state.room(now):
            full[name] = now + PATIENCE
    if full:
        await write_waits(tx, session, [wait._replace(limits=sorted(full))])
        await limit_line.call(tx, [one for one in older if one.called is None])
        return None, now, min((moment for moment in full.values() if moment is not None), default=None)
    places = [limit.name for limit in limits if isinstance(limit.declared, ConcurrencyLimit)]
    token = await begin_work(tx, work, session, places)
    if token is None:
        raise Unavailable("This host was taken for dead and begins again. Try again.")
    await store_starts(tx, states, [(token, limits)], None)
    await limit_line.leave_line(tx, wait.actor, [wait.queue])
    return token, now, None


def _could_start(wait: Wait, states: dict[str, LimitState], now: float) -> bool:
    return not wait.is_over(now) and all(name in states and states[name].room(now) > 0 for name in wait.limits)


async def _refuse_if_paused(tx: Transaction, names: Sequence[str]) -> float:
    """Raise RateLimited while one of these limits is paused; return the time. Once its end was only guessed, calls may start."""
    row, groups = await tx.row("select agentq.now()"), await groups_named(tx, names)
    now = row[0] if row else 0.0
    for name, group in groups.items():
        if group.paused is not None and now < group.paused.pause.until:
            raise RateLimited(
                f"The agent was not asked, since limit '{name}' is paused: {group.paused.pause.reason}",
                until=group.paused.pause.until,
                limit=name,
            )
    return now


class _Start:
    """A call that may start. Until it has started, it counts in windows as one that starts just now."""

    def __init__(self, calls: CallStarts, work: str, token: int, limits: Sequence[QueueLimit]) -> None:
        self._calls = calls
        self._work = work
        self._token = token
        self._limits = limits

    async def begin(self) -> None:
        calls, reserve = self._calls, RESERVE
        while has_windows(self._limits):
            before = calls.clock.monotonic()
            moved = await calls.database.run(lambda tx, reserve=reserve: self._count(tx, reserve), repeatable=True)
            if moved and calls.clock.monotonic() <= before + reserve - LEEWAY:
                return
            if not moved:
                await calls.clock.sleep(RESERVE)
            reserve = LONG_RESERVE

    async def _count(self, tx: Transaction, reserve: float) -> bool:
        await lock_limits(tx, sorted(limit.name for limit in self._limits))
        return await move_starts(tx, [(self._token, self._limits)], reserve)

    def leave(self) -> None:
        self._calls.owner.end_work(self._work)


class _Unlimited:
    """A call of an actor whose calls have no limits."""

    async def begin(self) -> None:
        """Begin at once."""

    def leave(self) -> None:
        """Leave no place."""


# --- providers' limits ------------------------------------------------------------------------------------------------


async def _pause(tx: Transaction, names: Sequence[str], until: float | None, reason: str, ago: float) -> None:
    """Pause the queues of these limits, because a call that began ``ago`` seconds ago met one."""
    for group, now in await _lock(tx, names):
        following = next_pause(group.paused, now, until, reason, now - ago)
        if following is not None and (group.paused is None or following is not group.paused.pause):
            await write(tx, group, following, now)


async def _answered(tx: Transaction, names: Sequence[str], ago: float) -> None:
    """End the pauses that the answer to a later call shows to be over."""
    if not await groups_named(tx, names):
        return
    for group, now in await _lock(tx, names):
        paused = group.paused
        if paused is not None and now - ago >= paused.began and now >= paused.pause.until:
            await write(tx, group, None, now)


async def _lock(tx: Transaction, names: Sequence[str]) -> list[tuple[Group, float]]:
    await lock_limits(tx, names)
    row, groups = await tx.row("select agentq.now()"), await groups_named(tx, names)
    return [(groups.get(name) or Group(name, None, None), row[0] if row else 0.0) for name in names]
