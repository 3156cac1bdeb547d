"""The hook through which the commands, a higher layer, are run for the shell's ``agentq``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from agentq_nb._host.registry_server import Serveable


class Printed(NamedTuple):
    """What a command printed.

    :ivar status: its exit status: 0, 1 if it failed, 2 for wrong usage.
    :ivar error: what it printed to stderr.
    """

    status: int
    text: str = ""
    error: str = ""


RunCommand: TypeAlias = Callable[[Serveable, Sequence[str], Path], Coroutine[Any, Any, Printed]]
"""Runs a shell's command on the host's event loop: its words, and the folder in which it was typed."""

run_command: RunCommand | None = None
"""Set by the package when it is imported: the commands are a higher layer."""
