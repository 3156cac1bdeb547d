"""Test how this machine can isolate VMs' networks, and choose a VM's network mode."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from agentq_nb._core.threads import to_its_end
from agentq_nb.agent_os.network.namespace import Namespace
from agentq_nb.agent_os.values import IsolationKind, NetworkMode
from agentq_nb.errors import IsolationUnavailable

Means: TypeAlias = Literal["namespace", "ports"]

_CONFINEMENT = Path(__file__).parents[1] / "sandbox" / "confinement.py"
_TRYING = 10.0  # seconds

_tried: dict[Means, str] = {}
"""Why each means is unavailable, or ``""`` where it works; found out once per process."""


@dataclass(frozen=True)
class NetworkFound:
    """The network of a VM.

    :ivar means: a namespace of its own, or Landlock's rules for ports of this machine's network; None under "open".
    :ivar why: why there is no namespace, or why the network is open though "open" was not asked for.
    """

    mode: NetworkMode
    means: Means | None = None
    why: str = ""


async def network_in_force(wanted: NetworkMode | None, kind: IsolationKind) -> NetworkFound:
    """Return the network that a VM has under this isolation.

    ``wanted=None`` chooses "web" where it is available. Raises ``IsolationUnavailable`` when a mode other than "open"
    was asked for and is unavailable.
    """
    if wanted == "open":
        return NetworkFound("open")
    why = "there is no isolation here" if kind == "none" else await why_no_namespace()
    if not why:
        return NetworkFound(wanted or "web", "namespace")
    if kind == "landlock":
        why_no_ports = await why_ports_stay_open()
        if not why_no_ports:
            return NetworkFound(wanted or "web", "ports", why)
        why = f"{why}; {why_no_ports}"
    if wanted is None:
        return NetworkFound("open", why=why)
    raise IsolationUnavailable(
        f'network="{wanted}" cannot be had on this machine: {why}. See isolation(); with network="open" processes reach '
        "whatever this machine reaches.",
        metadata={"network": wanted, "why": why},
    )


async def why_no_namespace() -> str:
    """Return ``""`` where processes can have a network of their own, else the reason."""
    if "namespace" not in _tried:
        try:
            await to_its_end(lambda: Namespace.start().close())
            _tried["namespace"] = ""
        except OSError as error:
            _tried["namespace"] = f"a network of its own was tried, and that does not work here ({error})"
    return _tried["namespace"]


async def why_ports_stay_open() -> str:
    """Return ``""`` where Landlock keeps processes from this machine's ports, else the reason."""
    if "ports" not in _tried:
        why = await to_its_end(_try_ports)
        _tried["ports"] = why and f"Landlock's rules for ports do not help ({why})"
    return _tried["ports"]


def _try_ports() -> str:
    with socket.create_server(("127.0.0.1", 0)) as allowed, socket.create_server(("127.0.0.1", 0)) as refused:
        ports = [str(server.getsockname()[1]) for server in (allowed, refused)]
        words = [sys.executable, "-I", "-S", str(_CONFINEMENT), *ports]
        try:
            ran = subprocess.run(words, env={}, cwd="/", capture_output=True, timeout=_TRYING, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    said = ran.stderr.decode(errors="replace").strip().splitlines()
    return "" if ran.returncode == 0 else said[-1] if said else f"exit code {ran.returncode}"
