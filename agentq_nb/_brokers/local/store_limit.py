"""The limit on the store's size: sends are refused beyond it, so that settlements can still be written.

The files are measured only while a limit is set, and not for every send: in between, what is sent is added up.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from agentq_nb._core.clock import Clock
from agentq_nb._policies.admission import store_refuses
from agentq_nb.errors import StoreFull

_MEASURE_EVERY = 0.5
"""Seconds after which the files are measured again: other rows are written too."""


class Sized(Protocol):
    """The log, as far as its size is concerned."""

    path: Path

    def bytes_used(self) -> int: ...


class StoreLimit:
    """The most bytes of a store's files. ``bytes`` can be changed at any time; None: no limit."""

    def __init__(self, clock: Clock, free: Callable[[Path], int] | None = None) -> None:
        self.bytes: int | None = None
        self._clock = clock
        self._free_on = free or _free_on
        self._measured_at = float("-inf")
        self._used = self._free = 0
        self._refused = 0
        """Bytes of the last body that was refused."""

    def check(self, log: Sized, size: int) -> None:
        """Count a body of ``size`` bytes that is to be written. Raises StoreFull if there is no room for it."""
        if self.bytes is None:
            return
        if self._is_outdated() or self._refusal(log, size) is not None:
            self._measure(log)
        if (refusal := self._refusal(log, size)) is not None:
            self._refused = size
            raise refusal
        self._used += size
        self._free -= size

    def trouble(self, log: Sized) -> str | None:
        """Return that sends are refused, and what to do; None if the last one that was refused would be accepted now."""
        if self.bytes is None:
            return None
        if self._is_outdated():
            self._measure(log)
        refusal = self._refusal(log, self._refused)
        return None if refusal is None else refusal.message

    def _is_outdated(self) -> bool:
        return self._clock.monotonic() - self._measured_at >= _MEASURE_EVERY

    def _measure(self, log: Sized) -> None:
        self._measured_at = self._clock.monotonic()
        self._used, self._free = log.bytes_used(), self._free_on(log.path.parent)

    def _refusal(self, log: Sized, size: int) -> StoreFull | None:
        if self.bytes is None or (reason := store_refuses(self._used, size, self.bytes, self._free)) is None:
            return None
        return StoreFull(str(log.path), self._used, self.bytes, self._free if reason == "disk" else None)


def _free_on(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:  # the folder is gone: writing says so
        return 1 << 62
