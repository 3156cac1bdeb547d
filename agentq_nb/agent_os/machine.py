"""What every part of a VM stands on: its folder, its isolation, its sessions, and running one command."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from agentq_nb.actor import Actor
from agentq_nb.agent_os.agents.agent import Agent
from agentq_nb.agent_os.allowance import ALL, Allowance
from agentq_nb.agent_os.arguments import checked_command
from agentq_nb.agent_os.isolation import in_force, job
from agentq_nb.agent_os.permissions import Permits
from agentq_nb.agent_os.process import Job
from agentq_nb.agent_os.processes import Processes
from agentq_nb.agent_os.remembered import sessions_of
from agentq_nb.agent_os.sessions import Sessions
from agentq_nb.agent_os.tools import ToolServer
from agentq_nb.agent_os.values import ExecResult, IsolationMode
from agentq_nb.agent_os.workspace import FileName, Workspace, root_folder

if TYPE_CHECKING:
    from agentq_nb.agent_os.tools.describing import HostTool

Environment: TypeAlias = Mapping[str, str] | EllipsisType | None
"""Variables for an agent or a command; ``None`` and ``...`` are none."""


class Machine(Actor, action_timeout=None):
    """The floor of :class:`agentq_nb.agent_os.vm.VM`."""

    _agents: ClassVar[Mapping[str, Agent]] = {}
    _isolation_mode: ClassVar[IsolationMode] = "auto"
    _permits: ClassVar[Permits] = Permits("allow")
    _parent: ClassVar[Path | None] = None
    _allowance: ClassVar[Allowance] = ALL
    _tools: ClassVar[Mapping[str, HostTool]] = {}
    _warned = False

    @classmethod
    def parent_folder(cls) -> Path | None:
        """Where the folders of its VMs are, if ``agent_os`` was told: else they are beside the store."""
        return cls._parent

    @property
    def _sessions(self) -> Sessions:
        return sessions_of(self.runtime.workspaces, self.actor_id)

    @functools.cached_property
    def _tool_server(self) -> ToolServer:
        return ToolServer()

    @functools.cached_property
    def _workspace(self) -> Workspace:
        return Workspace(root_folder(self._parent or self.runtime.workspaces, self.name, self.key))

    @functools.cached_property
    def _processes(self) -> Processes:
        return Processes(self, self._sessions.redactor)

    async def _exec(
        self, command: str | Sequence[str], timeout: float | None, cwd: FileName, environment: Mapping[str, str]
    ) -> ExecResult:
        return await self._processes.run(await self._job(command, cwd, environment), command, timeout)

    async def _job(
        self,
        command: str | Sequence[str],
        cwd: FileName,
        environment: Mapping[str, str],
        programs: Sequence[str] = (),
        readable: Sequence[str] = (),
    ) -> Job:
        words = checked_command(command)
        directory = await self.in_thread(self._workspace.directory, cwd)
        kind = (await in_force(self._isolation_mode)).kind
        if kind == "none" and self._isolation_mode != "off" and not self._warned:
            self._warned = True
            self.log.warning("No isolation on this machine: commands may do whatever you may. See isolation().")
        return job(kind, self._workspace.root, directory, words, environment, programs, readable, self._allowance)
