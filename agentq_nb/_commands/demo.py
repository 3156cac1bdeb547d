"""The command that demonstrates the package on a folder of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where
from agentq_nb._commands.parser import word
from agentq_nb._core.threads import in_long_thread


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """Review the source files of a folder in a real kernel, and leave the notebook and a page of it here."""

    name: ClassVar[str] = "demo"
    where: ClassVar[Where] = "shell"

    folder: str | None = word("FOLDER", "what to review (default: this package's own source)", optional=True)

    async def run(self, context: CommandContext) -> int:
        return await in_long_thread(self.show)

    def show(self) -> int:
        """Run the demo for callers without an event loop, in a loop of its own. Returns the exit code."""
        from agentq_nb._commands import demo_files

        return demo_files.main(Path(self.folder) if self.folder else None)
