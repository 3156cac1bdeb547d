"""Commands typed in a shell, or in a notebook elsewhere: run in the process of a running host, and what they print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from agentq_nb._commands.catalog import offered, read_arguments
from agentq_nb._commands.command_context import Command
from agentq_nb._commands.doctor import Doctor
from agentq_nb._commands.file_context import ShellContext
from agentq_nb._commands.help import Help, as_typed_here
from agentq_nb._commands.host import Status
from agentq_nb._commands.messages import Cancel, Retry, Send
from agentq_nb._commands.parser import UsageError
from agentq_nb._commands.queues import Limits, Pause, Purge, Resume
from agentq_nb._commands.repositories import Repos
from agentq_nb._commands.vms import Vms
from agentq_nb._core.blocking import detachable
from agentq_nb._core.redaction import without_passwords
from agentq_nb._display import document_of
from agentq_nb._display.document import as_text
from agentq_nb._gateway.commands import Printed
from agentq_nb._host.registry import Registry
from agentq_nb.errors import AgentqError, NoHost

if TYPE_CHECKING:
    from agentq_nb._host.keep_alive import KeepAliveMode
    from agentq_nb._host.registry_server import Serveable


_OUR_WORDS = (Help, Doctor, Status, Send, Retry, Cancel, Pause, Resume, Limits, Purge, Vms, Repos)
"""Commands whose text is ours. What others print may quote what users wrote, which stays as it is."""

_WITH_RECEIPT = (Send, Retry, Cancel)
"""Commands that give a receipt, whose methods a shell has no use for."""


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

    def queues(self) -> str | None:
        """Return the address of the server that has the queues; None: the file has them."""
        return self._registry.lifecycle.queues

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


async def run(registry: Serveable, arguments: Sequence[str], folder: Path, in_notebook: bool = False) -> Printed:
    """Run a command on the host's event loop. Errors that its user can do something about are printed, not raised.

    With ``in_notebook`` other commands are named as they are typed there.

    When the caller is cancelled, because the program that asked is gone, only a command that waits is cancelled.
    """
    context = HostContext(cast("Registry", registry), folder)
    try:
        command = read_arguments(arguments)
        work = command.run(context)
        value = await (work if command.only_waits else detachable(work))
    except (UsageError, AgentqError) as error:
        status = 2 if isinstance(error, UsageError) else 1
        return Printed(status, error=str(error) if in_notebook else error_text(str(error)))
    return Printed(0, _text(value) if in_notebook else printed_text(command, value))


def printed_text(command: Command, value: object) -> str:
    """Return what a command's value looks like in a terminal, with other commands as they are typed there."""
    text = _text(value)
    if isinstance(command, _WITH_RECEIPT):
        text = text.replace("Its result: await receipt.result(). ", "")
    return as_typed_here(text, offered("shell")) if isinstance(command, _OUR_WORDS) else text


def _text(value: object) -> str:
    document = document_of(value)
    return as_text(document) if document is not None else str(value)


def error_text(message: str) -> str:
    """Return an error's message on one line, with commands as they are typed in a shell."""
    return as_typed_here(without_passwords(" ".join(message.split())), offered("shell"))
