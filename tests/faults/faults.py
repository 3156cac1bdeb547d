"""What is done to a host from outside. Each function returns once its fault has ended the host, or was lifted and outlived."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.shim import ALL, Shim

if TYPE_CHECKING:
    from tests.faults.driver import Host

_RECOVERY = 12.0
"""Seconds after which a host that was let alone again has to take messages: its pauses double from half a second."""


def _kill(host: Host) -> None:
    host.signal(signal.SIGKILL)
    host.wait(10)


def _terminate(host: Host) -> None:
    host.signal(signal.SIGTERM)
    host.wait(20)


def _interrupt(host: Host) -> None:
    host.signal(signal.SIGINT)
    host.wait(20)


def _finish(host: Host) -> None:
    _interrupt(host) if host.life.ending == "int" else _kill(host)


def _stop(host: Host) -> None:
    """It stands still for a while, as in a suspended machine."""
    host.signal(signal.SIGSTOP)
    time.sleep(host.life.length)
    host.signal(signal.SIGCONT)
    host.wait(host.life.length / 2)
    _finish(host)


def _exit(host: Host) -> None:
    """One of its handlers ends the process."""
    if not host.wait(3):
        _finish(host)


def _fork(host: Host) -> None:
    """Its handlers fork."""
    if not host.wait(0.3 + host.life.length):
        _finish(host)


def _rivals(host: Host) -> None:
    """Another host waits for the file, and gets it when this one is gone."""
    life = replace(host.life, number=host.life.number + len(host.run.plan.lives), fault="")
    rival = host.run.start(life, patiently=True)
    try:
        rival.heard("opening")
        host.wait(host.life.length)
        _finish(host)
        if rival.heard("loading", seconds=20):
            rival.wait(host.life.length)
        _finish(rival)
    finally:
        rival.end()


def _lasting(host: Host, begin: Callable[[], None], lift: Callable[[], None]) -> None:
    """Let the fault last; then end the host in the midst of it, or lift it and see that the host recovers."""
    ledger = host.run.ledger
    ledger.note("armed", life=host.life.number, kind=host.life.fault)
    begin()
    ended = host.wait(host.life.length)
    if not host.life.lifted and not ended:
        _finish(host)
        ended = host.wait(20)
    lift()
    since = len(host.run.facts)
    ledger.note("lifted", life=host.life.number)
    # One that could not open its file says so and ends; whoever has it open goes on.
    if ended or (host.life.early and not host.heard("loading", seconds=20)):
        return
    if host.heard("sent", seconds=_RECOVERY, since=since):
        ledger.note("recovered", life=host.life.number)
        host.wait(0.2)
    elif host.alive:
        ledger.note("not recovered", life=host.life.number)
    _finish(host)


def _full_disk(host: Host) -> None:
    disk, left = host.run.disk, host.life.seed % 3 * 300_000
    _lasting(host, lambda: disk.fill(left), disk.free)


def _limited(host: Host, limit: int, most: Callable[[], int]) -> None:
    soft, hard = resource.prlimit(host.pid, limit)
    _lasting(
        host,
        lambda: _set_limit(host, limit, most(), hard),
        lambda: _set_limit(host, limit, soft, hard),
    )


def _set_limit(host: Host, limit: int, soft: int, hard: int) -> None:
    if host.alive:
        resource.prlimit(host.pid, limit, (soft, hard))


def _file_size(host: Host) -> None:
    """No file may grow beyond a size that some of the store's have nearly reached."""

    def most() -> int:
        sizes = [path.stat().st_size for path in host.run.disk.seen.iterdir()] or [0]
        return sizes[host.life.seed % len(sizes)] + host.life.seed % 5000

    _limited(host, resource.RLIMIT_FSIZE, most)


def _open_files(host: Host) -> None:
    _limited(host, resource.RLIMIT_NOFILE, lambda: len(os.listdir(f"/proc/{host.pid}/fd")) + host.life.seed % 3)


def _memory(host: Host) -> None:
    def most() -> int:
        pages = int(Path(f"/proc/{host.pid}/statm").read_text().split()[0])
        return pages * resource.getpagesize() + host.life.seed % (8 << 20)

    _limited(host, resource.RLIMIT_AS, most)


def _shim(host: Host) -> Shim:
    shim = host.run.shim
    assert shim is not None, "its library was not loaded into the host"
    return shim


def _ordered(order: str, counts: tuple[int, ...]) -> Callable[[Host], None]:
    """Some of the next calls are hit, or all of them."""

    def fault(host: Host) -> None:
        shim = _shim(host)
        count = counts[host.life.seed % len(counts)]
        _lasting(host, lambda: shim.order(**{order: count}), shim.lift)

    return fault


def _clock(host: Host) -> None:
    """The wall clock jumps, there and back."""
    shim, run = _shim(host), host.run
    jumps = [3600.0, -3600.0, 86_400.0, -86_400.0, 1.0, -1.0]
    begun_at = run.clock
    for turn in range(3):
        moved = begun_at + jumps[(host.life.seed >> turn) % len(jumps)]
        shim.move_clock(moved)
        run.clock = max(run.clock, moved)  # what was put off while it was ahead is due only then
        if host.wait(host.life.length / 3):
            break
    else:
        _finish(host)


FAULTS: dict[str, Callable[[Host], None]] = {
    "kill": _kill,
    "term": _terminate,
    "int": _interrupt,
    "stop": _stop,
    "exit": _exit,
    "fork": _fork,
    "rivals": _rivals,
    "full disk": _full_disk,
    "file size": _file_size,
    "open files": _open_files,
    "memory": _memory,
    "failing writes": _ordered("failing_writes", (1, 3, ALL)),
    "torn writes": _ordered("torn_writes", (1, 3, ALL)),
    "late writes": _ordered("late_writes", (1, 3, ALL)),
    "short writes": _ordered("short_writes", (1, 20, 200)),
    "flush fails once": _ordered("failing_flushes", (1,)),
    "flush fails for good": _ordered("failing_flushes", (ALL,)),
    "clock": _clock,
}
