"""Dropping old history by itself, for those who asked for it."""

from __future__ import annotations

import logging

from agentq_nb.errors import StoreError
from agentq_nb.mailboxes.local import LocalMailboxes

_EVERY = 3600.0
"""Seconds between two looks. Each rewrites the file when there is something to drop."""


class Retention:
    """Prunes what was settled longer ago than ``seconds``. Runs beside the local keeper for as long as its host lives."""

    def __init__(self, keeper: LocalMailboxes, seconds: float) -> None:
        self._keeper = keeper
        self._seconds = seconds

    async def run(self) -> None:
        """Prune at the start and then every hour, until cancelled. A failure is logged and tried again."""
        while True:
            try:
                await self._keeper.log.prune(self._keeper.clock.time() - self._seconds)
            except StoreError as error:
                logging.getLogger("agentq").warning("old history could not be dropped: %s", error)
            await self._keeper.clock.sleep(_EVERY)
