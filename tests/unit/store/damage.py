"""The table of damage outcomes: every way in which the files of a log can be spoilt, and what opening them comes to.

``python -m tests.unit.store.damage`` prints it, in some minutes; with ``--sampled``, as the test does, in one or two.
"""

from __future__ import annotations

import os
import random
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from agentq_nb._store.checkpoint_copy import _HEADER as COPY_HEADER
from agentq_nb._store.checkpoint_copy import _PIECE as COPY_PIECE
from agentq_nb._store.journal import BLOCK as JOURNAL_BLOCK
from agentq_nb._store.journal import FILE_HEADER, FRAME_HEADER, FRAME_MAGIC, REGION_HEADER, SECTOR
from tests.unit.store.sweep import (
    BLOCK,
    CHANGED,
    CHECKPOINT,
    COMPLETE,
    GUARD,
    HEADERS,
    IN_A_CHECKPOINT,
    JOURNAL,
    MISCOUNTED,
    NAME,
    NOTICED,
    REPORTED,
    SHAPES,
    SILENT,
    WAL,
    Damage,
    Damages,
    Log,
    make,
    sweep,
    workers,
)

OUTCOMES = (COMPLETE, REPORTED, CHANGED, MISCOUNTED, NOTICED, SILENT)
SEED = 8


@dataclass
class Line:
    """One kind of damage and how its cases ended."""

    kind: str
    outcomes: Counter[str] = field(default_factory=Counter[str])
    said: Counter[str] = field(default_factory=Counter[str])
    bad: list[str] = field(default_factory=list[str])
    short: list[str] = field(default_factory=list[str])
    """Cases that opened with rows missing, and a notice."""
    untold: list[str] = field(default_factory=list[str])
    """Cases in which all files are as they were at another moment, or before the first."""

    def add(self, log: Log, damages: Damages, outcome: str, said: str) -> None:
        self.outcomes[outcome] += 1
        self.said[said or "nothing"] += 1
        what = f"{self.kind}: {', '.join(map(str, damages))}: {said}"
        if outcome == SILENT and _is_of_another_moment(log, damages):
            self.untold.append(what)
        elif outcome == NOTICED:
            self.short.append(what)
        elif outcome not in (COMPLETE, REPORTED):
            self.bad.append(f"{outcome}: {what}")


def _is_of_another_moment(log: Log, damages: Damages) -> bool:
    """All files together are as they once were, so that nothing can tell."""
    files = log.files
    for damage in damages:
        files = damage.apply(files)
    return files in (log.begun, log.older, {})


@dataclass
class Sample:
    """Takes what a quick run has time for."""

    choose: random.Random
    quick: bool

    def __call__(self, offsets: Iterable[int], full: int, quick: int) -> list[int]:
        """All offsets, but no more than ``full`` of them, or ``quick`` in a quick run."""
        known = sorted(set(offsets))
        most = quick if self.quick else full
        return known if len(known) <= most else sorted(self.choose.sample(known, most))


def flips(offsets: Iterable[int], file: str) -> list[Damages]:
    """All bits of a byte, and one of them, which one going round."""
    return [(Damage(file, offset, flip),) for offset in offsets for flip in (0xFF, 1 << offset % 8)]


def cuts(lengths: Iterable[int], file: str) -> list[Damages]:
    return [(Damage(file, length),) for length in lengths]


def journal_bytes(content: bytes) -> dict[str, list[int]]:
    """The offsets of each class of bytes in a journal."""
    (region,) = struct.unpack_from("<I", content, 12)
    starts = (JOURNAL_BLOCK, JOURNAL_BLOCK + region)
    headers: dict[str, list[int]] = {"file header": [], "region headers": [], "frame headers": [], "payload": []}
    for offset in (0, SECTOR):
        headers["file header"] += range(offset, offset + FILE_HEADER.size + 4)
    for start in starts:
        for offset in (start, start + SECTOR):
            headers["region headers"] += range(offset, offset + REGION_HEADER.size + 4)
        offset = start + JOURNAL_BLOCK
        while content[offset : offset + 4] == FRAME_MAGIC:
            (size,) = struct.unpack_from("<I", content, offset + 4)
            headers["frame headers"] += range(offset, offset + FRAME_HEADER.size)
            headers["payload"] += range(offset + FRAME_HEADER.size, offset + FRAME_HEADER.size + size)
            offset += FRAME_HEADER.size + size + 7 & ~7
    used = {offset for offsets in headers.values() for offset in offsets}
    return headers | {"unused space and padding": [offset for offset in range(len(content)) if offset not in used]}


