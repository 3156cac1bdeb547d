"""Commands of a notebook that is connected to the host of another process: they run there, as those of a shell do."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentq_nb._commands.agents import Agents
from agentq_nb._commands.connections import Connect
from agentq_nb._commands.doctor import Doctor
from agentq_nb._commands.help import Help, ShowVersion
from agentq_nb._commands.host import Start
from agentq_nb._commands.messages import Ask, Cancel, Send
from agentq_nb._commands.parser import UsageError
from agentq_nb._core.threads import in_long_thread
from agentq_nb._gateway.commands import ask_host
from agentq_nb._store.running_host import find_host
from agentq_nb.errors import AgentqError, HostUnreachable

if TYPE_CHECKING:
    from agentq_nb._commands.command_context import Command
    from agentq_nb._notebook.kernel_context import KernelContext

_ABOUT_THIS_KERNEL = (Start, Connect, Help, ShowVersion, Doctor, Agents)

_OF_ANY_CLIENT = (Send, Ask, Cancel)
"""Commands that need no more than a client. They give receipts and results, which texts of the host are not."""


class HostElsewhere(AgentqError):
    """The command is for the host's own notebook, or for its own machine. Nothing was done."""

    group = "host"
    code = "elsewhere"


class PrintedThere:
    """What a command printed in the host. It is shown as it is."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def run_command(command: Command, arguments: Sequence[str], context: KernelContext) -> Coroutine[Any, Any, object]:
    """Return the work of a command, here or in the connected host.

    :param arguments: the command as a shell would have given it.

    Raises HostElsewhere where it makes no sense for a host in another process.
    """
    elsewhere = context.connected()
    if elsewhere is None or isinstance(command, (*_ABOUT_THIS_KERNEL, *_OF_ANY_CLIENT)):
        return command.run(context)
    if command.where != "both":
        raise HostElsewhere(
            f"%agentq {command.name} is for the host of this kernel, and none runs here: this notebook is a client of the "
            f"host of {elsewhere.place}. Type it in that host's notebook."
        )
    if "://" in elsewhere.place:
        raise HostElsewhere(
            f"%agentq {command.name} needs a host of this machine, connected by its file: %agentq connect PATH. This "
            f"notebook is a client of {elsewhere.place}, where send, ask, cancel and create_client() work."
        )
    return _run_there(Path(elsewhere.place), arguments, context.folder)


async def _run_there(store: Path, arguments: Sequence[str], folder: Path) -> PrintedThere:
    """Raises HostUnreachable, UsageError, and AgentqError with what the command printed as its error."""

    def ask() -> PrintedThere:
        if (host := find_host(store)) is None:
            raise HostUnreachable(str(store), "no host has the file open")
        printed = ask_host(host, arguments, folder, in_notebook=True)
        if printed.status == 2:
            raise UsageError(printed.error)
        if printed.status:
            raise AgentqError(printed.error)
        return PrintedThere(printed.text)

    return await in_long_thread(ask)
