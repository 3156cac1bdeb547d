"""Commands that show what VMs changed in their clones of repositories, and bring their branches back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where, address, handle
from agentq_nb._commands.parser import option, word
from agentq_nb._core.safe_text import LONGEST_CELL
from agentq_nb._core.threads import in_long_thread
from agentq_nb._display.document import Cell, Document, shows

if TYPE_CHECKING:
    from agentq_nb.agent_os import BroughtBack, Diff
    from agentq_nb.agent_os.repositories.clone_record import KnownClone


@dataclass(frozen=True, kw_only=True)
class ShowDiff(Command):
    """Show all that a VM has changed in its repository, committed or not, as a diff.

    In a notebook, `x = %agentq diff vm/main` gives the object: x.text, x.files, x.insertions, x.deletions.
    """

    name: ClassVar[str] = "diff"
    where: ClassVar[Where] = "both"
    needs_host: ClassVar[bool] = True
    only_waits: ClassVar[bool] = True

    actor: str = word("ACTOR/KEY", "the VM, like vm/main", convert=address, completes="actor")

    async def run(self, context: CommandContext) -> Diff:
        return await handle(context, self.actor).diff()


@dataclass(frozen=True, kw_only=True)
class BringBack(Command):
    """Fetch a VM's commits into your repository, as a branch. Nothing else of yours changes, and nothing of the VM's runs.

    With --commit, everything that is not committed yet is committed first.
    """

    name: ClassVar[str] = "bring-back"
    where: ClassVar[Where] = "both"
    needs_host: ClassVar[bool] = True

    actor: str = word("ACTOR/KEY", "the VM, like vm/main", convert=address, completes="actor")
    branch: str | None = option("--branch", "NAME", "another branch than the VM's own")
    commit: str | None = option("--commit", "MESSAGE", "commit everything first, with this message")

    async def run(self, context: CommandContext) -> BroughtBack:
        vm = handle(context, self.actor)
        if self.commit is not None:
            await vm.commit(self.commit)
        return await vm.bring_back(self.branch)


@dataclass(frozen=True)
class Clones:
    """The clones that VMs of a host have."""

    clones: Sequence[KnownClone]


@dataclass(frozen=True, kw_only=True)
class Repos(Command):
    """Show the clones of repositories that VMs have: their branches, and which were brought back. Wakes no VM."""

    name: ClassVar[str] = "repos"
    where: ClassVar[Where] = "both"
    only_waits: ClassVar[bool] = True

    async def run(self, context: CommandContext) -> Clones:
        from agentq_nb.agent_os.repositories.clone_record import known_clones

        return Clones(await in_long_thread(known_clones, context.host().host.workspaces))


@shows(Clones)
def _clones(shown: Clones) -> Document:
    return Document(
        columns=("VM", "branch", "begun from", "brought back", "repository", "folder"),
        rows=[
            (
                clone.record.actor,
                clone.record.branch,
                clone.record.bases[-1][:12],
                _brought(clone),
                clone.record.source,
                clone.path,
            )
            for clone in shown.clones
        ],
        notes=["What a VM has changed: %agentq diff ACTOR/KEY"] if shown.clones else [],
        empty="No VM has a clone of a repository here: agent_os(workspace=Repository(...)).",
        widest=LONGEST_CELL,
    )


def _brought(clone: KnownClone) -> Cell:
    if not clone.record.ready:
        return Cell("not set up yet", "busy")
    brought = [f"{branch} at {commit[:12]}" for branch, commit in clone.record.brought.items()]
    return Cell(", ".join(brought), "good") if brought else Cell("no", "quiet")
