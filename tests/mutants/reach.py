"""A pytest plugin that records which functions of the package each test enters: ``pytest -p tests.mutants.reach``.

The environment's ``AGENTQ_REACH`` names the file to write. A mutant is then tried by the tests alone that enter the
function it is in, the fastest first. Processes that tests start are not recorded.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGE = str(CHECKOUT / "agentq_nb") + os.sep

_entered: set[CodeType] = set()
_tests: dict[str, tuple[float, list[str]]] = {}
_failed: set[str] = set()


def _enter(frame: FrameType, event: str, argument: object) -> None:
    _entered.add(frame.f_code)


def _names(codes: set[CodeType]) -> list[str]:
    return sorted(
        {
            f"{Path(code.co_filename).relative_to(CHECKOUT).as_posix()}:{code.co_qualname}"
            for code in codes
            if code.co_filename.startswith(PACKAGE)
        }
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note what is entered while one test runs, its fixtures included."""
    _entered.clear()
    began = time.monotonic()
    threading.settrace(_enter)
    sys.settrace(_enter)
    try:
        return (yield)
    finally:
        sys.settrace(None)
        _tests[item.nodeid] = (time.monotonic() - began, _names(set(_entered)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Leave out tests that fail or are skipped without a mutant: they prove nothing."""
    if not report.passed:
        _failed.add(report.nodeid)


def pytest_sessionfinish() -> None:
    """Write the file: test -> seconds and the functions it enters."""
    functions = {name: number for number, name in enumerate(sorted({n for _, names in _tests.values() for n in names}))}
    whole = {
        "functions": list(functions),
        "tests": {
            test: [round(seconds, 3), [functions[name] for name in names]]
            for test, (seconds, names) in _tests.items()
            if test not in _failed
        },
    }
    Path(os.environ["AGENTQ_REACH"]).write_text(json.dumps(whole))
