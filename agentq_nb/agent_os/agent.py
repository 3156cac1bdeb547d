"""The Agent protocol: takes a prompt, emits events while it works; and the session it gets."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, cast, runtime_checkable

from agentq_nb.agent_os.meter.access import ModelAccess
from agentq_nb.agent_os.sandbox.open_process import OpenProcess
from agentq_nb.agent_os.sandbox.workspace import FileName, Workspace
from agentq_nb.agent_os.tools import ToolAccess
from agentq_nb.agent_os.values import (
    AgentCheck,
    ChoiceKind,
    ExecResult,
    Isolation,
    IsolationMode,
    McpServer,
    Permission,
    PermissionRequest,
)

AgentEventType: TypeAlias = Literal["text", "tool_call", "tool_result", "note", "result"]
LATE = "late"
"""A key in an event's data: the event belongs to the turn before the one in which it came. Its text is a note then."""
THOUGHT = "thought"
"""A key in a note's data: the note is a thought of the agent."""
_TYPES = ("text", "tool_call", "tool_result", "note", "result")


@dataclass(frozen=True)
class AgentEvent:
    """One event that an agent emits while it works; ``data`` must be JSON.

    ``text`` is part of its answer, ``note`` a remark beside it. ``tool_call`` and ``tool_result`` say what it did.
    ``result`` may end a turn with ``stop_reason`` and ``usage`` in its data.
    """

    type: AgentEventType
    text: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @staticmethod
    def of(given: object) -> AgentEvent:
        """Return an event from what a Python agent may yield: an event, a str (text), or a dict with a ``type``."""
        if isinstance(given, AgentEvent):
            return given
        if isinstance(given, str):
            return AgentEvent("text", given)
        if isinstance(given, Mapping):
            data = dict(cast(Mapping[str, Any], given))
            kind, text = data.pop("type", None), data.pop("text", None)
            if kind in _TYPES and (text is None or isinstance(text, str)):
                return AgentEvent(kind, text, data)
        raise TypeError(
            f"An agent gives str, or dicts with a type of {', '.join(_TYPES)} (and text as str), not {given!r:.200}"
        )


Emit: TypeAlias = Callable[[AgentEvent], Awaitable[None]]
Execute: TypeAlias = Callable[..., Awaitable[ExecResult]]
Open: TypeAlias = Callable[..., Awaitable[OpenProcess]]
OpenTools: TypeAlias = Callable[[], Awaitable[ToolAccess | None]]
Learn: TypeAlias = Callable[..., Awaitable[None]]
Note: TypeAlias = Callable[[str], Awaitable[None]]
Permit: TypeAlias = Callable[[PermissionRequest], Awaitable[Permission]]


class AgentProcess(Protocol):
    """What an agent keeps running between the prompts of a session, usually its process."""

    @property
    def alive(self) -> bool: ...

    async def aclose(self) -> None: ...

    def abandon(self) -> None:
        """Have it end without waiting. Its event loop may have ended."""
        ...


class AgentProcessSlot:
    """Holds one session's agent process. It is released when the session is closed and when the VM sleeps."""

    value: Any = None

    @property
    def alive(self) -> bool:
        return self.value is not None and self.value.alive

    async def release(self) -> None:
        """End the process, if there is one."""
        process: AgentProcess | None = self.value
        self.value = None
        if process is not None:
            await process.aclose()

    def abandon(self) -> None:
        """Have the process, if there is one, end without its event loop."""
        process: AgentProcess | None = self.value
        self.value = None
        if process is not None:
            process.abandon()


async def _no_tools() -> ToolAccess | None:
    return None


