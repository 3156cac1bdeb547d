"""Background jobs of the local broker: reopen the file after a failed write, and prune old messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from agentq_nb._brokers.local.broker import LocalBroker
from agentq_nb._core.clock import Clock
from agentq_nb._core.threads import in_long_thread
from agentq_nb._store import EventLog


class Reopener:
    """Reopens the file after failed writes. Runs in the background for as long as the host does."""

    def __init__(self, broker: LocalBroker, open_log: Callable[[], EventLog]) -> None:
        self._broker = broker
        self._open_log = open_log

    async def work(self) -> None:
        """Wait for a failure and reopen the file. Raises what opening raises; call it again then."""
        await self._broker.broken.wait()
        await in_long_thread(self._broker.log.close)
        log = await self._opened()
        try:
            await self._broker.renew(log)
        except BaseException:
            # Otherwise the next try would find the file in use by this process.
            await asyncio.shield(in_long_thread(log.close))
            raise

    async def _opened(self) -> EventLog:
        opening = asyncio.ensure_future(in_long_thread(self._open_log))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread goes on, and the log it opens must still be closed.
            opening.add_done_callback(_close)
            raise


def _close(opening: asyncio.Future[EventLog]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


_EVERY = 3600.0
"""Seconds between prunings. Each rewrites the file when there are rows to drop."""


class Prunable(Protocol):
    """A broker whose history can be pruned."""

    clock: Clock

    async def prune(self, before: float) -> int:
        """Delete history from before this time, in seconds since 1970; return the number of deleted rows."""
        ...


class Retention:
    """Prunes messages settled longer ago than ``seconds``. Runs in the background for as long as the host does."""

    def __init__(self, broker: Prunable, seconds: float) -> None:
        self._broker = broker
        self._seconds = seconds
        self._next = 0.0

    async def work(self) -> None:
        """Prune once: at the start, and then an hour after the last time. Raises what pruning raises."""
        clock = self._broker.clock
        if (left := self._next - clock.monotonic()) > 0:
            await clock.sleep(left)
        await self._broker.prune(clock.time() - self._seconds)
        self._next = clock.monotonic() + _EVERY
