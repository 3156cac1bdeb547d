"""Check the memory, disk space and processes that a command and all it starts use, while it runs.

The launcher loads this file by its path, so it imports the standard library only.
"""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from typing import Any

_LOOK_EVERY = 0.25  # seconds
_SHARE_FOR_FOLDERS = 0.05
"""The largest share of the elapsed time that may be spent on adding up file sizes."""
_OF_BUBBLEWRAP = 2
"""The number of bubblewrap's own processes."""
_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def restrict(limits: dict[str, Any]) -> None:
    """Set the limits that the system enforces for each process: the size of a block of memory and of a file."""
    for kind, most in ((resource.RLIMIT_DATA, limits["memory"]), (resource.RLIMIT_FSIZE, limits["disk"])):
        if most is not None:
            with suppress(OSError, ValueError):  # a lower limit is already in force
                resource.setrlimit(kind, (most, most))


class Watch:
    """Adds up what all the processes of one job use."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._limits: dict[str, Any] = job["limits"]
        self._spared = _OF_BUBBLEWRAP if job["bubblewrap"] else 0
        self._folders: list[str] = self._limits["folders"]
        self._next_look = time.monotonic()
        self._next_sizes = 0.0
        # The existing files may already exceed the limit: then a command must be able to start and remove them.
        self._disk = max(self._limits["disk"], self._sizes()) if self._limits["disk"] is not None else None

    def seconds(self) -> float:
        """Return the seconds until the next check is due."""
        return max(0.0, self._next_look - time.monotonic())

    def exceeded(self) -> str | None:
        """Return which limit is exceeded, as a sentence; None when none is, or when the next check is not due yet."""
        if self.seconds() > 0:
            return None
        found = self._look()
        self._next_look = time.monotonic() + _LOOK_EVERY
        return found

    def _look(self) -> str | None:
        processes, memory = self._limits["processes"], self._limits["memory"]
        running = _descendants(os.getpid())
        if processes is not None and (count := len(running) - self._spared) > processes:
            return f"it ran {count} processes at once, and agent_os(processes={processes}) allows no more than that"
        if memory is not None and (used := sum(map(_memory_of, running))) > memory:
            return f"it used {_shown(used)} of memory, and agent_os(memory={memory}) allows {_shown(memory)}"
        if self._disk is not None and time.monotonic() >= self._next_sizes:
            begun = time.monotonic()
            used = self._sizes()
            ended = time.monotonic()
            self._next_sizes = ended + (ended - begun) / _SHARE_FOR_FOLDERS
            if used > self._disk:
                disk = self._limits["disk"]
                return f"the files of its VM took {_shown(used)}, and agent_os(disk={disk}) allows {_shown(disk)}"
        return None

    def _sizes(self) -> int:
        """Return the bytes that the files in the folders take on the disk. A file with several links counts once."""
        seen: set[tuple[int, int]] = set()
        total, folders = 0, list(self._folders)
        while folders:
            with suppress(OSError), os.scandir(folders.pop()) as entries:
                for entry in entries:
                    with suppress(OSError):
                        facts = entry.stat(follow_symlinks=False)
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                        elif (facts.st_dev, facts.st_ino) not in seen:
                            seen.add((facts.st_dev, facts.st_ino))
                            total += facts.st_blocks * 512
        return total


def _descendants(of: int) -> list[int]:
    """Return children, grandchildren and so on. Reads only these, which is quicker than reading all processes."""
    found = [of]
    for process in found:
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{process}/task"):
                with suppress(OSError), open(f"/proc/{process}/task/{thread}/children") as file:
                    found.extend(map(int, file.read().split()))
    return found[1:]


def _memory_of(process: int) -> int:
    """Return the bytes of memory that no file backs."""
    used = 0
    with suppress(OSError, ValueError), open(f"/proc/{process}/status") as file:
        for line in file:
            if line.startswith(("RssAnon:", "RssShmem:", "VmSwap:")):
                used += int(line.split()[1]) * 1024
    return used


def _shown(size: int) -> str:
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"
