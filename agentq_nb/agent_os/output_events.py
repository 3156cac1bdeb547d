"""Telling of what a process writes while it writes it, without telling too often or too much."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agentq_nb.agent_os.output import Excerpt
from agentq_nb.agent_os.values import OutputStream

_GATHERED = 0.02  # seconds between the first piece and its telling
_PAUSE = 0.2  # seconds between two tellings, each of which may be of both outputs
_LARGEST = 16_384  # characters told at once of one output


class OutputEvents:
    """Calls ``tell`` with pieces of text: ten times a second at most, each with the first and last half of what came."""

    def __init__(self, tell: Callable[[OutputStream, str], None]) -> None:
        self._tell = tell
        self._waiting: dict[OutputStream, Excerpt] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._last = float("-inf")

    def add(self, stream: OutputStream, text: str) -> None:
        """Tell of this text soon."""
        if stream not in self._waiting:
            self._waiting[stream] = Excerpt(_LARGEST)
        self._waiting[stream].add(text)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time() + _GATHERED, self._last + _PAUSE), self.flush)

    def flush(self) -> None:
        """Tell of what waits, at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, {}
        self._last = asyncio.get_running_loop().time()
        for stream, excerpt in waiting.items():
            self._tell(stream, excerpt.text())
