"""What a process did to the files of a folder, as ``power_recorder.c`` wrote it down."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

SOURCE = Path(__file__).with_name("power_recorder.c")
_RECORD = struct.Struct("<IIQqIIQ")


class Kind(IntEnum):
    """What was done; as in the source."""

    CREATE = 1
    WRITE = 2
    SYNC = 3
    TRUNCATE = 4
    RENAME = 5
    UNLINK = 6
    LINK = 7
    SYNC_FOLDER = 8
    MARK = 9
    UNSUPPORTED = 10


@dataclass(frozen=True, slots=True)
class Operation:
    """One call that changed something. ``name`` and ``other`` are inside the folder; a mark has only ``data``."""

    kind: Kind
    durable: bool
    inode: int
    offset: int
    name: str
    other: str
    data: bytes


class NoCompiler(Exception):
    """There is no C compiler."""


def build(folder: Path) -> Path:
    """The recorder as a library for LD_PRELOAD. Raises NoCompiler; CalledProcessError when it does not compile."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        raise NoCompiler("Power losses are recorded on Linux, with a C compiler named cc or gcc: there is none here.")
    library = folder / "recorder.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, SOURCE, "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    return library


def record(library: Path, folder: Path, recording: Path, marks: Path, command: Sequence[str], root: Path) -> int:
    """Run a command and append to the recording what it does in ``folder``. Returns its exit code."""
    recorded = {
        "LD_PRELOAD": str(library),
        "POWER_FOLDER": str(folder),
        "POWER_RECORDING": str(recording),
        "POWER_MARKS": str(marks),
    }
    return subprocess.run(command, cwd=root, env=os.environ | recorded, timeout=300, check=False).returncode


def read(recording: Path) -> list[Operation]:
    """All operations in their order. Raises AssertionError where one cannot be replayed."""
    content = recording.read_bytes()
    operations: list[Operation] = []
    position = 0
    while position < len(content):
        kind, flags, inode, offset, first, second, size = _RECORD.unpack_from(content, position)
        position += _RECORD.size
        name = content[position : position + first].decode()
        other = content[position + first : position + first + second].decode()
        position += first + second
        data = content[position : position + size]
        position += size
        assert kind != Kind.UNSUPPORTED, f"cannot be replayed: {name}"
        operations.append(Operation(Kind(kind), bool(flags), inode, offset, name, other, data))
    return operations
