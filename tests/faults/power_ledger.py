"""What was acknowledged before the power went, and whether it is there in what is left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from agentq_nb._store import EventLog
from agentq_nb.errors import AgentqError, StoreDamaged
from tests.faults.power_traffic import STORE


@dataclass
class Ledger:
    """Told from the marks alone, which the program under test wrote outside of its folder."""

    sent: set[str] = field(default_factory=set[str])
    completing: set[str] = field(default_factory=set[str])
    completed: set[str] = field(default_factory=set[str])
    state: int = 0
    pruning: bool = False
    exported: set[str] = field(default_factory=set[str])

    @staticmethod
    def of(marks: Sequence[bytes]) -> Ledger:
        ledger = Ledger()
        for line in b"".join(marks).splitlines():
            for what, value in json.loads(line).items():
                ledger.note(what, value)
        return ledger

    def note(self, what: str, value: Any) -> None:
        if what in ("sent", "completing", "completed", "exported"):
            getattr(self, what).add(value)
        elif what == "state":
            self.state = max(self.state, value)
        elif what == "pruning":
            self.pruning = True

    def lost(self, log: EventLog) -> list[str]:
        """What is missing of what was acknowledged, or is not as it was."""
        rows = log.fetch("select message_id, kind from events where message_id is not null")
        queued = {message for message, kind in rows if kind == "message.queued"}
        completed = {message for message, kind in rows if kind == "message.completed"}
        # A prune takes what was settled, also where it was not acknowledged yet.
        may_be_gone = self.completing if self.pruning else set[str]()
        lost = [f"message {message}" for message in sorted(self.sent - queued - may_be_gone)]
        lost += [f"reply of {message}" for message in sorted(self.completed - completed) if message in queued]
        if not self.pruning:
            lost += [f"reply of {message}" for message in sorted(self.completed - completed - set(lost))]
        states = [json.loads(state)["number"] for _, state in log.actor_states() if state is not None]
        if self.state and max(states, default=0) < self.state:
            lost.append(f"state {self.state}: found {states}")
        return lost


@dataclass(frozen=True, slots=True)
class Verdict:
    """``outcome`` is one of OUTCOMES; ``said`` is why."""

    outcome: str
    said: str = ""
    notices: int = 0


WHOLE, LOST, UNREADABLE, REFUSED, LITTERED = "whole", "lost", "unreadable", "refused", "littered"
OUTCOMES = (WHOLE, LOST, UNREADABLE, REFUSED, LITTERED)


def judge(folder: Path, ledger: Ledger) -> Verdict:
    """Open what is left, as the next host would, and compare."""
    try:
        log = EventLog.open(folder / STORE)
    except StoreDamaged as damage:
        return _refused(folder, ledger, str(damage))
    except AgentqError as error:
        return Verdict(UNREADABLE, str(error))
    try:
        lost = ledger.lost(log)
        notices = log.notices
    except (AgentqError, duckdb.Error) as error:
        return Verdict(UNREADABLE, str(error))
    finally:
        log.close()
    lost += [copy for copy in sorted(ledger.exported) if not _holds_rows(folder / copy)]
    if lost:
        return Verdict(LOST, "; ".join(lost), len(notices))
    left = sorted(file.name for file in folder.iterdir() if file.name.startswith(f"{STORE}."))
    unexpected = [name for name in left if name != f"{STORE}.guard"]
    if unexpected:
        return Verdict(LITTERED, f"left behind: {unexpected}", len(notices))
    return Verdict(WHOLE, "; ".join(notices), len(notices))


def _refused(folder: Path, ledger: Ledger, said: str) -> Verdict:
    """The loss is accepted, to see whether there was any."""
    try:
        log = EventLog.open(folder / STORE, accept_loss=True)
        try:
            lost = ledger.lost(log)
        finally:
            log.close()
    except (AgentqError, duckdb.Error) as error:
        return Verdict(UNREADABLE, f"{said} | {error}")
    return Verdict(LOST if lost else REFUSED, f"{said} | {'; '.join(lost[:5])}")


def _holds_rows(copy: Path) -> bool:
    try:
        with duckdb.connect(str(copy), read_only=True) as connection:
            return bool(connection.execute("select count(*) from messages").fetchall())
    except duckdb.Error:
        return False
