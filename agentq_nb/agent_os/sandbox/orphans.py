"""Find and kill processes whose launcher was killed, by a mark in the environment that they inherit.

The mark names the kernel's process, so that a later kernel can recognise orphans. A process that has cleared its
environment is not found.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from agentq_nb._core.threads import to_its_end

VARIABLE = "AGENTQ_JOB"

_KILL_FOR = 5.0  # seconds; a process stuck in the kernel cannot be killed
_looked = False


class Launcher(Protocol):
    """A launcher's process, as asyncio or anyio start it."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...


def new_mark() -> str:
    """Return a mark for one job of this process."""
    return f"{_namespace()}/{os.getpid()}/{_started(os.getpid())}/{secrets.token_hex(8)}"


async def launcher_ended(launcher: Launcher, mark: str) -> None:
    """Wait until a launcher has ended; if it was killed, end the processes of its job."""
    await _exited(launcher)
    if (launcher.returncode or 0) < 0:
        await to_its_end(end_marked, mark)
    await launcher.wait()


async def look_once() -> None:
    """End processes that dead kernels left running. Runs once per process."""
    global _looked
    if not _looked:
        _looked = True
        await to_its_end(end_those_of_dead_kernels)


def end_marked(mark: str) -> None:
    """Kill all processes of one job."""
    _end_all(lambda found: found == mark)


def end_those_of_dead_kernels() -> None:
    """Kill all processes that were started by a dead kernel."""
    _end_all(_is_left)


async def _exited(launcher: Launcher) -> None:
    """Wait for the launcher alone: in some versions of Python its ``wait`` also waits for all that hold its pipes."""
    try:
        handle = os.pidfd_open(launcher.pid)
    except (AttributeError, OSError):  # unsupported by this system, or it has already ended
        if launcher.returncode is None:
            await launcher.wait()
        return
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    loop.add_reader(handle, lambda: ended.done() or ended.set_result(None))
    try:
        await ended
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    while launcher.returncode is None:  # noqa: ASYNC110  # asyncio is about to learn it
        await asyncio.sleep(0.001)


def _end_all(wanted: Callable[[str], bool]) -> None:
    """Kill the wanted processes, and repeat until there are none: they may have started others meanwhile."""
    give_up = time.monotonic() + _KILL_FOR
    while time.monotonic() < give_up:
        found = [process for process in _processes() if (mark := mark_in(process)) and wanted(mark)]
        if not found:
            return
        for process in found:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.002)


def _processes() -> list[int]:
    """Return all processes but this one; none where there is no /proc."""
    with suppress(OSError):
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    return []


def mark_in(process: int) -> str | None:
    """Return the mark in a process's environment; None if it has none, or its environment cannot be read."""
    prefix = f"{VARIABLE}=".encode()
    with suppress(OSError), open(f"/proc/{process}/environ", "rb") as file:
        for line in file.read().split(b"\0"):
            if line.startswith(prefix):
                return line[len(prefix) :].decode(errors="replace")
    return None


def _is_left(mark: str) -> bool:
    """Whether the kernel that made a mark is dead. False for one in another container, which cannot be checked."""
    parts = mark.split("/")
    if len(parts) != 4 or parts[0] != _namespace() or not parts[1].isdigit() or not parts[2].isdigit():
        return False
    return _started(int(parts[1])) != int(parts[2])


def _started(process: int) -> int | None:
    """Return when a process was started, in ticks since boot, which with its id is unique; None if there is none."""
    with suppress(OSError, IndexError, ValueError), open(f"/proc/{process}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])
    return None


def _namespace() -> str:
    """Return the PID namespace to which this process's ids belong."""
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""
