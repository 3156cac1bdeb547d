"""A program that speaks ACP: where it is, how it is started, and how it differs from others."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentq_nb.agent_os.agents.install import Found, find, find_node, why_no_node
from agentq_nb.agent_os.agents.model_settings import ModelSettings, by_variables
from agentq_nb.agent_os.meter.access import ModelAccess
from agentq_nb.agent_os.sandbox.workspace import Workspace
from agentq_nb.agent_os.tools import ToolAccess
from agentq_nb.agent_os.values import AgentCheck
from agentq_nb.errors import AgentError


@dataclass(frozen=True)
class AcpProgram:
    """The command and the peculiarities of one agent."""

    name: str
    argv: tuple[str, ...]
    helpers: tuple[str, ...] = ()
    """Other programs that it calls."""
    in_front: str | None = None
    """A folder whose programs stand in for those of the same name."""
    mode: str = ""
    """The mode its sessions begin in, where that is not the agent's own choice."""
    isolated: tuple[str, ...] = ()
    """More arguments where our isolation is in force: they switch off a sandbox of its own, which cannot work inside."""
    alone: tuple[str, ...] = ()
    """More arguments where there is no isolation."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Variables besides those of the session."""
    readable: tuple[str, ...] = ()
    """Folders it may read under isolation besides its own."""
    from_npm: bool = False
    """Whether it comes in npm packages, which there is a lock file for, and needs Node."""
    hosts: tuple[str, ...] = ()
    """Where its language models are, and where one signs in to them: what it reaches under ``network="llm"``."""
    takes_servers: bool = True
    """Whether it can be given MCP servers at all."""
    servers_in_argv: bool = False
    """Whether it puts its MCP servers into command lines, and there replaces ``${NAME}`` by a variable of its own."""
    opening: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    """More parameters of the requests that open a session."""
    usage_covers: str | None = None
    """What the usage that it tells is of, where that is known: ``"turn"`` or ``"last call"``."""
    hint: str = ""
    """What to look at when its language model refuses."""
    metered: Callable[[Workspace, ModelAccess, Mapping[str, str]], ModelSettings] = field(
        default=by_variables, repr=False
    )
    """Prepares the workspace so that it uses the proxy before its language models, and returns what its process needs
    for that. The last argument are its ``environment``."""
    bridge: Callable[[Workspace, ToolAccess], Mapping[str, str]] | None = field(default=None, repr=False)
    """For an agent that knows no MCP: prepares the workspace so that it can call the notebook's tools all the same, and
    returns more variables for its process."""
    greeting: Callable[[Mapping[str, Any]], str | None] | None = field(default=None, repr=False)
    """For an agent that greets its user as if that were an answer, sooner or later: finds that text in what it sent when
    the session was opened, so that it can be left out."""
    hidden_error: Callable[[Workspace, str], str | None] | None = field(default=None, repr=False)
    """For an agent that ends its turn as if all were well when its language model answers with an error: finds out what
    happened in its session of this id. Such an agent must not end a turn without a word either."""

    def check(self) -> AgentCheck:
        """Return whether its program and, where needed, a Node that is new enough are installed."""
        found = self._programs()
        missing = [f"There is no {name} on the PATH." for name, program in found.items() if program is None]
        if self.from_npm and find_node() is None:
            missing.append(why_no_node())
        if missing:
            install = f"agentq agents install {self.name} (in a notebook: %agentq agents install {self.name})"
            missing.append(f"Install it: {install if self.from_npm else 'or give its full path'}.")
        program = found[self.argv[0]]
        return AgentCheck(self.name, tuple(missing), program and program.version, program and program.program)

    def prepared(self) -> tuple[list[str], list[str], list[str]]:
        """Return folders for its PATH, folders to read, and the command. Raises ``AgentError`` where something is missing."""
        check = self.check()
        if check.path is None or not check:
            raise AgentError(f"Agent '{self.name}' cannot work here: {' '.join(check.missing)}", code="not_ready")
        found = [*self._programs().values(), find_node() if self.from_npm else None]
        present = [one for one in found if one is not None]
        in_front = [self.in_front] if self.in_front else []
        programs = [*in_front, *(os.path.dirname(one.program) for one in present)]
        readable = dict.fromkeys([*in_front, *(path for one in present for path in one.readable)])
        return programs, list(readable), [check.path, *self.argv[1:]]

    def refused(self, what: str, why: str) -> str:
        """Return the error message for what the agent, or its language model, refused."""
        return f"Agent '{self.name}' {what}: {why.rstrip('.')}. {self.hint}".rstrip()

    def _programs(self) -> dict[str, Found | None]:
        return {program: find(program, self.name) for program in (self.argv[0], *self.helpers)}
