"""What one lease writes at once: taken into memory, and made into rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentq_nb._actor.message import brief
from agentq_nb._brokers.base import Commit, FinalStatus, Settlement, StoredResult
from agentq_nb._brokers.local import event_rows
from agentq_nb._brokers.local.commit import Ledger
from agentq_nb._brokers.local.queues import Box, Entry, Pausing
from agentq_nb._store import Row
from agentq_nb.errors import LeaseLost


@dataclass(slots=True)
class Applied:
    """A commit that memory has taken in: its rows, still to be written, and what may be known once they are durable."""

    rows: list[Row]
    finished: list[StoredResult]
    arrivals: Sequence[Entry] = ()
    ended: Sequence[Pausing] = ()
    """The pauses that end with the actor."""

    def tell(self, ledger: Ledger) -> None:
        """It is durable."""
        for pause in self.ended:
            ledger.stock.end_pause(pause)
        if self.arrivals:
            ledger.stock.arrive(self.arrivals)
        ledger.results.publish(self.finished)


def apply(ledger: Ledger, box: Box, commit: Commit) -> Applied:
    """Apply to memory at once. Rows go out in order, so nobody can learn of it before it is durable.

    Raises LeaseLost: nothing was applied.
    """
    applied = Applied([], [])
    for settlement in commit.settlements:
        _check_held(ledger, settlement)
    for settlement in commit.settlements:
        _settle(ledger, settlement, applied)
    if commit.state is not None:
        if box.state is None:
            applied.rows.append(event_rows.of_actor("actor.created", box.actor))
        box.state = commit.state
        applied.rows.append(event_rows.state(box.actor, commit.state))
    if commit.schedule:
        applied.arrivals = [
            ledger.stock.enter(offer) for offer in commit.schedule if offer.id not in ledger.stock.entries
        ]
        for entry in applied.arrivals:
            entry.first = ledger.log.last_seq + 1
        applied.rows += map(event_rows.queued, applied.arrivals)
    if commit.destroy:
        _destroy(ledger, box, applied)
    return applied


def _destroy(ledger: Ledger, box: Box, applied: Applied) -> None:
    for entry in [entry for entry in ledger.stock.entries.values() if entry.actor == box.actor]:
        row, result = ledger.cancel(entry)
        applied.rows.append(row)
        applied.finished.append(result)
    box.state = None
    applied.rows.append(event_rows.of_actor("actor.destroyed", box.actor))
    applied.ended = [shelf.pause for shelf in box.shelves.values() if shelf.pause is not None]


def _check_held(ledger: Ledger, settlement: Settlement) -> None:
    delivery = settlement.delivery
    entry = ledger.stock.entries.get(delivery.id)
    if entry is None or not entry.running or entry.starts != delivery.token:
        raise LeaseLost(
            f"Message {delivery.id} is not held here any more (it was taken back, or a write failed): nothing was "
            "written, and it comes again."
        )


def _settle(ledger: Ledger, settlement: Settlement, applied: Applied) -> None:
    entry = ledger.stock.entries[settlement.delivery.id]
    outcome = settlement.outcome
    if outcome not in ("again", "released"):
        applied.rows.append(event_rows.settled(entry, settlement, 0.0))
        status: FinalStatus = "completed" if outcome == "completed" else "failed"
        applied.finished.append(ledger.settle(entry, status, settlement.reply, settlement.error, handled=True))
    elif entry.cancelling:
        row, result = ledger.cancel(entry, handled=True)
        applied.rows.append(row)
        applied.finished.append(result)
    else:
        due = ledger.clock.time() + settlement.delay if settlement.delay > 0 else 0.0
        applied.rows.append(event_rows.settled(entry, settlement, due))
        ledger.stock.take_back(entry)
        _repeat(entry, settlement, due)
        ledger.stock.place(entry)


def _repeat(entry: Entry, settlement: Settlement, due: float) -> None:
    if settlement.outcome == "again":
        entry.failures += 1
        entry.ended += 1
        entry.crashes = 0
        entry.problem = brief(settlement.error)
        entry.front, entry.due, entry.in_order = settlement.front, due, settlement.in_order
    else:
        entry.front, entry.due = True, 0.0
