"""Whether a machine can give VMs a network of their own, found out by trying, and what follows where it cannot."""

from __future__ import annotations

from agentq_nb.agent_os.network.namespace import Namespace
from agentq_nb.agent_os.values import IsolationKind, NetworkMode
from agentq_nb.errors import IsolationUnavailable
from agentq_nb.threads import to_its_end

_tried: list[str] = []
"""Why no network of its own can be made, or ``""`` where one can: found out once per process."""


async def network_in_force(wanted: NetworkMode | None, kind: IsolationKind) -> tuple[NetworkMode, str]:
    """The mode that a VM has under this isolation, and why it is "open" although nobody asked for that.

    None takes "web" where it can be had. Raises ``IsolationUnavailable`` when another one than "open" was asked for and
    cannot be had.
    """
    if wanted == "open":
        return "open", ""
    why = "there is no isolation here" if kind == "none" else await why_no_namespace()
    if not why:
        return wanted or "web", ""
    if wanted is None:
        return "open", why
    raise IsolationUnavailable(
        f'network="{wanted}" cannot be had on this machine: {why}. See isolation(); with network="open" processes reach '
        "whatever this machine reaches.",
        metadata={"network": wanted, "why": why},
    )


async def why_no_namespace() -> str:
    """``""`` where processes can be given a network of their own, else why not."""
    if not _tried:
        try:
            await to_its_end(lambda: Namespace.start().close())
            _tried.append("")
        except OSError as error:
            _tried.append(f"a network of its own was tried, and that does not work here ({error})")
    return _tried[0]
