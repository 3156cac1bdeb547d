"""Dropping old history by itself, for those who asked for it."""

from __future__ import annotations

from agentq_nb.mailboxes.local import LocalMailboxes

_EVERY = 3600.0
"""Seconds between two looks. Each rewrites the file when there is something to drop."""


class Retention:
    """Prunes what was settled longer ago than ``seconds``. Runs beside the local keeper for as long as its host lives."""

    def __init__(self, keeper: LocalMailboxes, seconds: float) -> None:
        self._keeper = keeper
        self._seconds = seconds
        self._next = 0.0

    async def work(self) -> None:
        """Prune once: at the start, and then an hour after the last time. Raises what pruning raises."""
        clock = self._keeper.clock
        if (left := self._next - clock.monotonic()) > 0:
            await clock.sleep(left)
        await self._keeper.log.prune(clock.time() - self._seconds)
        self._next = clock.monotonic() + _EVERY
