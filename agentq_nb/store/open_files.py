"""Whether the files of a log are still where they were opened. Deleted or moved ones are written as before, unseen."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

_LOOK_EVERY = 2.0
"""Seconds. A look costs some calls of ``stat``, and status is asked for ten times a second by a dashboard."""


class OpenFiles:
    """The database and the other files of a log that is open, each by its path and the descriptor it is open as.

    Nothing is opened here: closing any descriptor of the database takes DuckDB's lock away.
    """

    def __init__(
        self, database: Path, descriptor: int, others: Mapping[Path, int], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._descriptor = descriptor
        self._others = others
        self._now = now
        self._looked_at = float("-inf")
        self._seen: str | None = None

    def trouble(self) -> str | None:
        """What has happened to the files, and what to do; as it was two seconds ago at most."""
        if self._now() - self._looked_at >= _LOOK_EVERY:
            self._seen, self._looked_at = self._look(), self._now()
        return self._seen

    def _look(self) -> str | None:
        database = _fate(self._database, self._descriptor)
        if database is not None:
            return (
                f"{self._database} was {database} while it is in use. Its work goes on in that file, but "
                f"nobody finds it after a crash. Write a copy now: %agentq export PATH"
            )
        gone = [f"{path.name} was {fate}" for path, file in self._others.items() if (fate := _fate(path, file))]
        if not gone:
            return None
        return (
            f"{' and '.join(gone)} while {self._database} is in use. A crash now could lose the last messages. "
            "Stop and start the host: it makes the file again."
        )

    def loss(self) -> str | None:
        """What becomes of the work when the log is closed now; None when all goes where it belongs."""
        fate = _fate(self._database, self._descriptor)
        if fate is None:
            return None
        if _is_deleted(self._descriptor):
            return (
                f"{self._database} was {fate} while it was in use: everything in it, finished and unfinished messages, "
                "went with it at this stop, but for copies that were written by %agentq export."
            )
        return (
            f"{self._database} was {fate} while it was in use: all of its messages are in that file. "
            "To go on with them, move it back before the next start."
        )


def _fate(path: Path, descriptor: int) -> str | None:
    """What has become of the file that was opened at ``path``; None: it is there, or cannot be looked at."""
    try:
        opened = os.fstat(descriptor)
    except OSError:  # it was closed
        return None
    try:
        if os.path.samestat(os.stat(path), opened):
            return None
    except FileNotFoundError:
        pass
    except OSError:
        return None
    if not opened.st_nlink:
        return "deleted"
    try:
        return f"moved to {os.readlink(f'/proc/self/fd/{descriptor}')}"
    except OSError:
        return "moved"


def _is_deleted(descriptor: int) -> bool:
    return not os.fstat(descriptor).st_nlink
