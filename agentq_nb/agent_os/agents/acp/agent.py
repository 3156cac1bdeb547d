"""Coding agents that speak ACP (Agent Client Protocol), as the programs they are."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentq_nb._core.threads import to_its_end
from agentq_nb.agent_os.agent import AgentSession, Emit
from agentq_nb.agent_os.agents.install import Found, find, find_node, why_no_node
from agentq_nb.agent_os.sandbox.workspace import HOME, Workspace
from agentq_nb.agent_os.tools import ToolAccess
from agentq_nb.agent_os.validation import in_variables
from agentq_nb.agent_os.values import AgentCheck, ChoiceKind
from agentq_nb.errors import AgentError

if TYPE_CHECKING:
    from agentq_nb.agent_os.agents.acp.conversation import Conversation

_TOO_MANY = re.compile(r"\b429\b|too many requests|rate.?limit", re.IGNORECASE)
_SLOW_DOWN = (
    "It was asked too often: send it less at a time, or let the queue wait longer between attempts "
    "(retry=Retry(backoff=...))."
)
_REMEMBERED = 8000  # characters of what was said before, for an agent that had to be started again
_COMPILED = ".cache/node-compile-cache"
"""Where Node keeps what it has compiled: beside the agent's files, since its folder for temporary files is new each time
and Pi, for one, would start a second later."""


@dataclass(frozen=True)
class AcpAgent:
    """What :func:`acp` returns, and what the presets are."""

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

    def check(self) -> AgentCheck:
        """Whether its program is there, and a Node that is new enough where it needs one."""
        found = self._programs()
        missing = [f"There is no {name} on the PATH." for name, program in found.items() if program is None]
        if self.from_npm and find_node() is None:
            missing.append(why_no_node())
        if missing:
            install = f"agentq agents install {self.name} (in a notebook: %agentq agents install {self.name})"
            missing.append(f"Install it: {install if self.from_npm else 'or give its full path'}.")
        program = found[self.argv[0]]
        return AgentCheck(self.name, tuple(missing), program and program.version, program and program.program)

    async def begin(self, session: AgentSession) -> None:
        """Start the agent's process for this session. Raises ``AgentError`` when it does not get ready.

        A conversation that was begun before is taken up again: the agent loads it itself where it can (ACP's
        ``session/load``), else a new one is told how the old one ended. A note and ``SessionInfo.resumed`` say which.
        """
        conversation, why_not = None, ""
        if session.agent_session_id is not None:
            try:
                conversation = await self._converse(session, session.agent_session_id)
            except AgentError as error:
                why_not = f" It could not load it itself: {error.message}"
        if conversation is None:
            conversation = await self._converse(session, None)
        session.process_slot.value = conversation
        if conversation.loaded:
            await session.learn(resumed="loaded")
            await session.note("The agent's process was started anew and has loaded the conversation.")
        elif session.history or session.agent_session_id is not None:
            await session.learn(resumed="told")
            told = "The agent's process was started anew; it was told how the conversation went so far."
            await session.note(told + why_not)

    async def prompt(self, session: AgentSession, text: str, emit: Emit) -> None:
        """Let it answer; its process is started again where it has ended meanwhile."""
        if not session.process_slot.alive:
            await session.process_slot.release()
            await self.begin(session)
        await session.process_slot.value.prompt(text, emit)

    async def choose(self, session: AgentSession, kind: ChoiceKind, value: str) -> None:
        """Change the mode or model of a session whose process runs. Raises ``AgentError`` that tells what there is."""
        await session.process_slot.value.choose(kind, value)

    def refused(self, what: str, why: str) -> str:
        """What to say when it, or its language model, refuses."""
        return f"Agent '{self.name}' {what}: {why.rstrip('.')}. {_SLOW_DOWN if _TOO_MANY.search(why) else self.hint}".rstrip()

    async def _converse(self, session: AgentSession, load: str | None) -> Conversation:
        # Loading the protocol's library takes a while, and the loop has other things to do.
        conversing = await to_its_end(importlib.import_module, "agentq_nb.agent_os.agents.acp.conversation")
        programs, readable, command = await to_its_end(self._prepared)
        kind = (await session.isolation()).kind
        bound = kind == "bubblewrap"
        command += self.alone if kind == "none" else self.isolated
        access = await session.open_tools()
        home = HOME if bound else str(session.root)
        try:
            environment = {"NODE_COMPILE_CACHE": f"{home}/{_COMPILED}", **self.environment}
            if access is not None and self.bridge is not None:
                environment |= await to_its_end(self.bridge, session.workspace, access)
            if self.servers_in_argv:
                environment |= in_variables([*session.mcp_servers, *([access.as_server()] if access else [])])[1]
            process = await session.open(
                command, env=environment, programs=programs, readable=(*readable, *self.readable)
            )
        except BaseException:
            if access is not None:
                await access.aclose()
            raise
        below = session.cwd.relative_to(session.root).parts
        cwd = "/".join((home, *below))
        conversation: Conversation = await conversing.begin(process, cwd, session, self, load, access)
        conversation.briefing = _briefing(session, bound, conversation.loaded)
        return conversation

    def _programs(self) -> dict[str, Found | None]:
        return {program: find(program, self.name) for program in (self.argv[0], *self.helpers)}

    def _prepared(self) -> tuple[list[str], list[str], list[str]]:
        """Folders for its PATH, folders to read, and the command."""
        check = self.check()
        if check.path is None or not check:
            raise AgentError(f"Agent '{self.name}' cannot work here: {' '.join(check.missing)}", code="not_ready")
        found = [*self._programs().values(), find_node() if self.from_npm else None]
        present = [one for one in found if one is not None]
        in_front = [self.in_front] if self.in_front else []
        programs = [*in_front, *(os.path.dirname(one.program) for one in present)]
        readable = dict.fromkeys([*in_front, *(path for one in present for path in one.readable)])
        return programs, list(readable), [check.path, *self.argv[1:]]


def acp(
    name: str,
    argv: Sequence[str],
    env: Mapping[str, str] | None = None,
    readable: Sequence[str | os.PathLike[str]] = (),
    servers_in_argv: bool = False,
) -> AcpAgent:
    """Any agent that speaks ACP on stdin and stdout: ``agents.acp("mine", ["my-agent", "--acp"])``.

    ``argv`` is the program with its arguments. Under isolation it can read its own folder, the system's, and those in
    ``readable``. ``env`` are settings: secrets belong into ``create_session(env=...)``, where they are redacted.
    ``servers_in_argv`` is for agents that put their MCP servers into command lines, as Claude Code does: those are given
    ``${NAME}`` in place of each secret, and the values as variables by these names.
    """
    if isinstance(argv, str) or not argv or not all(isinstance(word, str) for word in argv):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
        raise TypeError(f'agents.acp takes the command as a list, like ["my-agent", "--acp"], not {argv!r:.200}.')
    if isinstance(readable, (str, os.PathLike)):
        raise TypeError(f'agents.acp takes readable folders as a list, like ["/opt/my-agent"], not {readable!r:.200}.')
    folders = tuple(os.path.abspath(os.path.expanduser(path)) for path in readable)
    return AcpAgent(name, tuple(argv), environment=dict(env or {}), readable=folders, servers_in_argv=servers_in_argv)


def _briefing(session: AgentSession, bound: bool, loaded: bool) -> str:
    """What the agent is told beside its first prompt: how the folder is called, and what was said before."""
    parts: list[str] = []
    if not bound:
        parts.append(f"Where a prompt says {HOME}, it means the folder {session.root}, which is also your HOME.")
    if session.history and not loaded:
        said = "\n\n".join(f"User: {prompt}\n\nYou: {answer}" for prompt, answer in session.history)
        parts.append(f"This continues an earlier conversation. Its end:\n\n{said[-_REMEMBERED:]}")
    # Some agents put it right behind the prompt, as if it were its last line.
    return "".join(f"\n\n{part}" for part in parts)
