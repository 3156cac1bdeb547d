"""A disk on which nothing becomes durable until the test says so."""

from __future__ import annotations

import threading
from typing import ClassVar

from agentq_nb._store import EventLog

_PATIENCE = 120


class HeldWrites:
    """From now on, commits to the log wait until :meth:`let_go`. They wait in its thread; the loop goes on."""

    _holding: ClassVar[list[HeldWrites]] = []

    def __init__(self, log: EventLog) -> None:
        self._go_on = threading.Event()
        self._commits = log._commits
        self._commit = self._commits.commit
        self._commits.commit = self._held  # type: ignore[method-assign]
        self._holding.append(self)

    def _held(self, batch: object, *, on_loop: bool) -> object:
        if on_loop:
            return None  # a disk as slow as this is left to the thread
        assert self._go_on.wait(_PATIENCE)
        return self._commit(batch, on_loop=False)  # type: ignore[arg-type]

    def let_go(self) -> None:
        """Make durable what waits, and all that comes."""
        self._commits.commit = self._commit  # type: ignore[method-assign]
        self._go_on.set()

    @classmethod
    def let_go_all(cls) -> None:
        """For the end of a test that may have failed in between."""
        while cls._holding:
            cls._holding.pop().let_go()
