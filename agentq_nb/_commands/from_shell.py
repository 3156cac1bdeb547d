"""Run a command that was typed in a shell in the process of a running host, and return what it prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from agentq_nb._commands.catalog import read_arguments
from agentq_nb._commands.file_context import ShellContext
from agentq_nb._commands.parser import UsageError
from agentq_nb._commands.shell_text import error_text, printed_text
from agentq_nb._core.blocking import detachable
from agentq_nb._gateway.command_runner import Printed
from agentq_nb._host.registry import Registry
from agentq_nb.errors import AgentqError, NoHost

if TYPE_CHECKING:
    from agentq_nb._host.keep_alive import KeepAliveMode
    from agentq_nb._host.registry_server import Serveable


class HostContext(ShellContext):
    """The context of a command that was typed in a shell, in the process of the host that runs it."""

    works = True

    def __init__(self, registry: Registry, folder: Path) -> None:
        self._registry = registry
        self.folder = folder

    def registry(self) -> Registry | None:
        """Return the registry of the host."""
        return self._registry

    def host(self) -> Registry:
        """Return the registry of the host. Raises NoHost."""
        if not self._registry.running:
            raise NoHost
        return self._registry

    def store(self) -> Path:
        """Return the file of the host."""
        return self._registry.store_path

    async def start(
        self,
        store: str | None,
        accept_loss: bool = False,
        background: bool = False,
        new: bool = False,
        keep_alive: KeepAliveMode | None = None,
    ) -> Registry:
        """Return the registry of the host, which runs."""
        return self.host()


async def run(registry: Serveable, arguments: Sequence[str], folder: Path) -> Printed:
    """Run a command on the host's event loop. Errors that its user can do something about are printed, not raised.

    When the caller is cancelled, because the program that asked is gone, only a command that waits is cancelled.
    """
    context = HostContext(cast("Registry", registry), folder)
    try:
        command = read_arguments(arguments)
        work = command.run(context)
        value = await (work if command.only_waits else detachable(work))
    except UsageError as error:
        return Printed(2, error=error_text(str(error)))
    except AgentqError as error:
        return Printed(1, error=error_text(str(error)))
    return Printed(0, printed_text(command, value))
