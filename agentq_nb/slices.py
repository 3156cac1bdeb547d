"""Long work in the event loop, in slices: others get their turn in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

SLICE = 0.005
"""Seconds of work after which the event loop gets its turn."""


class Slices:
    """Work that began now. ``await pause()`` after each piece of it costs next to nothing while the slice lasts."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._until = now() + SLICE

    async def pause(self) -> None:
        """Let the loop turn if this slice is over."""
        if self._now() >= self._until:
            await asyncio.sleep(0)
            self._until = self._now() + SLICE
