"""What the tests need of the machine. Where it is missing they are skipped loudly; in CI they fail and say how to get it."""

from __future__ import annotations

import asyncio
import subprocess

import pytest

from agentq_nb.agent_os.network import availability
from agentq_nb.agent_os.sandbox import isolation
from agentq_nb.agent_os.values import IsolationKind
from tests.requirements import missing
from tests.unit.agent_os import probe

_HOW = {
    "bubblewrap": "Install it (apt install bubblewrap) and allow user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns=0).",
    "landlock": "Run on Linux 5.13 or newer with Landlock switched on (lsm=landlock,… on the kernel's command line).",
}


def need(kind: IsolationKind) -> None:
    """Go on only where this isolation works."""
    if kind == "none":
        return
    if reason := probe.why_not(kind):
        missing(f"{kind} cannot be tried here: {reason}. {_HOW[kind]}")
    if reason := asyncio.run(isolation.why_not(kind)):
        pytest.fail(f"This machine can do {kind}, and our code finds that it cannot: {reason}")


_PORTS_SINCE = 4
_NEW_NETWORK = {
    "bubblewrap": ["bwrap", "--ro-bind", "/", "/", "--unshare-user", "--unshare-net", "true"],
    "landlock": ["unshare", "--user", "--map-current-user", "--net", "true"],
}


def need_own_network(kind: IsolationKind = "bubblewrap") -> None:
    """Go on only where VMs under this isolation can have a network of their own. The machine is asked apart from our code."""
    need(kind)
    tried = subprocess.run(_NEW_NETWORK[kind], capture_output=True, text=True, check=False)
    if tried.returncode:
        missing(f"No network namespace can be made here: {tried.stderr.strip()}. {_HOW['bubblewrap']}")
    if reason := asyncio.run(availability.why_no_namespace()):
        pytest.fail(f"This machine can make network namespaces, and our code finds that it cannot: {reason}")


def need_ports() -> None:
    """Go on only where Landlock can keep processes from this machine's ports."""
    need("landlock")
    if probe.landlock_version() < _PORTS_SINCE:
        missing("Landlock's rules for ports cannot be tried here. Run on Linux 6.7 or newer.")
    if reason := asyncio.run(availability.why_ports_stay_open()):
        pytest.fail(f"This machine's Landlock knows of ports, and our code finds that it cannot be used: {reason}")


def without_namespaces(*words: str) -> list[str]:
    """The words of a command for which the system makes no user namespaces, as in most containers."""
    refuse = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    around = ["unshare", "--user", "--map-root-user", "sh", "-c", refuse, "sh"]
    tried = subprocess.run([*around, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        missing(f"User namespaces cannot be switched off for one command here: {tried.stderr.strip()}.")
    return [*around, *words]


def use_only(kind: IsolationKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go on only where this isolation works, and take no stronger one for "required"."""
    need(kind)
    if kind == "landlock":
        monkeypatch.setitem(isolation._tried, "bubblewrap", "not in this test")


def use_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go on only where Landlock's rules for ports work, and take nothing stronger."""
    need_ports()
    use_only("landlock", monkeypatch)
    monkeypatch.setitem(availability._tried, "namespace", "not in this test")
