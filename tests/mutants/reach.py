"""A pytest plugin that records which lines of the package each test runs: ``pytest -p tests.mutants.reach``.

The environment's ``AGENTQ_REACH`` names the file to write. A mutant is then tried by the tests alone that run the line it
is in, quick ones first. Lines are known by their text, so that a record holds wherever they move. Processes that tests
start are not recorded. Each worker of a parallel run writes a file of its own.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

from tests.mutants.areas import CHECKOUT

_tests: dict[str, float] = {}
_failed: set[str] = set()
_recorder = coverage.Coverage(data_file=None, source=[str(CHECKOUT / "agentq_nb")], config_file=False)


def pytest_sessionstart() -> None:
    """Begin. What importing the package runs belongs to no test."""
    _recorder.start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note what one test runs, its fixtures included."""
    _recorder.switch_context(item.nodeid)
    began = time.monotonic()
    try:
        return (yield)
    finally:
        _tests[item.nodeid] = time.monotonic() - began
        _recorder.switch_context("")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Leave out tests that fail or are skipped without a mutant: they prove nothing."""
    if not report.passed:
        _failed.add(report.nodeid)


def pytest_sessionfinish() -> None:
    """Write the file: the tests with their seconds, those that failed, and for each line of each module those that run it."""
    _recorder.stop()
    numbers = {test: number for number, test in enumerate(_tests) if test not in _failed}
    data = _recorder.get_data()
    modules: dict[str, dict[str, list[int]]] = {}
    for file in data.measured_files():
        source = Path(file).read_text().splitlines()
        lines: defaultdict[str, set[int]] = defaultdict(set)
        for line, contexts in data.contexts_by_lineno(file).items():
            if 0 < line <= len(source):  # a test may compile code that claims to be in a file of the package
                lines[source[line - 1].strip()] |= {numbers[test] for test in contexts if test in numbers}
        path = Path(file).relative_to(CHECKOUT).as_posix()
        modules[path] = {text: sorted(found) for text, found in lines.items() if found}
    failed = [number for number, test in enumerate(_tests) if test in _failed]
    timed = [[test, round(seconds, 3)] for test, seconds in _tests.items()]
    whole = {"tests": timed, "failed": failed, "modules": modules}
    file = Path(os.environ["AGENTQ_REACH"])
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        file = file.with_stem(f"{file.stem}.{worker}")
    file.write_text(json.dumps(whole))
