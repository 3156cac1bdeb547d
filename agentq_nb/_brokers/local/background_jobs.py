"""When a write fails: open the file again, as soon as that can be done, and go on from what is on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agentq_nb._brokers.local.broker import LocalBroker
from agentq_nb._core.threads import in_long_thread
from agentq_nb._store import EventLog


class Reopener:
    """Runs beside the local keeper for as long as its host lives."""

    def __init__(self, broker: LocalBroker, open_log: Callable[[], EventLog]) -> None:
        self._broker = broker
        self._open_log = open_log

    async def work(self) -> None:
        """Wait for a failure and mend it. Raises what opening the file raises: to be tried again then."""
        await self._broker.broken.wait()
        await in_long_thread(self._broker.log.close)
        log = await self._opened()
        try:
            await self._broker.renew(log)
        except BaseException:
            # Or the next try would find the file in use, by ourselves.
            await asyncio.shield(in_long_thread(log.close))
            raise

    async def _opened(self) -> EventLog:
        opening = asyncio.ensure_future(in_long_thread(self._open_log))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread goes on: nobody may be left to close what it opens.
            opening.add_done_callback(_close)
            raise


def _close(opening: asyncio.Future[EventLog]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


_EVERY = 3600.0
"""Seconds between two looks. Each rewrites the file when there is something to drop."""


class Retention:
    """Prunes what was settled longer ago than ``seconds``. Runs beside the local keeper for as long as its host lives."""

    def __init__(self, broker: LocalBroker, seconds: float) -> None:
        self._broker = broker
        self._seconds = seconds
        self._next = 0.0

    async def work(self) -> None:
        """Prune once: at the start, and then an hour after the last time. Raises what pruning raises."""
        clock = self._broker.clock
        if (left := self._next - clock.monotonic()) > 0:
            await clock.sleep(left)
        await self._broker.log.prune(clock.time() - self._seconds)
        self._next = clock.monotonic() + _EVERY
