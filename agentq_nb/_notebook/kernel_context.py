"""The context of ``%agentq`` commands in a kernel: its host, and the notebook's variables and actor classes."""

from __future__ import annotations

import copy
import os
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentq_nb._commands.actor_classes import claims
from agentq_nb._commands.catalog import offered
from agentq_nb._commands.command_context import client_of
from agentq_nb._commands.host import Start
from agentq_nb._commands.parser import UsageError
from agentq_nb._core.paths import is_address, notebook_path, queues_address, store_path
from agentq_nb._core.programs import loop_is_unfit
from agentq_nb.errors import ActorUnknown, NoHost

if TYPE_CHECKING:
    from agentq_nb._client.client import Client
    from agentq_nb._client.transport import Transport
    from agentq_nb._commands.command_context import Command
    from agentq_nb._host.keep_alive import KeepAliveMode
    from agentq_nb._host.registry import Registry
    from agentq_nb._notebook.alerts import Alerts
    from agentq_nb._notebook.deploy_classes import Deployments
    from agentq_nb._notebook.ipython_types import Shell


class KernelContext:
    """The host of this kernel; its actors are the classes of the user's namespace."""

    in_kernel = True
    works = True

    def __init__(self, shell: Shell, deployments: Deployments, alerts: Alerts) -> None:
        self._shell = shell
        self._alerts = alerts
        self._deployments = deployments
        self._local: Mapping[str, Any] = {}

    def seeing(self, local: Mapping[str, Any]) -> KernelContext:
        """Return this context with the variables of the function in which a command was typed."""
        context = copy.copy(self)
        context._local = local
        return context

    @property
    def commands(self) -> Mapping[str, type[Command]]:
        """The commands of a kernel."""
        return offered("kernel")

    @property
    def variables(self) -> Mapping[str, Any]:
        """The variables of the function around the command, if any, then those of the notebook."""
        return ChainMap(dict(self._local), self._shell.user_ns)

    @property
    def folder(self) -> Path:
        """The kernel's working directory."""
        return Path.cwd()

    def registry(self) -> Registry | None:
        """Return the registry of this process, running or not."""
        from agentq_nb._host.registry import current_registry

        return current_registry()

    def host(self) -> Registry:
        """Return the running registry. Raises NoHost."""
        registry = self.registry()
        if registry is None or not registry.running:
            raise NoHost
        return registry

    def connected(self) -> Transport | None:
        """Return the way to the host of another process that ``%agentq connect`` found; None while a host runs here."""
        from agentq_nb._host.setup import connected

        return connected()

    def client(self) -> Client:
        """Return a client of this kernel's host, else of the one that it is connected to. Raises NoHost."""
        from agentq_nb._client.client import RemoteClient

        elsewhere = self.connected()
        return client_of(self.host(), of_user=True) if elsewhere is None else RemoteClient(elsewhere)

    def queues(self) -> str | None:
        """Return the address of the server that has the queues; None: the file has them."""
        registry = self.registry()
        return queues_address(None, os.environ) if registry is None else registry.lifecycle.queues

    def store(self) -> Path:
        """Return the file of this kernel's registry, else the one that ``setup`` would choose."""
        registry = self.registry()
        if registry is not None:
            return registry.store_path
        return store_path(None, os.environ, notebook_path(os.environ, self._shell.user_ns))[0]

    async def ready(self) -> None:
        """Deploy the classes that the cell has defined so far."""
        if (deploying := self._deployments.deployed()) is not None:
            await deploying

    def explained(self, error: ActorUnknown) -> ActorUnknown:
        """Return the error; if the notebook defines the class, it says why the class is not registered."""
        name = error.metadata["name"]
        if name in claims(self._shell.user_ns):
            error.message = (
                f"'{name}' is not registered: this host runs only the classes that setup(use=...) was given. "
                "%agentq start registers all those of the notebook."
            )
        return error

    def may_block(self, command: Command) -> bool:
        """Whether this thread may block while ``command`` runs, because the host runs in another one."""
        registry = self.registry()
        if command.makes_widgets:
            return False
        if registry is not None and registry.running:
            return registry.background and not registry.host.portal.inside
        starts = isinstance(command, Start) and command.background
        return starts or (loop_is_unfit() if registry is None else registry.background)

    async def start(
        self,
        store: str | None,
        accept_loss: bool = False,
        background: bool = False,
        new: bool = False,
        keep_alive: KeepAliveMode | None = None,
    ) -> Registry:
        """Start the host with the notebook's actor classes, or deploy them if it runs already."""
        from agentq_nb._host.setup import setup

        known = self.registry()
        if store is not None and not is_address(store) and known is not None and known.running:
            asked = Path(os.path.realpath(store_path(store, os.environ, None)[0]))
            if asked != known.store_path:
                raise UsageError(f"The host of this kernel runs on {known.store_path}. Stop it first: %agentq stop")
        registry = setup(
            use=claims(self._shell.user_ns),
            store=store or (known and (known.lifecycle.queues or known.store_path)),
            keep_alive=keep_alive,
        )
        await registry.start(accept_loss=accept_loss, background=background or None, new=new)
        self._deployments.registers_new = True
        return registry

    def alert(self, on: bool) -> None:
        """Switch the line with the failures after each cell on or off."""
        self._alerts.on = on

    def dashboard(self) -> object:
        """Return a live view of the host. Raises NoHost."""
        from agentq_nb._notebook.dashboard import dashboard

        return dashboard()
