"""A process that has imported what the package needs, and forks for each run of pytest: it saves two seconds each.

It is run as a program in a copy of the checkout and imports nothing of the package or its tests itself. It reads a line
of JSON for each run, ``{"words": [...], "output": path, "limit": seconds}``, and answers with pytest's exit code, or
``late`` after the limit.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from importlib import import_module

_NEEDED = ("pytest", "duckdb", "pydantic", "mcp", "acp", "anyio", "IPython", "ipykernel.ipkernel", "anywidget")


def main() -> None:
    """Answer until the input ends."""
    for name in _NEEDED:
        import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _become_pytest(asked["words"], asked["output"])
        print(_wait(child, asked["limit"]), flush=True)


def _become_pytest(words: list[str], output: str) -> None:
    os.setsid()
    nothing, written = os.open(os.devnull, os.O_RDONLY), os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(nothing, 0)
    os.dup2(written, 1)
    os.dup2(written, 2)
    code = 3
    try:
        sys.argv = ["pytest", *words]
        code = int(import_module("pytest").main(words))
        sys.stdout.flush()
    finally:
        os._exit(code)  # a thread that a mutant has made immortal must not hold it up


def _wait(child: int, limit: float) -> str:
    """The exit code of a child, or ``late``. All that it started and left in its group is killed."""
    end = time.monotonic() + limit
    ended, status = os.waitpid(child, os.WNOHANG)
    while not ended and time.monotonic() < end:
        time.sleep(0.02)
        ended, status = os.waitpid(child, os.WNOHANG)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not ended:
        os.waitpid(child, 0)
        return "late"
    return str(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
