"""What processes that are killed write down of their work outside of the store, and how they are killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]


class Ledger:
    """A file in a folder, with a line for each fact: ``fact`` says what happened, ``at`` when.

    The times of all processes are by one clock, the monotonic one, which nothing sets.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "ledger.jsonl"

    def note(self, fact: str, **values: Any) -> None:
        """Write a line, at once."""
        line = json.dumps({"at": time.monotonic(), "fact": fact, **values}).encode() + b"\n"
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(file, line)
        os.close(file)

    def facts(self, fact: str | None = None) -> list[dict[str, Any]]:
        """All of them, or those of one kind. Of the lines the last may be cut: only whole ones count."""
        whole = self._path.read_bytes().split(b"\n")[:-1] if self._path.exists() else []
        return [found for line in whole if fact in (None, (found := json.loads(line))["fact"])]


def live(program: str, *words: str) -> subprocess.Popen[bytes]:
    """Start a program of the tests, given its module."""
    return subprocess.Popen([sys.executable, "-m", program, *words], cwd=CHECKOUT)


def live_through_kills(
    start: Callable[[], subprocess.Popen[bytes]],
    done: Callable[[], int],
    kills: int,
    pause: Callable[[random.Random], float],
) -> str:
    """Kill a process so many times, each time a moment after it has done something, and let the last one end.

    :param done: how much all of them have done.
    :param pause: draws the seconds of that moment.
    :return: how to draw them again.
    """
    seed = int(os.environ.get("AGENTQ_KILL_SEED", random.randrange(2**32)))
    chance = random.Random(seed)
    for _ in range(kills):
        process, before = start(), done()
        deadline = time.monotonic() + 60
        while done() == before and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.003)
        time.sleep(pause(chance))
        process.kill()
        process.wait()
    assert start().wait(timeout=200) == 0
    return f"AGENTQ_KILL_SEED={seed}"


BUSY = 0.1
"""Seconds within which a busy machine has a handler write down that it began, after its message was started."""


def too_early(starts: list[float], count: int, per: float) -> list[float]:
    """Return the gaps between starts that are ``count`` apart, where a gap is shorter than ``per`` seconds."""
    pairs = zip(starts, starts[count:], strict=False)
    return [later - earlier for earlier, later in pairs if later - earlier < per]


def lines_until_killed(program: str, folder: Path, name: str, *words: str) -> list[str]:
    """Run the text of a program that ends by killing itself. Returns the lines that it wrote into the file it was given.

    Its first words are the paths of a store of this name, the same in each run, and of that file.
    """
    file = folder / "ledger"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-c", program, str(folder / f"{name}.duckdb"), str(file), *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "TZ": "UTC"})
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return file.read_text().splitlines() if file.exists() else []