def single(log: Log, sample: Sample) -> Iterator[tuple[str, list[Damages]]]:
    """Kinds of damage to one file."""
    files = log.files
    if JOURNAL in files:
        content = files[JOURNAL]
        for part, offsets in journal_bytes(content).items():
            full, quick = (9, 3) if "unused" in part else (30, 10)
            yield f"journal: {part} flipped", flips(sample(offsets, full, quick), JOURNAL)
        yield "journal: cut", cuts(sample(range(len(content)), 30, 10), JOURNAL)
    if WAL in files:
        offsets = range(len(files[WAL]))
        yield "write-ahead log: flipped", flips(sample(offsets, 100, 30), WAL)
        yield "write-ahead log: cut", cuts(sample(offsets, 60, 15), WAL)
    database = files[NAME]
    yield "database: headers flipped", flips(sample(range(HEADERS), 40, 10), NAME)
    yield "database: blocks flipped", flips(sample(_in_use(database), 40, 12), NAME)
    yield "database: cut", cuts(sample(range(len(database)), 20, 6), NAME)
    guard = [offset for offset, byte in enumerate(files[GUARD]) if byte not in b" \0"]
    yield "guard: flipped", flips(sample(guard, 30, 8), GUARD)
    yield "guard: cut", cuts(sample([*range(300), *range(4090, 5120)], 20, 6), GUARD)
    yield "one file missing, empty, zeroed, older, newer, other", [(one,) for one in replaced(log)]


def of_the_copy(log: Log, sample: Sample) -> Iterator[tuple[str, list[Damages]]]:
    """Kinds of damage to the copy of what a checkpoint writes in place."""
    content = log.files[CHECKPOINT]
    (pieces,) = struct.unpack_from("<I", content, 12)
    header = COPY_HEADER.size + pieces * COPY_PIECE.size
    yield "checkpoint: header flipped", flips(sample(range(header), header, 5), CHECKPOINT)
    yield "checkpoint: payload flipped", flips(sample(range(header, len(content)), 40, 4), CHECKPOINT)
    yield "checkpoint: cut", cuts(sample(range(len(content)), 30, 4), CHECKPOINT)
    replacing = [(one,) for one in replaced(log) if one.file == CHECKPOINT]
    yield "checkpoint missing, empty, zeroed, older, newer, other", replacing


def _in_use(database: bytes) -> list[int]:
    """Bytes of blocks, of each up to the last that is not zero."""
    offsets: list[int] = []
    for start in range(HEADERS, len(database), BLOCK):
        block = database[start : start + BLOCK].rstrip(b"\0")
        offsets += range(start, start + len(block))
    return offsets


def replaced(log: Log) -> list[Damage]:
    """Each file in another state than the others."""
    found: list[Damage] = []
    for file in (NAME, WAL, JOURNAL, GUARD, CHECKPOINT):
        present = log.files.get(file)
        states: list[tuple[str, bytes | None]] = [("missing", None)]
        if present is not None:
            states += [("empty", b""), ("zeroed", bytes(len(present)))]
        states += [
            (what, moment.get(file))
            for what, moment in (
                ("as it was begun", log.begun),
                ("older", log.older),
                ("newer", log.newer),
                ("of another log", log.other),
            )
        ]
        found += [Damage(file, what=what, content=content) for what, content in states if content != present]
    return found


def pairs(log: Log, sample: Sample) -> list[Damages]:
    """Damages to two files at once: whatever replaces one of them with each other, and a sample of the rest."""
    whole = replaced(log)
    spoilt = [damages[0] for kind, cases in single(log, sample) for damages in cases if not kind.startswith("one file")]
    both = [pair for pair in combinations(whole, 2) if pair[0].file != pair[1].file]
    both = sample.choose.sample(both, min(len(both), 20 if sample.quick else 80))
    for _ in range(30 if sample.quick else 160):
        # Whichever file is spoilt, the others are as often the second one.
        file = sample.choose.choice(sorted({damage.file for damage in spoilt}))
        first = sample.choose.choice([damage for damage in spoilt if damage.file == file])
        both.append((first, sample.choose.choice([one for one in [*whole, *spoilt] if one.file != file])))
    return [tuple(pair) for pair in both]


