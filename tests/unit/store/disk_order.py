"""In which order a log's files are written, synced and named: recorded where this process asks for it.

What DuckDB does to its own files is not seen here; ``tests/faults/power`` records that from outside.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_DURABLE = getattr(os, "RWF_DSYNC", 0)


@dataclass(frozen=True)
class Named:
    """A file was given a name, by a rename or a link."""

    name: str
    unsynced: bool
    """Bytes of it may not have been on the disk at that time."""
    folder_synced: bool = False
    """The name itself was made durable before the recording ended."""


class DiskOrder:
    """Records while it is installed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._synced: dict[tuple[int, int], tuple[int, int]] = {}
        """File -> when it was last changed, and its size, at its last sync."""
        self._names: list[tuple[Path, bool, bool]] = []
        self.unsynced_writes: set[int] = set()
        """Descriptors to which something was written that is not durable yet."""
        for function in ("fsync", "fdatasync"):
            self._watch(patch, function, self._sync)
        for function in ("replace", "rename", "link"):
            self._watch(patch, function, before=self._name)
        self._watch(patch, "pwritev", self._written)

    def _watch(
        self,
        patch: pytest.MonkeyPatch,
        function: str,
        after: Callable[..., None] | None = None,
        *,
        before: Callable[..., None] | None = None,
    ) -> None:
        real = getattr(os, function)

        def watched(*args: Any, **kwargs: Any) -> Any:
            if before is not None:
                before(*args)
            result = real(*args, **kwargs)
            if after is not None:
                after(*args)
            return result

        patch.setattr(os, function, watched)

    def _sync(self, descriptor: int) -> None:
        facts = os.fstat(descriptor)
        self._synced[facts.st_dev, facts.st_ino] = (facts.st_mtime_ns, facts.st_size)
        self.unsynced_writes.discard(descriptor)
        for place, (path, unsynced, _) in enumerate(self._names):
            if os.path.samestat(facts, path.parent.stat()):
                self._names[place] = (path, unsynced, True)

    def _name(self, source: Path, target: Path, *_: object) -> None:
        facts = Path(source).stat()
        unsynced = self._synced.get((facts.st_dev, facts.st_ino)) != (facts.st_mtime_ns, facts.st_size)
        self._names.append((Path(target), unsynced, False))

    def _written(self, descriptor: int, _parts: object, _offset: int, flags: int = 0) -> None:
        if not flags & _DURABLE:
            self.unsynced_writes.add(descriptor)

    @property
    def named(self) -> list[Named]:
        """What was given a name, in order."""
        return [Named(path.name, unsynced, synced) for path, unsynced, synced in self._names]
