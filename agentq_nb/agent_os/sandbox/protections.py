"""What each kind of isolation protects and what it does not, as sentences for users."""

from __future__ import annotations

from dataclasses import replace

from agentq_nb.agent_os.network.availability import NetworkFound
from agentq_nb.agent_os.values import Isolation

FILE_ACTIONS = (
    "files outside the workspace, from file actions (read_file and the like): no path and no link leads there"
)
GIVEN_ENVIRONMENT = "what processes are started with: a clean environment, without the notebook's variables"
WRITING = "files outside the workspace: they cannot be written"
SEEING = "your home folder and everything else that is not a system file: they cannot be seen"
READING = "your home folder and everything else that is not a system file: they cannot be read"
PROCESSES = "other processes: they cannot be seen or signalled, nor can their environments and memory be read"
MEMORY_OF_OTHERS = "other processes: their environments and memory cannot be read"
SIGNALS = "other processes: they cannot be signalled, nor reached by abstract sockets"
KEYRING = "keys in the session keyring of the notebook's process: they cannot be read"
COMMAND_LINES = "secrets of sessions and tools: they are in no command line, which every user of the machine may read"
HOST_SOCKET = (
    "the host's socket, over which agentq in a shell commands the host: its secret cannot be read, and the host refuses "
    "processes of VMs"
)
PRIVATE_TMP = "the machine's /tmp: the one inside is private and goes with the command"

NETWORK = (
    "the network: processes reach whatever this machine reaches and whatever listens on it, such as the notebook's kernel, "
    "whose iopub tells what cells contain and print, Jupyter's server, other VMs' servers, and databases"
)
ONLY_PUBLIC_HOSTS = (
    "this machine's ports, such as the kernel's with its iopub, private networks, and the metadata of clouds: only public "
    "hosts are reached, and those named"
)
ONLY_MODELS = "the network: only the hosts of the agents' language models are reached, and those named"
ONLY_TOOLS = "the network: only the notebook's tools are reached"
NO_ABSTRACT_SOCKETS = "local services that listen on an abstract socket: they cannot be reached"
TO_PUBLIC_HOSTS = "what processes can read: they may send it to every public host and to those named"
TO_MODELS = "what processes can read: they may send it to the hosts of the agents' language models and those named"
SAME_PORT = (
    "hosts elsewhere, private ones and clouds' metadata too, at the port numbers of this VM's proxy and tools, and at those "
    "that were named or forwarded: processes may connect to them, since Landlock's rules know ports and no addresses"
)
LISTENING = (
    "what processes listen on: everything on this machine can connect to it, and so can others where no firewall is in the "
    "way; at an address and port that are free they may stand in for a service of this machine"
)
ABSTRACT_SOCKETS = "local services that listen on an abstract socket"
SOCKET_FILES = "local services that listen on a socket file, such as Docker's"
SYSTEM_FILES = "reading system files: /usr, /etc, /opt and the Python that runs the notebook"
PROCESS_LIST = "the list of processes with their command lines"
ATTRIBUTES = "permissions, owners and times of your other files: they can be changed, and which files exist can be seen"
TRUNCATING = "your other files can be emptied, though not written: this system's Linux is older than 6.2"
SIGNALS_ON_OLD_LINUX = (
    "signals and abstract sockets to other processes of yours: this system's Linux is older than 6.12"
)
RESOURCES = "memory, processor time and disk space, beyond what agent_os(processes=…, memory=…, disk=…) limits"
ANYTHING = (
    "anything else: processes read, write and signal whatever you may, and find the notebook's variables in /proc"
)
IN_THE_KERNEL = "agents made with agents.function run inside the kernel, with all that the notebook may do"

_TRUNCATING_SINCE, _SIGNALS_SINCE = 3, 6  # versions of Landlock

