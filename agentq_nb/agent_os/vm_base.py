"""The base of a VM's actions: its folder, isolation, network and sessions, and running a command."""

from __future__ import annotations

import asyncio
import functools
import hmac
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from agentq_nb._actor.actor import Actor
from agentq_nb.agent_os.agent import Agent
from agentq_nb.agent_os.network.availability import NetworkFound, network_in_force
from agentq_nb.agent_os.network.open_network import Connection
from agentq_nb.agent_os.network.policy import Named
from agentq_nb.agent_os.network.proxy import Credentials
from agentq_nb.agent_os.network.vm_network import VmNetwork
from agentq_nb.agent_os.sandbox import protections
from agentq_nb.agent_os.sandbox.isolation import in_force, job
from agentq_nb.agent_os.sandbox.process import ALL, Allowance, Job
from agentq_nb.agent_os.sandbox.processes import Processes
from agentq_nb.agent_os.sandbox.workspace import FileName, Workspace, root_folder
from agentq_nb.agent_os.sessions.permissions import Permits
from agentq_nb.agent_os.sessions.sessions import Sessions, sessions_of
from agentq_nb.agent_os.tools import ToolServer
from agentq_nb.agent_os.validation import checked_command
from agentq_nb.agent_os.values import ExecResult, Isolation, IsolationKind, IsolationMode, NetworkMode

if TYPE_CHECKING:
    from agentq_nb.agent_os.tools.tool import HostTool

Environment: TypeAlias = Mapping[str, str] | EllipsisType | None
"""Variables for an agent or a command; ``None`` and ``...`` mean none."""

_PASSWORDS = secrets.token_bytes(32)
"""The key from which the passwords of VMs' proxies are derived."""


class VmBase(Actor, action_timeout=None):
    """The base class of :class:`agentq_nb.agent_os.vm.VM` and of its groups of actions."""

    _agents: ClassVar[Mapping[str, Agent]] = {}
    _isolation_mode: ClassVar[IsolationMode] = "auto"
    _permits: ClassVar[Permits] = Permits("allow")
    _network_wanted: ClassVar[NetworkMode | None] = None
    _hosts: ClassVar[tuple[Named, ...]] = ()
    _parent: ClassVar[Path | None] = None
    _allowance: ClassVar[Allowance] = ALL
    _tools: ClassVar[Mapping[str, HostTool]] = {}
    _vm_network: VmNetwork | None = None
    _warned = False

    @classmethod
    def parent_folder(cls) -> Path | None:
        """Return the ``workspace`` that ``agent_os`` was given, if any; else VMs' folders are beside the store."""
        return cls._parent

    @property
    def _sessions(self) -> Sessions:
        return sessions_of(self.runtime.workspaces, self.actor_id)

    @functools.cached_property
    def _tool_server(self) -> ToolServer:
        return ToolServer(self._tool_listener)

    @functools.cached_property
    def _workspace(self) -> Workspace:
        return Workspace(root_folder(self._parent or self.runtime.workspaces, self.name, self.key))

    @functools.cached_property
    def _processes(self) -> Processes:
        return Processes(self, self._sessions.redactor)

    async def _exec(
        self,
        command: str | Sequence[str],
        timeout: float | None,
        cwd: FileName,
        environment: Mapping[str, str],
        on_refusal: Callable[[str], None] | None = None,
    ) -> ExecResult:
        prepared, connection = await self._job(command, cwd, environment, on_refusal=on_refusal)
        return await self._processes.run(prepared, connection, command, timeout)

    async def _job(
        self,
        command: str | Sequence[str],
        cwd: FileName,
        environment: Mapping[str, str],
        programs: Sequence[str] = (),
        readable: Sequence[str] = (),
        on_refusal: Callable[[str], None] | None = None,
        urls: Sequence[str] = (),
    ) -> tuple[Job, Connection]:
        """Return the job that runs a command. The connection must be closed when the command has ended.

        ``on_refusal`` is called in this VM's loop with each refusal of the network. The hosts of ``urls`` may be reached.
        """
        words = checked_command(command)
        directory = await self.in_thread(self._workspace.directory, cwd)
        kind = (await in_force(self._isolation_mode)).kind
        network = await self._network(kind)
        if network is None:
            connection = Connection()
        else:
            connection = await network.connect(environment, on_refusal and _in_this_loop(on_refusal), urls)
        variables, readable = {**connection.variables, **environment}, (*readable, *connection.readable)
        prepared = job(
            kind,
            self._workspace.root,
            directory,
            words,
            variables,
            programs,
            readable,
            self._allowance,
            connection.namespace,
            connection.ports,
        )
        return prepared, connection

    async def _isolation(self) -> Isolation:
        found = await in_force(self._isolation_mode)
        return protections.with_network(found, await network_in_force(self._network_wanted, found.kind))

    async def _network(self, kind: IsolationKind) -> VmNetwork | None:
        """Return the VM's network; None where it is open. Raises ``IsolationUnavailable``."""
        found = await network_in_force(self._network_wanted, kind)
        if found.mode == "open":
            self._warn(kind, found.why)
            return None
        if self._vm_network is None:
            self._vm_network = VmNetwork(found.mode, self._hosts, self._credentials(found))
        return self._vm_network

    def _credentials(self, found: NetworkFound) -> Credentials | None:
        """Return the same credentials whenever this VM wakes, so that few secrets have to be remembered."""
        if found.means == "namespace":
            return None
        password = hmac.digest(_PASSWORDS, self.actor_id.encode(), "sha256").hex()
        credentials = Credentials(password)
        self._sessions.redactor.add({"HTTP_PROXY": password, "HTTP_PROXY as a header": credentials.header})
        return credentials

    def _warn(self, kind: IsolationKind, why: str) -> None:
        """Warn once about missing protection that was not switched off by the user."""
        if self._warned or self._isolation_mode == "off":
            return
        self._warned = True
        if kind == "none":
            self.log.warning("No isolation on this machine: commands may do whatever you may. See isolation().")
        elif why:
            self.log.warning(
                f'The network is open to commands and agents of this VM, as with network="open": {why}. They reach the '
                "notebook's own ports too. See isolation()."
            )

    async def _tool_listener(self) -> socket.socket:
        network = await self._network((await in_force(self._isolation_mode)).kind)
        return socket.create_server(("127.0.0.1", 0)) if network is None else await network.listener()

    async def _forwarded(self, port: int) -> int:
        """Return the port of this machine that forwards to one of the VM's loopback."""
        network = await self._network((await in_force(self._isolation_mode)).kind)
        return port if network is None else await network.forward(port)

    async def _leave_network(self) -> None:
        """End the VM's network, if it has one."""
        if self._vm_network is not None:
            await self._vm_network.aclose()


def _in_this_loop(on_refusal: Callable[[str], None]) -> Callable[[str], None]:
    """Return ``on_refusal`` as a function that other threads can call."""
    loop = asyncio.get_running_loop()

    def call(sentence: str) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it all that could be notified
            loop.call_soon_threadsafe(on_refusal, sentence)

    return call
