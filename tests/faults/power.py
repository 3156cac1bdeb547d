"""Lose power at every delicate moment of a recorded run, and open what is left: ``python -m tests.faults.power``.

A run with real traffic is recorded once: every write, flush and change of names in the folder of the store, and a mark
after each thing that was acknowledged. Then it is replayed, and power is lost at each operation near a checkpoint, where
a region of the journal or a name changes, and at random moments. ``power_disk`` says what a disk may keep. What is left is
opened by the next host: everything that was acknowledged must be there, and nothing may be refused.

The cuts of one recording are numbered: ``--recording PATH --seed N --only K`` tries one again.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.faults import power_recording
from tests.faults.power_disk import DROPPED, KEPT, MIXED, Disk
from tests.faults.power_ledger import OUTCOMES, WHOLE, Ledger, Verdict, judge
from tests.faults.power_recording import Kind, NoCompiler, Operation
from tests.faults.power_traffic import LIVES, STORE

ROOT = Path(__file__).resolve().parents[2]
RANDOM_MOMENTS = 200
_NEAR = 2
"""Operations before and after one that is delicate."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Power is lost while ``operation`` is under way; what was not durable is dropped, kept or mixed."""

    number: int
    operation: int
    near: str
    way: str
    seed: str


@dataclass
class Tally:
    """How the cuts near one kind of moment ended."""

    outcomes: Counter[str] = field(default_factory=Counter[str])
    notices: int = 0

    def add(self, verdict: Verdict) -> None:
        self.outcomes[verdict.outcome] += 1
        self.notices += bool(verdict.notices)


