"""The clone of one VM after it was made: its diff, commits, and the ways in and out of it."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from agentq_nb._core.threads import to_its_end
from agentq_nb.agent_os.repositories.changes import (
    BroughtBack,
    Commit,
    Diff,
    Discarded,
    Updated,
    lines_of,
)
from agentq_nb.agent_os.repositories.clone import TRANSFER, CloneMaker, check_clone
from agentq_nb.agent_os.repositories.clone_record import CloneRecord, read_record
from agentq_nb.agent_os.repositories.incoming_branch import (
    bundle_commit,
    changes_between,
    check_branch,
    checked_bundle,
    copy_out,
    fetch_branch,
)
from agentq_nb.agent_os.repositories.mirror import resolve
from agentq_nb.agent_os.repositories.vm_git import Snapshot, VmGit
from agentq_nb.agent_os.sandbox.workspace import HOME, Workspace
from agentq_nb.agent_os.values import FileChange
from agentq_nb.errors import RepositoryError, WorkspaceError


class VmClone:
    """The clone of one VM. One change at a time; every method raises ``RepositoryError``.

    :param maker: what made it. ``git``: git in the sandbox. ``workspace``: the VM's files.
    """

    def __init__(self, maker: CloneMaker, git: VmGit, workspace: Workspace) -> None:
        self._maker = maker
        self._git = git
        self._workspace = workspace
        self._turn = asyncio.Lock()

    async def _target(self) -> Path:
        """Return the repository into which branches are brought back: the user's own, or one of ours for a URL."""
        repository = self._maker.repository
        return await self._maker.mirror.for_branches() if repository.is_url else Path(repository.source)

    def exists(self) -> bool:
        """Whether it was made. Blocks."""
        return read_record(self._maker.record) is not None and self._maker.path.is_dir()

    def record(self) -> CloneRecord:
        """Return what is known of the clone. Blocks."""
        check_clone(self._maker.path)
        record = read_record(self._maker.record)
        if record is None:
            raise RepositoryError(f"Nothing is known of the clone {self._maker.path}.", code="damaged")
        return record

    async def snapshot(self) -> Snapshot:
        """Return the present state of all files."""
        return await self._git.snapshot((await to_its_end(self.record)).bases)

    async def between(self, before: str, after: str) -> tuple[FileChange, ...]:
        """Return the files that differ between two snapshots' trees."""
        return await self._git.between(before, after)

    async def diff(self) -> Diff:
        """Return everything that changed since the clone began."""
        record = await to_its_end(self.record)
        now = await self._git.snapshot(record.bases)
        text, truncated = await self._git.patch(now.base, now.tree) if now.changes else ("", False)
        return Diff(record.branch, now.base, text, now.changes, *lines_of(now.changes), truncated)

    async def commit(self, message: str) -> Commit:
        """Commit everything that git does not ignore."""
        async with self._turn:
            record = await to_its_end(self.record)
            commit, files = await self._git.commit(message)
            return Commit(record.branch, commit, files, *lines_of(files))

    async def bring_back(self, branch: str | None) -> BroughtBack:
        """Fetch the commits into the user's repository."""
        async with self._turn:
            record = await to_its_end(self.record)
            wanted = record.branch if branch is None else branch
            check_branch(wanted)
            target = await self._target()
            name = _new_name()
            try:
                bundled = await self._git.bundle(f"../{name}", record.bases)
                if not await to_its_end(self._workspace.exists, f"{HOME}/{name}"):
                    return BroughtBack(str(target), None, None, (), 0, 0, bundled.uncommitted)
                commit = await self._fetch(name, wanted, target, record)
            finally:
                await to_its_end(self._remove, name)
            await to_its_end(record.with_brought(wanted, commit).save, self._maker.record)
            base = bundled.base if bundled.base in record.bases else record.bases[0]
            files = await changes_between(target, base, commit)
            return BroughtBack(str(target), wanted, commit, files, *lines_of(files), bundled.uncommitted)

    async def _fetch(self, name: str, branch: str, target: Path, record: CloneRecord) -> str:
        copy = await to_its_end(copy_out, self._workspace, f"{HOME}/{name}", self._maker.transfer(name))
        try:
            bundle = await to_its_end(checked_bundle, copy)
            await fetch_branch(target, bundle, branch, record.brought.get(branch))
            return bundle.commit
        finally:
            await to_its_end(partial(copy.unlink, missing_ok=True))

    async def update(self, how: str) -> Updated:
        """Rebase the branch onto the present head of the repository's ref, or merge that."""
        async with self._turn:
            record = await to_its_end(self.record)
            resolved = await resolve(self._maker.repository)
            mirror = self._maker.mirror
            await mirror.fetch(resolved)
            name = _new_name()
            bundle = self._maker.transfer(name)
            try:
                if has_news := await bundle_commit(mirror.path, resolved.commit, record.bases, bundle):
                    await to_its_end(self._give, bundle, name)
                file = f"../{name}" if has_news else ""
                changed, conflicts = await self._git.update(how, resolved.commit, record.label, file)
            finally:
                await to_its_end(self._remove, name)
                await to_its_end(partial(bundle.unlink, missing_ok=True))
            if resolved.commit not in record.bases:
                record = replace(record, bases=(*record.bases, resolved.commit))
                await to_its_end(record.save, self._maker.record)
            status = "conflicts" if conflicts else "updated" if changed else "current"
            return Updated(status, resolved.commit, conflicts, f"origin/{record.label}")

    async def discard(self) -> Discarded:
        """Take everything back to where the clone began; all of it is kept as a commit in the clone."""
        async with self._turn:
            record = await to_its_end(self.record)
            kept, files = await self._git.discard(record.bases)
            return Discarded(files, kept)

    async def unsaved(self) -> str | None:
        """Return what would be lost with the clone, as a part of a sentence; None: nothing."""
        async with self._turn:
            record = await to_its_end(self.record)
            uncommitted, commits = await self._git.unsaved(record.bases, tuple(record.brought.values()))
            lost = [f"{_counted(len(uncommitted), 'file')} with changes that are not committed"] if uncommitted else []
            lost += [f"{_counted(commits, 'commit')} not brought back"] if commits else []
            return " and ".join(lost) or None

    def _give(self, bundle: Path, name: str) -> None:
        self._workspace.write(f"{HOME}/{name}", bundle.read_bytes())

    def _remove(self, name: str) -> None:
        with suppress(WorkspaceError):
            self._workspace.delete(f"{HOME}/{name}", recursive=True)


def _new_name() -> str:
    return f"{TRANSFER}{secrets.token_hex(8)}.bundle"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
