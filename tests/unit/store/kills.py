"""Opening a log in a process that ends without warning at any of its steps."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from agentq_nb._store import EventLog, journal
from tests.unit.store import sweep

KILLED = 9
STEPS = ("unlink", "replace", "rename", "truncate", "pwrite", "pwritev", "link", "mkdir", "rmdir")
"""A flush is none: the file system has the same files before and after it."""

_forks = get_context("forkserver")


def _open_and_die(path: Path, at: int, accept_loss: bool) -> None:
    """Open the log, and end at its ``at``-th step."""
    journal.REGION_BYTES = 8192
    done = 0

    def counted(step: Callable[..., Any]) -> Callable[..., Any]:
        def step_or_die(*arguments: Any, **named: Any) -> Any:
            nonlocal done
            if done == at:
                os._exit(KILLED)
            done += 1
            return step(*arguments, **named)

        return step_or_die

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))
    shutil.copyfile = counted(shutil.copyfile)
    EventLog.open(path, accept_loss=accept_loss)
    os._exit(0)


def killed_at_each_step(path: Path, files: sweep.Files, *, accept_loss: bool = False) -> Iterator[int]:
    """For each step of opening these files: a folder in which opening ended there. The last one went on to the end."""
    _forks.set_forkserver_preload([__name__])
    at = 0
    while True:
        sweep.write_all(path.parent, files)
        process = _forks.Process(target=_open_and_die, args=(path, at, accept_loss))
        process.start()
        process.join(60)
        assert process.exitcode in (0, KILLED)
        yield at
        if process.exitcode == 0:
            return
        at += 1
