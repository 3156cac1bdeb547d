"""A forked child shares its parent's memory and descriptors; here it is kept from harming the parent's log."""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Protocol


class OpenLog(Protocol):
    """A log that holds descriptors and a lock."""

    def let_go(self) -> None:
        """Forget them without closing anything: called in a forked child."""
        ...


_open: weakref.WeakSet[OpenLog] = weakref.WeakSet()


def watch_forks(log: OpenLog) -> None:
    """See to it that a child forked from now on lets go of this log."""
    _open.add(log)


def _in_child() -> None:
    for log in _open:
        log.let_go()


def leak(thing: object) -> None:
    """Never destroy this object, not even when the interpreter ends: its destructor would write."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


os.register_at_fork(after_in_child=_in_child)
