"""When a write fails: open the file again, as soon as that can be done, and go on from what is on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agentq_nb.errors import StoreError
from agentq_nb.mailboxes.local import LocalMailboxes
from agentq_nb.store import EventLog

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


class Mender:
    """Runs beside the local keeper for as long as its host lives."""

    def __init__(self, keeper: LocalMailboxes, open_log: Callable[[], EventLog]) -> None:
        self._keeper = keeper
        self._open_log = open_log
        self.trouble: str | None = None
        """Why nothing can be written just now, for people; None when all is well."""

    async def run(self) -> None:
        """Wait for failures and mend them, until cancelled."""
        while True:
            await self._keeper.broken.wait()
            self.trouble = None if self._keeper.failure is None else self._keeper.failure.message
            pause = _FIRST_PAUSE
            while not await self._reopened():
                await self._keeper.clock.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            self.trouble = None

    async def _reopened(self) -> bool:
        try:
            await asyncio.to_thread(self._keeper.log.close)
            log = await asyncio.to_thread(self._open_log)
            await self._keeper.renew(log)
        except (StoreError, OSError) as error:
            self.trouble = str(error)
            return False
        return True
