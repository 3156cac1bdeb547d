"""The context of a shell's command on a file that no other process has open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agentq_nb._commands.catalog import offered
from agentq_nb._commands.chosen_store import existing_store
from agentq_nb._commands.command_context import Command
from agentq_nb.errors import NoHost

if TYPE_CHECKING:
    from agentq_nb._host.keep_alive import KeepAliveMode
    from agentq_nb._host.registry import Registry


class ShellContext:
    """What the contexts of a shell's commands have in common."""

    in_kernel = False
    variables: Mapping[str, Any] = MappingProxyType({})
    """None: variables of the notebook are not for other programs."""

    @property
    def commands(self) -> Mapping[str, type[Command]]:
        """The commands of a shell."""
        return offered("shell")

    def alert(self, on: bool) -> None:
        """Raises NoHost: a shell has no cells."""
        raise NoHost

    def dashboard(self) -> object:
        """Raises NoHost: a shell cannot show it."""
        raise NoHost


class FileContext(ShellContext):
    """The context of one shell command: it opens the file, and registers no actor class, so that no work starts."""

    works = False

    def __init__(self, store: str | None) -> None:
        self._store = store
        self.folder = Path.cwd()
        self._registry: Registry | None = None

    def registry(self) -> Registry | None:
        """Return the registry that has the file open, if it was started."""
        return self._registry

    def host(self) -> Registry:
        """Return the registry that has the file open. Raises NoHost before ``start``."""
        if self._registry is None:
            raise NoHost
        return self._registry

    def store(self) -> Path:
        """Return the file to use. Raises StoreError if there is none, or more than one."""
        return existing_store(self._store)

    async def start(
        self,
        store: str | None,
        accept_loss: bool = False,
        background: bool = False,
        new: bool = False,
        keep_alive: KeepAliveMode | None = None,
    ) -> Registry:
        """Open the file; no work starts. Raises StoreError if there is none, and the errors of ``Registry.start``."""
        from agentq_nb._host.setup import setup

        registry = setup(store=existing_store(store) if store else self.store())
        await registry.start(accept_loss=accept_loss, new=new)
        self._registry = registry
        return registry

    async def stop(self) -> None:
        """Close the file."""
        if self._registry is not None:
            await self._registry.stop()
