"""The context of a shell's command on a file that no other process has open."""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agentq_nb._commands.catalog import offered
from agentq_nb._commands.command_context import Command, client_of
from agentq_nb._commands.store import existing_store
from agentq_nb._core.paths import DEFAULT_NAME, queues_address
from agentq_nb.errors import NoHost, StoreError

if TYPE_CHECKING:
    from agentq_nb._client.client import Client
    from agentq_nb._host.keep_alive import KeepAliveMode
    from agentq_nb._host.registry import Registry


class ShellContext(ABC):
    """What the contexts of a shell's commands have in common."""

    in_kernel = False
    variables: Mapping[str, Any] = MappingProxyType({})
    """None: variables of the notebook are not for other programs."""

    @property
    def commands(self) -> Mapping[str, type[Command]]:
        """The commands of a shell."""
        return offered("shell")

    @abstractmethod
    def host(self) -> Registry:
        """Return the registry that the command works on. Raises NoHost."""

    def client(self) -> Client:
        """Return a client of the host. Raises NoHost."""
        return client_of(self.host(), of_user=False)

    def alert(self, on: bool) -> None:
        """Raises NoHost: a shell has no cells."""
        raise NoHost

    def dashboard(self) -> object:
        """Raises NoHost: a shell cannot show it."""
        raise NoHost


class FileContext(ShellContext):
    """The context of one shell command: it opens the queues, and registers no actor class, so that no work starts.

    :param store: a file, or the address of a server. Beside a server there is a file of its own, which is removed, unless
        this folder has one of a host.
    """

    works = False

    def __init__(self, store: str | None) -> None:
        self._store = store
        self.folder = Path.cwd()
        self._registry: Registry | None = None
        self._own: tempfile.TemporaryDirectory[str] | None = None

    def registry(self) -> Registry | None:
        """Return the registry that has the file open, if it was started."""
        return self._registry

    def host(self) -> Registry:
        """Return the registry that has the file open. Raises NoHost before ``start``."""
        if self._registry is None:
            raise NoHost
        return self._registry

    def queues(self) -> str | None:
        """Return the address of the server that has the queues; None: the file has them."""
        return queues_address(self._store, os.environ)

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
        """Open the queues; no work starts. Raises StoreError if there is no file, and the errors of ``Registry.start``."""
        queues = self.queues() if store is None else None
        if queues is not None:
            self._registry = await self._on_server(queues)
        else:
            self._registry = await _opened(existing_store(store) if store else self.store(), None, accept_loss, new)
        return self._registry

    async def _on_server(self, queues: str) -> Registry:
        """Open the queues of a server, with the sessions and transcripts that the file of this folder has."""
        with suppress(StoreError):  # there is none, or another program has it
            return await _opened(self.store(), queues)
        self._own = tempfile.TemporaryDirectory(prefix="agentq-")
        return await _opened(Path(self._own.name, DEFAULT_NAME), queues)

    async def stop(self) -> None:
        """Close the file."""
        if self._registry is not None:
            await self._registry.stop()
        if self._own is not None:
            self._own.cleanup()


async def _opened(path: Path, queues: str | None, accept_loss: bool = False, new: bool = False) -> Registry:
    from agentq_nb._host.setup import setup

    registry = setup(store=path)
    registry.lifecycle.use_queues(queues)
    await registry.start(accept_loss=accept_loss, new=new)
    return registry
