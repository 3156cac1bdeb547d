"""List the folders of VMs with their owner, size and use, and remove unused ones."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from agentq_nb._core.ids import ActorId, actor_key, actor_name
from agentq_nb._core.threads import in_long_thread, to_its_end
from agentq_nb._host.host import Host
from agentq_nb._host.registry import Registry
from agentq_nb.agent_os.repositories.clone_record import record_path
from agentq_nb.agent_os.sandbox.launcher import remove_tree
from agentq_nb.agent_os.sandbox.workspace import root_folder
from agentq_nb.agent_os.sessions.sessions import remembered
from agentq_nb.agent_os.vm_base import VmBase

Use: TypeAlias = Literal["awake", "session open", "work waits", "asleep", "destroyed", "unknown"]
"""How a VM uses its folder. ``unknown``: this file has no such VM; an earlier file may have had one."""

_IN_USE = ("awake", "session open", "work waits")
_SET_ASIDE = ".removed-"
_ACTORS = """
select actor_id, coalesce(destroyed, false), coalesce(open, 0), used_at
from (select actor_id, epoch(max(time)) as used_at from events where actor_id is not null group by actor_id)
left join actors using (actor_id)
left join (select actor_id, count(*) as open from sessions where status = 'open' group by actor_id) using (actor_id)
"""


@dataclass(frozen=True)
class VmFolder:
    """The folder of one VM."""

    path: Path
    actor: ActorId | None
    status: Use
    sessions: int
    """How many sessions of the VM are open."""
    size: int
    """Bytes that its files take on the disk."""
    used_at: float
    """When something in the folder, or of its VM, last changed; in seconds since 1970."""
    elsewhere: bool
    """Whether it is in the folder given as ``agent_os(workspace=...)``.

    VMs of other notebooks may use that too, so the folder is never removed here.
    """

    clone: bool = False
    """Whether it has a clone of a repository, which may have work that is nowhere else: it is never removed here."""

    @property
    def in_use(self) -> bool:
        """Whether removing the folder would lose something that its VM still needs."""
        return self.status in _IN_USE


@dataclass(frozen=True)
class _Known:
    """What the log records of an actor."""

    destroyed: bool = False
    sessions: int = 0
    used_at: float = 0.0


async def vm_folders(registry: Registry) -> list[VmFolder]:
    """Return the folder of every VM of this host, the largest first. Wakes no VM and changes nothing."""
    known = {actor: _Known(*facts) for actor, *facts in (await registry.file_sql(_ACTORS)).rows}
    host = registry.host
    uses = await host.enter(_uses, host, known)
    parents = {
        name: parent
        for name, cls in host.classes.items()
        if issubclass(cls, VmBase) and (parent := cls.parent_folder()) is not None
    }
    owners = {_root(host, actor, parents): actor for actor in uses}
    found: list[VmFolder] = []
    for path in await in_long_thread(_listed, host.workspaces, owners.keys()):
        actor = owners.get(path)
        facts = known.get(actor, _Known()) if actor is not None else _Known()
        size, changed_at = await in_long_thread(_measured, path)
        found.append(
            VmFolder(
                path,
                actor,
                "unknown" if actor is None else uses[actor],
                facts.sessions,
                size,
                max(changed_at, facts.used_at),
                elsewhere=not path.is_relative_to(host.workspaces),
                clone=record_path(path).exists(),
            )
        )
    return sorted(found, key=lambda folder: folder.size, reverse=True)


def removable(folders: Iterable[VmFolder], unused_for: float | None, now: float) -> list[VmFolder]:
    """Return the folders that may be removed, those of destroyed VMs first.

    ``unused_for``: seconds in which nothing of a folder was used; None: only folders of destroyed VMs, however recent.
    """
    idle = [folder for folder in folders if not (folder.in_use or folder.elsewhere or folder.clone)]
    if unused_for is None:
        return [folder for folder in idle if folder.status == "destroyed"]
    old = [folder for folder in idle if folder.used_at <= now - unused_for]
    return sorted(old, key=lambda folder: folder.status != "destroyed")


async def remove_folders(
    registry: Registry, folders: Sequence[VmFolder], unused_for: float | None
) -> tuple[list[VmFolder], list[tuple[VmFolder, str]]]:
    """Remove those of the folders that are :func:`removable`, and what an interrupted removal left.

    A VM that came into use since they were listed keeps its folder. Returns the removed folders, and those that could
    not be removed with the reason.
    """
    host = registry.host
    gone: list[VmFolder] = []
    failed: list[tuple[VmFolder, str]] = []
    await to_its_end(_remove_left, host.workspaces)
    for folder in removable(folders, unused_for, host.clock.time()):
        try:
            aside = await host.enter(_set_aside, host, folder)
            if aside is not None:
                await to_its_end(_remove, aside, folder.path)
                gone.append(folder)
        except OSError as error:
            failed.append((folder, error.strerror or str(error)))
    return gone, failed


async def _uses(host: Host, known: dict[ActorId, _Known]) -> dict[ActorId, Use]:
    """Return how each known actor uses its folder. Runs in the host's loop."""
    waiting = {queue.actor for queue in await host.broker.status(totals=False) if queue.live}
    talking = {actor for actor, sessions in remembered(host.workspaces) if sessions.now_open()}

    def use(actor: ActorId) -> Use:
        facts = known.get(actor, _Known())
        if host.activations.find(actor) is not None:
            return "awake"
        if actor in talking or facts.sessions:
            return "session open"
        if actor in waiting:
            return "work waits"
        return "destroyed" if facts.destroyed else "asleep"

    return {actor: use(actor) for actor in {*known, *host.activations.actors, *waiting, *talking}}


