"""The command that explains the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agentq_nb.commands.scene import Command, Scene, Where
from agentq_nb.commands.sheets import Sheet
from agentq_nb.commands.words import BadWords, declared, paragraphs, summary, usage, word, words

STORE_OPTION = (
    "The file is chosen with --store PATH, else the variable AGENTQ_DB, else it is the only *.agentq.duckdb here."
)


@dataclass(frozen=True, kw_only=True)
class Help(Command):
    """Show all commands, or all about one."""

    name: ClassVar[str] = "help"
    where: ClassVar[Where] = "both"

    command: str | None = word("COMMAND", "the command to explain", optional=True, completes="command")

    async def run(self, scene: Scene) -> Sheet:
        from agentq_nb.commands.table import offered  # Help is itself in the table.

        known = offered("kernel" if scene.in_kernel else "shell")
        begin = "%agentq" if scene.in_kernel else "agentq"
        if self.command is None:
            return Sheet(
                columns=("command", "what it does"),
                rows=[(f"{begin} {words(command)}", summary(command)) for command in known.values()],
                notes=[f"More about one: {begin} help COMMAND", *([] if scene.in_kernel else [STORE_OPTION])],
            )
        if self.command not in known:
            raise BadWords(f"There is no command {self.command!r}. There are: {', '.join(known)}.")
        command = known[self.command]
        return Sheet(
            title=f"{begin} {usage(command)}",
            facts=[(field.label, field.help) for field in declared(command).values()],
            notes=paragraphs(command),
        )
