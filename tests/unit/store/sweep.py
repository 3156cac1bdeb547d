"""Damaging copies of a small log in every way that can be counted, and looking at what opening it makes of each."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import duckdb

from agentq_nb._store import EventLog, Row, inspect_store, journal
from agentq_nb._store import row as make_row
from agentq_nb.errors import StoreDamaged, StoreError

ROWS = 20
NAME = "work.agentq.duckdb"
WAL = NAME + ".wal"
GUARD = NAME + ".guard"
JOURNAL = NAME + ".journal"
CHECKPOINT = NAME + ".checkpoint"
HEADERS = 3 * 4096
BLOCK = 262_144

COMPLETE = "opened complete"
REPORTED = "reported, nothing changed"
CHANGED = "reported, but files changed"
MISCOUNTED = "reported, with a wrong count"
NOTICED = "opened with rows missing, and a notice"
SILENT = "opened silently with rows missing"

Files = dict[str, bytes]


@dataclass(frozen=True)
class Shape:
    """How a log is written: rows in a commit, bytes of a region of its journal, how many rows reach the database."""

    per_commit: int = 10
    region: int = 8192
    drained: int = 0
    closed: bool = False
    checkpoint: str = ""
    """Where a checkpoint ended: "written", before its header; "counted", before its copy was removed; else none."""


SHAPES = {
    "killed, rows in the journal": Shape(),
    "killed, rows in journal and write-ahead log": Shape(per_commit=5, drained=10),
    "killed, regions in their second use": Shape(per_commit=2, region=4608, drained=2),
    "closed": Shape(closed=True),
}
IN_A_CHECKPOINT = {
    "killed before a checkpoint counted": Shape(per_commit=5, checkpoint="written"),
    "killed before a checkpoint's copy was removed": Shape(per_commit=5, checkpoint="counted"),
}


@dataclass(frozen=True)
class Log:
    """The files of one log at five moments; each file may be older or newer than the others, or of another log."""

    files: Files
    begun: Files
    older: Files
    newer: Files
    other: Files


@dataclass(frozen=True)
class Damage:
    """One way to spoil one file: a byte changed, its end cut off, or all of it replaced."""

    file: str
    offset: int = 0
    flip: int = 0
    """What the byte is xor-ed with; 0: the file ends before it."""
    what: str = ""
    """What the whole file was replaced by; ``content`` is None where it is missing."""
    content: bytes | None = None

    def apply(self, files: Files) -> Files:
        if self.what:
            rest = {name: content for name, content in files.items() if name != self.file}
            return rest if self.content is None else rest | {self.file: self.content}
        content = files.get(self.file, b"")
        if self.flip and self.offset < len(content):
            content = content[: self.offset] + bytes([content[self.offset] ^ self.flip]) + content[self.offset + 1 :]
        elif not self.flip:
            content = content[: self.offset]
        return files | {self.file: content}

    def __str__(self) -> str:
        name = self.file.removeprefix(NAME) or "database"
        return (
            f"{name} {self.what or (f'byte {self.offset} ^ {self.flip:02x}' if self.flip else f'cut at {self.offset}')}"
        )


Damages = tuple[Damage, ...]


def write_log(folder: Path, shape: Shape) -> None:
    """In a process of its own: a log with ROWS rows, and copies of its files at other moments beside it."""
    journal.REGION_BYTES = shape.region

    async def run() -> None:
        log = EventLog.open(folder / "log" / NAME)
        _copy(folder, "begun")
        for number in range(0, ROWS + 10, shape.per_commit):
            if number == ROWS // 2:
                _copy_at(log, folder, "older", shape)
            if number == ROWS:
                if shape.closed:
                    log.close()
                    _copy(folder, "files")
                    log = EventLog.open(folder / "log" / NAME)
                else:
                    _copy_at(log, folder, "files", shape)
            log.append([row(number + offset) for offset in range(shape.per_commit)], time=1_800_000_000.0)
            await log.flushed()
            if number + shape.per_commit == shape.drained:
                log.fetch("select 1")
        if shape.closed:
            log.close()
        _copy_at(log, folder, "newer", shape)
        os._exit(0)

    asyncio.run(run())


def _copy_at(log: EventLog, folder: Path, name: str, shape: Shape) -> None:
    if not shape.checkpoint:
        _copy(folder, name)
        return

    def interrupt(connection: duckdb.DuckDBPyConnection) -> None:
        checkpointer = log._checkpointer
        checkpointer._copy(connection)
        if shape.checkpoint == "written":
            _copy(folder, name)
        connection.execute("checkpoint")
        if shape.checkpoint == "written":
            # All that the checkpoint wrote is there, but for its header.
            before = (folder / name / NAME).read_bytes()[:HEADERS]
            (folder / name / NAME).write_bytes(before + (folder / "log" / NAME).read_bytes()[HEADERS:])
        else:
            _copy(folder, name)
        checkpointer.checkpoint(connection)

    log._writer.submit(interrupt).result()


def _copy(folder: Path, name: str) -> None:
    shutil.copytree(folder / "log", folder / name)


def row(number: int) -> Row:
    return make_row("message.queued", "w/m", f"m{number:02d}", None, f'{{"queue":"tasks","body":{number * 79}}}')


def make(shape: Shape) -> Log:
    """A small log, and another one like it."""
    moments = [_written(shape), _written(shape)]
    first, second = moments
    return Log(first["files"], first["begun"], first["older"], first["newer"], second["files"])


def _written(shape: Shape) -> dict[str, Files]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "log").mkdir()
        code = (
            "from pathlib import Path; from tests.unit.store.sweep import Shape, write_log; "
            f"write_log(Path({name!r}), {shape!r})"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        return {moment: read_all(folder / moment) for moment in ("files", "begun", "older", "newer")}


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
                "2027-01-15 08:00:00",
                *(text for text in row(number).split("\t") if text),
            )
        )
        for number in range(ROWS)
    ]
    return hashlib.md5("\n".join(lines).encode()).hexdigest()


def outcome(folder: Path, files: Files, damages: Damages = ()) -> tuple[str, str]:
    """What opening these files comes to, and what it said. ``folder`` holds ``files`` before and after."""
    damaged = files
    for damage in damages:
        damaged = damage.apply(damaged)
    _change(folder, files, damaged)
    try:
        log = EventLog.open(folder / NAME)
    except StoreError as error:
        if read_all(folder) != damaged:
            write_all(folder, files)
            return CHANGED, str(error)
        _change(folder, damaged, files)
        if isinstance(error, StoreDamaged) and not 0 <= error.found <= error.expected:
            return MISCOUNTED, str(error)
        return REPORTED, describe(error)
    except BaseException as error:
        write_all(folder, files)
        return CHANGED, f"raw {type(error).__name__}: {error}"
    right = content_of(log) == expected_content()
    said = " ".join(log.notices)
    log.close()
    write_all(folder, files)
    return (COMPLETE if right else NOTICED if said else SILENT), said


def _change(folder: Path, before: Files, after: Files) -> None:
    for name in before.keys() - after.keys():
        (folder / name).unlink()
    for name, content in after.items():
        if before.get(name) is not content:
            (folder / name).write_bytes(content)


def describe(error: StoreError) -> str:
    if isinstance(error, StoreDamaged):
        return f"{error.found} of {error.expected} rows left"
    return type(error).__name__


_workplace: Path
_memory: duckdb.DuckDBPyConnection | None = None


def _begin(base: str) -> None:
    global _workplace
    _workplace = Path(tempfile.mkdtemp(dir=base)) / "case"
    journal.REGION_BYTES = 8192
    inspect_store.in_memory = (
        _one_memory  # a database in memory costs 15 ms to make, ten times what looking at a file does
    )


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


def _try(job: tuple[Files, Sequence[Damages]]) -> list[tuple[Damages, str, str]]:
    files, cases = job
    write_all(_workplace, files)
    return [(damages, *outcome(_workplace, files, damages)) for damages in cases]


@contextmanager
def workers(base: Path) -> Iterator[ProcessPoolExecutor]:
    """Processes that try damages, each in a folder of its own."""
    with ProcessPoolExecutor(
        os.cpu_count(), mp_context=get_context("spawn"), initializer=_begin, initargs=(str(base),)
    ) as pool:
        yield pool


def sweep(pool: ProcessPoolExecutor, files: Files, cases: Iterable[Damages]) -> Iterator[tuple[Damages, str, str]]:
    """The outcome of each case, one damage or several at once."""
    pending = list(cases)
    chunks = [pending[start : start + 20] for start in range(0, len(pending), 20)]
    for found in pool.map(_try, [(files, chunk) for chunk in chunks]):
        yield from found
