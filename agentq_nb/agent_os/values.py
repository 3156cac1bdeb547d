"""Results of a VM's actions: frozen values that print well and can be sent as JSON."""

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
ChangeKind: TypeAlias = Literal["added", "modified", "deleted", "renamed"]
FileKind: TypeAlias = Literal["file", "directory", "link", "other"]
IsolationKind: TypeAlias = Literal["bubblewrap", "landlock", "none"]
IsolationMode: TypeAlias = Literal["auto", "required", "off"]
NetworkMode: TypeAlias = Literal["open", "web", "llm", "none"]
McpServer: TypeAlias = Mapping[str, Any]
"""An MCP server as ACP describes it: ``name`` with ``url`` and ``headers``, or ``command``, ``args`` and ``env``."""
OutputStream: TypeAlias = Literal["stdout", "stderr"]
Permission: TypeAlias = Literal["allow", "deny"]
AnsweredBy: TypeAlias = Literal["setting", "function", "user", "timeout", "cancelled"]
"""Who or what ended a permission request; ``setting`` is ``permissions="allow"`` or ``"deny"``."""
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
"""How an agent or a tool may fail, also by sys.exit() or interrupted in a busy loop. The kernel's loop continues."""


@dataclass(frozen=True)
class FileInfo:
    """One name in a workspace. A link is described itself, not its target."""

    name: str
    kind: FileKind
    size: int
    """Bytes."""
    modified: float
    """Seconds since 1970, UTC."""


@dataclass(frozen=True)
class ExecResult:
    """The result of a command. ``exit_code`` is 128 + the signal's number when a signal ended it, as in a shell."""

    exit_code: int
    stdout: str
    stderr: str
    timed_out: bool = False
    truncated: bool = False
    """Whether the middle of the output was left out; its place is marked in the text."""
    refused: tuple[str, ...] = ()
    """What the VM's network refused, and why; each entry says how to allow it."""


@dataclass(frozen=True)
class ProcessInfo:
    """The current state of a VM's process; it is known until the VM sleeps."""

    process_id: str
    command: str
    """The command; a list is joined as in a shell."""
    status: Literal["running", "ended"]
    started_at: datetime
    ended_at: datetime | None = None
    exit_code: int | None = None
    """128 + the signal's number when a signal ended it, as in a shell."""
    refused: tuple[str, ...] = ()
    """What the VM's network refused, as in :class:`ExecResult`."""


@dataclass(frozen=True)
class ProcessOutput:
    """The payload of the event ``process_output``: a piece of a process's output. Omissions in it are marked."""

    process_id: str
    stream: OutputStream
    text: str


@dataclass(frozen=True)
class OutputSoFar:
    """The output of a process so far, truncated like that of :class:`ExecResult`."""

    stdout: str
    stderr: str
    truncated: bool


@dataclass(frozen=True)
class Forward:
    """A port inside a VM that can be reached from this machine."""

    port: int
    """The port on the VM's loopback."""
    url: str
    """Its URL on this machine."""


@dataclass(frozen=True)
class Isolation:
    """The sandbox that separates a VM's processes from the rest of the machine."""

    kind: IsolationKind
    protects: tuple[str, ...]
    does_not_protect: tuple[str, ...]
    network: NetworkMode = "open"
    """What processes reach: see :func:`agentq_nb.agent_os.agent_os`."""
    breaks: tuple[str, ...] = ()
    """Harmless things that do not work under this network."""
    refused: Mapping[str, str] = field(default_factory=dict[str, str])
    """Stronger kinds that were tried, and why each is unavailable here."""


