"""The commands for VMs' folders on the disk: list them, remove unused ones, and give up those of another host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where, address
from agentq_nb._commands.parser import UsageError, flag, option, span, word
from agentq_nb._core.safe_text import LONGEST_CELL
from agentq_nb._display.document import Cell, Document, disk_space, duration, shows
from agentq_nb.errors import ValidationFailed

if TYPE_CHECKING:
    from agentq_nb._commands.vm_folders import VmFolder


@dataclass(frozen=True)
class VmFolders:
    """The folders of VMs, and when they were listed, in seconds since 1970."""

    folders: Sequence[VmFolder]
    at: float
    remarks: Sequence[str] = ()
    empty: str = "No VM has a folder here."


@dataclass(frozen=True, kw_only=True)
class Vms(Command):
    """Show the folders of VMs: who uses them, their sizes, when they were used last. `vms prune` removes some of them.

    Prune removes the folders of destroyed VMs; with --older also those of VMs that sleep, and of none that this file
    knows, if nothing of them was used for that long. Without --yes it only shows which. A VM that is awake, has an open
    session or has work waiting keeps its folder. Transcripts stay in the file in any case.
    """

    name: ClassVar[str] = "vms"
    where: ClassVar[Where] = "both"

    verb: str | None = word("prune", "remove folders that are not used", optional=True, completes="label")
    older: float | None = option(
        "--older", "TIME", "with prune: all that were not used for this long, like 12h or 30d", convert=span
    )
    yes: bool = flag("--yes", "with prune: do it; without it you are only shown what would go")

    async def run(self, context: CommandContext) -> VmFolders:
        from agentq_nb._commands.vm_folders import remove_folders, vm_folders

        if self.verb not in (None, "prune"):
            raise UsageError("Type: %agentq vms, or %agentq vms prune [--older TIME] [--yes]")
        if self.verb is None and (self.older is not None or self.yes):
            raise UsageError("--older and --yes are for prune. Type: %agentq vms prune [--older TIME] [--yes]")
        registry = context.host()
        found = await vm_folders(registry)
        now = registry.host.clock.time()
        if self.verb is None:
            return VmFolders(found, now, _advice(found))
        if not self.yes:
            return self._shown(found, now)
        gone, failed = await remove_folders(registry, found, self.older)
        remarks = [f"Removed {_folders(len(gone))}."] if gone else []
        remarks += [f"{folder.path} could not be removed: {why}." for folder, why in failed]
        return VmFolders(gone, now, remarks, empty="Nothing was removed." if failed else _NOTHING)

    def _shown(self, found: Sequence[VmFolder], now: float) -> VmFolders:
        from agentq_nb._commands.vm_folders import removable

        going = removable(found, self.older, now)
        again = "" if self.older is None else f" --older {_as_typed(self.older)}"
        advice = [f"Nothing was removed yet. To remove {_folders(len(going))}: %agentq vms prune{again} --yes"]
        return VmFolders(going, now, advice if going else [], empty=_NOTHING)


_NOTHING = "No such folder is unused: nothing was removed."


@dataclass(frozen=True, kw_only=True)
class Move(Command):
    """Give up the files of a VM on the host that has them, so that another host starts it with an empty workspace.

    With queues on PostgreSQL, only the host that has a VM's folder wakes it. Nothing is copied: files, work that was not
    brought back, sessions and transcripts stay where they are. Without --yes you are only told what would be left.
    """

    name: ClassVar[str] = "move"
    where: ClassVar[Where] = "both"
    needs_host: ClassVar[bool] = True

    actor: str = word("VM/KEY", "which VM, like vm/task-agent", convert=address, completes="actor")
    back: bool = flag("--back", "take a move back, as long as no other host has started the VM")
    yes: bool = flag("--yes", "do it; without it you are only told what would be left behind")

    async def run(self, context: CommandContext) -> Document:
        registry = context.host()
        try:
            return Document(notes=[await registry.move(self.actor, accept_loss=self.yes, back=self.back)])
        except ValidationFailed as refused:
            raise UsageError(refused.message.replace("accept_loss=True", f"%agentq move {self.actor} --yes")) from None


def _advice(found: Sequence[VmFolder]) -> list[str]:
    remarks: list[str] = []
    if any(folder.status == "destroyed" and not folder.elsewhere for folder in found):
        remarks.append("To remove the folders of destroyed VMs: %agentq vms prune")
    if any(folder.clone for folder in found):
        remarks.append(
            "Folders with a clone of a repository may have work that is nowhere else, so prune leaves them alone: see "
            "%agentq repos; await vm.destroy(files=True) removes the one of a VM whose work was brought back."
        )
    if any(folder.elsewhere for folder in found):
        remarks.append(
            "Folders that lie where agent_os(workspace=...) said may be other notebooks' too, so prune leaves them alone: "
            "await vm.destroy(files=True) removes the one of a VM."
        )
    return remarks


def _folders(number: int) -> str:
    return "1 folder" if number == 1 else f"{number:,} folders"


def _as_typed(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:g}s"


@shows(VmFolders)
def _vm_folders(shown: VmFolders) -> Document:
    return Document(
        columns=("VM", "used by", "size", "last used", "folder"),
        rows=[
            (
                folder.actor or "not of this file",
                _use(folder),
                disk_space(folder.size),
                f"{duration(max(0.0, shown.at - folder.used_at))} ago",
                folder.path,
            )
            for folder in shown.folders
        ],
        notes=shown.remarks,
        empty=shown.empty,
        widest=LONGEST_CELL,
    )


def _use(folder: VmFolder) -> Cell:
    if folder.status == "session open" and folder.sessions > 1:
        return Cell(f"{folder.sessions} sessions open", "busy")
    return Cell(folder.status, "busy" if folder.in_use else "quiet")
