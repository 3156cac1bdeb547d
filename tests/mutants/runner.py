"""Trying a mutant: its tests, in a process of their own, against a copy of the package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from tests.mutants.areas import CHECKOUT, in_kernels
from tests.mutants.mutant import Mutant

Outcome: TypeAlias = Literal["killed", "survived", "unreached"]

_COPIED = (
    "agentq_nb",
    "tests",
    "docs",
    "notebooks",
    "binder",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "pyproject.toml",
)

_SLOWEST = 20.0
"""Seconds that a test takes at most to be among those that are run."""
_ENOUGH = 90.0
"""Seconds of tests, as they take without a mutant, after which it has survived."""
_UNSTABLE = 4
"""How often a test may fail that fails without the mutant, too, before the mutant has survived."""
_TEST_TIMEOUT = 45
"""Seconds after which a test that a mutant has made hang is given up, and the mutant is killed."""

_NONE_LEFT = "5"
"""pytest's exit code when it ran no test: all of a file failed without the mutant, too."""


@dataclass(frozen=True)
class Test:
    """A test, and how long it takes without a mutant, in seconds."""

    id: str
    seconds: float


class Reach:
    """Which tests run which lines, as :mod:`tests.mutants.reach` has recorded it."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._tests: defaultdict[tuple[str, str], list[Test]] = defaultdict(list)
        """By the module and the text of the line."""
        self._of_file: defaultdict[str, set[Test]] = defaultdict(set)
        """By the file of tests: those that pass."""
        for file in files:
            recorded = json.loads(file.read_text())
            tests = [Test(name, seconds) for name, seconds in recorded["tests"]]
            for number in set(range(len(tests))) - set(recorded.get("failed", ())):
                self._of_file[tests[number].id.partition("::")[0]].add(tests[number])
            for path, lines in recorded["modules"].items():
                for text, numbers in lines.items():
                    self._tests[path, text] += [tests[number] for number in numbers]

    def _running(self, mutant: Mutant) -> Collection[Test]:
        """Those that run the line; of a line that is run when its module is imported, those that run anything there.

        Of a line that none runs in its own process, those that run its module in kernels; without any, those that run
        anything in the module's folder: a process that they start may run it.
        """
        if mutant.function and not mutant.statement.startswith(("def ", "async def ", "class ")):
            # The first line of a statement of several lines is not always one that is run.
            changed = mutant.before.splitlines()[mutant.line - 1].strip()
            if running := self._tests[mutant.path, mutant.statement] or self._tests[mutant.path, changed]:
                return running
            if kernels := self._in_kernels(mutant):
                return kernels
            return self._running_anything(lambda path: Path(path).parent == Path(mutant.path).parent)
        return self._running_anything(lambda path: path == mutant.path) | self._in_kernels(mutant)

    def _in_kernels(self, mutant: Mutant) -> set[Test]:
        return {test for file in in_kernels(mutant.path) for test in self._of_file[file]}

    def _running_anything(self, wanted: Callable[[str], bool]) -> set[Test]:
        return {test for (path, _), tests in self._tests.items() if wanted(path) for test in tests}

    def tests(self, mutant: Mutant) -> list[Test]:
        """Those to run, in this order: quick ones first, but of each file some before many of another's.

        Of a test with parameters, one is run, then another. A line that nearly all tests run is what few of them are
        about, and these are hardly the quickest of all: those in a file that is named after the module come early.
        """
        found = sorted(self._running(mutant), key=lambda test: test.seconds)
        turns: Counter[str] = Counter()
        ordered: list[tuple[float, Test]] = []
        for test in found:
            function = test.id.partition("[")[0]
            file = test.id.partition("::")[0]
            turns.update((function, file))
            about = 0.05 if Path(mutant.path).stem in Path(file).stem else 1.0
            ordered.append((about * test.seconds * max(turns[function], turns[file] / 4), test))
        chosen: list[Test] = []
        left = _ENOUGH
        for _, test in sorted(ordered, key=lambda one: one[0]):
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
        self.folder = folder
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

    def attempt(
        self, mutant: Mutant, tests: Sequence[str], seconds: float = _ENOUGH, *, steady: bool = False
    ) -> Result:
        """Run the tests on the mutant until one fails. ``seconds`` is what they take without it.

        ``steady``: they pass without it, as is known from elsewhere. Raises RuntimeError when they cannot be run without it either.
        """
        if not tests:
            return Result("unreached", 0.0)
        began = time.monotonic()
        left = list(tests)
        for _ in range(_UNSTABLE):
            with self._mutated(mutant):
                answer, said = self._run([f"timeout={_TEST_TIMEOUT}"], left, 3 * seconds + 60)
            if answer in ("0", _NONE_LEFT):
                break
            failed = [line.partition(" ")[2] for line in said.splitlines() if line.startswith(("FAILED ", "ERROR "))]
            by = failed[0].partition(" - ")[0] if failed else said.strip()[-200:]
            if answer == "late" or steady or self._pass_without(left, by):
                return Result(
                    "killed", round(time.monotonic() - began, 1), "(took too long)" if answer == "late" else by
                )
            left = self._without(left, by)  # it fails now and then without the mutant
            if not left:
                break
        return Result("survived", round(time.monotonic() - began, 1))

    @staticmethod
    def _without(tests: Sequence[str], failed: str) -> list[str]:
        """The tests but for one, which may be named by its file or by its function."""
        rest = [test for test in tests if test != failed]
        return rest if len(rest) < len(tests) or not rest else [*rest, f"--deselect={failed}"]

    def _pass_without(self, tests: Sequence[str], failed: str) -> bool:
        """Whether the test that failed passes on the package as it is; or all, when that is not the name of one."""
        known = any(failed == test or failed.startswith((test + "::", test + "[")) for test in tests)
        answer, said = self._run([], [failed] if known else ["--collect-only", *tests], 300)
        if answer != "0" and not known:
            raise RuntimeError(f"The tests cannot be run without a mutant:\n{said[-2000:]}")
        return answer == "0"

    @contextmanager
    def _mutated(self, mutant: Mutant) -> Generator[None]:
        file = self.folder / mutant.path
        try:
            _replace(file, mutant.after)
            yield
        finally:
            _replace(file, mutant.before)

    def _run(self, settings: Sequence[str], tests: Sequence[str], limit: float) -> tuple[str, str]:
        """Run tests until one fails; pytest's exit code or ``late``, and what it said."""
        listed, output = self.folder / "tests-to-run", self.folder / "output"
        listed.write_text("\n".join(tests))
        words = ["-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
        words += [word for setting in settings for word in ("-o", setting)]
        asked = {"words": [*words, f"@{listed}"], "output": str(output), "limit": limit}
        assert self._warm.stdin is not None
        assert self._warm.stdout is not None
        self._warm.stdin.write(json.dumps(asked) + "\n")
        self._warm.stdin.flush()
        answer = self._warm.stdout.readline().strip()
        if not answer:
            raise RuntimeError("The process that runs the tests has ended.")
        return answer, output.read_text(errors="replace") if output.exists() else ""


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
