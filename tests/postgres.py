"""Tests that are written for queues in a file, with their queues on a real PostgreSQL server: ``python -m tests.postgres``.

Words after it go to pytest, in place of the tests of flow control. Tests that are marked ``file_only`` are left out. One
server runs for all of them. ``python -m tests.postgres --part`` is what always runs: one file of each subject.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.postgres_address.sitecustomize import SERVER
from tests.postgres_server import HOW_TO_GET_IT, programs, running_server

CHECKOUT = Path(__file__).resolve().parent.parent
_ADDRESS = CHECKOUT / "tests" / "postgres_address"
_TESTS = ["tests/unit/policies", "tests/unit/runtime", "tests/unit/batches"]
_PART = [
    "tests/unit/batches/test_gathering.py",
    "tests/unit/batches/test_redo.py",
    "tests/unit/runtime/test_handlers.py",
    "tests/unit/runtime/test_settling.py",
    "tests/unit/runtime/test_sleeping.py",
    "tests/unit/runtime/test_stopping.py",
    "tests/unit/runtime/test_stop_after.py",
    "tests/unit/runtime/test_upkeep.py",
]
_CHOSEN = ["-m", "not file_only"]


def main(words: Sequence[str]) -> int:
    """Run pytest; its exit code."""
    found = programs()
    if found is None:
        print(HOW_TO_GET_IT, file=sys.stderr)
        return 1
    with running_server(found) as server:
        paths = [str(_ADDRESS), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, SERVER: server.url, "PYTHONPATH": os.pathsep.join(paths)}
        return subprocess.run(
            [sys.executable, "-m", "pytest", *_CHOSEN, *(_PART if words == ["--part"] else words or _TESTS)],
            cwd=CHECKOUT,
            env=environment,
        ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