def temporary_folder() -> Path:
    """In memory where that can be: what is simulated needs no disk."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="agentq-power-", dir=memory if os.access(memory, os.W_OK) else None))


def record(folder: Path, library: Path, lives: Sequence[str] = LIVES) -> Path:
    """Record the lives of the traffic."""
    recorded, recording, marks = folder / "store", folder / "recording", folder / "marks"
    recorded.mkdir()
    for life, end in enumerate(lives):
        command = [sys.executable, "-m", "tests.faults.power_traffic", str(recorded), str(marks), str(life)]
        code = power_recording.record(library, recorded, recording, marks, command, ROOT)
        assert (code == 0) == (end != "kill"), f"life {life} ended with {code}"
    return recording


def moments(operations: Sequence[Operation], choose: random.Random, *, random_moments: int) -> dict[int, str]:
    """At which operations power is lost, and near what."""
    found: dict[int, str] = {}
    for number, operation in enumerate(operations):
        if (near := _delicate(operation, operations)) is not None:
            for other in range(max(0, number - _NEAR), min(len(operations), number + _NEAR + 1)):
                found.setdefault(other, near)
    for number in choose.sample(range(len(operations)), min(random_moments, len(operations))):
        found.setdefault(number, "random")
    return dict(sorted(found.items()))


def _delicate(operation: Operation, operations: Sequence[Operation]) -> str | None:
    names = operation.name, operation.other
    if any(name.endswith((".checkpoint", ".checkpoint.new")) for name in names):
        return "checkpoint"
    if operation.kind is Kind.WRITE and operation.data.startswith(b"AQREGION"):
        return "region"
    if (
        operation.kind is Kind.WRITE
        and len(operation.data) in (4096, 256 << 10)
        and operation.inode in _databases(operations)
    ):
        return "checkpoint"
    if operation.kind in (Kind.RENAME, Kind.LINK, Kind.UNLINK, Kind.CREATE):
        return "name"
    return "length" if operation.kind is Kind.TRUNCATE else None


_known: dict[int, frozenset[int]] = {}


def _databases(operations: Sequence[Operation]) -> frozenset[int]:
    """Inodes of database files."""
    if id(operations) not in _known:
        _known[id(operations)] = frozenset(
            operation.inode
            for operation in operations
            if operation.kind is Kind.CREATE and operation.name in (STORE, f"{STORE}.new")
        )
    return _known[id(operations)]


def cuts(operations: Sequence[Operation], seed: int, *, random_moments: int, mixes: int) -> list[Cut]:
    """All that are tried with one seed."""
    chosen = moments(operations, random.Random(seed), random_moments=random_moments)
    ways = [(DROPPED, 0), (KEPT, 0), *((MIXED, number) for number in range(mixes))]
    planned = [(operation, near, way, mix) for operation, near in chosen.items() for way, mix in ways]
    return [
        Cut(number, operation, near, way, f"{seed}/{operation}/{mix}")
        for number, (operation, near, way, mix) in enumerate(planned)
    ]


def replay(
    operations: Sequence[Operation],
    planned: Sequence[Cut],
    scratch: Path,
    *,
    library: Path | None = None,
    again: Container[int] = (),
    spoil: Callable[[Path], None] | None = None,
) -> Iterator[tuple[Cut, Verdict]]:
    """Lose power at each cut, and what the next host makes of it.

    :param again: the cuts after which the next host loses power too. It needs the library of the recorder.
    :param spoil: what is done to the folder before it is opened.
    """
    disk = Disk()
    reached = 0
    for cut in sorted(planned, key=lambda cut: cut.number):
        while reached < cut.operation:
            disk.do(operations[reached])
            reached += 1
        folder = scratch / f"cut-{cut.number}"
        folder.mkdir()
        disk.during(operations[cut.operation]).lose_power(folder, random.Random(cut.seed), cut.way)
        if spoil is not None:
            spoil(folder)
        yield cut, judge(folder, Ledger.of(disk.marks))
        shutil.rmtree(folder)
        if library is not None and cut.number in again:
            yield from lose_it_again(disk, cut, operations, library, scratch)


def lose_it_again(
    disk: Disk, cut: Cut, operations: Sequence[Operation], library: Path, scratch: Path
) -> Iterator[tuple[Cut, Verdict]]:
    """The host that opens what is left loses power as well, at each operation of its opening."""
    first, second, recording = scratch / "first", scratch / "second", scratch / "recording"
    first.mkdir()
    disk.during(operations[cut.operation]).lose_power(first, random.Random(cut.seed), cut.way)
    left = Disk.of(first)
    command = [sys.executable, "-c", _OPEN, str(first / STORE)]
    assert power_recording.record(library, first, recording, scratch / "marks", command, ROOT) == 0
    opening = power_recording.read(recording)
    for operation in opening:
        for way in (DROPPED, KEPT, MIXED):
            second.mkdir()
            left.during(operation).lose_power(second, random.Random(f"{cut.seed}/{operation}"), way)
            yield replace(cut, near="opening after it"), judge(second, Ledger.of(disk.marks))
            shutil.rmtree(second)
        left.do(operation)
    shutil.rmtree(first)
    recording.unlink()


_OPEN = """
import sys
from pathlib import Path
from agentq_nb._store import EventLog
EventLog.open(Path(sys.argv[1])).close()
"""


def table(tallies: dict[str, Tally]) -> str:
    """Outcomes by what was near."""
    lines = [f"{'power lost near':16} {'cuts':>6} " + " ".join(f"{head:>10}" for head in (*OUTCOMES, "notices"))]
    total = Tally()
    for near, tally in tallies.items():
        total.outcomes.update(tally.outcomes)
        total.notices += tally.notices
        lines.append(_line(near, tally))
    return "\n".join([*lines, _line("all", total)])


def _line(near: str, tally: Tally) -> str:
    counts = [*(tally.outcomes[outcome] for outcome in OUTCOMES), tally.notices]
    return f"{near:16} {tally.outcomes.total():>6} " + " ".join(f"{count:>10}" for count in counts)


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.power", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--recording", type=Path, help="a recording that an earlier run has kept")
    parser.add_argument("--only", type=int, help="the number of the one cut to try")
    parser.add_argument("--mixes", type=int, default=2, help="how often each moment is tried with a random mix")
    parser.add_argument("--random", type=int, default=RANDOM_MOMENTS, help="random moments")
    parser.add_argument("--again", type=int, default=5, help="after how many cuts the next host loses power too")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    """0 when everything was there each time."""
    options = _parsed(words)
    base, scratch = temporary_folder(), temporary_folder()
    try:
        library = power_recording.build(base)
        recording = options.recording or record(base, library)
    except NoCompiler as missing:
        print(missing, file=sys.stderr)
        return 2
    operations = power_recording.read(recording)
    planned = cuts(operations, options.seed, random_moments=options.random, mixes=options.mixes)
    near = [cut.number for cut in planned if cut.near == "checkpoint" and cut.way == MIXED]
    again = frozenset(random.Random(options.seed).sample(near, min(options.again, len(near))))
    if options.only is not None:
        planned = [planned[options.only]]
    print(f"seed {options.seed}: {len(operations)} operations, {len(planned)} cuts; recording {recording}", flush=True)
    tallies: dict[str, Tally] = {}
    failed = 0
    for cut, verdict in replay(operations, planned, scratch, library=library, again=again):
        tallies.setdefault(cut.near, Tally()).add(verdict)
        if verdict.outcome != WHOLE:
            failed += 1
            print(
                f"--only {cut.number} ({cut.near}, operation {cut.operation}, {cut.way}): {verdict.outcome}: {verdict.said}",
                flush=True,
            )
    print(table(tallies))
    shutil.rmtree(scratch)
    if failed:
        print(
            f"Again: python -m tests.faults.power --recording {recording} --seed {options.seed} --only K",
            file=sys.stderr,
        )
    else:
        shutil.rmtree(base)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
