"""The limits of a host's queues, kept in the database for all hosts: declaring, showing and changing them."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from agentq_nb._actor.actor_context import CallLimits
from agentq_nb._brokers.postgres import limit_declarations, limit_status
from agentq_nb._brokers.postgres.call_starts import CallStarts
from agentq_nb._brokers.postgres.connection import STATUS_PATIENCE, Database, Transaction
from agentq_nb._brokers.postgres.control import resume
from agentq_nb._brokers.postgres.limit_line import Line
from agentq_nb._brokers.postgres.limit_register import LimitRegister
from agentq_nb._brokers.postgres.limit_states import lock_limits
from agentq_nb._brokers.postgres.limited_work import end_work, note_thread, thread_of
from agentq_nb._brokers.postgres.notifications import ANY_WORK, Notifications
from agentq_nb._brokers.postgres.provider_pause import groups_named, write
from agentq_nb._brokers.statuses import LimitStatus
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import MessageId
from agentq_nb._policies.limits import Limit, changed
from agentq_nb.errors import LeaseLost, LimitConflict, LimitUnknown, Unavailable, ValidationFailed

T = TypeVar("T")

_REFRESH = 0.2
"""Seconds after which what is shown of limits follows what has started."""


class PostgresLimits:
    """See :class:`agentq_nb._brokers.base.BrokerLimits`."""

    def __init__(self, database: Database, notifications: Notifications, clock: Clock, session: str) -> None:
        self.register = LimitRegister()
        self.line = Line()
        self.resumed_at = -math.inf
        self.sleeping: set[str] = set()
        """The limits that sleeping actors wait for."""
        self._database = database
        self._notifications = notifications
        self._clock = clock
        self._session = session
        self._known: Sequence[LimitStatus] = ()
        self._looks = 0
        self._known_by = 0
        """The look that found what is known. Of those that were begun before it none may be shown after it."""
        self._refreshing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.calls: CallLimits = CallStarts(self, database, notifications, clock, session)
        notifications.handlers["limit"] = self._heard
        notifications.handlers["resumed"] = self._resumed

    # --- declarations -------------------------------------------------------------------------------------------------

    async def declare(self, name: str, limits: Mapping[str, Sequence[Limit]]) -> None:
        declared = {queue: tuple(some) for queue, some in limits.items() if some}
        if not declared and name not in self.register.declared:
            return
        await self._run(lambda tx: limit_declarations.declare(tx, self._session, name, declared))
        self.register.declare(name, declared)
        await self.look()
        self._notifications.ring_all()

    async def declare_again(self, tx: Transaction) -> None:
        """Declare what this host has declared, in a new session.

        What another host has declared differently meanwhile is left as it is: this host goes by that.
        """
        for name, declared in self.register.declared.items():
            try:
                await limit_declarations.declare(tx, self._session, name, declared)
            except LimitConflict as conflict:
                logging.getLogger("agentq").warning("%s", conflict.message)

    # --- looking ------------------------------------------------------------------------------------------------------

    def status(self) -> Sequence[LimitStatus]:
        self.refresh_soon()
        return self._known

    async def look(self) -> Sequence[LimitStatus]:
        self._looks += 1
        look = self._looks
        found = await self._database.run(
            lambda tx: limit_status.limit_statuses(tx, self._session), repeatable=True, patience=STATUS_PATIENCE
        )
        if look > self._known_by:
            self._known, self._known_by = found, look
        return found

    def refresh_soon(self) -> None:
        """Bring what :meth:`status` returns up to date in a moment."""
        if self._refreshing is not None or self._database.closed:
            return
        with suppress(RuntimeError):  # no loop runs in this thread just now
            asyncio.get_running_loop()
            self._refreshing = self.spawn(self._refresh())

    async def _refresh(self) -> None:
        await asyncio.sleep(_REFRESH)
        self._refreshing = None
        with suppress(Unavailable):
            await self.look()

    def _heard(self, name: str) -> None:
        self.line.hear(name)
        self._notifications.ring(("limit", name))
        if name in self.sleeping:
            self._notifications.ring(ANY_WORK)
        if self.register.declared:
            self.refresh_soon()

    def _resumed(self) -> None:
        self.resumed_at = self._clock.monotonic()

    # --- changes ------------------------------------------------------------------------------------------------------

    async def change(self, name: str, count: int | None, per: float | None) -> LimitStatus:
        limit = await self._find(name)
        count = limit.count if count is None else count
        try:
            now = changed(limit.declared, count, limit.per if per is None else per)
        except ValueError as error:
            raise ValidationFailed(f"Limit '{name}' stays {limit.declared}: {error}") from None
        await self._run(lambda tx: limit_declarations.change(tx, name, limit.declared, now))
        return await self._find(name)

    async def reset(self, name: str) -> LimitStatus:
        await self._find(name)
        await self._run(lambda tx: limit_declarations.undo_change(tx, [name]))
        return await self._find(name)

    async def resume(self, name: str) -> bool:
        limit = await self._find(name)
        if limit.declared.name is None:
            actor, _, queue = name.partition(" ")
            return await self._database.run(lambda tx: resume(tx, actor, queue, by_hand=False)) > 0
        return await self._database.run(lambda tx: _resume(tx, name))

    async def _find(self, name: str) -> LimitStatus:
        known = {limit.name: limit for limit in await self.look()}
        if name not in known:
            raise LimitUnknown(name, sorted(known))
        return known[name]

    # --- work that has places -----------------------------------------------------------------------------------------

    def keep_places(self, message: MessageId, noting: asyncio.Task[None]) -> Callable[[], None]:
        """Keep the places of a message for its thread until the returned function is called.

        ``noting`` does so under the actor's lease; the thread has its places without that too.
        """

        async def note() -> None:
            try:
                await noting
            except (LeaseLost, Unavailable):
                await self._run(lambda tx: note_thread(tx, message, self._session))

        noted = self.spawn(note())
        return lambda: self.end_work(thread_of(message), noted)

    def end_work(self, work: str, begun: asyncio.Task[None] | None = None) -> None:
        """Give back the places of a call, or of a thread that was noted by ``begun``."""
        self.spawn(self._end_work(work, begun))

    async def _end_work(self, work: str, begun: asyncio.Task[None] | None) -> None:
        if begun is not None:
            await asyncio.wait([begun])
        while not self._database.closed:
            with suppress(Unavailable):
                await self._run(lambda tx: end_work(tx, work))
                return
            await self._clock.sleep(1.0)

    def spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """Run something until it is over, or the broker is closed."""

        async def run() -> None:
            with suppress(Unavailable):
                await work

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """End what runs in the background."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        return await self._database.run(work, repeatable=True)


async def _resume(tx: Transaction, name: str) -> bool:
    await lock_limits(tx, [name])
    group, row = (await groups_named(tx, [name])).get(name), await tx.row("select agentq.now()")
    now = row[0] if row else 0.0
    if group is None or group.paused is None or group.paused.pause.is_over(now):
        return False
    await write(tx, group, None, now)
    tx.announce(("resumed",))
    return True