def with_the_copy(log: Log, sample: Sample, damaged: Sequence[Damages]) -> list[Damages]:
    """Another file spoilt, with the copy as it was and with a spoilt one."""
    others = [damages for kind, cases in single(log, sample) for damages in cases if damages[0].file != CHECKPOINT]
    both: list[Damages] = []
    for _ in range(10 if sample.quick else 80):
        file = sample.choose.choice((NAME, WAL, JOURNAL, GUARD))
        known = [one for one in others if one[0].file == file]
        if known:
            both += [one := sample.choose.choice(known), (*one, *sample.choose.choice(damaged))]
    return both


def of_one_moment(log: Log) -> list[Damages]:
    """All files together as they were at another moment: nothing tells them from a log that is so old."""
    moments = (("as it was begun", log.begun), ("older", log.older), ("newer", log.newer))
    names = (NAME, WAL, JOURNAL, GUARD, CHECKPOINT)
    return [tuple(Damage(name, what=what, content=files.get(name)) for name in names) for what, files in moments]


def diary() -> list[Damages]:
    """A file that is no database, alone and with a guard."""
    text = Damage(NAME, what="not a database", content=b"Dear diary\n" * 999)
    return [(text,), (text, *(Damage(name, what="missing") for name in (WAL, JOURNAL, GUARD)))]


def run(quick: bool = False) -> Iterator[Line]:
    """Each kind of damage with its outcomes."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as base, workers(Path(base)) as pool:
        for name, shape in SHAPES.items():
            log = make(shape)
            sample = Sample(random.Random(SEED), quick)
            yield _line(pool, f"{name} | undamaged", log, [()])
            for kind, cases in single(log, sample):
                yield _line(pool, f"{name} | {kind}", log, cases)
            yield _line(pool, f"{name} | not a database", log, diary())
            yield _line(pool, f"{name} | two files at once", log, pairs(log, sample))
            yield _line(pool, f"{name} | {OF_ONE_MOMENT}", log, of_one_moment(log))
        yield from _in_a_checkpoint(pool, quick)


def _in_a_checkpoint(pool: ProcessPoolExecutor, quick: bool) -> Iterator[Line]:
    for name, shape in IN_A_CHECKPOINT.items():
        log = make(shape)
        sample = Sample(random.Random(SEED), quick)
        yield _line(pool, f"{name} | undamaged", log, [()])
        damaged: list[Damages] = []
        for kind, cases in of_the_copy(log, sample):
            damaged += cases
            yield _line(pool, f"{name} | {kind}", log, cases)
        yield _line(pool, f"{name} | another file, or both", log, with_the_copy(log, sample, damaged))
        yield _line(pool, f"{name} | {OF_ONE_MOMENT}", log, of_one_moment(log))


OF_ONE_MOMENT = "all files of another moment"


def _line(pool: ProcessPoolExecutor, kind: str, log: Log, cases: Sequence[Damages]) -> Line:
    line = Line(kind)
    for damages, outcome, said in sweep(pool, log.files, cases):
        line.add(log, damages, outcome, said)
    return line


def table(lines: Sequence[Line]) -> str:
    """The outcomes as text, one line a kind, with what was said."""
    width = max(len(line.kind) for line in lines)
    heads = ("complete", "reported", "changed", "miscounted", "notice", "SILENT")
    text = [f"{'damage':{width}} {'cases':>6} " + " ".join(f"{head:>10}" for head in heads) + "  what was said"]
    for line in [*lines, _total(lines)]:
        counts = " ".join(f"{line.outcomes[outcome]:>10}" for outcome in OUTCOMES)
        said = "; ".join(
            f"{count}x {what[:60]}" if count > 1 else what[:60] for what, count in line.said.most_common(3)
        )
        text.append(f"{line.kind:{width}} {line.outcomes.total():>6} {counts}  {said}")
    return "\n".join(text)


def _total(lines: Sequence[Line]) -> Line:
    total = Line("all")
    for line in lines:
        total.outcomes += line.outcomes
    return total


def main() -> int:
    started = time.monotonic()
    lines: list[Line] = []
    for line in run(quick="--sampled" in sys.argv):
        lines.append(line)
        print(f"{time.monotonic() - started:6.1f} s  {line.kind}", *line.bad, sep="\n", file=sys.stderr)
    print(table(lines))
    for head, found in (
        ("Opened with rows missing, and a notice:", [what for line in lines for what in line.short]),
        ("All files of another moment, which cannot be told:", [what for line in lines for what in line.untold]),
        ("Wrong:", [what for line in lines for what in line.bad]),
    ):
        print(f"\n{head} {len(found)}", *found[:60], sep="\n")
    return 1 if any(line.bad for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
