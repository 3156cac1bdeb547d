"""A VM's actions on its clone of a repository."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

from agentq_nb._actor.actor import action
from agentq_nb._core.threads import to_its_end
from agentq_nb.agent_os.repositories.changes import BroughtBack, Commit, Diff, Discarded, Updated
from agentq_nb.agent_os.repositories.repository import Repository
from agentq_nb.agent_os.repositories.vm_clone import VmClone
from agentq_nb.agent_os.repositories.vm_git import Snapshot, VmGit
from agentq_nb.agent_os.sandbox.isolation import in_force
from agentq_nb.agent_os.sandbox.workspace import FileName
from agentq_nb.agent_os.values import FileChange
from agentq_nb.agent_os.vm_base import VmBase
from agentq_nb.errors import RepositoryError, ValidationFailed


class RepositoryActions(VmBase, action_timeout=None):
    """Git that reads the clone runs inside the sandbox, since agents may have changed its configuration and hooks.

    Where the machine has no sandbox, these actions raise ``repository.no_isolation``, unless ``agent_os(isolation="off")``
    asked for none. All of them raise ``RepositoryError``.
    """

    @action
    async def path(self, name: FileName = ".") -> Path:
        """Return the real path of a file or folder of the VM; of its clone or folder, if no name is given."""
        workspace = await self._files()
        await self.in_thread(workspace.ensure)
        return workspace.path(name)

    @action
    async def diff(self) -> Diff:
        """Return all changes since the commit that the clone began from, committed or not, new files included.

        Files that ``.gitignore`` lists do not count.
        """
        return await self.keep_awake((await self._clone()).diff())

    @action
    async def commit(self, message: str) -> Commit:
        """Commit all changes on the VM's branch, new files included. Does nothing where nothing has changed.

        No hooks run, and the commit is not signed.
        """
        if not isinstance(message, str) or not message.strip() or "\0" in message:  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise ValidationFailed(f"A commit needs a message, not {message!r:.100}.")
        return await self.keep_awake((await self._clone()).commit(message))

    @action
    async def bring_back(self, branch: str | None = None) -> BroughtBack:
        """Fetch the VM's commits into your repository, as the VM's branch or as ``branch``.

        Only the commits cross, and every object is checked: nothing that an agent wrote is run, and your work tree, index
        and configuration stay as they are. The branch that was made is durable on return. Changes that are not committed
        stay in the VM, and are listed in ``uncommitted``.

        Raises ``repository.branch_moved`` if the branch has commits that the VM does not have, and
        ``repository.branch_checked_out`` if you have it checked out. With the URL of a repository, the branch gets into a
        repository of its own, whose path the result names: ``git fetch PATH BRANCH`` gets it from there.
        """
        return await self.keep_awake((await self._clone()).bring_back(branch))

    @action
    async def update(self, how: Literal["rebase", "merge"] = "rebase") -> Updated:
        """Rebase the VM's branch onto the present head of the repository's ref, or merge that into it.

        Conflicts are listed in the result, and the branch is then left as it was. An agent in the VM can solve them: the
        head is called ``origin/main`` there, or as ``ref`` in the result says. Raises ``repository.uncommitted`` if the VM
        has changes that are not committed.
        """
        if how not in ("rebase", "merge"):
            raise ValidationFailed(f'update takes "rebase" or "merge", not {how!r:.100}.')
        return await self.keep_awake((await self._clone()).update(how))

    @action
    async def discard(self) -> Discarded:
        """Take the VM's branch and files back to the commit that it began from.

        Everything that was changed is kept as a commit in the clone, which the result names; files that ``.gitignore``
        lists stay as they are.
        """
        return await self.keep_awake((await self._clone()).discard())

    @functools.cached_property
    def _vm_clone(self) -> VmClone | None:
        if not isinstance(self._declared, Repository):
            return None
        return VmClone(self._clone_maker(self._declared), VmGit(self._run_quietly), self._workspace)

    async def _clone(self) -> VmClone:
        """Return the VM's clone, which is made first if it was never used."""
        if self._vm_clone is None:
            raise RepositoryError(
                f"VM '{self.actor_id}' has no repository: give agent_os(workspace=Repository(...)) one.",
                code="no_repository",
            )
        if self._isolation_mode != "off" and (await in_force(self._isolation_mode)).kind == "none":
            raise RepositoryError(
                "This machine has no sandbox, and git in a clone runs what an agent may have put into its configuration. "
                'If it may do whatever you may, write agent_os(isolation="off"). Else see isolation() for what is missing.',
                code="no_isolation",
            )
        await self._files()
        return self._vm_clone

    async def _has_nothing_to_lose(self) -> bool:
        """Whether the VM's folder can be removed without losing work; else warn that it stays."""
        if self._vm_clone is None or not await to_its_end(self._vm_clone.exists):
            return True
        try:
            lost = await (await self._clone()).unsaved()
        except RepositoryError as error:
            lost = f"work that cannot be read ({error.message})"
        if lost is not None:
            self.log.warning(
                f"The files of the VM are kept in {self._workspace.root}: its clone has {lost}. To remove them: "
                "await vm.destroy(files=True, force=True)."
            )
        return lost is None

    async def _snapshot(self) -> Snapshot | None:
        """Return the state of the clone before a turn; None where there is none, or it cannot be read."""
        if self._vm_clone is None:
            return None
        try:
            return await (await self._clone()).snapshot()
        except RepositoryError as error:
            self.log.debug("The state of the clone could not be read: %s", error)
            return None

    async def _changed_since(self, before: Snapshot | None) -> tuple[FileChange, ...] | None:
        """Return the files that changed since a snapshot; None where that is not known."""
        after = await self._snapshot()
        if before is None or after is None or self._vm_clone is None:
            return None
        return () if before.tree == after.tree else await self._vm_clone.between(before.tree, after.tree)