_NOT_OVER_A_PROXY = (
    "git over ssh (git over https works)",
    "databases and all else that does not go through an HTTP proxy by itself",
    "UDP, also for looking names up: only the proxy does that",
)
_NO_SERVERS_OF_THEIR_OWN = (
    "servers that processes start, for other processes of the VM: they connect only to ports that vm.forward(port) or "
    'hosts=["localhost:8000"] allowed before they started',
    "OpenCode, which starts one for itself, until its opencode.json has that port as server.port",
)
_NO_FOREIGN_PROGRAMS = "programs of 32 bits, and io_uring"
_NO_PACKAGES = "npm, pip, git and whatever else needs the Internet, unless its hosts are named"

NONE = Isolation(
    "none",
    protects=(FILE_ACTIONS, GIVEN_ENVIRONMENT, KEYRING, COMMAND_LINES),
    does_not_protect=(ANYTHING, RESOURCES, IN_THE_KERNEL),
)
BUBBLEWRAP = Isolation(
    "bubblewrap",
    protects=(
        FILE_ACTIONS,
        GIVEN_ENVIRONMENT,
        KEYRING,
        COMMAND_LINES,
        WRITING,
        SEEING,
        PROCESSES,
        HOST_SOCKET,
        PRIVATE_TMP,
    ),
    does_not_protect=(NETWORK, ABSTRACT_SOCKETS, SYSTEM_FILES, RESOURCES, IN_THE_KERNEL),
)
_LANDLOCK = Isolation(
    "landlock",
    protects=(FILE_ACTIONS, GIVEN_ENVIRONMENT, KEYRING, COMMAND_LINES, WRITING, READING, MEMORY_OF_OTHERS, HOST_SOCKET),
    does_not_protect=(NETWORK, SOCKET_FILES, SYSTEM_FILES, PROCESS_LIST, ATTRIBUTES, RESOURCES, IN_THE_KERNEL),
)


def landlock(version: int) -> Isolation:
    """Return the protection by Landlock of this interface version, which the running Linux reports."""
    more = [SIGNALS] if version >= _SIGNALS_SINCE else []
    less = [TRUNCATING] if version < _TRUNCATING_SINCE else []
    less += [] if version >= _SIGNALS_SINCE else [SIGNALS_ON_OLD_LINUX]
    protects, does_not_protect = (*_LANDLOCK.protects, *more), (*less, *_LANDLOCK.does_not_protect)
    return replace(_LANDLOCK, protects=protects, does_not_protect=does_not_protect)


def with_folder(found: Isolation, folder: str) -> Isolation:
    """Return the isolation of a VM that works in a folder of the user's, in place."""
    in_place = (
        f"the folder {folder}: agents change it in place, also what runs later outside the sandbox, such as git's hooks and "
        "configuration, scripts and notebooks"
    )
    return replace(found, does_not_protect=(in_place, *found.does_not_protect))


def with_network(found: Isolation, network: NetworkFound) -> Isolation:
    """Return the isolation with its network's properties added."""
    if network.mode == "open":
        why = {'network="web"': network.why} if network.why else {}
        return replace(found, refused={**found.refused, **why})
    kept_out, let_out, breaks = {
        "web": (ONLY_PUBLIC_HOSTS, (TO_PUBLIC_HOSTS,), _NOT_OVER_A_PROXY),
        "llm": (ONLY_MODELS, (TO_MODELS,), (_NO_PACKAGES, *_NOT_OVER_A_PROXY)),
        "none": (ONLY_TOOLS, (), ("language models of agents, packages, git: there is no network",)),
    }[network.mode]
    protects, refused = (kept_out, NO_ABSTRACT_SOCKETS), found.refused
    holes = (NETWORK, ABSTRACT_SOCKETS)
    if network.means == "ports":
        protects, let_out = (kept_out,), (SAME_PORT, LISTENING, *let_out)
        breaks = (*breaks, *_NO_SERVERS_OF_THEIR_OWN, _NO_FOREIGN_PROGRAMS)
        refused = {**refused, "a network namespace": network.why}
    return replace(
        found,
        protects=(*found.protects, *protects),
        does_not_protect=(*(one for one in found.does_not_protect if one not in holes), *let_out),
        network=network.mode,
        breaks=breaks,
        refused=refused,
    )
