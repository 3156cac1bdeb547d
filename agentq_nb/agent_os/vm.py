"""The VM: an actor with a folder, processes, and sessions with agents."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import Any, ClassVar, TypeAlias, get_args

import anyio

from agentq_nb.actor import Actor, action
from agentq_nb.agent_os.agents.agent import Agent, AgentSession, PersistentAgent
from agentq_nb.agent_os.arguments import checked_command, checked_environment
from agentq_nb.agent_os.isolation import in_force, job
from agentq_nb.agent_os.open_process import OpenProcess, open_process
from agentq_nb.agent_os.permissions import Permissions, Permits
from agentq_nb.agent_os.process import Job, run
from agentq_nb.agent_os.redaction import StreamRedactor
from agentq_nb.agent_os.sessions import Session, Sessions, forget, sessions_of
from agentq_nb.agent_os.turn import take_turn
from agentq_nb.agent_os.values import (
    ExecResult,
    FileInfo,
    Isolation,
    IsolationMode,
    Permission,
    PermissionRequest,
    PromptResult,
    SessionEvent,
    SessionInfo,
)
from agentq_nb.agent_os.workspace import HOME, FileName, Workspace, root_folder
from agentq_nb.errors import AgentError, AgentUnknown

Environment: TypeAlias = Mapping[str, str] | EllipsisType | None
"""Variables for an agent or a command; ``None`` and ``...`` are none."""


def agent_os(
    agents: Sequence[Agent] = (),
    isolation: IsolationMode = "auto",
    workspace: str | Path | None = None,
    permissions: Permissions = "allow",
) -> type[VM]:
    """A new actor class whose actors are VMs: each has a folder, runs commands, and talks to ``agents``.

    ``isolation``: what stands between their processes and the machine. ``"auto"`` takes bubblewrap, else Landlock,
    else none; ``"required"`` refuses to run anything where there is none; ``"off"`` asks for none. ``workspace`` is
    the folder that holds the VMs' folders, instead of ``<notebook>.agentq``. ``permissions`` answers agents that ask
    before they do something: ``"allow"``, ``"deny"``, or a function of a ``PermissionRequest`` that returns one of them;
    it is no boundary, since agents ask only when they like to: the isolation is. Files and transcripts survive a restart;
    processes and the values of ``env`` do not.
    """
    by_name: dict[str, Agent] = {}
    for agent in agents:
        if not isinstance(agent, Agent):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise TypeError(f"agents takes agents, such as agents.function(f, name=...), not {agent!r:.200}.")
        if agent.name in by_name:
            raise TypeError(f"Two agents are called '{agent.name}': give one of them another name.")
        by_name[agent.name] = agent
    if isolation not in get_args(IsolationMode):
        raise TypeError(f"isolation is one of {', '.join(map(repr, get_args(IsolationMode)))}, not {isolation!r}.")

    permits = Permits(permissions)

    class MadeVM(VM, action_timeout=None):
        _agents = by_name
        _isolation_mode = isolation
        _permits = permits
        _parent = None if workspace is None else Path(workspace).expanduser().absolute()

    MadeVM.__name__ = MadeVM.__qualname__ = "VM"
    return MadeVM


class VM(Actor, action_timeout=None):
    """What :func:`agent_os` makes classes of. Paths are relative to the VM's folder, or start with ``/home/user``."""

    _agents: ClassVar[Mapping[str, Agent]] = {}
    _isolation_mode: ClassVar[IsolationMode] = "auto"
    _permits: ClassVar[Permits] = Permits("allow")
    _parent: ClassVar[Path | None] = None
    _warned = False

    async def on_create(self, input: Any) -> None:
        """Refuse to exist where the isolation that was asked for cannot be had."""
        if self._isolation_mode == "required":
            await in_force(self._isolation_mode)

    async def on_wake(self) -> None:
        """Find this VM's sessions again."""
        await self._sessions.wake(self.runtime.records, self._show)

    async def on_sleep(self) -> None:
        """End the agents' processes. The next prompt of a session starts its agent again."""
        await self._sessions.release_all()

    async def on_destroy(self) -> None:
        """Close the sessions. The files stay where they are, the transcripts in the log."""
        await self._sessions.close_all("the VM was destroyed")
        forget(self.runtime.workspaces, self.actor_id)

    # --- files ---

    @action
    async def read_file(self, path: FileName) -> bytes:
        """The bytes of a file, 256 MiB at most. Raises ``WorkspaceError``, as do all file actions."""
        return await self.in_thread(self._workspace.read, path)

    @action
    async def write_file(self, path: FileName, data: bytes | str) -> None:
        """Write a file at once (text as UTF-8), with the folders it needs. What is written is never logged."""
        await self.in_thread(self._workspace.write, path, data)

    @action
    async def list_dir(self, path: FileName = ".") -> list[FileInfo]:
        """What a folder holds, by name."""
        return await self.in_thread(self._workspace.list_dir, path)

    @action
    async def make_dir(self, path: FileName) -> None:
        """Create a folder and those above it, where missing."""
        await self.in_thread(self._workspace.make_dir, path)

    @action
    async def stat(self, path: FileName) -> FileInfo:
        """Kind, size in bytes and time of a file, folder or link."""
        return await self.in_thread(self._workspace.stat, path)

    @action
    async def move(self, source: FileName, target: FileName) -> None:
        """Rename; a file called ``target`` is replaced."""
        await self.in_thread(self._workspace.move, source, target)

    @action
    async def delete(self, path: FileName, recursive: bool = False) -> None:
        """Delete a file, a link, an empty folder, or with ``recursive`` any folder."""
        await self.in_thread(self._workspace.delete, path, recursive)

    @action
    async def exists(self, path: FileName) -> bool:
        """Whether there is anything called this."""
        return await self.in_thread(self._workspace.exists, path)

    # --- processes ---

    @action
    async def exec(
        self,
        command: str | Sequence[str],
        timeout: float | None = None,
        cwd: FileName = ".",
        env: Environment = None,
        public_env: Collection[str] = (),
    ) -> ExecResult:
        """Run a shell command (a str) or a program with its arguments (a list) and wait for it.

        After ``timeout`` seconds, when the call is cancelled, and when the kernel dies, it is ended with all it
        started; what it leaves running when it ends by itself is ended too. Output is kept up to 1 MB each for stdout
        and stderr, first and last half. Values of ``env`` are redacted in it, as are those of the VM's sessions,
        if they have 8 characters or more and are not named in ``public_env``.
        """
        environment = checked_environment(env)
        self._sessions.redactor.add(environment, public_env)
        return await self.keep_awake(self._exec(command, timeout, cwd, environment))

    @action
    async def isolation(self) -> Isolation:
        """What stands between this VM's processes and the machine, and what does not."""
        return await in_force(self._isolation_mode)

    # --- sessions ---

    @action
    async def create_session(
        self,
        agent: str,
        env: Environment = None,
        cwd: FileName = ".",
        keep: bool = False,
        public_env: Collection[str] = (),
    ) -> SessionInfo:
        """Begin a conversation with one of the VM's agents. It is on disk on return.

        It is closed when the ``run`` or action that created it ends, or the kernel; with ``keep`` it goes on until
        ``close_session``, also after a restart. Values of ``env`` live in memory only, and are redacted in all that
        is stored or shown (8 characters or more, unless named in ``public_env``). A coding agent's process is started
        here, and ends with the session; raises ``AgentError`` when it does not get ready.
        """
        check = await self.in_thread(self._agent(agent).check)
        if not check:
            raise AgentError(f"Agent '{agent}' cannot work here: {' '.join(check.missing)}", code="not_ready")
        environment = checked_environment(env)
        directory = await self.in_thread(self._workspace.directory, cwd)
        caller = self.runtime.caller
        where = "/".join((HOME, *directory))
        info = await self._sessions.create(agent, environment, public_env, where, keep)
        if caller is not None and not keep:
            caller.at_end(functools.partial(self._sessions.close, info.session_id, "the call that created it ended"))
        await self.keep_awake(self._begin(info.session_id))
        return info

    @action
    async def resume_session(
        self, session_id: str, env: Environment = None, public_env: Collection[str] = ()
    ) -> SessionInfo:
        """Give a kept session the values of its variables again, which a restart of the kernel made it forget."""
        return await self._sessions.restore(session_id, checked_environment(env), public_env)

    @action
    async def list_sessions(self, closed: bool = False) -> list[SessionInfo]:
        """The open sessions, with ``closed`` all there ever were."""
        return await self._sessions.all(closed)

    @action
    async def get_session(self, session_id: str) -> SessionInfo:
        """Facts about a session, open or closed."""
        return await self._sessions.get(session_id)

    @action
    async def close_session(self, session_id: str) -> None:
        """End a session; a prompt in progress is cancelled. Its transcript stays."""
        await self._sessions.get(session_id)
        await self._sessions.close(session_id, "closed")

    @action
    async def send_prompt(self, session_id: str, text: str) -> PromptResult:
        """Let the session's agent work on ``text``, and wait for its answer. Prompts of a session go one at a time.

        The prompt is on disk before the agent gets it. Raises ``PromptFailed`` when the agent fails.
        """
        session = await self._sessions.ready(session_id)
        return await self.keep_awake(self._prompt(session, text, self.runtime.origin))

    @action
    async def cancel_prompt(self, session_id: str) -> bool:
        """Cancel the session's prompt; its result has the stop reason ``"cancelled"``. False if none was running."""
        cancel = (await self._sessions.opened(session_id)).cancel
        if cancel is not None:
            cancel()
        return cancel is not None

    @action
    async def session_events(self, session_id: str, after: int = 0) -> list[SessionEvent]:
        """The transcript of a session, open or closed: events whose index is greater than ``after``."""
        return await self._sessions.events(session_id, after)

    # --- inside ---

    @property
    def _sessions(self) -> Sessions:
        return sessions_of(self.runtime.workspaces, self.actor_id)

    @functools.cached_property
    def _workspace(self) -> Workspace:
        return Workspace(root_folder(self._parent or self.runtime.workspaces, self.name, self.key))

    def _agent(self, name: str) -> Agent:
        if name not in self._agents:
            has = f"It has: {', '.join(self._agents)}." if self._agents else "It has none."
            raise AgentUnknown(f"VM '{self.actor_id}' has no agent '{name}'. {has} See agent_os(agents=[…]).")
        return self._agents[name]

    def _show(self, event: SessionEvent) -> None:
        self.broadcast("session_event", event)

    async def _exec(
        self, command: str | Sequence[str], timeout: float | None, cwd: FileName, environment: Mapping[str, str]
    ) -> ExecResult:
        prepared = await self._job(command, cwd, environment)
        redactor = self._sessions.redactor
        try:
            return await run(prepared, timeout, StreamRedactor(redactor), StreamRedactor(redactor))
        except OSError as error:
            raise AgentError(f"The command could not be started: {error}.", code="not_started") from None

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
        return job(kind, self._workspace.root, directory, words, environment, programs, readable)

    async def _begin(self, session_id: str) -> None:
        """Start what the agent of a new session keeps running; without it there is no session."""
        session = await self._sessions.opened(session_id)
        agent = self._agent(session.info.agent)
        if not isinstance(agent, PersistentAgent):
            return
        await anyio.to_thread.run_sync(self._workspace.ensure)
        try:
            await agent.begin(self._view(session, self.runtime.origin))
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await self._sessions.close(session_id, "its agent did not start")
            if isinstance(error, AgentError):
                raise AgentError(self._sessions.redactor.text(error.message), code=error.code) from None
            raise

    async def _prompt(self, session: Session, text: str, origin: str) -> PromptResult:
        # Nothing is awaited before the lock, which keeps prompts in the order in which they came.
        async with session.turn:
            session = await self._sessions.opened(session.info.session_id)  # closed, perhaps, while this prompt waited
            await anyio.to_thread.run_sync(self._workspace.ensure)
            agent = self._agent(session.info.agent)
            return await take_turn(session, agent, self._view(session, origin), text, self._sessions.redactor)

    def _view(self, session: Session, origin: str) -> AgentSession:
        return AgentSession(
            session.info.session_id,
            session.info.agent,
            root=self._workspace.root,
            cwd=self._workspace.path(session.info.cwd),
            env=dict(session.environment),
            history=tuple(session.history or ()),
            workspace=self._workspace,
            isolation_mode=self._isolation_mode,
            origin=origin,
            isolation=functools.partial(in_force, self._isolation_mode),
            exec=functools.partial(self._session_exec, session),
            open=functools.partial(self._session_open, session),
            permit=self._permit,
            held=session.held,
        )

    async def _session_exec(
        self, session: Session, command: str | Sequence[str], timeout: float | None = None
    ) -> ExecResult:
        return await self._exec(command, timeout, session.info.cwd, session.environment)

    async def _session_open(
        self,
        session: Session,
        command: Sequence[str],
        env: Mapping[str, str],
        programs: Sequence[str] = (),
        readable: Sequence[str] = (),
    ) -> OpenProcess:
        environment = {**env, **session.environment}
        prepared = await self._job(command, session.info.cwd, environment, programs, readable)
        try:
            return await open_process(prepared)
        except OSError as error:
            raise AgentError(f"Its process could not be started: {error}.", code="not_started") from None

    async def _permit(self, request: PermissionRequest) -> Permission:
        return await self._permits.answer(request, self.log)
