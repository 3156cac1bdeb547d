"""The sessions of each VM that this process knows: they stay while the VM sleeps and while no host runs."""

from __future__ import annotations

from pathlib import Path

from agentq_nb.agent_os.sessions import Sessions

_remembered: dict[tuple[Path, str], Sessions] = {}


def sessions_of(workspaces: Path, actor_id: str) -> Sessions:
    """The sessions of a VM in this process: the same object before and after sleep."""
    return _remembered.setdefault((workspaces, actor_id), Sessions(actor_id))


def remembered(workspaces: Path) -> list[tuple[str, Sessions]]:
    """The VMs of a host that this process knows, asleep or not, with their sessions. Nothing wakes."""
    return [(actor, sessions) for (folder, actor), sessions in _remembered.items() if folder == workspaces]


def forget(workspaces: Path, actor_id: str) -> None:
    """Drop what this process remembers of a VM, environments above all."""
    _remembered.pop((workspaces, actor_id), None)
