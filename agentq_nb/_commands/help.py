"""The commands about agentq itself: what each command does, and which version this is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where
from agentq_nb._commands.parser import UsageError, declared, paragraphs, summary, usage, word, words
from agentq_nb._core.package_versions import PACKAGE, loaded_version
from agentq_nb._display.document import Document

STORE_OPTION = "The file, or postgresql://..., is chosen with --store PATH, else the variable AGENTQ_DB, else it is the only *.agentq.duckdb here."


_WIDEST = 1000
"""Characters of a description, enough for no description to be truncated."""


@dataclass(frozen=True, kw_only=True)
class Help(Command):
    """Show all commands, or all about one."""

    name: ClassVar[str] = "help"
    where: ClassVar[Where] = "both"

    command: str | None = word("COMMAND", "the command to explain", optional=True, completes="command")

    async def run(self, context: CommandContext) -> Document:
        known = context.commands
        begin, written = ("%agentq", str) if context.in_kernel else ("agentq", partial(in_shell, commands=known))
        if self.command is None:
            return Document(
                title="" if context.in_kernel else "usage: agentq COMMAND [WORD...] [--store PATH]",
                columns=("command", "what it does"),
                rows=[(f"{begin} {words(command)}", written(summary(command))) for command in known.values()],
                notes=[f"More about one: {begin} help COMMAND", *([] if context.in_kernel else [STORE_OPTION])],
                widest=_WIDEST,
            )
        if self.command not in known:
            raise UsageError(f"There is no command {self.command!r}. There are: {', '.join(known)}.")
        command = known[self.command]
        return Document(
            title=f"{begin} {usage(command)}"
            if context.in_kernel
            else f"usage: {begin} {usage(command)} [--store PATH]",
            facts=[(field.label, written(field.help)) for field in declared(command).values()],
            notes=[paragraph for paragraph in map(written, paragraphs(command)) if paragraph],
        )


@dataclass(frozen=True, kw_only=True)
class ShowVersion(Command):
    """Show the version of agentq, like agentq --version in a shell."""

    name: ClassVar[str] = "version"
    where: ClassVar[Where] = "both"

    async def run(self, context: CommandContext) -> Document:
        return Document(title=f"{PACKAGE} {loaded_version(PACKAGE)}")


def in_shell(text: str, commands: Iterable[str]) -> str:
    """Return a text about commands as for a shell; sentences about notebooks are omitted."""
    sentences = re.split(r"(?<=[.;]) (?=[A-Z%])", text)
    kept = [sentence for sentence in sentences if not re.search(r"%%agentq|[Ii]n a notebook", sentence)]
    return as_typed_here(" ".join(kept), commands)


def as_typed_here(text: str, commands: Iterable[str]) -> str:
    """Return the text with the commands that a shell has as they are typed there."""
    return re.sub(rf"%agentq ({'|'.join(commands)})\b", r"agentq \1", text)
