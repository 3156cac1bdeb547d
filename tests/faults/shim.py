"""The library that lets the writes, flushes and clock of a host fail, and how the driver gives it orders."""

from __future__ import annotations

import errno
import mmap
import shutil
import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path

_SOURCE = Path(__file__).with_name("shim.c")
_FIELDS = ("failing_writes", "torn_writes", "late_writes", "short_writes", "failing_flushes", "error", "hits", "unused")
_CLOCK_OFFSET = 4 * len(_FIELDS)
_SIZE = 4096

ALL = -1
"""A count: every call from now on."""


class NoCompiler(Exception):
    """These faults need a C compiler named ``cc``; there is none."""


@cache
def library() -> Path:
    """The compiled library, made once for each process. Raises NoCompiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise NoCompiler("Failing writes, failing flushes and clock jumps need a C compiler named cc: install one.")
    made = Path(tempfile.mkdtemp(prefix="agentq-faults-")) / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", str(made), str(_SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"shim.c does not compile:\n{done.stderr}")
    return made


class Shim:
    """The orders of one host, in a page of memory that it shares with the driver.

    :param target: how the names of the files end that are meant; all of the store's, if it is empty.
    """

    def __init__(self, control: Path, store: Path, target: str) -> None:
        control.write_bytes(bytes(_SIZE))
        self._control = control
        self._store = f"{store}{target}"
        with control.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), _SIZE)
        self.order(error=errno.EIO)

    @property
    def environment(self) -> dict[str, str]:
        """What the host's environment must have. Files whose paths begin with that of the store are its own."""
        return {
            "LD_PRELOAD": str(library()),
            "FAULTS_CONTROL": str(self._control),
            "FAULTS_STORE": self._store,
        }

    def order(self, **counts: int) -> None:
        """How many of the next calls are hit (``ALL``: every one), by the names of ``struct orders``; and ``error``."""
        for name, count in counts.items():
            struct.pack_into("=i", self._page, 4 * _FIELDS.index(name), count)

    def lift(self) -> None:
        """Let everything pass again; the clock stays where it is."""
        self.order(**dict.fromkeys(_FIELDS[:5], 0))

    @property
    def hits(self) -> int:
        """How many calls were hit so far."""
        return struct.unpack_from("=i", self._page, 4 * _FIELDS.index("hits"))[0]

    def move_clock(self, seconds: float) -> None:
        """The wall clock of the host is off by so much from now on."""
        struct.pack_into("=q", self._page, _CLOCK_OFFSET, int(seconds * 1e6))
