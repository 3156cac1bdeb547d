"""All checks, one after the other, stopping at the first that fails: ``python -m tests``.

Words after it go to pytest: ``python -m tests tests/unit -k queue``.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def main(words: list[str]) -> int:
    """Run every check in the checkout; 0, or the exit code of the one that failed."""
    python = sys.executable
    checks = [
        [python, "-m", "ruff", "check"],
        [python, "-m", "ruff", "format", "--check"],
        [python, "-m", "pyright", "--pythonpath", python],
        [str(Path(sysconfig.get_path("scripts"), "lint-imports"))],
        [python, "-m", "pytest", *words],
    ]
    for check in checks:
        print(f"$ {' '.join(check)}", flush=True)
        if code := subprocess.run(check, cwd=CHECKOUT).returncode:
            print(f"FAILED, and nothing after it was run: {' '.join(check)}", file=sys.stderr)
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
