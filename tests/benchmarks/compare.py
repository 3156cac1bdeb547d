"""``python -m tests.benchmarks.compare OTHER``: every figure of this checkout set against another checkout's.

Both measure in turn, round by round, each by its own benchmarks and its own ``.venv``, so that a machine that slows down
slows both. A figure is worse when the whole 95 % interval of its ratios lies above 1.05.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.figures import median

ROOT = Path(__file__).parents[2]

ROW = re.compile(r"(?P<name>\S.*?) {2,}(?P<value>[\d,.]+(?:e-?\d+)?) (?P<unit>\S+)(?: {2,}.*)?")
"""A row of the table that ``python -m tests.benchmarks`` prints."""

WORSE = 1.05


def measure(checkout: Path, parts: Sequence[str]) -> dict[str, float]:
    """What each figure costs in one round: seconds, bytes, or the inverse of a rate."""
    command = [str(checkout / ".venv/bin/python"), "-m", "tests.benchmarks", *parts, "--rounds", "1"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{checkout}: the benchmarks failed:\n{done.stderr[-2000:]}")
    costs: dict[str, float] = {}
    for line in done.stdout.splitlines():
        if (row := ROW.fullmatch(line.rstrip())) and not line.startswith(" "):
            value = float(row["value"].replace(",", ""))
            if value > 0:
                costs[f"{row['name']} ({row['unit']})"] = 1 / value if row["unit"].endswith("/s") else value
    return costs


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """A 95 % interval of the median, by order statistics: no shape is assumed. All of it, below six values."""
    ordered, count = sorted(ratios), len(ratios)
    outside, term, rank = 0.0, 0.5**count, 0
    while rank < count and outside + 2 * term <= 0.05:
        outside += 2 * term
        term = term * (count - rank) / (rank + 1)
        rank += 1
    first = max(rank - 1, 0)
    return ordered[first], ordered[-1 - first]


def main(words: Sequence[str]) -> int:
    """Print one line a figure; 1 when one is worse."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.compare", description=__doc__)
    parser.add_argument("other", type=Path, help="a checkout with a .venv of its own, with the extra 'benchmark'")
    parser.add_argument("parts", nargs="*", metavar="PART", help="as for python -m tests.benchmarks")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="measure both so often (15)")
    given = parser.parse_args(words)
    ratios: dict[str, list[float]] = {}
    for number in range(given.rounds):
        print(f"round {number + 1} of {given.rounds} …", file=sys.stderr, flush=True)
        checkouts = [ROOT, given.other.resolve()]
        measured = {path: measure(path, given.parts) for path in (checkouts if number % 2 else checkouts[::-1])}
        ours, others = (measured[path] for path in checkouts)
        for name in ours.keys() & others.keys():
            ratios.setdefault(name, []).append(ours[name] / others[name])
    print(f"this checkout's cost / {given.other}'s: median (95 % interval), {given.rounds} rounds in turn")
    worse = 0
    for name, values in sorted(ratios.items()):
        low, high = interval(values)
        worse += low > WORSE
        print(f"{median(values):7.3f} ({low:.3f}-{high:.3f})  {name}{'  WORSE' if low > WORSE else ''}")
    return int(worse > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
