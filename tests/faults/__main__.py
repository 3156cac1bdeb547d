"""``python -m tests.faults``: hosts under seeded faults, and whether the promises hold.

``--seeds 100`` runs seeds 0 to 99, ``--seed N`` one of them again, ``--kind NAME`` only seeds of that fault.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.driver import Run
from tests.faults.plan import KINDS, make_plan
from tests.faults.plants import PLANTS
from tests.faults.promises import Verdict


def judge(seed: int, kind: str | None = None, plant: str | None = None, lives: int = 3) -> Verdict:
    """Run the plan of a seed and check it. The folder is left behind when something is wrong."""
    folder = Path(tempfile.mkdtemp(prefix=f"faults-{seed}-"))
    verdict = Verdict(Run(make_plan(seed, kind, lives), folder, plant).go())
    if not verdict.broken:
        _remove(folder)
    return verdict


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.rmdir()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=len(KINDS), help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--kind", choices=KINDS, help="the fault, rather than each seed's own")
    parser.add_argument("--plant", choices=PLANTS, help="a bug that is planted in the hosts, to be found")
    parser.add_argument("--at-once", type=int, default=2, help="runs side by side")
    given = parser.parse_args()
    seeds = [given.seed] if given.seed is not None else list(range(given.first, given.first + given.seeds))
    verdicts: dict[int, Verdict] = {}
    with ThreadPoolExecutor(given.at_once) as runs:
        waited = {seed: runs.submit(judge, seed, given.kind, given.plant) for seed in seeds}
        began = time.monotonic()
        for seed, future in waited.items():
            verdict = verdicts[seed] = future.result()
            print(
                f"seed {seed} ({verdict.run.plan.kind}): {len(verdict.broken)} broken, {time.monotonic() - began:.0f} s"
            )
            for sentence in verdict.broken[:8]:
                print(f"    {sentence[:600]}")
            if verdict.broken:
                print(f"    kept: {verdict.run.folder}")
            sys.stdout.flush()
    print(f"\n{table(list(verdicts.values()))}")
    failed = [seed for seed, verdict in verdicts.items() if verdict.broken]
    print(f"seeds that failed: {' '.join(map(str, failed)) or 'none'}")
    return 1 if failed else 0


def table(verdicts: list[Verdict]) -> str:
    """A line for each kind of fault."""
    kinds: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        kinds[verdict.run.plan.kind].append(verdict)
        kinds["all"].append(verdict)
    rows: list[tuple[str, ...]] = [
        ("fault", "runs", "sends", "acknowledged", "refused", "repeats", "lost", "broken promises")
    ]
    for kind in [*(kind for kind in KINDS if kind in kinds), "all"]:
        of_kind = kinds[kind]
        sums = (
            sum(verdict.sends for verdict in of_kind),
            sum(verdict.acknowledged for verdict in of_kind),
            sum(verdict.refused for verdict in of_kind),
            sum(verdict.repeats for verdict in of_kind),
            sum(verdict.lost for verdict in of_kind),
            sum(len(verdict.broken) for verdict in of_kind),
        )
        rows.append((kind, str(len(of_kind)), *map(str, sums)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        row[0].ljust(widths[0])
        + "".join("  " + cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
