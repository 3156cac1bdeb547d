"""The VM: an actor with a folder, processes, and sessions with agents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from agentq_nb._actor.actor import action
from agentq_nb._core.threads import to_its_end
from agentq_nb.agent_os.actions.files import FileActions
from agentq_nb.agent_os.actions.processes import ProcessActions
from agentq_nb.agent_os.actions.sessions import SessionActions
from agentq_nb.agent_os.agent import Agent
from agentq_nb.agent_os.agents.acp.agent import AcpAgent
from agentq_nb.agent_os.network.policy import Named
from agentq_nb.agent_os.network.variables import named_in
from agentq_nb.agent_os.sandbox.orphans import look_once
from agentq_nb.agent_os.sandbox.process import Allowance
from agentq_nb.agent_os.sessions.permissions import PERMISSION_TIMEOUT, Permissions, Permits
from agentq_nb.agent_os.sessions.sessions import forget
from agentq_nb.agent_os.values import IsolationMode, NetworkMode, SessionEvent

if TYPE_CHECKING:
    from agentq_nb.agent_os.tools.tool import HostTool


def agent_os(
    agents: Sequence[Agent] = (),
    isolation: IsolationMode = "auto",
    workspace: str | Path | None = None,
    tools: Iterable[Callable[..., Any]] = (),
    permissions: Permissions = "allow",
    permission_timeout: float | None = PERMISSION_TIMEOUT,
    processes: int | None = None,
    memory: int | None = None,
    disk: int | None = None,
    network: NetworkMode | None = None,
    hosts: Sequence[str] = (),
) -> type[VM]:
    """A new actor class whose actors are VMs: each has a folder, runs commands, and talks to ``agents``.

    ``isolation``: what stands between their processes and the machine. ``"auto"`` takes bubblewrap, else Landlock,
    else none; ``"required"`` refuses to run anything where there is none; ``"off"`` asks for none. ``workspace`` is
    the folder that holds the VMs' folders, instead of ``<notebook>.agentq``. ``permissions`` answers agents that ask
    before they do something: ``"allow"``, ``"deny"``, ``"ask"``, or a function of a ``PermissionRequest`` that returns
    one of them; it is no boundary, since agents ask only when they like to: the isolation is. A plain function is called
    in a thread; one that fails is a no. With ``"ask"`` the event ``permission_request`` is broadcast and the agent waits
    for ``respond_permission``. After ``permission_timeout`` seconds (None: no limit) without an answer of the user, or of
    the function, it is no, as it is when the prompt or the VM ends first. Files and transcripts
    survive a restart; processes, requests that wait, and the values of ``env`` do not.

    ``network``: what processes reach. ``"web"``: every public host, never this machine's own ports (the kernel's among
    them), private networks or a cloud's metadata. ``"llm"``: only the hosts of the agents' language models. ``"none"``:
    only the ``tools``. ``"open"``: whatever this machine reaches. The default is ``"web"`` where the machine can give a
    network of its own, or Landlock's rules for ports keep processes from this machine's (by number only: ``isolation()``
    says what that leaves open), else ``"open"``, with a warning. ``hosts`` are reached too, wherever they are, under ``"web"`` and
    ``"llm"``: ``"example.org"``, ``"*.example.org"``, ``"10.0.0.5:8000"``, or a URL such as that of a local model,
    ``"http://localhost:11434"``, which appears inside at the same address. So are those that base URLs and package indexes
    name in variables of ``env``, of this process, and in this machine's settings of pip, npm and git. What is
    refused is told in the session's transcript and in the result of the command, with what would allow it.

    ``tools`` are functions of the notebook that the agents may call: name, annotations and docstring are what an agent
    is told of one. A call runs in the loop that the host runs in, with the notebook's variables: nothing else there moves
    while a plain function works, so what takes long is an ``async def`` that awaits (``await asyncio.to_thread(...)``).
    Coding agents are served them over MCP on loopback, with a token for that session alone. What a call returns, or the
    text of what it raises, goes to the agent and, with its arguments, into the transcript.

    On Linux what runs in a VM has a lower priority than the notebook, and is ended before it when memory runs out.
    ``processes`` and ``memory`` (in bytes) are what each command, and each agent with all it starts, may use at once;
    ``disk`` is how many bytes the files of the VM may take. No process gets more memory than that, or writes a larger file;
    what goes beyond it together is looked for four times a second and killed, which its result tells.
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

    allowance = Allowance(processes, memory, disk)
    named = (*_named(network, hosts, isolation), *_hosts_of(by_name.values()))
    permits = Permits(permissions, permission_timeout)
    tools_by_name = _host_tools(tools)

    class MadeVM(VM, action_timeout=None):
        _agents = by_name
        _isolation_mode = isolation
        _permits = permits
        _allowance = allowance
        _tools = tools_by_name
        _network_wanted = network
        _hosts = named
        _parent = None if workspace is None else Path(workspace).expanduser().absolute()

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


def _hosts_of(agents: Iterable[Agent]) -> Iterator[Named]:
    """Those of the agents' language models."""
    for agent in agents:
        if isinstance(agent, AcpAgent):
            yield from map(Named.parse, agent.hosts)
            yield from named_in(agent.environment)


def _host_tools(tools: Iterable[Callable[..., Any]]) -> Mapping[str, HostTool]:
    if tools == ():
        return {}
    # What describes them takes a while to load, which only those wait for who have tools.
    from agentq_nb.agent_os.tools.tool import host_tools

    return host_tools(tools)


class VM(FileActions, ProcessActions, SessionActions, action_timeout=None):
    """What :func:`agent_os` makes classes of. Paths are relative to the VM's folder, or start with ``/home/user``."""

    _removes_files = False

    async def on_create(self, input: Any) -> None:
        """Refuse to exist where the isolation that was asked for cannot be had."""
        if self._isolation_mode == "required" or self._network_wanted not in (None, "open"):
            await self._isolation()

    async def on_wake(self) -> None:
        """Find this VM's sessions again, and end what a kernel that was killed left running."""
        await look_once()
        await self._sessions.wake(self.runtime.records, self._show)

    async def on_sleep(self) -> None:
        """End the agents' processes. The next prompt of a session starts its agent again."""
        await self._sessions.release_all()
        await self._leave_network()

    @action(while_ending=True)
    def destroy(self, files: bool = False) -> None:
        """End for good: prompts are cancelled, processes ended, sessions closed. Transcripts stay, and so do the files
        unless ``files`` is true: then the VM's folder is removed with all in it.
        """
        self._removes_files = files
        super().destroy()
        self._sessions.cancel_prompts()
        self._processes.end_all()

    async def on_destroy(self) -> None:
        """Close the sessions. The files stay where they are, unless ``destroy`` said otherwise, the transcripts in the log."""
        await self._sessions.close_all("the VM was destroyed")
        await self._leave_network()
        if self._removes_files:
            await to_its_end(self._workspace.remove)
        forget(self.runtime.workspaces, self.actor_id)

    def _show(self, event: SessionEvent) -> None:
        self.broadcast("session_event", event)