def _root(host: Host, actor: ActorId, parents: dict[str, Path]) -> Path:
    name = actor_name(actor)
    return root_folder(parents.get(name, host.workspaces), name, actor_key(actor))


def _listed(workspaces: Path, owned: Collection[Path]) -> list[Path]:
    """Return all folders of this file's workspaces, and owned ones elsewhere. Links are ignored."""
    here = [
        Path(folder.path)
        for of_name in _folders_in(workspaces)
        for folder in _folders_in(Path(of_name.path))
        if not folder.name.startswith(".") and not of_name.name.startswith(".")
    ]
    elsewhere = [path for path in owned if not path.is_relative_to(workspaces)]
    return here + [path for path in elsewhere if path.is_dir() and not path.is_symlink()]


def _folders_in(folder: Path) -> list[os.DirEntry[str]]:
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def _measured(root: Path) -> tuple[int, float]:
    """Return bytes on the disk, and when something in it last changed. Unreadable files are ignored."""
    size = 0
    changed_at = 0.0
    with suppress(OSError):
        changed_at = os.lstat(root).st_ctime
    folders = [str(root)]  # not os.walk, which recurses into each folder
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    facts = entry.stat(follow_symlinks=False)
                    size += facts.st_blocks * 512
                    # The modification time can be set, also by unpacking an archive; this one cannot.
                    changed_at = max(changed_at, facts.st_ctime)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
    return size, changed_at


async def _set_aside(host: Host, folder: VmFolder) -> Path | None:
    """Rename the folder for removal, unless a VM uses it. A VM that wakes from now on gets a new one.

    Runs in the host's loop. Returns None if the folder is in use or gone.
    """
    waiting = folder.actor is not None and any(
        queue.live for queue in await host.broker.status(folder.actor, totals=False)
    )
    # No await from here on, so that no VM wakes in between.
    talking = {actor for actor, sessions in remembered(host.workspaces) if sessions.now_open()}
    users = {_root(host, actor, {}) for actor in {*host.activations.actors, *talking}}
    if waiting or folder.path in users:
        return None
    aside = folder.path.with_name(f"{_SET_ASIDE}{secrets.token_hex(8)}")
    try:
        os.rename(folder.path, aside)
    except FileNotFoundError:
        return None
    return aside


_removing = threading.Lock()
"""Serialises removals: a second one would take the folders that the first has renamed for leftovers."""


def _remove(aside: Path, path: Path) -> None:
    """Remove a folder that was renamed for removal. If that fails, restore its name. Raises ``OSError``."""
    with _removing, suppress(FileNotFoundError):
        try:
            remove_tree(str(aside))
        except OSError:
            with suppress(OSError):
                os.rename(aside, path)
            raise


def _remove_left(workspaces: Path) -> None:
    with _removing:
        for of_name in _folders_in(workspaces):
            for folder in _folders_in(Path(of_name.path)):
                if folder.name.startswith(_SET_ASIDE):
                    with suppress(OSError):
                        remove_tree(folder.path)
