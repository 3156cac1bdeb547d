"""Check what agents need: Node, their programs, and a sandbox."""

from __future__ import annotations

from collections.abc import Iterator

from agentq_nb._commands.doctor.diagnosis import Check
from agentq_nb._core.threads import in_long_thread

_ALLOW_NAMESPACES = "Allow user and network namespaces, which give them a network of their own."


async def checks() -> list[Check]:
    """Check isolation, network, Node, and each known coding agent."""
    return [await _isolation(), await _network(), *await in_long_thread(lambda: list(_programs()))]


async def _isolation() -> Check:
    from agentq_nb.agent_os.sandbox.isolation import in_force

    found = await in_force("auto")
    if found.kind != "none":
        return Check("isolation", "ok", found.kind)
    reasons = "; ".join(f"{kind}: {reason}" for kind, reason in found.refused.items())
    return Check(
        "isolation",
        "notice",
        f"none, so agents' processes may do all you may ({reasons})",
        "Install bubblewrap (apt install bubblewrap), or use a Linux of 5.13 or newer. agent_os(isolation='required') "
        "refuses to run without.",
    )


async def _network() -> Check:
    from agentq_nb.agent_os.network.availability import network_in_force
    from agentq_nb.agent_os.sandbox.isolation import in_force

    found = await network_in_force(None, (await in_force("auto")).kind)
    if found.means == "namespace":
        return Check("network of agents", "ok", f"{found.mode}, unless agent_os(network=…) says otherwise")
    if found.means == "ports":
        kept = f"{found.mode}, kept by Landlock's rules for ports, which know no addresses ({found.why})"
        return Check("network of agents", "notice", kept, f"{_ALLOW_NAMESPACES} isolation() says what differs.")
    return Check(
        "network of agents",
        "notice",
        f"open, so agents' processes reach this machine's ports, the kernel's too ({found.why})",
        f"Install bubblewrap (apt install bubblewrap) or use a Linux of 6.7 or newer. {_ALLOW_NAMESPACES}",
    )


def _programs() -> Iterator[Check]:
    from agentq_nb.agent_os.agents.install import find_node, why_no_node
    from agentq_nb.agent_os.agents.presets import PRESETS

    node = find_node()
    if node is None:
        missing = why_no_node().replace("It needs", "Most coding agents need")
        yield Check(
            "Node", "notice", missing, "agentq agents install NAME gets a Node for them, or see https://nodejs.org"
        )
    else:
        yield Check("Node", "ok", f"{node.version} ({node.program})")
    for name, agent in PRESETS.items():
        check = agent.check()
        if check:
            yield Check(f"agent {name}", "ok", " ".join(filter(None, (check.version, check.path))))
        else:
            yield Check(f"agent {name}", "notice", "not here; needed only where you use it", " ".join(check.missing))
