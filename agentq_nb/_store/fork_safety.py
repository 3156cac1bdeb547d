"""Fork safety: keep a forked child, which shares memory and descriptors, from damaging its parent's log."""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Protocol


class OpenLog(Protocol):
    """A log that holds descriptors and a lock."""

    def let_go(self) -> None:
        """Release them in a forked child, without writing to the parent's files."""
        ...


_open: weakref.WeakSet[OpenLog] = weakref.WeakSet()


def watch_forks(log: OpenLog) -> None:
    """Make every child forked from now on call ``let_go`` of this log."""
    _open.add(log)


def _in_child() -> None:
    for log in _open:
        log.let_go()


def leak(thing: object) -> None:
    """Never destroy this object, even at interpreter exit: its destructor would write to the parent's file."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


os.register_at_fork(after_in_child=_in_child)
