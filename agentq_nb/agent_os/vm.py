"""The VM: an actor with a folder, processes, and sessions with agents."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from agentq_nb._actor.actor import action
from agentq_nb._core.threads import to_its_end
from agentq_nb._policies.limits import Limit, checked_limits
from agentq_nb.agent_os.actions.files import FileActions
from agentq_nb.agent_os.actions.processes import ProcessActions
from agentq_nb.agent_os.actions.prompts import PromptActions
from agentq_nb.agent_os.agent import Agent
from agentq_nb.agent_os.agents.acp.agent import AcpAgent
from agentq_nb.agent_os.meter.llm import LLM, checked_llms
from agentq_nb.agent_os.network.policy import Named
from agentq_nb.agent_os.network.variables import named_in
from agentq_nb.agent_os.repositories.clone_record import record_path
from agentq_nb.agent_os.repositories.folder import Folder
from agentq_nb.agent_os.repositories.repository import Repository
from agentq_nb.agent_os.sandbox.orphans import look_once
from agentq_nb.agent_os.sandbox.process import Allowance
from agentq_nb.agent_os.sessions.permissions import PERMISSION_TIMEOUT, Permissions, Permits
from agentq_nb.agent_os.sessions.scope_pauses import PROMPTS
from agentq_nb.agent_os.sessions.sessions import forget
from agentq_nb.agent_os.values import IsolationMode, NetworkMode, SessionEvent

if TYPE_CHECKING:
    from agentq_nb.agent_os.tools.tool import HostTool


def agent_os(
    agents: Sequence[Agent] = (),
    isolation: IsolationMode = "auto",
    workspace: str | Path | Repository | Folder | None = None,
    readable: Sequence[str | Path] = (),
    tools: Iterable[Callable[..., Any]] = (),
    permissions: Permissions = "allow",
    permission_timeout: float | None = PERMISSION_TIMEOUT,
    processes: int | None = None,
    memory: int | None = None,
    disk: int | None = None,
    network: NetworkMode | None = None,
    hosts: Sequence[str] = (),
    limits: Sequence[Limit] = (),
    llm: LLM | Sequence[LLM] | None = None,
) -> type[VM]:
    """Return an actor class whose actors are VMs: a folder with sandboxed processes and sessions with ``agents``.

        vm = agent_os(agents=[agents.claude], permissions="ask")
        %agentq start
        box = create_client().vm.get_or_create("box")
        session = await box.create_session("claude", env={"ANTHROPIC_API_KEY": key})
        answer = await box.send_prompt(session.session_id, "Summarise notes.txt")

    :param agents: the agents that sessions may use: ``agents.pi``, ``agents.function(f)``, ...
    :param isolation: the sandbox of commands and coding agents. ``"auto"`` uses bubblewrap, else Landlock, else none;
        ``"required"`` refuses to run anything without one; ``"off"`` uses none. ``await box.isolation()`` returns which one
        is used, what it protects and what it does not.
    :param workspace: what the VMs work in: ``Repository(path_or_url)``, each VM gets a clone of it on a branch of its
        own; ``Folder(path)``, which one VM at a time changes in place; or the path of the folder that holds the VMs'
        folders, which are empty at first, instead of ``<notebook>.agentq``.
    :param readable: more folders and files that processes in the sandbox can read, at their own paths: tool chains, data.
    :param tools: functions of the notebook that the agents may call. An agent sees their names, annotations and
        docstrings. A call runs in the host's event loop with the notebook's variables, and a plain function blocks that
        loop: a slow tool should be an ``async def`` that awaits (``await asyncio.to_thread(...)``). Coding agents reach
        tools over MCP on loopback, with a token for each session. Arguments and results, or errors, are in the
        transcript.
    :param permissions: the answer to agents that ask before they act: ``"allow"``, ``"deny"``, ``"ask"``, or a function
        of a ``PermissionRequest`` that returns one of these; a plain function is called in a thread, and if it raises, the
        answer is ``"deny"``. With ``"ask"`` the event ``permission_request`` is broadcast, and the agent waits for
        ``respond_permission``. Permissions are not a security boundary, since an agent asks only if it chooses to. The sandbox
        is the boundary.
    :param permission_timeout: seconds after which a request without an answer is refused (None: no limit).
    :param processes: how many processes a command, or an agent together with all that it starts, may have at once.
    :param memory: how many bytes of memory a command, or an agent together with all that it starts, may use at once.
    :param disk: how many bytes the files of the VM may take. These limits are checked four times a second (Linux). A
        command or agent that exceeds one is killed, and the result says why.
    :param network: the hosts that processes can reach.

        * ``"web"``: every public host, but not this machine's ports, private networks or a cloud's metadata. This is the
          default where the machine can isolate the network (with a namespace, or by Landlock's rules for ports).
        * ``"llm"``: only the hosts of the agents' language models.
        * ``"none"``: no hosts, only the ``tools``.
        * ``"open"``: everything that this machine can reach. This is the default elsewhere, with a warning.
    :param hosts: more hosts for ``"web"`` and ``"llm"``: ``"example.org"``, ``"*.example.org"``, ``"10.0.0.5:8000"``, or a
        URL such as that of a local model, ``"http://localhost:11434"``, which processes in the sandbox reach at the same
        address. Some hosts are added automatically: those of base URLs (``OPENAI_BASE_URL`` and the like) and of package
        indexes, in ``env``, in this process's environment and in this machine's settings of pip, npm and git. The
        transcript and the command's result list each refusal, with the option that would allow it.
    :param limits: rate and concurrency limits on prompts: ``[RateLimit(50, per=60, name="anthropic"), ConcurrencyLimit(4)]``.
        Each prompt is one start, and is at work until the agent has answered. A prompt over the limit waits, and so does the
        call that sent it. A limit with a name is shared with the queues and VMs that name it; while that is paused, prompts raise
        ``RateLimited``. Unnamed limits apply to each VM separately.
    :param llm: the language model of the agents, ``LLM("anthropic")``, or several of different kinds. Agents reach it through
        a proxy that keeps the key, and counts tokens and money; sessions need no keys in ``env`` then.

    Files, transcripts and open sessions that were created with ``keep=True`` or in a cell survive a restart. Processes,
    open permission requests and the values of ``env`` do not. Raises TypeError for arguments of the wrong kind.
    """
    by_name: dict[str, Agent] = {}
    for agent in _listed(agents):
        if not isinstance(agent, Agent):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise TypeError(f"agents takes agents, such as agents.function(f, name=...), not {agent!r:.200}.")
        if agent.name in by_name:
            raise TypeError(f"Two agents are called '{agent.name}': give one of them another name.")
        by_name[agent.name] = agent
    if isolation not in get_args(IsolationMode):
        raise TypeError(f"isolation is one of {', '.join(map(repr, get_args(IsolationMode)))}, not {isolation!r}.")

    checked = checked_limits(limits, "agent_os")
    llms = checked_llms(llm)
    if llms and network == "none":
        raise TypeError('network="none" reaches no language model; llm=LLM(...) needs at least network="llm".')
    allowance = Allowance(processes, memory, disk)
    named = (*_named(network, hosts, isolation), *_hosts_of(by_name.values()))
    permits = Permits(permissions, permission_timeout)
    declared = workspace if isinstance(workspace, (Repository, Folder)) else None
    parent = None if workspace is None or declared is not None else Path(cast(str, workspace)).expanduser().absolute()
    readable_paths = _readable_paths(readable)
    tools_by_name = _host_tools(tools)

    class MadeVM(VM, action_timeout=None):
        _agents = by_name
        _isolation_mode = isolation
        _permits = permits
        _allowance = allowance
        _tools = tools_by_name
        _llms = llms
        _network_wanted = network
        _hosts = named
        _parent = parent
        _declared = declared
        _readable = readable_paths

    MadeVM.declared = replace(MadeVM.declared, call_limits={PROMPTS: checked} if checked else {})
    MadeVM.__name__ = MadeVM.__qualname__ = "VM"
    return MadeVM


def _listed(agents: Sequence[Agent]) -> Sequence[Agent]:
    if isinstance(agents, Agent) or not isinstance(agents, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
        raise TypeError(f"agents takes a list of agents, as in agents=[agents.pi], not {agents!r:.200}.")
    return agents


def _named(network: NetworkMode | None, hosts: Sequence[str], isolation: IsolationMode) -> tuple[Named, ...]:
    modes = get_args(NetworkMode)
    if network is not None and network not in modes:
        raise TypeError(f"network is one of {', '.join(map(repr, modes))}, not {network!r:.200}.")
    if isolation == "off" and network not in (None, "open"):
        raise TypeError(f'network="{network}" needs isolation, and isolation="off" asks for none.')
    if isinstance(hosts, str) or not isinstance(hosts, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
        raise TypeError(f'hosts takes a list of hosts, as in hosts=["example.org"], not {hosts!r:.200}.')
    if hosts and network in ("open", "none"):
        raise TypeError(
            f'hosts are what network="web" and "llm" reach besides; network="{network}" has no use for them.'
        )
    try:
        return tuple(Named.parse(host) for host in hosts)
    except (AttributeError, TypeError, ValueError) as error:
        raise TypeError(f"hosts: {error}") from None


def _readable_paths(readable: Sequence[str | Path]) -> tuple[str, ...]:
    if isinstance(readable, (str, bytes, Path)) or not isinstance(readable, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
        raise TypeError(f'readable takes a list of paths, as in readable=["/opt/toolchain"], not {readable!r:.200}.')
    paths = tuple(str(Path(path).expanduser().absolute()) for path in readable)
    for path in paths:
        if not os.path.exists(path):
            raise TypeError(f"readable has a path that does not exist: {path}")
    return paths


def _hosts_of(agents: Iterable[Agent]) -> Iterator[Named]:
    """Yield the hosts of the agents' language models."""
    for agent in agents:
        if isinstance(agent, AcpAgent):
            yield from map(Named.parse, agent.hosts)
            yield from named_in(agent.environment)


def _host_tools(tools: Iterable[Callable[..., Any]]) -> Mapping[str, HostTool]:
    if tools == ():
        return {}
    # The module that describes tools loads slowly, so only VMs with tools wait for it.
    from agentq_nb.agent_os.tools.tool import host_tools

    return host_tools(tools)


class VM(FileActions, ProcessActions, PromptActions, action_timeout=None):
    """The base class of the classes that :func:`agent_os` returns: an actor with a folder, processes and sessions.

    Paths are relative to the VM's folder, or start with ``/home/user``.
    """

    _removes_files = False
    _loses_work = False

    async def _call_hook(self, name: str, *arguments: Any) -> None:
        """Call a hook of a subclass of the user's, before the VM's own work when it ends, else after it.

        The VM's own work is done whether or not the subclass calls ``super().on_sleep()``, and if its hook raises.
        """
        if name == "on_create":
            await self._refuse_missing_isolation()
        elif name == "on_wake":
            await self._restore()
        try:
            await super()._call_hook(name, *arguments)
        finally:
            if name == "on_sleep":
                await self._release()
            elif name == "on_destroy":
                await self._remove()

    async def _refuse_missing_isolation(self) -> None:
        if self._isolation_mode == "required" or self._network_wanted not in (None, "open"):
            await self._isolation()

    async def _restore(self) -> None:
        """Restore this VM's sessions, and end processes that a killed kernel left running."""
        await look_once()
        if self.runtime.moved:
            await self._refuse_missing_isolation()
            await to_its_end(self._set_aside)
        await self._sessions.wake(self.runtime.records, self._show)
        if self.runtime.moved:
            await self._sessions.close_all("the VM was moved to another host, and back with an empty workspace")

    def _set_aside(self) -> None:
        """Rename what this host still has of the VM from before it was moved to another one."""
        root = self._workspace.root
        aside = root.with_name(f"{root.name}.moved-{secrets.token_hex(4)}")
        for old, new in ((root, aside), (record_path(root), record_path(aside))):
            with suppress(FileNotFoundError):
                old.rename(new)

    async def _release(self) -> None:
        """End the agents' processes. The next prompt of a session starts its agent again."""
        try:
            await self._sessions.release_all()
        finally:
            await self._leave()

    async def _remove(self) -> None:
        """Close the sessions. Transcripts stay in the log, and files unless ``destroy`` was called with ``files``."""
        try:
            await self._sessions.close_all("the VM was destroyed")
            if self._removes_files and not self._loses_work:
                self._removes_files = await self._has_nothing_to_lose()
        finally:
            await self._leave()
        if self._removes_files:
            await to_its_end(self._workspace.remove)
            await to_its_end(partial(record_path(self._workspace.root).unlink, missing_ok=True))
        forget(self.runtime.workspaces, self.actor_id)

    @action(while_ending=True)
    def destroy(self, files: bool = False, force: bool = False) -> None:
        """Destroy the VM: cancel prompts, end processes, close sessions.

        Transcripts stay in the log. The VM's folder stays too, unless ``files`` is true. A clone of a repository with
        changes that are not committed, or commits that were not brought back, stays even then, and a warning says so;
        ``force`` removes it with them. A ``Folder`` is never removed.
        """
        self._removes_files, self._loses_work = files, force
        super().destroy()
        self._sessions.cancel_prompts()
        self._processes.end_all()

    def _show(self, event: SessionEvent) -> None:
        self.broadcast("session_event", event)
