"""What a VM's actions give back: frozen values that print well and can be sent as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, TypeAlias

from agentq_nb._core.ids import mint_id
from agentq_nb._core.safe_text import exact
from agentq_nb.agent_os.tool_call_text import LONGEST_TITLE, Part, parts_of

ChoiceKind: TypeAlias = Literal["mode", "model"]
FileKind: TypeAlias = Literal["file", "directory", "link", "other"]
IsolationKind: TypeAlias = Literal["bubblewrap", "landlock", "none"]
IsolationMode: TypeAlias = Literal["auto", "required", "off"]
NetworkMode: TypeAlias = Literal["open", "web", "llm", "none"]
McpServer: TypeAlias = Mapping[str, Any]
"""An MCP server as ACP describes it: ``name`` with ``url`` and ``headers``, or with ``command``, ``args`` and ``env``."""
OutputStream: TypeAlias = Literal["stdout", "stderr"]
Permission: TypeAlias = Literal["allow", "deny"]
AnsweredBy: TypeAlias = Literal["setting", "function", "user", "timeout", "cancelled"]
"""Who ended a permission request; ``setting`` is ``permissions="allow"`` or ``"deny"``."""
EventType: TypeAlias = Literal[
    "prompt",
    "text",
    "tool_call",
    "tool_result",
    "permission_request",
    "permission_answer",
    "result",
    "error",
    "note",
]


FAILURES = (Exception, SystemExit, KeyboardInterrupt, GeneratorExit)
"""How an agent or a tool fails: also by sys.exit(), or interrupted in a busy loop. The kernel's loop goes on."""


@dataclass(frozen=True)
class FileInfo:
    """One name in a workspace. A link is described itself, never what it points to."""

    name: str
    kind: FileKind
    size: int
    """Bytes."""
    modified: float
    """Seconds since 1970, UTC."""


@dataclass(frozen=True)
class ExecResult:
    """How a command ended. ``exit_code`` is 128 + the signal's number when a signal ended it, as in a shell."""

    exit_code: int
    stdout: str
    stderr: str
    timed_out: bool = False
    truncated: bool = False
    """Whether the middle of the output was left out; its place is marked in the text."""
    refused: tuple[str, ...] = ()
    """What the VM's network did not let it reach, and why; each says how to allow it."""


@dataclass(frozen=True)
class ProcessInfo:
    """A process of a VM, as it stands now; it is known until the VM sleeps."""

    process_id: str
    command: str
    """As it was given, a list as a shell would write it."""
    status: Literal["running", "ended"]
    started_at: datetime
    ended_at: datetime | None = None
    exit_code: int | None = None
    """128 + the signal's number when a signal ended it, as in a shell."""
    refused: tuple[str, ...] = ()
    """What the VM's network did not let it reach, as in :class:`ExecResult`."""


@dataclass(frozen=True)
class ProcessOutput:
    """What the event ``process_output`` tells: a piece of what a process wrote. What was left out of it is marked."""

    process_id: str
    stream: OutputStream
    text: str


@dataclass(frozen=True)
class OutputSoFar:
    """What a process has written by now, as :class:`ExecResult` keeps it."""

    stdout: str
    stderr: str
    truncated: bool


@dataclass(frozen=True)
class Forward:
    """A port inside a VM that can be reached from this machine."""

    port: int
    """Of the VM's loopback."""
    url: str
    """Where it is on this machine, as a browser writes it."""


@dataclass(frozen=True)
class Isolation:
    """What stands between a VM's processes and the rest of the machine."""

    kind: IsolationKind
    protects: tuple[str, ...]
    does_not_protect: tuple[str, ...]
    network: NetworkMode = "open"
    """What they reach: see :func:`agentq_nb.agent_os.agent_os`."""
    breaks: tuple[str, ...] = ()
    """What does not work under this network though it does harm to nobody."""
    refused: Mapping[str, str] = field(default_factory=dict[str, str])
    """What is stronger and was tried, and why each cannot be had here."""


@dataclass(frozen=True)
class SessionInfo:
    """A conversation with one agent. It outlives restarts in the log, whatever its ``status``."""

    session_id: str
    agent: str
    status: Literal["open", "running", "closed"]
    keep: bool
    cwd: str
    env_names: tuple[str, ...]
    created_at: datetime
    closed_reason: str | None = None
    mode: str | None = None
    """How freely the agent may work, in its own words; None where it has no modes, or has not said yet."""
    model: str | None = None
    """The language model it uses; None where it does not say."""
    modes: tuple[str, ...] = field(default=(), repr=False)
    """The modes it has. Known once it has run since the kernel was started, as are the ``models``."""
    models: tuple[str, ...] = field(default=(), repr=False)
    """The models it has."""
    mcp_servers: tuple[str, ...] = ()
    """The names of the MCP servers that were given to it."""
    agent_session_id: str | None = None
    """What the agent itself calls the conversation, once something was said in it."""
    resumed: Literal["loaded", "told"] | None = None
    """How its agent took the conversation up again when it was last started anew: it ``"loaded"`` it by itself and knows
    all of it, or was ``"told"`` how it ended. None when that never was necessary since the kernel was started."""


@dataclass(frozen=True)
class SessionEvent:
    """One row of a transcript. ``index`` counts from 1 within the session; ``data`` holds what its type adds."""

    session_id: str
    index: int
    time: datetime
    type: EventType
    text: str | None
    data: Mapping[str, Any]


@dataclass(frozen=True)
class PromptResult:
    """One finished turn: all text the agent wrote, why it stopped, what it used (if it said so) and called."""

    text: str
    stop_reason: str
    usage: Mapping[str, Any] | None
    tool_calls: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class PermissionRequest:
    """What an agent asks before it does it."""

    session_id: str
    agent: str
    title: str
    """What it is about to do, in the agent's words."""
    kind: str | None
    """``"edit"``, ``"execute"``, ``"read"`` and the like, where the agent says so."""
    tool_call: Mapping[str, Any]
    """All that the agent tells about it, as it came."""
    request_id: str = field(default_factory=mint_id)
    """What ``respond_permission`` takes."""

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """All that the agent tells of what it will do, whole and safe to show: the command, changes of files, paths."""
        return parts_of(self.title, self.tool_call)

    @property
    def heading(self) -> str:
        """The title in one line that is safe to show. One that is cut here is whole in the parts."""
        line = " ".join(exact(self.title[: 2 * LONGEST_TITLE]).split())
        cut = len(line) > LONGEST_TITLE or len(self.title) > 2 * LONGEST_TITLE
        return f"{line[:LONGEST_TITLE]}…" if cut else line

    @property
    def text(self) -> str:
        """The heading and all parts as one text: ``print(request.text)``."""
        return "\n\n".join([self.heading, *(f"{part.name}:\n{part.text}" for part in self.parts)])


@dataclass(frozen=True)
class AgentCheck:
    """Whether an agent can work here; ``missing`` says in sentences what is not there and how to get it."""

    agent: str
    missing: tuple[str, ...] = ()
    version: str | None = None
    """Of the agent that was found, where it tells."""
    path: str | None = None
    """The program that would be started."""

    def __bool__(self) -> bool:
        return not self.missing
