"""The interface through which a command reaches its kernel or shell, and the base class of commands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias

from agentq_nb._core import ids
from agentq_nb._core.ids import ActorId

if TYPE_CHECKING:
    from agentq_nb._client.client import Client
    from agentq_nb._client.handle import ActorHandle
    from agentq_nb._host.keep_alive import KeepAliveMode
    from agentq_nb._host.registry import Registry

Where: TypeAlias = Literal["kernel", "shell", "both"]


class CommandContext(Protocol):
    """Where a command runs: a notebook's kernel, or a shell, on a running host or with a file that it opened itself."""

    in_kernel: bool
    """Whether it was typed in a notebook."""

    works: bool
    """Whether the host has actor classes and works. One that a shell starts to look into a file does not."""

    @property
    def folder(self) -> Path:
        """The folder in which it was typed."""
        ...

    @property
    def commands(self) -> Mapping[str, type[Command]]:
        """The commands that make sense here, by name, in the order ``help`` shows them."""
        ...

    @property
    def variables(self) -> Mapping[str, Any]:
        """The variables that a command's text may name."""
        ...

    def host(self) -> Registry:
        """Return the running registry. Raises NoHost."""
        ...

    def client(self) -> Client:
        """Return a client of the host, which may be that of another process. Raises NoHost."""
        ...

    def registry(self) -> Registry | None:
        """The registry of this process, running or not."""
        ...

    def queues(self) -> str | None:
        """Return the address of the PostgreSQL server that has the queues; None: the file has them."""
        ...

    def store(self) -> Path:
        """Return the file that ``start`` opens where none is named. Raises StoreError where that is undetermined."""
        ...

    async def start(
        self,
        store: str | None,
        accept_loss: bool = False,
        background: bool = False,
        new: bool = False,
        keep_alive: KeepAliveMode | None = None,
    ) -> Registry:
        """Start the host, or deploy into the running one. Raises the errors of ``Registry.start``.

        With ``background`` the host must run in a thread of its own; without it, wherever it is configured to. ``new``
        creates a file even if one that may be meant is in the same folder. ``keep_alive``: see ``setup``.
        """
        ...

    def alert(self, on: bool) -> None:
        """Set whether a line after each cell names what failed. Raises NoHost where there are no cells."""
        ...

    def dashboard(self) -> object:
        """Return a live view of the host. Raises NoHost."""
        ...


class Command(ABC):
    """One command. Its fields declare the words it takes, see :mod:`agentq_nb._commands.parser`."""

    name: ClassVar[str]
    """The name that is typed first."""

    where: ClassVar[Where]
    """Where it is available: as ``%agentq NAME``, as ``agentq NAME`` in a shell, or both."""

    needs_host: ClassVar[bool] = False
    """Whether a shell needs a running host for it: a file alone knows no actor classes."""

    only_waits: ClassVar[bool] = False
    """Whether cancelling it only stops a wait or a read. Other commands are completed when the cell is interrupted."""

    makes_widgets: ClassVar[bool] = False
    """Whether it makes objects that belong to the kernel's own event loop: then it must run in that loop."""

    @abstractmethod
    async def run(self, context: CommandContext) -> object:
        """Run the command; its result is shown, and is the value of ``x = %agentq …``."""


def address(text: str) -> ActorId:
    """Return ``ACTOR/KEY`` as typed, checked. Raises ValueError saying what is expected."""
    name, slash, rest = text.partition("/")
    if not name.isidentifier() or (slash and not rest):
        raise ValueError("an actor's name and key, like task_runner/main")
    return ids.actor_id(name, ids.actor_key(text))


def handle(context: CommandContext, actor: ActorId) -> ActorHandle:
    """Return the handle of an actor of the host, created when missing. Raises NoHost, ActorUnknown."""
    return context.client().handle_of(actor)


def client_of(registry: Registry, *, of_user: bool) -> Client:
    """Return a client of this host, which may not be the only one of its process.

    :param of_user: whether it is used by the notebook's own code.
    """
    from agentq_nb._client.client import Client
    from agentq_nb._host.local_transport import LocalTransport

    return Client(LocalTransport(lambda: registry.host, of_user=of_user))
