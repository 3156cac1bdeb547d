"""Drives a Python prompt in a pseudo-terminal the way a person does: a line, its answer, the next line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pexpect

from tests.kernel.driving import PROJECT

_SEQUENCES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")

IPYTHON = (
    ["-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit", "--colors=NoColor"],
    r"In \[\d+\]: ",
)
COLOURED = ([*(word for word in IPYTHON[0] if "colors" not in word), "--colors=Linux"], IPYTHON[1])
ASYNCIO = (["-m", "asyncio"], r"(?m)^>>> ")


class Terminal:
    """A prompt in a process of its own, working in the folder ``cwd``. Use it in a ``with`` statement.

    :param prompt: the words of its command line, and the pattern of its prompt.
    :param kind: the terminal's kind, as programs find it in ``TERM``.
    """

    shown = ""
    """What the last line printed, with the sequences that make colours."""

    def __init__(self, cwd: Path, prompt: tuple[Sequence[str], str], kind: str = "dumb") -> None:
        words, self._prompt = prompt
        environment = {
            **os.environ,
            "IPYTHONDIR": str(cwd / ".ipython"),
            "PYTHON_BASIC_REPL": "1",
            "PYTHONPATH": os.pathsep.join([str(PROJECT), str(cwd)]),
            "TERM": kind,
        }
        environment.pop("AGENTQ_DB", None)
        self._process = pexpect.spawn(
            sys.executable, list(words), cwd=cwd, env=environment, encoding="utf-8", timeout=60, dimensions=(50, 300)
        )

    def __enter__(self) -> Terminal:
        self._answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.close(force=True)

    def line(self, code: str) -> str:
        """Type a line; what is shown until the next prompt, without the line itself."""
        self._process.sendline(code)
        self._process.expect_exact(code)  # asyncio's banner has a prompt of its own
        return self._answer().strip()

    def _answer(self) -> str:
        self._process.expect(self._prompt)
        self.shown = (self._process.before or "").replace("\r\n", "\n")
        return _SEQUENCES.sub("", self.shown)
