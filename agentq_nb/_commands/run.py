"""``agentq run``: host the actors of a module or a notebook without Jupyter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where
from agentq_nb._commands.parser import word
from agentq_nb._core.threads import in_long_thread


@dataclass(frozen=True, kw_only=True)
class Run(Command):
    """Host the actors of a module or a notebook, without Jupyter, until Ctrl-C or SIGTERM.

    A module is a file like workers.py, or a name like mypackage.workers. It is imported: its actor classes are hosted,
    or those that it gives to setup(...). A notebook's cells are run from first to last, with the file of its queues
    beside it; then its actor classes are hosted. The host has a thread of its own.

    It stops cleanly: messages in flight get 10 s to finish, then go back into their queues uncounted. From another shell
    agentq status, send, watch and the like work on it. A systemd unit for it is on the page docs/gateway.md.
    """

    name: ClassVar[str] = "run"
    where: ClassVar[Where] = "shell"

    program: str = word("MODULE|NOTEBOOK", "like workers.py, mypackage.workers or analysis.ipynb")

    async def run(self, context: CommandContext) -> int:
        return await in_long_thread(self.show, None)

    def show(self, store: str | None) -> int:
        """Host it until a signal comes. Returns the exit status. Call it in the main thread."""
        from agentq_nb._commands.hosting import host_program

        return host_program(self.program, store)
