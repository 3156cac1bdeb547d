"""What was found: survivors with their differences, and the table by area."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.mutants.areas import AREAS
from tests.mutants.mutant import Mutant
from tests.mutants.runner import Result

EXPLAINED = Path(__file__).with_name("explained.toml")


class Explanations:
    """Why some survivors change nothing that anyone could see, or nothing that matters.

    Each names the file, the function, and the lines that are gone and new, so that it holds wherever these move.
    """

    def __init__(self, file: Path = EXPLAINED) -> None:
        entries = tomllib.loads(file.read_text()).get("mutant", []) if file.exists() else []
        self._why = {
            (one["file"], one["function"], tuple(one["gone"]), tuple(one["new"])): one["why"] for one in entries
        }

    def why(self, mutant: Mutant) -> str | None:
        """The explanation of a mutant; None when it has none."""
        return self._why.get((mutant.path, mutant.function, *mutant.changes))


def survivor(mutant: Mutant, result: Result, why: str | None) -> str:
    """One survivor, as text."""
    note = f"\n    why: {why}" if why else ""
    word = "explained" if why else result.outcome.upper()
    return f"{word} {mutant.path}:{mutant.line} {mutant.function} ({mutant.mistake}) {mutant.id}\n{mutant.diff}{note}"


def table(found: Iterable[tuple[str, Mutant, Result]], explanations: Explanations) -> str:
    """Killed, survived and explained by area."""
    counts: Counter[tuple[str, str]] = Counter()
    for area, mutant, result in found:
        word = "killed" if result.outcome == "killed" else "explained" if explanations.why(mutant) else "survived"
        counts[area, word] += 1
        counts["all", word] += 1
    rows = [f"{'area':12}{'killed':>8}{'survived':>10}{'explained':>11}{'killed of the unexplained':>28}"]
    for area in [*(area.name for area in AREAS), "named", "all"]:
        killed, survived, explained = (counts[area, word] for word in ("killed", "survived", "explained"))
        if killed + survived + explained:
            rate = f"{killed / (killed + survived):.0%}" if killed + survived else "-"
            rows.append(f"{area:12}{killed:>8}{survived:>10}{explained:>11}{rate:>28}")
    return "\n".join(rows)


def entry(mutant: Mutant) -> str:
    """What to add to the file of explanations for a mutant, the reason left open."""
    gone, new = mutant.changes
    lines = (f"file = {_quoted(mutant.path)}", f"function = {_quoted(mutant.function)}", f"gone = {_list(gone)}")
    return "\n".join(["[[mutant]]", *lines, f"new = {_list(new)}", 'why = ""'])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _list(lines: Sequence[str]) -> str:
    return "[" + ", ".join(_quoted(line) for line in lines) + "]"
