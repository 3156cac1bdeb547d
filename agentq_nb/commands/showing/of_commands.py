"""Sheets of what commands give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq_nb.commands.doctor import Diagnosis
from agentq_nb.commands.equipping import AgentsHere
from agentq_nb.commands.looking import MessageDetails
from agentq_nb.commands.sheets import Cell, Sheet, disk_space, duration, error_text, tone
from agentq_nb.commands.showing.sheets_by_kind import shows
from agentq_nb.commands.vm_folders import VmFolders
from agentq_nb.messages import headline
from agentq_nb.showable import LONGEST_CELL, pretty

if TYPE_CHECKING:
    from agentq_nb.agent_os.vm_folders import VmFolder


@shows(Diagnosis)
def _diagnosis(diagnosis: Diagnosis) -> Sheet:
    return Sheet(
        columns=("what", "state", "found", "what to do"),
        rows=[(check.what, tone(check.state), check.found, check.advice) for check in diagnosis.checks],
        widest=LONGEST_CELL,
    )


@shows(AgentsHere)
def _agents(here: AgentsHere) -> Sheet:
    return Sheet(
        columns=("agent", "state", "version", "program", "what to do"),
        rows=[
            (check.agent, tone("ok" if check else "missing"), check.version, check.path, " ".join(check.missing))
            for check in here.checks
        ],
        widest=LONGEST_CELL,
    )


@shows(MessageDetails)
def _message(message: MessageDetails) -> Sheet:
    texts = [("Body", pretty(message.body))]
    if message.status == "completed":
        texts.append(("Reply", pretty(message.reply)))
    if message.error:
        texts.append(("Error", error_text(message.error)))
    return Sheet(
        title=f"Message {message.message_id}",
        facts=[
            ("status", tone(message.status)),
            ("actor", message.actor_id),
            ("queue", message.queue),
            ("created", message.created_at),
            ("started", message.started_at),
            ("finished", message.finished_at),
            *([("idempotency key", message.idempotency_key)] if message.idempotency_key else []),
        ],
        columns=("attempt", "started", "ended", "outcome", "error"),
        rows=[
            (
                attempt.attempt,
                attempt.started_at,
                attempt.ended_at,
                tone(attempt.outcome),
                headline(attempt.error) if attempt.error else "",
            )
            for attempt in message.attempts
        ],
        empty="Not started yet.",
        texts=texts,
    )


@shows(VmFolders)
def _vm_folders(shown: VmFolders) -> Sheet:
    return Sheet(
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
