"""``%agentq`` and ``%%agentq``: parse a line into a command, run it, and show its errors on one line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from IPython.core.error import UsageError as IPythonUsageError
from IPython.core.magic import needs_local_scope  # pyright: ignore[reportUnknownVariableType]  # IPython has no types
from IPython.core.magic import no_var_expand as _no_var_expand  # pyright: ignore[reportUnknownVariableType]  # IPython has no types

from agentq_nb._commands.catalog import read_magic
from agentq_nb._commands.command_context import Command
from agentq_nb._commands.parser import UsageError
from agentq_nb._core.blocking import detachable
from agentq_nb._notebook.cell_await import AWAITED_MAGIC, MAGIC, on_one_line, run_blocking, run_nested, silent
from agentq_nb._notebook.connected_host import run_command
from agentq_nb._notebook.tracebacks import STOPPED
from agentq_nb.errors import ActorUnknown, AgentqError

if TYPE_CHECKING:
    from agentq_nb._notebook.ipython_types import Shell
    from agentq_nb._notebook.kernel_context import KernelContext

Variables: TypeAlias = Mapping[str, Any]
Function = TypeVar("Function", bound=Callable[..., Any])


class Magics:
    """The magic in two variants: one that cells await, one that they call. IPython does not expand ``{}`` and ``$``."""

    def __init__(self, shell: Shell, context: KernelContext) -> None:
        self._shell = shell
        self._context = context

    def install(self) -> None:
        """Register both with the shell, as line and as cell magics."""

        @_as_typed
        def agentq(line: str, cell: str | None = None, local_ns: Variables | None = None) -> object:
            """Durable actor queues. Type %agentq help."""
            context = self._context.seeing(local_ns or {})
            command, arguments = _read(line, cell, context)
            wait = run_blocking if context.may_block(command) else run_nested
            return wait(self._run(command, arguments, context))

        @_as_typed
        def awaited(
            line: str, cell: str | None = None, local_ns: Variables | None = None
        ) -> Coroutine[Any, Any, object]:
            """The form of %agentq that a cell awaits."""
            context = self._context.seeing(local_ns or {})
            return self._run(*_read(line, cell, context), context)

        for kind in ("line", "cell"):
            self._shell.magics_manager.register_function(agentq, kind, MAGIC)
            self._shell.magics_manager.register_function(awaited, kind, AWAITED_MAGIC)

    def remove(self) -> None:
        """Undo ``install``."""
        for known in self._shell.magics_manager.magics.values():
            known.pop(MAGIC, None)
            known.pop(AWAITED_MAGIC, None)

    async def _run(self, command: Command, arguments: Sequence[str], context: KernelContext) -> object:
        await context.ready()
        try:
            work = run_command(command, arguments, context)
            return await (work if command.only_waits else detachable(work))
        except asyncio.CancelledError as stopped:
            raise on_one_line(asyncio.CancelledError(*(stopped.args or (STOPPED,)))) from None
        except UsageError as error:
            raise IPythonUsageError(str(error)) from None
        except ActorUnknown as error:
            raise on_one_line(context.explained(error)) from None
        except AgentqError as error:
            raise on_one_line(error) from None


def _read(line: str, cell: str | None, context: KernelContext) -> tuple[Command, list[str]]:
    # A final semicolon means "show nothing", as everywhere in a notebook; the rewritten cell has one.
    words = line.rstrip().removesuffix(";") if cell is None and silent(line) else line
    try:
        return read_magic(words, cell, context.variables)
    except UsageError as error:
        raise IPythonUsageError(str(error)) from None


def _as_typed(function: Function) -> Function:
    """Mark a magic so that IPython does not expand ``{}`` and ``$`` in its line, and passes the local variables."""
    return needs_local_scope(_no_var_expand(function))
