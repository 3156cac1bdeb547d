"""The base of a VM's actions: its folder, isolation, network and sessions, and running a command."""

from __future__ import annotations

import asyncio
import functools
import hmac
import os
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, ClassVar, Self, TypeAlias, cast

from agentq_nb._actor.actor import Actor
from agentq_nb._core.redaction import StreamRedactor
from agentq_nb._core.threads import to_its_end
from agentq_nb.agent_os.agent import Agent
from agentq_nb.agent_os.meter.llm import LLM
from agentq_nb.agent_os.meter.metered import Metered
from agentq_nb.agent_os.network.availability import NetworkFound, network_in_force
from agentq_nb.agent_os.network.open_network import Connection
from agentq_nb.agent_os.network.policy import Named
from agentq_nb.agent_os.network.proxy import Credentials
from agentq_nb.agent_os.network.vm_network import VmNetwork
from agentq_nb.agent_os.repositories.clone import CloneMaker
from agentq_nb.agent_os.repositories.folder import Folder, FolderLock
from agentq_nb.agent_os.repositories.repository import Repository
from agentq_nb.agent_os.sandbox import protections
from agentq_nb.agent_os.sandbox.isolation import in_force, job
from agentq_nb.agent_os.sandbox.output import Output
from agentq_nb.agent_os.sandbox.process import ALL, Allowance, Execution, Job
from agentq_nb.agent_os.sandbox.processes import Processes
from agentq_nb.agent_os.sandbox.workspace import FileName, Workspace, root_folder
from agentq_nb.agent_os.sessions.permissions import Permits
from agentq_nb.agent_os.sessions.sessions import Sessions, sessions_of
from agentq_nb.agent_os.tools import ToolServer
from agentq_nb.agent_os.validation import checked_command
from agentq_nb.agent_os.values import ExecResult, Isolation, IsolationKind, IsolationMode, NetworkMode
from agentq_nb.errors import AgentError, RepositoryError

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
    _declared: ClassVar[Repository | Folder | None] = None
    _commit: ClassVar[str | None] = None
    """The commit that clones begin from; None: they look up the ref of their repository."""
    _readable: ClassVar[tuple[str, ...]] = ()
    _allowance: ClassVar[Allowance] = ALL
    _tools: ClassVar[Mapping[str, HostTool]] = {}
    _llms: ClassVar[tuple[LLM, ...]] = ()
    _vm_network: VmNetwork | None = None
    _warned = False
    _prepared = False

    @classmethod
    def parent_folder(cls) -> Path | None:
        """Return the ``workspace`` that ``agent_os`` was given, if any; else VMs' folders are beside the store."""
        return cls._parent

    @classmethod
    def repository(cls) -> Repository | None:
        """Return the repository that the VMs work in clones of, if any."""
        return cls._declared if isinstance(cls._declared, Repository) else None

    @classmethod
    def with_repository(cls, repository: Repository, commit: str) -> type[Self]:
        """Return the same class with another repository, from whose ``commit`` all clones begin."""

        class WithRepository(cls, action_timeout=None):
            _declared = repository
            _commit = commit

        WithRepository.declared = replace(WithRepository.declared, call_limits=cls.declared.call_limits)
        WithRepository.__name__ = WithRepository.__qualname__ = cls.__name__
        return cast("type[Self]", WithRepository)

    @classmethod
    def language_models(cls) -> tuple[LLM, ...]:
        """Return what ``agent_os`` was given as ``llm``."""
        return cls._llms

    @property
    def _sessions(self) -> Sessions:
        return sessions_of(self.runtime.workspaces, self.actor_id)

    @functools.cached_property
    def _tool_server(self) -> ToolServer:
        return ToolServer(self._tool_listener)

    @functools.cached_property
    def _metered(self) -> Metered:
        return Metered(self._llms, self.runtime, self._sessions.redactor)

    @functools.cached_property
    def _workspace(self) -> Workspace:
        root = root_folder(self._parent or self.runtime.workspaces, self.name, self.key)
        if self._declared is None:
            return Workspace(root)
        mounted = Path(self._declared.path) if isinstance(self._declared, Folder) else None
        return Workspace(root, self._declared.name, mounted)

    @functools.cached_property
    def _folder_lock(self) -> FolderLock | None:
        return FolderLock(Path(self._declared.path)) if isinstance(self._declared, Folder) else None

    @functools.cached_property
    def _preparing(self) -> asyncio.Lock:
        return asyncio.Lock()

    async def _files(self) -> Workspace:
        """Return the workspace. At its first use the clone is made, or the folder taken."""
        if self._declared is not None and not self._prepared:
            async with self._preparing:
                if not self._prepared:
                    await self.keep_awake(self._prepare(self._declared))
                    self._prepared = True
        return self._workspace

    async def _prepare(self, declared: Repository | Folder) -> None:
        await to_its_end(self._workspace.ensure)
        if isinstance(declared, Repository):
            await self._clone_maker(declared).ready()
            return
        assert self._folder_lock is not None
        if self.runtime.workspaces.is_relative_to(os.path.realpath(declared.path)):
            raise RepositoryError(
                f"The folder {declared.path} has the notebook's store in it, which agents must not be able to change. Put "
                "the store elsewhere, with %agentq start --store PATH; or give agent_os a Repository.",
                code="has_store",
            )
        await to_its_end(self._folder_lock.take, f"VM '{self.actor_id}' of {self.runtime.workspaces}, {os.getpid()}")

    def _clone_maker(self, repository: Repository) -> CloneMaker:
        branch = repository.branch_for(self.name, self.key)
        root, workspaces = self._workspace.root, self.runtime.workspaces
        return CloneMaker(repository, root, workspaces, self.actor_id, branch, self._run_quietly, self._commit)

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
        directory = await self.in_thread((await self._files()).directory, cwd)
        return await self._job_in(directory, words, environment, programs, readable, on_refusal, urls)

    async def _run_quietly(
        self, words: Sequence[str], env: Mapping[str, str], limit: int, timeout: float | None = None
    ) -> ExecResult:
        """Run a command of our own in the sandbox, where the workspace starts. It is in no list and no event."""
        prepared, connection = await self._job_in(self._workspace.start, checked_command(words), env)
        redactor = self._sessions.redactor
        outputs = [Output(limit, StreamRedactor(redactor)) for _ in range(2)]
        try:
            return await (await Execution.start(prepared, *outputs)).finish(timeout)
        except OSError as error:
            raise AgentError(f"A command could not be started: {error}.", code="not_started") from None
        finally:
            connection.close()

    async def _job_in(
        self,
        directory: tuple[str, ...],
        words: list[str],
        environment: Mapping[str, str],
        programs: Sequence[str] = (),
        readable: Sequence[str] = (),
        on_refusal: Callable[[str], None] | None = None,
        urls: Sequence[str] = (),
    ) -> tuple[Job, Connection]:
        kind = (await in_force(self._isolation_mode)).kind
        network = await self._network(kind)
        if network is None:
            connection = Connection()
        else:
            connection = await network.connect(environment, on_refusal and _in_this_loop(on_refusal), urls)
        variables, readable = {**connection.variables, **environment}, (*readable, *connection.readable)
        workspace = self._workspace
        prepared = job(
            kind,
            workspace.root,
            directory,
            words,
            variables,
            programs,
            (*self._readable, *readable),
            self._allowance,
            connection.namespace,
            connection.ports,
            (workspace.start[0], workspace.mounted) if workspace.mounted is not None else None,
        )
        return prepared, connection

    async def _isolation(self) -> Isolation:
        found = await in_force(self._isolation_mode)
        if isinstance(self._declared, Folder):
            found = protections.with_folder(found, str(self._declared.path))
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

    async def _leave(self) -> None:
        """End the VM's network, if it has one, and the proxy before its language models; let others have its folder."""
        if self._folder_lock is not None:
            self._folder_lock.release()
        if self._llms:
            await self._metered.aclose()
        if self._vm_network is not None:
            await self._vm_network.aclose()


VmBase.declared = replace(VmBase.declared, keeps_files=True)


def _in_this_loop(on_refusal: Callable[[str], None]) -> Callable[[str], None]:
    """Return ``on_refusal`` as a function that other threads can call."""
    loop = asyncio.get_running_loop()

    def call(sentence: str) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it all that could be notified
            loop.call_soon_threadsafe(on_refusal, sentence)

    return call