@dataclass(frozen=True)
class AgentSession:
    """What an agent gets with a prompt: access to the VM, and the earlier conversation."""

    session_id: str
    agent: str
    root: Path
    """The workspace's real folder, the agent's HOME; prompts call it ``/home/user``."""
    cwd: Path
    env: Mapping[str, str] = field(repr=False)
    history: tuple[tuple[str, str], ...]
    """Earlier prompts with the texts that answered them."""
    workspace: Workspace = field(repr=False)
    isolation_mode: IsolationMode = field(repr=False)
    origin: str = field(repr=False)
    """Where the prompt came from: ``"process"``, ``"socket"``, ``"http"`` or ``"webhook:NAME"``.

    It is the least trusted origin of what led to the prompt: that of the message whose handler sends it, for one.
    """
    isolation: Callable[[], Awaitable[Isolation]] = field(repr=False)
    exec: Execute = field(repr=False)
    """``await session.exec(command, timeout=None)``: like the VM's action, with this session's ``cwd`` and ``env``."""
    open: Open = field(repr=False)
    """``await session.open(command, env, programs, readable)``: starts a process like ``exec``, and leaves it open."""
    permit: Permit = field(repr=False)
    """Returns the user's permission for one request; :meth:`ask` is the short way."""
    learn: Learn = field(repr=False)
    """``await session.learn(chosen, **facts)``: see :meth:`agentq_nb.agent_os.sessions.sessions.Sessions.learn`."""
    note: Note = field(repr=False)
    """``await session.note(text)``: adds a remark to the transcript, even when no prompt runs."""
    agent_session_id: str | None = None
    """The id that an earlier process of the agent gave this conversation, if anything was said in it."""
    chosen: Mapping[ChoiceKind, str] = field(default_factory=dict[ChoiceKind, str])
    """The mode and the model that were chosen for this session; the agent chooses those that are missing."""
    mcp_servers: tuple[McpServer, ...] = field(default=(), repr=False)
    """MCP servers to use besides the agent's own, as ACP describes them. They contain secrets."""
    process_slot: AgentProcessSlot = field(default_factory=AgentProcessSlot, repr=False)
    tools: Mapping[str, Callable[..., Any]] = field(default_factory=dict[str, Callable[..., Any]], repr=False)
    """The functions given as ``agent_os(tools=[…])``, by name: ``await session.tools["f"](1)``.

    In a plain function, which runs in a thread, they are called without ``await``. Each call is part of the transcript.
    """
    open_tools: OpenTools = field(default=_no_tools, repr=False)
    """Lets a process of the agent call the tools over MCP until the returned access is closed. None: no tools."""
    reply_schema: Mapping[str, Any] | None = field(default=None, repr=False)
    """The JSON Schema that the answer must fit, where ``send_prompt`` was given ``reply``."""
    instructions: str = field(default="", repr=False)
    """Text for the agent in addition to the prompt, which is never changed: ``reply_schema`` in words."""
    models: ModelAccess | None = field(default=None, repr=False)
    """Access to the language models of ``agent_os(llm=...)``; its variables are also part of ``env``."""
    redact: Callable[[str], str] = field(default=str, repr=False)
    """Returns a text without the VM's secrets. Call it before truncating a text: half a secret is not recognised."""
    stopped: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def cancelled(self) -> bool:
        """Whether the prompt was cancelled. A plain function, which cannot be stopped from outside, should check it."""
        return self.stopped.is_set()

    async def ask(self, title: str, kind: str | None = None, tool_call: Mapping[str, Any] | None = None) -> bool:
        """Ask for permission: return whether the VM's ``permissions``, or the user, allow this action.

        ``title`` says what the agent is about to do, ``kind`` is ``"edit"``, ``"execute"``, ``"read"`` or the like, and
        ``tool_call`` may add details, as JSON. A plain function, which runs in a thread, writes
        ``anyio.from_thread.run(session.ask, "Delete it?")``.
        """
        request = PermissionRequest(self.session_id, self.agent, title, kind, tool_call or {})
        return await self.permit(request) == "allow"

    def read(self, name: FileName) -> bytes:
        """Read a file of the workspace, named as in a prompt (``/home/user/…`` or relative). Blocks."""
        return self.workspace.read(name)

    def write(self, name: FileName, data: bytes | str) -> None:
        """Write a file of the workspace atomically, with missing parent folders. Blocks."""
        self.workspace.write(name, data)


@runtime_checkable
class Agent(Protocol):
    """Anything that ``agent_os(agents=[…])`` takes."""

    @property
    def name(self) -> str: ...

    def check(self) -> AgentCheck:
        """Return what is missing for it to work on this machine; the result is true when nothing is."""
        ...

    async def prompt(self, session: AgentSession, text: str, emit: Emit) -> None:
        """Answer one prompt, reporting everything through ``emit``. An exception fails the prompt.

        Events emitted after the end still go into the transcript, but not into the result.
        """
        ...


@runtime_checkable
class PersistentAgent(Agent, Protocol):
    """An agent that starts something before the first prompt and keeps it in ``session.process_slot``."""

    async def begin(self, session: AgentSession) -> None:
        """Start it. An exception fails ``create_session``."""
        ...


@runtime_checkable
class ConfigurableAgent(PersistentAgent, Protocol):
    """An agent whose sessions have a mode and a model that can be changed."""

    async def choose(self, session: AgentSession, kind: ChoiceKind, value: str) -> None:
        """Change it in the running session. Raises ``AgentError`` that lists the choices."""
        ...
