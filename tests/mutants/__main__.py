"""``python -m tests.mutants``: see :mod:`tests.mutants`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.mutants import named
from tests.mutants.areas import AREAS, CHECKOUT, Area, files_of
from tests.mutants.mutant import Mutant
from tests.mutants.mutations import all_of
from tests.mutants.report import Explanations, entry, survivor, table
from tests.mutants.runner import Reach, Result, Tree, tree

RESULTS = CHECKOUT / "artefacts" / "mutants.jsonl"
REACH = CHECKOUT / "artefacts" / "reach"


def main(words: list[str]) -> int:
    """Try mutants and print what survives; 1 when one survives without an explanation."""
    options = _options(words)
    areas = [area for area in AREAS if options.area in (None, area.name)]
    if options.record:
        return _record(areas)
    explanations = Explanations()
    found: list[tuple[str, Mutant, Result]] = []
    with tree() as copy:
        for area, mutant, result in _results(options, areas, copy):
            found.append((area, mutant, result))
            if result.outcome != "killed":
                print(survivor(mutant, result, explanations.why(mutant)), flush=True)
                if options.entries and not explanations.why(mutant):
                    print(entry(mutant), flush=True)
            elif options.verbose:
                print(f"killed {mutant.path}:{mutant.line} in {result.seconds} s by {result.by}", flush=True)
    print(table(found, explanations))
    return int(any(result.outcome != "killed" and not explanations.why(mutant) for _, mutant, result in found))


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.mutants")
    parser.add_argument("--record", action="store_true", help="record which tests enter which functions; do this first")
    parser.add_argument("--area", choices=[area.name for area in AREAS], help="one area only")
    parser.add_argument("--count", type=int, default=220, help="mutants in all areas together")
    parser.add_argument("--seed", type=int, default=1, help="another choice of mutants")
    parser.add_argument("--named", action="store_true", help="the mutants with names, instead of those of chance")
    parser.add_argument("--fixed", action="store_true", help="the twenty of them that the tests try each time")
    parser.add_argument("--again", action="store_true", help="try survivors of earlier runs again")
    parser.add_argument("--entries", action="store_true", help="print what to add to explained.toml")
    parser.add_argument("--verbose", action="store_true", help="print what was killed, too")
    return parser.parse_args(words)


def _results(options: argparse.Namespace, areas: Sequence[Area], copy: Tree) -> Iterator[tuple[str, Mutant, Result]]:
    reach = Reach(sorted(REACH.glob("*.json")))
    if options.named or options.fixed:
        for one in named.NAMED:
            if one.fixed or not options.fixed:
                mutant = one.mutant()
                yield "named", mutant, copy.attempt(mutant, one.tests or [test.id for test in reach.tests(mutant)])
        return
    known = _known()
    for area in areas:
        for mutant in _chosen(area, options.count, options.seed):
            result = known.get(mutant.id)
            if result is None or (options.again and result.outcome != "killed"):
                tests = reach.tests(mutant)
                result = copy.attempt(mutant, [test.id for test in tests], sum(test.seconds for test in tests))
                _remember(mutant, result)
            yield area.name, mutant, result


def _chosen(area: Area, count: int, seed: int) -> list[Mutant]:
    sources = {path: (CHECKOUT / path).read_text() for path in files_of(area)}
    share = round(count * area.share / sum(area.share for area in AREAS))
    return sorted(all_of(sources), key=lambda mutant: mutant.rank(seed))[:share]


def _known() -> dict[str, Result]:
    """The results of earlier runs, by mutant; the last one counts."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return {one["id"]: Result(one["outcome"], one["seconds"], one["by"]) for one in map(json.loads, lines)}


def _remember(mutant: Mutant, result: Result) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        print(json.dumps({"id": mutant.id, "path": mutant.path, "line": mutant.line, **asdict(result)}), file=file)


def _record(areas: Sequence[Area]) -> int:
    """Run the areas' tests, each once, and note what they enter."""
    REACH.mkdir(parents=True, exist_ok=True)
    wanted = {Path(tests) for area in areas for tests in area.tests}
    for tests in sorted(path.as_posix() for path in wanted if not wanted.intersection(path.parents)):
        file = REACH / (tests.replace("/", ".") + ".json")
        pytest = [sys.executable, "-m", "pytest", "-q", "-n", "4", "--dist", "loadfile", "-p", "no:cacheprovider"]
        recording = [*pytest, "-p", "tests.mutants.reach", tests]
        subprocess.run(recording, cwd=CHECKOUT, env={**os.environ, "AGENTQ_REACH": str(file)})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
