"""When a write fails: open the file again, as soon as that can be done, and go on from what is on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agentq_nb.mailboxes.local import LocalMailboxes
from agentq_nb.store import EventLog
from agentq_nb.threads import in_long_thread


class Mender:
    """Runs beside the local keeper for as long as its host lives."""

    def __init__(self, keeper: LocalMailboxes, open_log: Callable[[], EventLog]) -> None:
        self._keeper = keeper
        self._open_log = open_log

    async def work(self) -> None:
        """Wait for a failure and mend it. Raises what opening the file raises: to be tried again then."""
        await self._keeper.broken.wait()
        await in_long_thread(self._keeper.log.close)
        log = await self._opened()
        try:
            await self._keeper.renew(log)
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
