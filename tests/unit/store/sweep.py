"""Damaging copies of a small log in every way that can be counted, and looking at what opening it makes of each."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import duckdb

from agentq_nb.errors import StoreDamaged, StoreError
from agentq_nb.store import EventLog, Row, examine
from agentq_nb.store import row as make_row

ROWS = 20
PER_COMMIT = 10
NAME = "work.agentq.duckdb"
WAL = NAME + ".wal"
GUARD = NAME + ".guard"
HEADERS = 3 * 4096
BLOCK = 262_144

COMPLETE = "opened complete"
REPORTED = "reported, nothing changed"
CHANGED = "reported, but files changed"
MISCOUNTED = "reported, with a wrong count"
SILENT = "opened silently with rows missing"

Files = dict[str, bytes]


@dataclass(frozen=True)
class Damage:
    """One way to spoil one file: a byte changed, or its end cut off."""

    file: str
    offset: int
    flip: int = 0
    """What the byte is xor-ed with; 0: the file ends before it."""

    def apply(self, files: Files) -> Files:
        content = files[self.file]
        if self.flip:
            content = content[: self.offset] + bytes([content[self.offset] ^ self.flip]) + content[self.offset + 1 :]
        else:
            content = content[: self.offset]
        return files | {self.file: content}


def write_log(folder: Path, clean: bool) -> None:
    """In a process of its own: a log with ROWS rows, closed cleanly or left as by a kill."""

    async def run() -> None:
        log = EventLog.open(folder / NAME)
        for number in range(0, ROWS, PER_COMMIT):
            log.append([row(number + offset) for offset in range(PER_COMMIT)], time=1_800_000_000.0 + number)
            await log.flushed()
        if clean:
            log.close()
        os._exit(0)

    asyncio.run(run())


def row(number: int) -> Row:
    return make_row("message.queued", "w/m", f"m{number:02d}", None, f'{{"queue":"tasks","body":{number * 79}}}')


def make(clean: bool) -> Files:
    """The files of a small log."""
    with tempfile.TemporaryDirectory() as folder:
        code = f"from tests.unit.store.sweep import write_log; from pathlib import Path; write_log(Path({folder!r}), {clean})"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        return read_all(Path(folder))


def read_all(folder: Path) -> Files:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def write_all(folder: Path, files: Files) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


CONTENT = "select md5(string_agg(concat_ws('|', seq, time, kind, actor_id, message_id, data), chr(10) order by seq)) from events where seq <= 20"


def content_of(log: EventLog) -> str:
    return log.fetch(CONTENT)[0][0]


def expected_content() -> str:
    lines = [
        "|".join(
            (
                str(number + 1),
                f"2027-01-15 08:00:{number // PER_COMMIT * PER_COMMIT:02d}",
                *(text for text in row(number).split("\t") if text),
            )
        )
        for number in range(ROWS)
    ]
    return hashlib.md5("\n".join(lines).encode()).hexdigest()


def outcome(folder: Path, files: Files, damage: Damage | None = None) -> tuple[str, str]:
    """What opening these files comes to, and what it said. ``folder`` holds ``files`` before and after."""
    path = folder / NAME
    damaged = files if damage is None else damage.apply(files)
    if damage is not None:
        (folder / damage.file).write_bytes(damaged[damage.file])
    try:
        log = EventLog.open(path)
    except StoreError as error:
        if read_all(folder) != damaged:
            write_all(folder, files)
            return CHANGED, str(error)
        if damage is not None:
            (folder / damage.file).write_bytes(files[damage.file])
        if isinstance(error, StoreDamaged) and not 0 <= error.found <= error.expected:
            return MISCOUNTED, str(error)
        return REPORTED, describe(error)
    right = content_of(log) == expected_content()
    said = " ".join(log.notices)
    log.close()
    write_all(folder, files)
    return (COMPLETE if right else SILENT), said


def describe(error: StoreError) -> str:
    if isinstance(error, StoreDamaged):
        return f"{error.found} of {error.expected} rows left"
    return type(error).__name__


_workplace: Path
_memory: duckdb.DuckDBPyConnection | None = None


def _begin(base: str) -> None:
    global _workplace
    _workplace = Path(tempfile.mkdtemp(dir=base)) / "case"
    examine.in_memory = _one_memory  # a database in memory costs 15 ms to make, ten times what looking at a file does


@contextmanager
def _one_memory() -> Iterator[duckdb.DuckDBPyConnection]:
    """One database in memory for all cases of this process, as long as it still answers."""
    global _memory
    if _memory is None:
        _memory = duckdb.connect(config={"threads": 1, "autoinstall_known_extensions": False})
    yield _memory
    try:
        left = _memory.execute("select 1 from duckdb_databases() where database_name = 'log'").fetchall()
    except duckdb.Error:
        left = [(1,)]
    if left:
        _memory.close()
        _memory = None


def _try(job: tuple[Files, list[Damage]]) -> list[tuple[Damage, str, str]]:
    files, damages = job
    write_all(_workplace, files)
    return [(damage, *outcome(_workplace, files, damage)) for damage in damages]


def sweep(files: Files, damages: Iterable[Damage], base: Path) -> Iterator[tuple[Damage, str, str]]:
    """The outcome of each damage, tried in worker processes."""
    pending = list(damages)
    chunks = [pending[start : start + 50] for start in range(0, len(pending), 50)]
    with ProcessPoolExecutor(
        os.cpu_count(), mp_context=get_context("spawn"), initializer=_begin, initargs=(str(base),)
    ) as pool:
        for found in pool.map(_try, [(files, chunk) for chunk in chunks]):
            yield from found


def try_files(folder: Path, files: Files) -> tuple[str, str]:
    """The outcome of files as they are."""
    write_all(folder, files)
    return outcome(folder, files)
