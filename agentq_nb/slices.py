"""Long work in the event loop, in slices: others get their turn in between."""

from __future__ import annotations

import asyncio
import time

SLICE = 0.005
"""Seconds of work after which the event loop gets its turn."""


class Slices:
    """Work that began now. ``await pause()`` after each piece of it costs next to nothing while the slice lasts."""

    def __init__(self) -> None:
        self._until = time.perf_counter() + SLICE

    async def pause(self) -> None:
        """Let the loop turn if this slice is over."""
        if time.perf_counter() >= self._until:
            await asyncio.sleep(0)
            self._until = time.perf_counter() + SLICE
