"""The table of damage outcomes: every way in which the files of a log can be spoilt, and what opening them comes to.

``python -m tests.unit.store.damage`` prints it. It takes about a minute on two cores.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.unit.store.sweep import (
    BLOCK,
    CHANGED,
    COMPLETE,
    GUARD,
    HEADERS,
    MISCOUNTED,
    NAME,
    REPORTED,
    SILENT,
    WAL,
    Damage,
    Files,
    make,
    sweep,
    try_files,
)

OUTCOMES = (COMPLETE, REPORTED, CHANGED, MISCOUNTED, SILENT)


@dataclass
class Line:
    """One kind of damage and how its cases ended."""

    kind: str
    outcomes: Counter[str] = field(default_factory=Counter[str])
    said: Counter[str] = field(default_factory=Counter[str])
    bad: list[str] = field(default_factory=list[str])

    def add(self, what: object, outcome: str, said: str) -> None:
        self.outcomes[outcome] += 1
        self.said[said or "nothing"] += 1
        if outcome not in (COMPLETE, REPORTED):
            self.bad.append(f"{what}: {outcome}: {said}")


def both_flips(offsets: Iterable[int], file: str) -> list[Damage]:
    """All bits of a byte, and one of them, which one going round."""
    return [Damage(file, offset, flip) for offset in offsets for flip in (0xFF, 1 << offset % 8)]


def one_flip(offsets: Iterable[int], file: str) -> list[Damage]:
    return [Damage(file, offset, 0xFF if offset % 2 else 1 << offset // 2 % 8) for offset in offsets]


def cuts(length: int, file: str, step: int = 1) -> list[Damage]:
    return [Damage(file, offset) for offset in range(0, length, step)]


def used_and_sampled(content: bytes, start: int, stop: int, step: int) -> list[int]:
    """Every byte up to the last that is in use, then one in ``step``."""
    last = max((offset for offset in range(start, stop) if content[offset]), default=start)
    return [*range(start, last + 1), *range(last + 1, stop, step)]


def kinds(killed: Files, closed: Files) -> list[tuple[str, Files, Sequence[Damage]]]:
    database, wal = closed[NAME], killed[WAL]
    last_block = len(database) - BLOCK
    tail = used_and_sampled(database, last_block, len(database), 499)
    return [
        ("write-ahead log: each byte flipped, twice", killed, both_flips(range(len(wal)), WAL)),
        ("write-ahead log: cut at each length", killed, cuts(len(wal), WAL)),
        ("database headers: each byte flipped", closed, one_flip(range(HEADERS), NAME)),
        ("database, first block: bytes flipped (1 in 97)", closed, one_flip(range(HEADERS, HEADERS + BLOCK, 97), NAME)),
        ("database, last block: each byte in use flipped", closed, one_flip(tail, NAME)),
        ("database: cut at 200 lengths", closed, cuts(len(database), NAME, len(database) // 200)),
        ("database after a kill: header bytes flipped (1 in 31)", killed, one_flip(range(0, HEADERS, 31), NAME)),
        ("guard: bytes flipped, closed log", closed, one_flip(guard_bytes(closed[GUARD]), GUARD)),
        ("guard: bytes flipped, killed log", killed, one_flip(guard_bytes(killed[GUARD]), GUARD)),
    ]


def guard_bytes(content: bytes) -> list[int]:
    return [offset for offset, byte in enumerate(content) if byte not in b" \0"]


def whole_files(killed: Files, closed: Files) -> list[tuple[str, Files]]:
    """Files that are missing, empty, or not what they should be."""

    def without(files: Files, *names: str) -> Files:
        return {name: content for name, content in files.items() if name not in names}

    return [
        ("write-ahead log missing", without(killed, WAL)),
        ("write-ahead log empty", killed | {WAL: b""}),
        ("write-ahead log of zeros", killed | {WAL: bytes(len(killed[WAL]))}),
        ("guard missing, closed log", without(closed, GUARD)),
        ("guard missing, killed log", without(killed, GUARD)),
        ("guard empty, killed log", killed | {GUARD: b""}),
        ("database missing, closed log", without(closed, NAME)),
        ("database missing, killed log", without(killed, NAME)),
        ("database empty, closed log", closed | {NAME: b""}),
        ("database empty, killed log", killed | {NAME: b""}),
        ("not a database, guard there", closed | {NAME: b"Dear diary\n" * 999}),
        ("not a database, no guard", {NAME: b"Dear diary\n" * 999}),
        ("database of before the last commits", closed | {NAME: killed[NAME]}),
        ("write-ahead log of before the last close", closed | {WAL: killed[WAL]}),
        ("undamaged, closed", closed),
        ("undamaged, killed", killed),
    ]


def run() -> Iterator[Line]:
    """Each kind of damage with its outcomes."""
    killed, closed = make(clean=False), make(clean=True)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as base:
        for kind, files, damages in kinds(killed, closed):
            line = Line(kind)
            for damage, outcome, said in sweep(files, damages, Path(base)):
                line.add(damage, outcome, said)
            yield line
        for kind, files in whole_files(killed, closed):
            line = Line(kind)
            line.add(kind, *try_files(Path(base) / "whole", files))
            yield line


def table(lines: Sequence[Line]) -> str:
    """The outcomes as text, one line a kind, with what was said."""
    width = max(len(line.kind) for line in lines)
    heads = ("complete", "reported", "changed", "miscounted", "SILENT")
    text = [f"{'damage':{width}} {'cases':>6} " + " ".join(f"{head:>10}" for head in heads) + "  what was said"]
    for line in [*lines, _total(lines)]:
        counts = " ".join(f"{line.outcomes[outcome]:>10}" for outcome in OUTCOMES)
        said = "; ".join(f"{count}x {what}" if count > 1 else what for what, count in line.said.most_common(6))
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
    for line in run():
        lines.append(line)
        print(f"{time.monotonic() - started:6.1f} s  {line.kind}", file=sys.stderr)
    print(table(lines))
    bad = [what for line in lines for what in line.bad]
    print(*bad[:20], sep="\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
