"""A program that speaks ACP: how it is started, and in what it differs from others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentq_nb.agent_os.sandbox.workspace import Workspace
from agentq_nb.agent_os.tools import ToolAccess


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
    bridge: Callable[[Workspace, ToolAccess], Mapping[str, str]] | None = field(default=None, repr=False)
    """For an agent that knows no MCP: prepares the workspace so that it can call the notebook's tools all the same, and
    returns more variables for its process."""
    greeting: Callable[[Mapping[str, Any]], str | None] | None = field(default=None, repr=False)
    """For an agent that greets its user as if that were an answer, sooner or later: finds that text in what it told when
    the session was opened, so that it can be left out."""
    hidden_error: Callable[[Workspace, str], str | None] | None = field(default=None, repr=False)
    """For an agent that ends its turn as if all were well when its language model answers with an error: finds out what
    happened in its session of this id. Such an agent must not end a turn without a word either."""

    def refused(self, what: str, why: str) -> str:
        """Return the error message for what the agent, or its language model, refused."""
        return f"Agent '{self.name}' {what}: {why.rstrip('.')}. {self.hint}".rstrip()
