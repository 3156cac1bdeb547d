"""What a command can reach, in a kernel and in a shell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias

from agentq_nb._core import ids
from agentq_nb._core.ids import ActorId

if TYPE_CHECKING:
    from agentq_nb._client.handle import ActorHandle
    from agentq_nb._host.keep_alive import KeepAliveMode
    from agentq_nb._host.registry import Registry

Where: TypeAlias = Literal["kernel", "shell", "both"]


class CommandContext(Protocol):
    """Where a command runs: a notebook's kernel, or a shell with a file that nobody else holds."""

    in_kernel: bool

    @property
    def commands(self) -> Mapping[str, type[Command]]:
        """The commands that make sense here, by name, in the order ``help`` shows them."""
        ...

    @property
    def variables(self) -> Mapping[str, Any]:
        """The variables that a command's text may name."""
        ...

    def host(self) -> Registry:
        """The registry that runs here. Raises NoHost."""
        ...

    def registry(self) -> Registry | None:
        """The registry of this process, running or not."""
        ...

    def store(self) -> Path:
        """The file that ``start`` opens where none is named. Raises StoreError where it cannot be told."""
        ...

    async def start(
        self,
        store: str | None,
        accept_loss: bool = False,
        background: bool = False,
        new: bool = False,
        keep_alive: KeepAliveMode | None = None,
    ) -> Registry:
        """Start the host, or deploy into the one that runs here. Raises the errors of ``Registry.start``.

        With ``background`` it must live, or go on living, in a thread of its own; without, wherever it is said to. ``new``
        begins a file although one that may be meant lies beside it. ``keep_alive``: see ``setup``.
        """
        ...

    def alert(self, on: bool) -> None:
        """Whether a line after each cell names what failed. Raises NoHost where there are no cells."""
        ...

    def dashboard(self) -> object:
        """A live view of the host. Raises NoHost."""
        ...


class Command(ABC):
    """One command. Its fields say which words it takes, see :mod:`agentq_nb._commands.parser`."""

    name: ClassVar[str]
    """What is typed first."""

    where: ClassVar[Where]
    """Where it makes sense: as ``%agentq NAME``, as ``agentq NAME`` in a shell, or both."""

    only_waits: ClassVar[bool] = False
    """Giving it up stops a wait or a read and nothing else. Others are carried through when the cell is interrupted."""

    makes_widgets: ClassVar[bool] = False
    """It makes what belongs to the kernel's own event loop, so it is run there and nowhere beside it."""

    @abstractmethod
    async def run(self, context: CommandContext) -> object:
        """Do it; what comes back is shown, and is what ``x = %agentq …`` gives."""


def address(text: str) -> ActorId:
    """``ACTOR/KEY`` as typed, checked. Raises ValueError saying what is expected."""
    name, slash, rest = text.partition("/")
    if not name.isidentifier() or (slash and not rest):
        raise ValueError("an actor's name and key, like task_runner/main")
    return ids.actor_id(name, ids.actor_key(text))


def handle(context: CommandContext, actor: ActorId) -> ActorHandle:
    """The handle of an actor of this host, made when it is missing. Raises NoHost, ActorUnknown."""
    from agentq_nb._host.registry import create_client

    context.host()
    return create_client().handle_of(actor)
