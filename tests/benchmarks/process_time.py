"""CPU seconds of other processes, as Linux counts them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(processes: Iterable[int]) -> float:
    """The CPU seconds of these processes so far, and of their children: those that live, and those that have ended."""
    return sum(_seconds(process) for first in processes for process in (first, *_children(first)))


def _seconds(process: int) -> float:
    fields = _stat(process)
    # utime, stime, and of the children that were waited for: cutime, cstime.
    return sum(int(field) for field in fields[11:15]) / _TICKS if fields else 0.0


def _children(process: int) -> list[int]:
    """All processes below this one."""
    parents = {int(path.name): _stat(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()}
    found, below = [], [process]
    while below:
        above = below.pop()
        children = [child for child, fields in parents.items() if fields and int(fields[1]) == above]
        found += children
        below += children
    return found


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on, the state; none if the process is gone."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()
