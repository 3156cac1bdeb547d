"""``python -m tests.distributed``: hosts on one PostgreSQL under seeded faults, and whether the promises hold.

``--seeds 30`` runs seeds 0 to 29, ``--seed N`` one of them again, ``--kind NAME`` only that fault, ``--small`` what the tests
run.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from tests.distributed.plan import KINDS, LARGE, SMALL, Size, make_plan
from tests.distributed.promises import broken_promises, of_kind
from tests.distributed.run import Run
from tests.postgres_server import HOW_TO_GET_IT, programs


def judge(seed: int, kind: str | None, size: Size, found: Path) -> tuple[Run, list[str]]:
    """Run the plan of a seed and check it. The folder is left behind when something is wrong."""
    folder = Path(tempfile.mkdtemp(prefix=f"distributed-{seed}-"))
    run = Run(make_plan(seed, kind, size), folder).go(found)
    broken = broken_promises(run)
    if not broken:
        shutil.rmtree(folder, ignore_errors=True)
    return run, broken


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.distributed", description=__doc__)
    parser.add_argument("--seeds", type=int, default=len(KINDS), help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--kind", choices=KINDS, help="the fault, rather than each seed's own")
    parser.add_argument("--small", action="store_true", help="with as few messages as in the tests")
    given = parser.parse_args()
    found = programs()
    if found is None:
        print(HOW_TO_GET_IT, file=sys.stderr)
        return 2
    seeds = [given.seed] if given.seed is not None else range(given.first, given.first + given.seeds)
    runs: dict[str, list[Run]] = defaultdict(list)
    failed: list[int] = []
    for seed in seeds:
        run, broken = judge(seed, given.kind, SMALL if given.small else LARGE, found)
        runs[run.plan.kind].append(run)
        print(f"seed {seed} ({run.plan.kind}): {len(broken)} broken, {run.seconds:.0f} s", flush=True)
        for sentence in broken[:8]:
            print(f"    {sentence[:2000]}", flush=True)
        if broken:
            failed.append(seed)
            print(f"    kept: {run.folder}", flush=True)
    print(f"\n{table(runs)}")
    print(f"seeds that failed: {' '.join(map(str, failed)) or 'none'}")
    return 1 if failed else 0


def table(runs: dict[str, list[Run]]) -> str:
    """Return a line for each kind of fault."""
    rows: list[tuple[object, ...]] = [("fault", "runs", "acknowledged", "refused", "handled", "seconds")]
    for kind in KINDS:
        facts = [len(runs[kind])]
        facts += [sum(len(of_kind(run, fact)) for run in runs[kind]) for fact in ("sent", "refused", "began")]
        rows.append((kind, *facts, round(sum(run.seconds for run in runs[kind]))))
    return "\n".join("".join(f"{value:<14}" for value in row) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