@dataclass(frozen=True)
class SessionInfo:
    """A conversation with one agent. It stays in the log across restarts, open or closed."""

    session_id: str
    agent: str
    status: Literal["open", "running", "closed"]
    keep: bool
    cwd: str
    env_names: tuple[str, ...]
    created_at: datetime
    closed_reason: str | None = None
    mode: str | None = None
    """How freely the agent may work, in its own terms; None where it has no modes or has not reported one yet."""
    model: str | None = None
    """The language model it uses; None where it does not report one."""
    modes: tuple[str, ...] = field(default=(), repr=False)
    """The modes it has. Known once it has run since the kernel was started, as are the ``models``."""
    models: tuple[str, ...] = field(default=(), repr=False)
    """The models it has."""
    mcp_servers: tuple[str, ...] = ()
    """The names of the MCP servers that were given to it."""
    agent_session_id: str | None = None
    """The agent's own id of the conversation, once something was said in it."""
    resumed: Literal["loaded", "told"] | None = None
    """How its agent resumed the conversation when it was last restarted: ``"loaded"`` or ``"told"``.

    An agent that loaded it knows all of it; one that was told knows how it ended. None when resuming was not necessary
    since the kernel was started.
    """


@dataclass(frozen=True)
class SessionEvent:
    """One row of a transcript. ``index`` counts from 1 within the session; ``data`` holds the fields of its type."""

    session_id: str
    index: int
    time: datetime
    type: EventType
    text: str | None
    data: Mapping[str, Any]


@dataclass(frozen=True)
class FileChange:
    """One file of a repository that changed. Lines of a binary file are not counted."""

    path: str
    kind: ChangeKind
    insertions: int = 0
    deletions: int = 0
    binary: bool = False
    old_path: str | None = None
    """The former path of one that was renamed."""

    def __str__(self) -> str:
        name = self.path if self.old_path is None else f"{self.old_path} → {self.path}"
        return f"{name} (binary)" if self.binary else f"{name} (+{self.insertions} -{self.deletions})"


@dataclass(frozen=True)
class PromptResult:
    """One finished turn: the agent's text, why it stopped, its usage (if reported) and its tool calls.

    Where ``send_prompt`` was given ``reply``, it is all turns that the answer took: the text of the last one, the tool
    calls of all, and the sum of their usage.
    """

    text: str
    stop_reason: str
    usage: Mapping[str, Any] | None
    tool_calls: tuple[Mapping[str, Any], ...]
    reply: Any = None
    """The answer as the ``reply`` type that ``send_prompt`` was given; None without one, and when it was cancelled."""
    files: tuple[FileChange, ...] | None = None
    """The files of the VM's repository that changed during this turn; None where the VM has no repository."""


@dataclass(frozen=True)
class PermissionRequest:
    """A request of an agent for permission to do something."""

    session_id: str
    agent: str
    title: str
    """A description, in the agent's words, of what it is about to do."""
    kind: str | None
    """``"edit"``, ``"execute"``, ``"read"`` and the like, where the agent reports it."""
    tool_call: Mapping[str, Any]
    """All details that the agent gave, unchanged."""
    request_id: str = field(default_factory=mint_id)
    """The id that ``respond_permission`` takes."""

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The details of the request, complete and safe to show: the command, file changes, paths."""
        return parts_of(self.title, self.tool_call)

    @property
    def heading(self) -> str:
        """The title in one line that is safe to show. If it is truncated here, the parts contain all of it."""
        line = " ".join(exact(self.title[: 2 * LONGEST_TITLE]).split())
        cut = len(line) > LONGEST_TITLE or len(self.title) > 2 * LONGEST_TITLE
        return f"{line[:LONGEST_TITLE]}…" if cut else line

    @property
    def text(self) -> str:
        """The heading and all parts as one text: ``print(request.text)``."""
        return "\n\n".join([self.heading, *(f"{part.name}:\n{part.text}" for part in self.parts)])


@dataclass(frozen=True)
class AgentCheck:
    """Whether an agent can work here; ``missing`` lists in sentences what it lacks and how to get that."""

    agent: str
    missing: tuple[str, ...] = ()
    version: str | None = None
    """The version of the agent that was found, where it reports one."""
    path: str | None = None
    """The program that would be started."""

    def __bool__(self) -> bool:
        return not self.missing
