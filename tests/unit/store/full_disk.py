"""Opening a log on a disk that is full, or nearly, and again with as much room as the error asked for.

``python -m tests.unit.store.full_disk FOLDER`` is run in a mount namespace of its own; it mounts a small disk there and
prints what went wrong, a line each.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from agentq_nb._store import EventLog, journal
from agentq_nb.errors import StoreDamaged, StoreError
from tests.unit.store import sweep
from tests.unit.store.sweep import NAME, SHAPES, WAL, Damage, Files

DISK = 24 << 20
BOTH = "killed, rows in journal and write-ahead log"
ROOM = (0, 4096, 12 << 10, 40 << 10, 100 << 10, 300 << 10, 560 << 10, 1 << 20)
"""Bytes that are free, in the first try."""


def cases() -> Iterator[tuple[str, Files, bool]]:
    """Names, files, and whether a loss is accepted."""
    both = sweep.make(SHAPES[BOTH]).files
    yield "a new log", {}, False
    yield "a closed log", sweep.make(SHAPES["closed"]).files, False
    yield "rows in the journal", sweep.make(SHAPES["killed, rows in the journal"]).files, False
    yield "rows in journal and write-ahead log", both, False
    yield "a torn write-ahead log", Damage(WAL, len(both[WAL]) - 9, 0xFF).apply(both), False
    damaged = Damage(NAME, sweep.HEADERS + 100, 0xFF).apply(both)
    yield "a loss that is accepted", Damage(NAME, sweep.HEADERS + sweep.BLOCK + 100, 0xFF).apply(damaged), True


class Disk:
    """A small disk, of which everything but so many bytes is taken."""

    def __init__(self, folder: Path) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)], check=True)
        self.log = folder / "log"
        self._rest = folder / "rest"

    def leave(self, free: int) -> None:
        self._rest.unlink(missing_ok=True)
        found = os.statvfs(self.log.parent)
        with self._rest.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - free)


class Limit:
    """A limit of how large a file may become."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"

    def leave(self, free: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(free, 1), resource.RLIM_INFINITY))


def problems(disk: Disk | Limit) -> Iterator[str]:
    """What is not as it should be, with each amount of room."""
    for name, files, accept_loss in list(cases()):
        refused = 0
        for free in ROOM:
            said = _try(disk, files, accept_loss, free)
            refused += said is not None
            if said:
                yield f"{name}, {free:,} bytes free: {said}"
        if not refused and name == "a new log":
            yield f"{name}: there was always room"


def _try(disk: Disk | Limit, files: Files, accept_loss: bool, free: int) -> str | None:
    """What went wrong; empty: it was refused as it should be, None: it opened."""
    disk.leave(DISK // 2)
    sweep.write_all(disk.log, files)
    disk.leave(free)
    try:
        log = EventLog.open(disk.log / NAME, accept_loss=accept_loss)
    except StoreError as error:
        left = sorted(sweep.read_all(disk.log))
        if error.code != "disk_full" or "bytes" not in error.metadata:
            return f"refused otherwise: {error!r}"
        if left != sorted(files):
            return f"left behind: {left}"
        disk.leave(error.metadata["bytes"])
        return _again(disk.log / NAME, files, accept_loss)
    except BaseException as error:
        return f"raw {error!r}"
    said = _content(log, files, accept_loss)
    log.close()
    return said or None


def _again(path: Path, files: Files, accept_loss: bool) -> str:
    try:
        if accept_loss:
            try:
                EventLog.open(path)
                return "opened though rows are missing"
            except StoreDamaged:
                pass
        log = EventLog.open(path, accept_loss=accept_loss)
    except StoreError as error:
        return f"refused with as much room as it asked for: {error!r}"
    said = _content(log, files, accept_loss)
    if log.notices and not accept_loss:
        said += f" notices: {log.notices}"
    log.close()
    return said


def _content(log: EventLog, files: Files, accept_loss: bool) -> str:
    if not files:
        return ""
    if accept_loss:
        return (
            ""
            if log.fetch("select count(*) from events where kind = 'message.queued'") == [(sweep.ROWS,)]
            else "rows lost"
        )
    return "" if sweep.content_of(log) == sweep.expected_content() else "rows are missing"


def main(folder: Path, how: str) -> None:
    journal.REGION_BYTES = 8192
    make: Callable[[Path], Disk | Limit] = Disk if how == "disk" else Limit
    print(*problems(make(folder)), sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
