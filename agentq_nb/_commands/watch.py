"""``agentq watch``: the status of a host in a terminal, again and again."""

from __future__ import annotations

import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where
from agentq_nb._commands.parser import option, seconds
from agentq_nb._core.threads import in_long_thread
from agentq_nb._gateway.commands import ask_host
from agentq_nb._store.running_host import find_host
from agentq_nb.errors import AgentqError

_TIMEOUT = 15.0
_CLEAR, _HOME, _CLEAR_BELOW, _CLEAR_REST_OF_LINE = "\x1b[2J", "\x1b[H", "\x1b[J", "\x1b[K"

_RULE = re.compile(r"-+(  -+)*")
_PASSING = ("per min", "time left", "oldest")
"""Columns that change by themselves."""


def _interval(text: str) -> float:
    value = seconds(text)
    if value < 0.1:
        raise ValueError("a number of seconds, at least 0.1")
    return value


@dataclass(frozen=True, kw_only=True)
class Watch(Command):
    """Show the status of the running host, and draw it again every two seconds until Ctrl-C.

    When the host ends, it waits for the next one on the same file. Where the output is no terminal, it prints the status
    when that has changed.
    """

    name: ClassVar[str] = "watch"
    where: ClassVar[Where] = "shell"

    every: float = option("--every", "SECONDS", "how often", default=2.0, convert=_interval)

    async def run(self, context: CommandContext) -> int:
        return await in_long_thread(self.show, context.store())

    def show(self, store: Path) -> int:
        """Watch until interrupted. Raises KeyboardInterrupt."""
        live = sys.stdout.isatty()
        shown = ""
        if live:
            print(_CLEAR, end="")
        while True:
            text = _status(store)
            if live:
                _draw(f"{time.strftime('%H:%M:%S')}, every {self.every:g} s; Ctrl-C ends this\n\n{text}")
            elif lasting(text) != shown:
                shown = lasting(text)
                print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}\n{text}\n", flush=True)
            time.sleep(self.every)


def _status(store: Path) -> str:
    host = find_host(store)
    if host is None:
        return f"No host runs on {store}. Waiting for one."
    try:
        printed = ask_host(host, ["status"], Path.cwd(), _TIMEOUT)
    except AgentqError as error:
        return error.message
    return printed.text or printed.error


def _draw(text: str) -> None:
    """Draw over what was drawn before, as much as the terminal has room for."""
    width, height = shutil.get_terminal_size()
    lines = [line[:width] + _CLEAR_REST_OF_LINE for line in text.splitlines()[: height - 1]]
    print(_HOME + "\n".join(lines) + "\n" + _CLEAR_BELOW, end="", flush=True)


def lasting(text: str) -> str:
    """Return the part of a status that does not change while nothing happens."""
    lines, kept, passing = text.splitlines(), list[str](), list[tuple[int, int]]()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if _RULE.fullmatch(below):
            columns = [column.span() for column in re.finditer("-+", below)]
            passing = [(start, end) for start, end in columns if line[start:end].strip() in _PASSING]
        elif not line:
            passing = []
        for start, end in reversed(passing):
            line = line[:start] + line[end:]
        if not line.startswith("running for") and not _RULE.fullmatch(line.strip()):
            kept += line.split()
    return " ".join(kept)
