"""What this machine can isolate, found out without the code under test: a fault there fails tests instead of skipping them."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import sys

from agentq_nb.agent_os.values import IsolationKind

_LANDLOCK_CREATE_RULESET = 444
"""The number of the system call on every architecture that has it."""
_ASK_FOR_THE_VERSION = 1


@functools.cache
def why_not(kind: IsolationKind) -> str:
    """Why the machine cannot do it; ``""`` where it can."""
    if not sys.platform.startswith("linux"):
        return "it is a feature of Linux"
    return _bubblewrap() if kind == "bubblewrap" else _landlock()


def _bubblewrap() -> str:
    program = shutil.which("bwrap")
    if program is None:
        return "bwrap is not installed"
    options = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--ro-bind", "/", "/"]
    tried = subprocess.run(
        [program, *options, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "true"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return "" if tried.returncode == 0 else tried.stderr.strip() or f"exit code {tried.returncode}"


def _landlock() -> str:
    return "" if landlock_version() >= 1 else os.strerror(ctypes.get_errno())


def landlock_version() -> int:
    """The version of Landlock's interface; less than 1 where there is none."""
    system = ctypes.CDLL(None, use_errno=True)
    call = system.syscall
    version: int = call(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_FOR_THE_VERSION))
    return version
