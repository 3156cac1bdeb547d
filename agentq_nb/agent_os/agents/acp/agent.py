"""Coding agents that speak ACP (Agent Client Protocol), started as programs."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentq_nb._core.threads import to_its_end
from agentq_nb.agent_os.agent import AgentSession, Emit
from agentq_nb.agent_os.agents.acp.program import AcpProgram
from agentq_nb.agent_os.sandbox.workspace import HOME
from agentq_nb.agent_os.validation import in_variables
from agentq_nb.agent_os.values import ChoiceKind
from agentq_nb.errors import AgentError

if TYPE_CHECKING:
    from agentq_nb.agent_os.agents.acp.conversation import Conversation

_REMEMBERED = 8000  # characters of what was said before, for an agent that had to be started again
_COMPILED = ".cache/node-compile-cache"
"""Node's compile cache: in the agent's home, since its folder for temporary files is new each time.

Without it Pi, for one, would start a second later.
"""


@dataclass(frozen=True)
class AcpAgent(AcpProgram):
    """A coding agent that speaks ACP: a preset, or one made by :func:`acp`."""

    async def begin(self, session: AgentSession) -> None:
        """Start the agent's process for this session. Raises ``AgentError`` when it does not get ready.

        An earlier conversation is resumed: the agent loads it itself where it can (ACP's ``session/load``), else a new
        one is told how the old one ended. A note and ``SessionInfo.resumed`` say which.
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
            await session.note("The agent's process was restarted and has loaded the conversation.")
        elif session.history or session.agent_session_id is not None:
            await session.learn(resumed="told")
            note = "The agent's process was restarted; it was told how the conversation went so far."
            await session.note(note + why_not)

    async def prompt(self, session: AgentSession, text: str, emit: Emit) -> None:
        """Let the agent answer; its process is restarted if it has ended."""
        if not session.process_slot.alive:
            await session.process_slot.release()
            await self.begin(session)
        await session.process_slot.value.prompt(text, emit, session.instructions)

    async def choose(self, session: AgentSession, kind: ChoiceKind, value: str) -> None:
        """Change the mode or model of a running session. Raises ``AgentError`` that lists the choices."""
        await session.process_slot.value.choose(kind, value)

    async def _converse(self, session: AgentSession, load: str | None) -> Conversation:
        # Loading the protocol's library takes a while, and the loop has other things to do.
        await to_its_end(importlib.import_module, "agentq_nb.agent_os.agents.acp.conversation")
        from agentq_nb.agent_os.agents.acp import conversation as conversations

        programs, readable, command = await to_its_end(self.prepared)
        kind = (await session.isolation()).kind
        bound = kind == "bubblewrap"
        command += self.alone if kind == "none" else self.isolated
        access = await session.open_tools()
        home = HOME if bound else str(session.root)
        try:
            environment = {"NODE_COMPILE_CACHE": f"{home}/{_COMPILED}", **self.environment}
            if session.models is not None:
                settings = await to_its_end(self.metered, session.workspace, session.models, self.environment)
                environment |= settings.variables
                command += settings.arguments
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
        cwd = "/".join((HOME, *session.workspace.parts(session.cwd))) if bound else str(session.cwd)
        conversation = await conversations.begin(process, cwd, session, self, load, access)
        conversation.briefing = _briefing(session, bound, conversation.loaded)
        return conversation


def acp(
    name: str,
    argv: Sequence[str],
    env: Mapping[str, str] | None = None,
    readable: Sequence[str | os.PathLike[str]] = (),
    servers_in_argv: bool = False,
) -> AcpAgent:
    """Return an agent that speaks ACP on stdin and stdout: ``agents.acp("mine", ["my-agent", "--acp"])``.

    ``argv`` is the program with its arguments. Under isolation it can read its own folder, the system's, and those in
    ``readable``. ``env`` is for settings: secrets belong in ``create_session(env=...)``, where they are redacted.
    ``servers_in_argv`` is for agents that put their MCP servers into command lines, as Claude Code does: those get
    ``${NAME}`` in place of each secret, and the values as variables with these names.
    """
    if isinstance(argv, str) or not argv or not all(isinstance(word, str) for word in argv):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
        raise TypeError(f'agents.acp takes the command as a list, like ["my-agent", "--acp"], not {argv!r:.200}.')
    if isinstance(readable, (str, os.PathLike)):
        raise TypeError(f'agents.acp takes readable folders as a list, like ["/opt/my-agent"], not {readable!r:.200}.')
    folders = tuple(os.path.abspath(os.path.expanduser(path)) for path in readable)
    return AcpAgent(name, tuple(argv), environment=dict(env or {}), readable=folders, servers_in_argv=servers_in_argv)


def _briefing(session: AgentSession, bound: bool, loaded: bool) -> str:
    """Return what the agent is told besides its first prompt: the folder's path, and the earlier conversation."""
    parts: list[str] = []
    if not bound:
        parts.append(f"Where a prompt says {HOME}, it means the folder {session.root}, which is also your HOME.")
        if (mounted := session.workspace.mounted) is not None:
            parts.append(f"Where it says {HOME}/{'/'.join(session.workspace.start)}, it means the folder {mounted}.")
    if session.history and not loaded:
        said = "\n\n".join(f"User: {prompt}\n\nYou: {answer}" for prompt, answer in session.history)
        parts.append(f"This continues an earlier conversation. Its end:\n\n{said[-_REMEMBERED:]}")
    # Some agents append it to the prompt, as if it were its last line.
    return "".join(f"\n\n{part}" for part in parts)
