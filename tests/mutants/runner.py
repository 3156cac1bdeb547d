"""Trying a mutant: its tests, in a process of their own, against a copy of the package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import pytest

from tests.mutants.areas import CHECKOUT
from tests.mutants.mutations import Mutant

Outcome: TypeAlias = Literal["killed", "survived", "unreached"]

_COPIED = ("agentq_nb", "tests", "docs", "notebooks", "binder", "README.md", "LICENSE", "pyproject.toml")

_SLOWEST = 15.0
"""Seconds that a test takes at most to be among those that are run."""
_ENOUGH = 45.0
"""Seconds of tests, as they take without a mutant, after which it has survived."""
_TEST_TIMEOUT = 45
"""Seconds after which a test that a mutant has made hang is given up, and the mutant is killed."""


@dataclass(frozen=True)
class Test:
    """A test, and how long it takes without a mutant, in seconds."""

    id: str
    seconds: float
    functions: int
    """How many functions of the package it enters: the fewer, the more it says of each."""


class Reach:
    """Which tests enter which functions, as :mod:`tests.mutants.reach` has recorded it."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._of_function: defaultdict[str, dict[str, Test]] = defaultdict(dict)
        self._of_module: defaultdict[str, dict[str, Test]] = defaultdict(dict)
        for file in files:
            recorded = json.loads(file.read_text())
            functions: list[str] = recorded["functions"]
            for name, (seconds, numbers) in recorded["tests"].items():
                test = Test(name, seconds, len(numbers))
                for number in numbers:
                    self._of_function[functions[number]][name] = test
                    self._of_module[functions[number].partition(":")[0]][name] = test

    def tests(self, mutant: Mutant) -> list[Test]:
        """Those to run, in this order: quick ones that enter little else come first."""
        # What a function defines inside may be called where the function is not, and the other way round.
        name = f"{mutant.path}:{mutant.function}"
        found = self._of_function[name] if mutant.function else self._of_module[mutant.path]
        if not found and ".<locals>." in name:
            found = self._of_function[name.partition(".<locals>.")[0]]
        chosen: list[Test] = []
        left = _ENOUGH
        for test in sorted(found.values(), key=lambda test: (0.05 + test.seconds) * (50 + test.functions)):
            if test.seconds <= min(_SLOWEST, left):
                chosen.append(test)
                left -= test.seconds + 0.02
        return chosen


@dataclass(frozen=True)
class Result:
    """What became of a mutant, and of the tests that were to kill it."""

    outcome: Outcome
    seconds: float
    by: str = ""
    """The test that killed it."""


class Tree:
    """A copy of the checkout in which one mutant after the other is tried."""

    def __init__(self, folder: Path) -> None:
        for name in _COPIED:
            source, target = CHECKOUT / name, folder / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
            elif source.exists():
                shutil.copy2(source, target)
        self._folder = folder
        self._warm = subprocess.Popen(
            [sys.executable, "-P", folder / "tests" / "mutants" / "warm.py"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the process that runs the tests."""
        self._warm.communicate()

    def attempt(self, mutant: Mutant, tests: Sequence[str], seconds: float = _ENOUGH) -> Result:
        """Run the tests on the mutant until one fails. ``seconds`` is what they take without it."""
        if not tests:
            return Result("unreached", 0.0)
        file = self._folder / mutant.path
        began = time.monotonic()
        try:
            _replace(file, mutant.after)
            outcome, by = self.run(tests, 3 * seconds + 60)
        finally:
            _replace(file, mutant.before)
        return Result(outcome, round(time.monotonic() - began, 1), by)

    def run(self, tests: Sequence[str], limit: float) -> tuple[Outcome, str]:
        """Run tests until one fails, on the package as it is in the copy. Raises RuntimeError when pytest cannot."""
        listed, output = self._folder / "tests-to-run", self._folder / "output"
        listed.write_text("\n".join(tests))
        words = ["-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-o", f"timeout={_TEST_TIMEOUT}"]
        asked = {"words": [*words, f"@{listed}"], "output": str(output), "limit": limit}
        assert self._warm.stdin is not None
        assert self._warm.stdout is not None
        self._warm.stdin.write(json.dumps(asked) + "\n")
        self._warm.stdin.flush()
        answer = self._warm.stdout.readline().strip()
        if answer == "0":
            return "survived", ""
        if answer == "late":
            return "killed", "(took too long)"
        said = output.read_text(errors="replace") if output.exists() else ""
        if not answer or answer == str(int(pytest.ExitCode.USAGE_ERROR)) and "not found" in said:
            raise RuntimeError(f"The tests could not be run:\n{said[-2000:]}")
        failed = [line.partition(" ")[2] for line in said.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        return "killed", failed[0].partition(" - ")[0] if failed else said.strip()[-200:]


@contextmanager
def tree() -> Generator[Tree]:
    """A copy in a temporary folder, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="agentq-mutants-", ignore_cleanup_errors=True) as folder:
        copy = Tree(Path(folder))
        try:
            yield copy
        finally:
            copy.close()


def _replace(file: Path, source: str) -> None:
    file.write_text(source)
    # Python compares seconds and sizes, which two mutants may have in common.
    for compiled in (file.parent / "__pycache__").glob(file.stem + ".*.pyc"):
        compiled.unlink()
