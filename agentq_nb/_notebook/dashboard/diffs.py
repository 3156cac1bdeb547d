"""Diffs of VMs' clones of repositories, for pages that ask for them: as text, of limited length."""

from __future__ import annotations

import asyncio
from contextvars import Context
from pathlib import Path
from typing import Any

from agentq_nb._core.ids import ActorId, actor_key, actor_name
from agentq_nb._core.safe_text import exact, safe
from agentq_nb._core.threads import in_thread
from agentq_nb._display.repositories import counted
from agentq_nb._host.host import Host
from agentq_nb.agent_os import Diff
from agentq_nb.agent_os.repositories.clone_record import read_record, record_path
from agentq_nb.agent_os.repositories.repository import Repository
from agentq_nb.agent_os.sandbox.workspace import root_folder
from agentq_nb.agent_os.vm_base import VmBase
from agentq_nb.errors import RepositoryError

LONGEST = 100_000
"""The most characters of a diff that are sent to a page."""
MOST_LINES = 4_000
"""The most lines. A page has an element for each run of lines of one kind."""


def works_in_clone(host: Host, actor: ActorId) -> bool:
    """Whether the actor is a VM that works in a clone of a repository."""
    return _repository_of(host, actor) is not None


def _repository_of(host: Host, actor: ActorId) -> Repository | None:
    cls = host.classes.get(actor_name(actor))
    return cls.repository() if cls is not None and issubclass(cls, VmBase) else None


class Diffs:
    """Reads the diffs of a host's VMs, of each VM one at a time: pages that ask meanwhile get the same one."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._reading: dict[ActorId, asyncio.Task[dict[str, Any]]] = {}

    async def read(self, actor: ActorId) -> dict[str, Any]:
        """Return all that the VM has changed in its clone. A VM that sleeps wakes for it; none is created, and no clone made.

        Raises ``RepositoryError``.
        """
        reading = self._reading.get(actor)
        if reading is None:
            reading = asyncio.get_running_loop().create_task(self._read(actor), context=Context())
            self._reading[actor] = reading
            reading.add_done_callback(lambda _: self._reading.pop(actor))
        return await asyncio.shield(reading)

    async def _read(self, actor: ActorId) -> dict[str, Any]:
        name, key = actor_name(actor), actor_key(actor)
        repository = _repository_of(self._host, actor)
        if repository is None:
            raise RepositoryError(f"VM '{actor:.100}' has no repository.", code="no_repository")
        root = root_folder(self._host.workspaces, name, key)
        if not await self._host.enter(self._host.exists, actor) or not await in_thread(_has_clone, root):
            branch = repository.branch_for(name, key)
            raise RepositoryError(
                f"VM '{actor:.60}' has no clone any more. If its work was brought back, it is on branch {branch}."
            )
        return _shown(actor, await self._host.client.handle_of(actor).diff())


def _has_clone(root: Path) -> bool:
    """Whether the VM with this folder has a clone that it can work in. Blocks."""
    record = read_record(record_path(root))
    return record is not None and record.ready and (root / record.folder).is_dir()


def _shown(actor: ActorId, diff: Diff) -> dict[str, Any]:
    """Return a diff as texts."""
    text = exact(diff.text[:LONGEST])[:LONGEST]
    lines = text.split("\n")
    is_cut = diff.truncated or len(text) < len(diff.text) or len(lines) > MOST_LINES
    size = counted(len(diff.files), diff.insertions, diff.deletions)
    return {
        "title": safe(f"{diff.branch}: {size} since {diff.base[:12]}"),
        "text": "\n".join(lines[:MOST_LINES]),
        "note": f"This is only its beginning. All of it: %agentq diff {safe(actor)}" if is_cut else "",
    }
