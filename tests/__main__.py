"""All checks, one after the other, stopping at the first that fails: ``python -m tests``.

Words after it go to pytest, which then runs them one after the other: ``python -m tests tests/unit -k queue``. ``python -m
tests --full`` spends a night of 200 tasks, and goes on with further Pythons, lowest versions and more programs; see
:mod:`tests.environments`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

SIDE_BY_SIDE = ["-n", "3", "--dist", "loadfile", "--no-loadscope-reorder"]
"""Three workers for two cores, since half of the time is spent waiting. Each takes one file of tests after the other."""

FULL = {
    "AGENTQ_NIGHT_TASKS": "200",
    "AGENTQ_IDLE_CONNECTIONS": "10000",
    "AGENTQ_FUZZ_INPUTS": "100000",
    "AGENTQ_LOAD_SECONDS": "30",
}
"""What makes single tests larger with ``--full``."""


def main(words: list[str]) -> int:
    """Run every check in the checkout; 0, or the exit code of the one that failed."""
    python = sys.executable
    full = words == ["--full"]
    environments = [[python, "-m", "tests.environments"]] if full else []
    variables = {**FULL, **os.environ} if full else None
    checks = [
        # Hundreds of kernels are started, and each would compile the package where Python is told to write no bytecode.
        [python, "-m", "compileall", "-q", "agentq_nb", "tests"],
        [python, "-m", "ruff", "check"],
        [python, "-m", "ruff", "format", "--check"],
        [python, "-m", "pyright", "--pythonpath", python],
        [str(Path(sysconfig.get_path("scripts"), "lint-imports"))],
        [python, "-m", "pytest", *((not full and words) or SIDE_BY_SIDE)],
        *([] if words and not full else [[python, "-m", "tests.postgres", "--part"]]),
        *environments,
    ]
    for check in checks:
        print(f"$ {' '.join(check)}", flush=True)
        if code := subprocess.run(check, cwd=CHECKOUT, env=variables).returncode:
            print(f"FAILED, and nothing after it was run: {' '.join(check)}", file=sys.stderr)
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
