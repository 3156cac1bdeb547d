"""A VM's actions on its sessions with agents."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

import anyio

from agentq_nb._actor.actor import action
from agentq_nb._actor.actor_context import Handling
from agentq_nb._core.threads import to_its_end
from agentq_nb.agent_os.actions.permissions import PermissionActions
from agentq_nb.agent_os.actions.repositories import RepositoryActions
from agentq_nb.agent_os.agent import Agent, AgentSession, ConfigurableAgent, PersistentAgent
from agentq_nb.agent_os.sandbox.isolation import in_force
from agentq_nb.agent_os.sandbox.open_process import OpenProcess, open_process
from agentq_nb.agent_os.sandbox.workspace import HOME, FileName
from agentq_nb.agent_os.sessions.session import Session
from agentq_nb.agent_os.sessions.transcript_view import TranscriptView
from agentq_nb.agent_os.tools import TOKEN_MARK, Calls, ToolAccess
from agentq_nb.agent_os.validation import (
    checked_environment,
    checked_public,
    checked_servers,
    checked_timeout,
)
from agentq_nb.agent_os.values import ChoiceKind, ExecResult, McpServer, SessionEvent, SessionInfo
from agentq_nb.agent_os.vm_base import Environment
from agentq_nb.errors import AgentError, AgentUnknown, BudgetSpent, ValidationFailed

McpServers: TypeAlias = Sequence[McpServer] | None


class SessionActions(PermissionActions, RepositoryActions, action_timeout=None):
    """Actions on sessions. A session is a conversation with one agent."""

    @action
    async def create_session(
        self,
        agent: str,
        env: Environment = None,
        cwd: FileName = ".",
        mode: str | None = None,
        model: str | None = None,
        mcp_servers: McpServers = None,
        keep: bool = False,
        public_env: Collection[str] = (),
    ) -> SessionInfo:
        """Begin a conversation with one of the VM's agents. It is on disk on return.

        The session is closed when the ``run`` or action of the actor that created it ends, or when the kernel ends in
        the meantime. With ``keep``, and when created in a cell, it stays open until ``close_session``, also after a
        restart. Values of ``env`` are kept in memory only, and are redacted in all that is stored or shown (8
        characters or more, unless named in ``public_env``). A coding agent's process is started here, and ends with the
        session; raises ``AgentError`` when it does not get ready.

        ``mode`` and ``model`` are the agent's own names; for an unknown one, ``AgentError`` lists the choices.
        ``mcp_servers`` are more servers for the agent to use, as ACP (the Agent Client Protocol) describes them:
        ``{"name": "docs", "url": "https://…", "headers": {"Authorization": "Bearer …"}}``, or with ``command``,
        ``args`` and ``env``. They are kept in memory only, and the values of their headers and variables are redacted.
        """
        chosen = _given(mode=mode, model=model)
        if chosen:
            self._choosing(agent)
        servers = checked_servers(mcp_servers)
        check = await self.in_thread(self._agent(agent).check)
        if not check:
            raise AgentError(f"Agent '{agent}' cannot work here: {' '.join(check.missing)}", code="not_ready")
        environment, public = self._unmetered(checked_environment(env)), checked_public(public_env)
        directory = await self.in_thread((await self._files()).directory, cwd)
        where = "/".join((HOME, *directory))
        owner = None if keep else self.runtime.caller
        info = await self._sessions.create(agent, environment, public, where, owner is None, chosen, servers)
        if owner is not None:
            owner.at_end(functools.partial(self._sessions.close, info.session_id, "the call that created it ended"))
        await self.keep_awake(self._begin(info.session_id))
        return await self._sessions.get(info.session_id)

    @action
    async def resume_session(
        self,
        session_id: str,
        env: Environment = None,
        mcp_servers: McpServers = None,
        public_env: Collection[str] = (),
    ) -> SessionInfo:
        """Resume a session whose agent's process has ended, by itself or because of a kernel restart or sleep.

        After a restart, the values of its variables and its MCP servers are needed again, since they were kept in
        memory only. ``resumed`` in the result says whether the agent ``"loaded"`` the conversation by itself or was
        ``"told"`` how it ended. A running session is left alone, and the next prompt of one that only slept resumes it
        by itself.
        """
        environment, servers = self._unmetered(checked_environment(env)), checked_servers(mcp_servers)
        await self._sessions.restore(session_id, environment, checked_public(public_env), servers)
        await self.keep_awake(self._running(session_id))
        return await self._sessions.get(session_id)

    @action
    async def set_mode(self, session_id: str, mode: str) -> SessionInfo:
        """Change how freely the session's agent works, to one of the ``modes`` of its ``SessionInfo``.

        The mode applies from now on, also to a running prompt, and after sleep and restart. Raises ``AgentError`` that
        lists the modes.
        """
        return await self._choose(session_id, "mode", mode)

    @action
    async def set_model(self, session_id: str, model: str) -> SessionInfo:
        """Switch the session's agent to another of the ``models`` of its ``SessionInfo``; like ``set_mode``."""
        return await self._choose(session_id, "model", model)

    @action(while_ending=True)
    async def list_sessions(self, closed: bool = False) -> list[SessionInfo]:
        """Return the open sessions, with ``closed`` all of them."""
        return await self._sessions.all(closed)

    @action(while_ending=True)
    async def get_session(self, session_id: str) -> SessionInfo:
        """Return facts about a session, open or closed."""
        return await self._sessions.get(session_id)

    @action(while_ending=True)
    async def close_session(self, session_id: str) -> None:
        """Close a session; a running prompt is cancelled. Its transcript stays."""
        await self._sessions.get(session_id)
        await self._sessions.close(session_id, "closed")

    @action(while_ending=True)
    async def session_events(self, session_id: str, after: int = 0) -> list[SessionEvent]:
        """Return the transcript of a session, open or closed: events whose index is greater than ``after``."""
        return await self._sessions.events(session_id, after)

    @action(while_ending=True)
    async def transcript(self, session_id: str, last: int | None = None) -> TranscriptView:
        """Return the transcript of a session, open or closed, to read; with ``last``, only that many events.

        It prints as text and notebooks show it; ``.markdown()`` and ``.frame()`` return Markdown and a DataFrame.
        """
        return await self._sessions.transcript(session_id, last)

    # --- internals ---

    @functools.cached_property
    def _recording(self) -> set[asyncio.Task[None]]:
        """The tasks that write to transcripts."""
        return set()

    def _unmetered(self, environment: dict[str, str]) -> dict[str, str]:
        """Return the variables, unless one is a key for a language model that the VM has by itself."""
        for llm in self._llms:
            if given := [name for name in llm.style.variables if name in environment]:
                raise ValidationFailed(
                    f"Leave {', '.join(given)} out of env: this VM has llm=LLM({llm.provider!r}), and its sessions use that "
                    "model with a token of their own, never with a key."
                )
        return environment

    async def _models(self, session: Session, handling: Handling | None = None) -> None:
        """Give the session access to the VM's language models, if it has any. Raises BudgetSpent."""
        if not self._llms:
            return
        session.models = await self._metered.access(session.info.session_id, session.info.agent)
        if handling is not None and (refusal := self._metered.refusal(handling.batch)) is not None:
            raise BudgetSpent(str(refusal), until=refusal.resumes_at)

    def _agent(self, name: str) -> Agent:
        if name not in self._agents:
            has = f"It has: {', '.join(self._agents)}." if self._agents else "It has none."
            raise AgentUnknown(f"VM '{self.actor_id}' has no agent '{name}'. {has} See agent_os(agents=[…]).")
        return self._agents[name]

    def _choosing(self, name: str) -> ConfigurableAgent:
        agent = self._agent(name)
        if not isinstance(agent, ConfigurableAgent):
            raise AgentError(f"Agent '{name}' has no modes and models to choose from.", code="nothing_to_choose")
        return agent

    async def _choose(self, session_id: str, kind: ChoiceKind, value: str) -> SessionInfo:
        session = await self._sessions.ready(session_id)
        agent = self._choosing(session.info.agent)
        await self.keep_awake(self._running(session_id))
        await agent.choose(self._view(session, self.runtime.origin), kind, value)
        return await self._sessions.get(session_id)

    async def _begin(self, session_id: str) -> None:
        """Start what the agent of a new session keeps running; if that fails, close the session."""
        try:
            await self._running(session_id)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._sessions.close(session_id, "its agent did not start")
            raise

    async def _running(self, session_id: str) -> None:
        """Start what the session's agent keeps running, if it is not running."""
        session = await self._sessions.ready(session_id)
        agent = self._agent(session.info.agent)
        if not isinstance(agent, PersistentAgent) or session.process_slot.alive:
            return
        async with session.turn:
            await self._sessions.opened(session_id)  # raises if it was closed while this waited
            if session.process_slot.alive:
                return
            await session.process_slot.release()
            await to_its_end((await self._files()).ensure)
            await self._models(session)
            try:
                await agent.begin(self._view(session, self.runtime.origin))
                await self._sessions.opened(session_id)
            except Exception as error:
                await session.process_slot.release()
                redactor = self._sessions.redactor
                if isinstance(error, AgentError):
                    metadata = redactor.data(error.metadata)
                    raise type(error)(redactor.text(error.message), code=error.code, metadata=metadata) from None
                said = redactor.text(f"{type(error).__name__}: {error}")
                raise AgentError(f"Agent '{agent.name}' could not be started: {said}", code="not_ready") from None

    def _view(self, session: Session, origin: str) -> AgentSession:
        calls = Calls(self._tools, session.transcript, self._sessions.redactor, lambda: session.origin)
        return AgentSession(
            session.info.session_id,
            session.info.agent,
            root=self._workspace.root,
            cwd=self._workspace.path(session.info.cwd),
            env=session.whole_environment,
            models=session.models,
            history=tuple(session.history or ()),
            workspace=self._workspace,
            isolation_mode=self._isolation_mode,
            origin=origin,
            isolation=functools.partial(in_force, self._isolation_mode),
            exec=functools.partial(self._session_exec, session),
            open=functools.partial(self._session_open, session),
            permit=functools.partial(self._permit, session),
            learn=functools.partial(self._sessions.learn, session),
            note=functools.partial(session.transcript.write, "note"),
            agent_session_id=session.info.agent_session_id,
            chosen=dict(session.chosen),
            mcp_servers=session.mcp_servers,
            process_slot=session.process_slot,
            tools=calls.functions(),
            redact=self._sessions.redactor.text,
            open_tools=functools.partial(self._open_tools, calls),
        )

    async def _open_tools(self, calls: Calls) -> ToolAccess | None:
        if not calls.tools:
            return None
        access = await self._tool_server.open(calls)
        self._sessions.redactor.add({"AGENTQ_TOOLS_TOKEN": access.token, "AGENTQ_TOOLS_TOKEN of a VM": TOKEN_MARK})
        return access

    async def _session_exec(
        self, session: Session, command: str | Sequence[str], timeout: float | None = None
    ) -> ExecResult:
        on_refusal = self._refusals_into(session)
        return await self._exec(
            command, checked_timeout(timeout), session.info.cwd, session.whole_environment, on_refusal
        )

    def _refusals_into(self, session: Session) -> Callable[[str], None]:
        """Return a callback that writes the network's refusals to a session's transcript."""

        def on_refusal(sentence: str) -> None:
            task = asyncio.create_task(session.transcript.write("note", sentence, {"refused": True}))
            self._recording.add(task)
            task.add_done_callback(self._recording.discard)

        return on_refusal

    async def _session_open(
        self,
        session: Session,
        command: Sequence[str],
        env: Mapping[str, str],
        programs: Sequence[str] = (),
        readable: Sequence[str] = (),
    ) -> OpenProcess:
        variables, on_refusal = {**env, **session.environment}, self._refusals_into(session)
        urls = [server["url"] for server in session.mcp_servers if "url" in server]
        prepared, connection = await self._job(
            command, session.info.cwd, variables, programs, readable, on_refusal, urls
        )
        try:
            return await open_process(prepared, connection.close)
        except OSError as error:
            connection.close()
            raise AgentError(f"Its process could not be started: {error}.", code="not_started") from None
        except BaseException:
            connection.close()
            raise


def _given(mode: str | None, model: str | None) -> dict[ChoiceKind, str]:
    chosen: dict[ChoiceKind, str | None] = {"mode": mode, "model": model}
    return {kind: value for kind, value in chosen.items() if value is not None}
