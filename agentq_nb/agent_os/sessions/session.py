"""One open session in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import anyio

from agentq_nb._core.origin import PROCESS, Origin
from agentq_nb.agent_os.agent import AgentProcessSlot
from agentq_nb.agent_os.meter.access import ModelAccess
from agentq_nb.agent_os.sessions.permissions import PermissionRequests
from agentq_nb.agent_os.transcript import Transcript
from agentq_nb.agent_os.values import ChoiceKind, McpServer, SessionInfo


@dataclass(eq=False)
class Session:
    """An open session in this process. The log has all of it except ``environment`` and ``mcp_servers``."""

    info: SessionInfo
    transcript: Transcript
    environment: dict[str, str] = field(repr=False)
    history: list[tuple[str, str]] | None
    """Earlier prompts with their answers; None until read from the log."""
    chosen: dict[ChoiceKind, str] = field(default_factory=dict[ChoiceKind, str])
    """The mode and the model with which each process of its agent starts."""
    mcp_servers: tuple[McpServer, ...] = field(default=(), repr=False)
    owned_in: asyncio.AbstractEventLoop | None = None
    """The event loop of the call that closes the session at its end; None where no call does."""
    turn: anyio.Lock = field(default_factory=anyio.Lock)
    process_slot: AgentProcessSlot = field(default_factory=AgentProcessSlot)
    cancel: Callable[[], None] | None = None
    """Cancels the running prompt; None when none runs."""
    waiting: set[anyio.CancelScope] = field(default_factory=set[anyio.CancelScope])
    """The prompts that wait for their turn."""
    origin: Origin = PROCESS
    """The least trusted origin of its prompts so far: the agent remembers them all, and acts on them later too."""
    cancels: int = 0
    """How often its prompts were cancelled."""
    answers_typed: bool = False
    """Whether a prompt may be asked again after its turn, until its answer fits a type."""
    models: ModelAccess | None = field(default=None, repr=False)
    """Its access to the VM's language models, since it was first needed."""
    requests: PermissionRequests = field(init=False)

    def __post_init__(self) -> None:
        self.requests = PermissionRequests(self.transcript)

    @property
    def whole_environment(self) -> dict[str, str]:
        """The variables of its agent, with those that lead to the VM's language models."""
        return {**self.environment, **({} if self.models is None else self.models.variables())}

    @property
    def orphaned(self) -> bool:
        """Whether the call that should close it never will, because that call's loop has ended."""
        return self.owned_in not in (None, asyncio.get_running_loop())

    async def recover(self) -> None:
        """Reset what the previous activation left unfinished, since nothing will finish it any more."""
        self.process_slot.abandon()
        self.process_slot, self.turn, self.cancel = AgentProcessSlot(), anyio.Lock(), None
        self.waiting.clear()
        await self.transcript.recover()
        await self.requests.give_up("the host ended before it was answered")

    def cancel_prompts(self) -> bool:
        """Cancel the running prompt and those that wait behind it. False if there was none."""
        found = self.cancel is not None or bool(self.waiting) or self.answers_typed
        self.cancels += 1
        for scope in self.waiting:
            scope.cancel()
        if self.cancel is not None:
            self.cancel()
        return found

    def missing(self) -> list[str]:
        """Return the names of variables and MCP servers that were lost with an earlier process."""
        return missing(self.info, self.environment, self.mcp_servers)


def missing(info: SessionInfo, environment: Mapping[str, str], servers: Iterable[McpServer]) -> list[str]:
    """Return the names of variables and MCP servers that ``info`` lists and that are not given."""
    names = {server["name"] for server in servers}
    return [
        *(name for name in info.env_names if name not in environment),
        *(f"the MCP server '{name}'" for name in info.mcp_servers if name not in names),
    ]
