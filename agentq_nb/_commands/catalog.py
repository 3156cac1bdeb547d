"""The table of commands, and parsing a typed command."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from agentq_nb._commands.agents import Agents
from agentq_nb._commands.command_context import Command
from agentq_nb._commands.connections import Connect, Serve
from agentq_nb._commands.cost import Cost, SetBudget
from agentq_nb._commands.demo import Demo
from agentq_nb._commands.doctor import Doctor
from agentq_nb._commands.help import Help, ShowVersion
from agentq_nb._commands.host import Actors, Alerts, Dashboard, Hosts, Start, Status, Stop
from agentq_nb._commands.interpolation import filled_word
from agentq_nb._commands.messages import Ask, Batches, Cancel, Retry, Send
from agentq_nb._commands.migrate import Migrate
from agentq_nb._commands.notify import Notify
from agentq_nb._commands.parser import Arguments, HelpWanted, Line, UsageError, declared, parse
from agentq_nb._commands.queries import Dead, Results, Show
from agentq_nb._commands.queues import Limits, Pause, Purge, Resume
from agentq_nb._commands.repositories import BringBack, Repos, ShowDiff
from agentq_nb._commands.run import Run
from agentq_nb._commands.sessions import Sessions, Transcript
from agentq_nb._commands.store import Export, Prune, Sql
from agentq_nb._commands.vms import Move, Vms
from agentq_nb._commands.watch import Watch

COMMANDS: dict[str, type[Command]] = {
    command.name: command
    for command in (
        Start,
        Stop,
        Status,
        Watch,
        Hosts,
        Actors,
        Alerts,
        Notify,
        Dashboard,
        Serve,
        Connect,
        Run,
        Send,
        Ask,
        Results,
        Show,
        Dead,
        Batches,
        Retry,
        Cancel,
        Pause,
        Resume,
        Purge,
        Limits,
        Sessions,
        Transcript,
        Cost,
        SetBudget,
        Sql,
        Export,
        Prune,
        Migrate,
        Agents,
        Vms,
        Move,
        Repos,
        ShowDiff,
        BringBack,
        Doctor,
        Demo,
        Help,
        ShowVersion,
    )
}
"""Commands by name, in the order in which help shows them."""


def offered(place: Literal["kernel", "shell"]) -> dict[str, type[Command]]:
    """Return the commands available there."""
    return {name: command for name, command in COMMANDS.items() if command.where in (place, "both")}


_HELP = ("-h", "--help")
_VERSION = ("-V", "--version")


def read_line(line: str, cell: str | None = None, variables: Mapping[str, Any] | None = None) -> Command:
    """Return the command of a magic, filled with ``variables``; no words mean ``status``. Raises UsageError."""
    return read_magic(line, cell, variables)[0]


def read_magic(
    line: str, cell: str | None = None, variables: Mapping[str, Any] | None = None
) -> tuple[Command, list[str]]:
    """Return the command of a magic as :func:`read_line` does, and the same as arguments of a shell's ``agentq``."""
    typed = Line(line, cell, lambda word: filled_word(word, variables or {}))
    return _of_magic(typed, line, cell), typed.arguments or ["status"]


def _of_magic(typed: Line, line: str, cell: str | None) -> Command:
    name = typed.take() or "status"
    if (general := _general(name, typed)) is not None:
        return general
    command = _known(name, "kernel")
    if cell is not None and not any(field.kind == "rest" for field in declared(command).values()):
        raise UsageError(f"{name} takes no text of a cell. Type it with one percent sign: %agentq {line.strip()}")
    return _parsed(command, typed)


def read_arguments(arguments: Sequence[str]) -> Command:
    """Return the command of the shell's ``agentq``; no arguments mean ``help``. Raises UsageError."""
    typed = Arguments(arguments)
    name = typed.take() or "help"
    return _general(name, typed) or _parsed(_known(name, "shell"), typed)


def _general(name: str, typed: Line | Arguments) -> Command | None:
    """Return the command for what programs commonly take: ``--help``, ``NAME -h``, ``--version``; None for others."""
    if name in _HELP:
        return _parsed(Help, typed)
    if name in _VERSION:
        return _parsed(ShowVersion, typed)
    return Help(command=name) if typed.peek() in _HELP else None


def _parsed(command: type[Command], typed: Line | Arguments) -> Command:
    try:
        return parse(command, typed)
    except HelpWanted:
        return Help(command=command.name)


def _known(name: str, place: Literal["kernel", "shell"]) -> type[Command]:
    known = offered(place)
    if name in known:
        return known[name]
    if name in COMMANDS and place == "shell":
        raise UsageError(f"{name} works only in a notebook, as %agentq {name}. Here there are: {', '.join(known)}.")
    if name in COMMANDS:
        raise UsageError(f"{name} works only in a shell, as agentq {name}. Here there are: {', '.join(known)}.")
    near = difflib.get_close_matches(name, known, 1)
    raise UsageError(
        f"There is no command {name!r}. "
        + (f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}. Type help COMMAND for more.")
    )
