"""Make the clone of a VM: under a temporary name beside the VM's folder, then in one step in its place."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from agentq_nb._core.ids import ActorId
from agentq_nb._core.threads import to_its_end
from agentq_nb.agent_os.repositories.clone_record import CloneRecord, read_record, record_path, sync_folder
from agentq_nb.agent_os.repositories.host_git import host_git
from agentq_nb.agent_os.repositories.mirror import Mirror, Resolved, init, resolve
from agentq_nb.agent_os.repositories.repository import Repository, without_password
from agentq_nb.agent_os.repositories.vm_git import Run, VmGit
from agentq_nb.agent_os.sandbox.launcher import remove_tree
from agentq_nb.agent_os.sandbox.workspace import HOME, Workspace
from agentq_nb.errors import RepositoryError, WorkspaceError

UNFINISHED = ".clone-"
"""The beginning of the name of a clone that is being made, beside the VMs' folders."""

TRANSFER = ".agentq-"
"""The beginning of the name of a file with commits that are on their way, in the VM's folder."""

_LONGEST_OUTPUT = 20_000
_CLONE_FILE = 0x40049409  # FICLONE: share the blocks of a file until one of both changes (Btrfs, XFS)


class CloneMaker:
    """Makes the clone of one VM.

    :param root: the VM's folder.
    :param run: runs a command in the sandbox, in the clone's folder.
    :param commit: the commit to begin from; None: look up the repository's ref.
    """

    def __init__(
        self,
        repository: Repository,
        root: Path,
        workspaces: Path,
        actor: ActorId,
        branch: str,
        run: Run,
        commit: str | None = None,
    ) -> None:
        self.repository = repository
        self.mirror = Mirror(repository, workspaces)
        self.path = root / repository.name
        self.record = record_path(root)
        self._root = root
        self._workspaces = workspaces
        self._actor = actor
        self._branch = branch
        self._run = run
        self._commit = commit

    def transfer(self, name: str) -> Path:
        """Return the path, outside the VM, of a file with commits that are on their way."""
        return self.mirror.path.with_name(f"{self._transfers}{name}")

    @property
    def _transfers(self) -> str:
        """The beginning of the names of this VM's files there. VMs of other classes have the same keys."""
        return f"{self._root.parent.name}-{self._root.name}"

    async def ready(self) -> CloneRecord:
        """Return the record of the clone, which is made first if it is not there. Raises ``RepositoryError``."""
        record = await to_its_end(self._usable)
        return await self._make() if record is None else record

    def _usable(self) -> CloneRecord | None:
        """Return the record of a finished clone. An unfinished one, in which nothing has worked yet, is removed."""
        record = read_record(self.record)
        self._remove_leftovers()
        if not os.path.lexists(self.path):
            return None
        if record is None or record.folder != self.path.name:
            raise RepositoryError(
                f"The VM's folder has a {self.path.name} in it ({self.path}) that is not the clone of {self.repository}: "
                "move it away, or use a VM with another key.",
                code="damaged",
            )
        if record.ready:
            check_clone(self.path)
            return record
        remove_tree(str(self.path))
        return None

    def _remove_leftovers(self) -> None:
        """Remove what a killed kernel left. Nothing of the VM runs yet."""
        for left in self._root.parent.glob(f"{UNFINISHED}{self._root.name}-*"):
            with suppress(OSError):
                remove_tree(str(left))
        for left in self.mirror.path.parent.glob(f"{self._transfers}{TRANSFER}*"):
            with suppress(OSError):
                remove_tree(str(left)) if left.is_dir() else left.unlink()
        workspace = Workspace(self._root)
        with suppress(WorkspaceError):
            for file in workspace.list_dir(HOME):
                if file.name.startswith(TRANSFER) and file.name.endswith(".bundle"):
                    workspace.delete(file.name, recursive=True)
        for lock in ("index.lock", "HEAD.lock", f"refs/heads/{self._branch}.lock"):
            with suppress(WorkspaceError):
                workspace.delete(f"{self.path.name}/.git/{lock}")

    async def _make(self) -> CloneRecord:
        resolved = await resolve(self.repository)
        if self._commit is not None:
            resolved = Resolved(self._commit, resolved.label, self._commit)
        await self.mirror.fetch(resolved)
        making = self._root.with_name(f"{UNFINISHED}{self._root.name}-{secrets.token_hex(8)}")
        try:
            await self._fill(making, resolved)
            record = CloneRecord(
                source=str(self.repository),
                actor=self._actor,
                branch=self._branch,
                folder=self.path.name,
                bases=(resolved.commit,),
                label=resolved.label,
            )
            await to_its_end(self._put_in_place, making, record)
        except BaseException:
            with suppress(OSError):
                await to_its_end(remove_tree, str(making))
            raise
        await VmGit(self._run).checkout()
        if self.repository.setup is not None:
            await self._set_up(self.repository.setup)
        record = replace(record, ready=True)
        await to_its_end(record.save, self.record)
        return record

    async def _fill(self, making: Path, resolved: Resolved) -> None:
        """Make a repository without files, with the objects copied and the branch at the commit."""
        await init(making, resolved.commit)
        git = making / ".git"
        await to_its_end(copy_objects, self.mirror.path, git)
        head = f"refs/heads/{self._branch}"
        refs = f"create {head} {resolved.commit}\ncreate refs/remotes/origin/{resolved.label} {resolved.commit}\n"
        doing = f"The clone of {self.repository} could not be made"
        tags = await self.mirror.tags()
        await host_git("update-ref", "--no-deref", "--stdin", at=making, doing=doing, input=refs + tags)
        await host_git("symbolic-ref", "HEAD", head, at=making, doing=doing)
        for name, value in (await self._settings()).items():
            await host_git("config", "--local", name, value, at=making, doing=doing)

    async def _settings(self) -> dict[str, str]:
        """Return the clone's configuration: who commits, and where it came from if an agent can reach that."""
        at = "/" if self.repository.is_url else os.fspath(self.repository.source)
        settings = {"user.name": "agentq", "user.email": "agentq@localhost"}
        for name in tuple(settings):
            _, value = await host_git("config", "--get", name, at=at, doing="Your name", accept=(0, 1))
            settings[name] = value.strip() or settings[name]
        if self.repository.is_url:
            settings["remote.origin.url"] = without_password(os.fspath(self.repository.source))
            settings["remote.origin.fetch"] = "+refs/heads/*:refs/remotes/origin/*"
        return settings

    def _put_in_place(self, making: Path, record: CloneRecord) -> None:
        with suppress(FileExistsError), open(self._workspaces / ".gitignore", "x") as ignore:
            ignore.write("*\n")  # the user's own git must neither add nor clean the VMs' folders
        record.save(self.record)
        os.rename(making, self.path)
        sync_folder(self._root)

    async def _set_up(self, command: str | Sequence[str]) -> None:
        words = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        result = await self._run(words, {}, _LONGEST_OUTPUT)
        if result.exit_code:
            said = "\n".join(text for text in (result.stdout.strip(), result.stderr.strip()) if text)
            raise RepositoryError(
                f"The setup of the clone of {self.repository} failed with exit code {result.exit_code}, so nothing was "
                f"started in it. It will be tried again at the next use. It printed:\n{said[-4000:]}",
                code="setup_failed",
                metadata={"exit_code": result.exit_code},
            )


def check_clone(path: Path) -> None:
    """Refuse a clone whose ``.git`` is not a folder any more: git would follow it to another repository."""
    for folder in (path, path / ".git"):
        if folder.is_symlink() or not folder.is_dir():
            raise RepositoryError(
                f"The clone in the VM is damaged: {folder} is not a folder. Look at it with await vm.path(); to begin "
                "again, use a VM with another key.",
                code="damaged",
            )


def copy_objects(mirror: Path, git: Path) -> None:
    """Copy all objects of a mirror. They are never links, which would let an agent change the mirror."""
    shutil.copytree(mirror / "objects", git / "objects", copy_function=_copy, ignore=_unfinished, dirs_exist_ok=True)
    with suppress(FileNotFoundError):
        shutil.copyfile(mirror / "shallow", git / "shallow")


def _unfinished(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith("tmp_") or name.endswith((".keep", ".lock", ".tmp"))]


def _copy(source: str, target: str) -> str:
    with open(source, "rb") as reader, open(target, "wb") as writer:
        if sys.platform == "linux":
            with suppress(OSError):
                fcntl.ioctl(writer.fileno(), _CLONE_FILE, reader.fileno())
                return target
    return shutil.copyfile(source, target)
