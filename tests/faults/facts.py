"""The ledger outside the host: facts go through a named pipe to the driver, which keeps them in the order of arrival.

A pipe is what no fault of a disk, no limit on files and no kill can take back: once ``os.write`` has returned, the fact
is the kernel's, and the driver reads it though the writer is dead.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Fact = dict[str, Any]
"""``fact`` (its kind), ``life`` (who says so), ``order`` (a number, in the order of arrival), ``at`` (seconds), and more."""


class Pen:
    """Writes facts, in one process only: a forked child that goes on as if it were its parent writes none."""

    def __init__(self, pipe: Path, life: int) -> None:
        self._life = life
        self._pid = os.getpid()
        self._pipe = os.open(pipe, os.O_WRONLY | os.O_CLOEXEC)

    def note(self, fact: str, **values: Any) -> None:
        """Write one fact; it is told when this returns. Memory that is short is waited for."""
        while os.getpid() == self._pid:
            try:
                line = json.dumps({"fact": fact, "life": self._life, **values}).encode() + b"\n"
                assert len(line) <= 4096, f"more than a pipe takes whole: {line[:200]!r}"
                os.write(self._pipe, line)
                return
            except MemoryError:
                time.sleep(0.01)


class Ledger:
    """The driver's side: all facts of one run."""

    def __init__(self, pipe: Path) -> None:
        self.facts: list[Fact] = []
        self._arrived = threading.Condition()
        self._began = time.monotonic()
        os.mkfifo(pipe, 0o600)
        self._pipe = os.open(pipe, os.O_RDWR)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        begun = b""
        while piece := os.read(self._pipe, 1 << 16):
            *whole, begun = (begun + piece).split(b"\n")
            for line in whole:
                if line == b"end":
                    return
                self._add(json.loads(line))

    def _add(self, fact: Fact) -> None:
        with self._arrived:
            fact["order"], fact["at"] = len(self.facts), round(time.monotonic() - self._began, 3)
            self.facts.append(fact)
            self._arrived.notify_all()

    def note(self, fact: str, **values: Any) -> None:
        """A fact of the driver's own."""
        self._add({"fact": fact, **values})

    def wait(self, kinds: Iterable[str], life: int, seconds: float, unless: Callable[[], bool], since: int = 0) -> bool:
        """Whether a fact of the kinds came from that life, after ``since``, before ``unless()`` or the end of the time."""
        wanted = set(kinds)
        deadline = time.monotonic() + seconds
        while True:
            over = unless()
            with self._arrived:
                for fact in self.facts[since:]:
                    if fact["fact"] in wanted and fact.get("life") == life:
                        return True
                if over or time.monotonic() > deadline:
                    return False
                self._arrived.wait(0.02)

    def close(self) -> None:
        """Take in all that was written, and end."""
        os.write(self._pipe, b"end\n")
        self._thread.join()
        os.close(self._pipe)
