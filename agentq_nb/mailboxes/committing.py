"""What one lease writes at once: taken into memory, and made into rows."""

from __future__ import annotations

from collections.abc import Callable

from agentq_nb.errors import LeaseLost
from agentq_nb.mailboxes import rows
from agentq_nb.mailboxes.ledger import Ledger
from agentq_nb.mailboxes.memory import Box, Entry, Pausing
from agentq_nb.mailboxes.protocol import Commit, FinalStatus, Settlement, StoredResult
from agentq_nb.store import Row


def take_in(ledger: Ledger, box: Box, commit: Commit) -> tuple[list[Row], Callable[[], None]]:
    """Apply to memory at once. Returns what is to be written, and what is to be called once that is durable.

    The rows go out in order, so nobody can learn of it before it is durable. Raises LeaseLost: nothing was applied.
    """
    stock = ledger.stock
    held = [_held(ledger, settlement) for settlement in commit.settlements]
    written: list[Row] = []
    finished: list[StoredResult] = []
    for entry, settlement in zip(held, commit.settlements, strict=True):
        row, result = _settle(ledger, entry, settlement)
        written.append(row)
        if result is not None:
            finished.append(result)
    if commit.state is not None:
        if box.state is None:
            written.append(rows.of_actor("actor.created", box.actor))
        box.state = commit.state
        written.append(rows.state(box.actor, commit.state))
    arrivals = [stock.enter(offer) for offer in commit.schedule if offer.id not in stock.entries]
    written += [rows.queued(entry) for entry in arrivals]
    ended = _destroy(ledger, box, written, finished) if commit.destroy else []

    def durable() -> None:
        for pause in ended:
            stock.end_pause(pause)
        stock.arrive(arrivals)
        ledger.results.publish(finished)

    return written, durable


def _destroy(ledger: Ledger, box: Box, written: list[Row], finished: list[StoredResult]) -> list[Pausing]:
    """Returns the pauses that end with the actor."""
    for entry in [entry for entry in ledger.stock.entries.values() if entry.actor == box.actor]:
        row, result = ledger.cancel(entry)
        written.append(row)
        finished.append(result)
    box.state = None
    written.append(rows.of_actor("actor.destroyed", box.actor))
    return [shelf.pause for shelf in box.shelves.values() if shelf.pause is not None]


def _held(ledger: Ledger, settlement: Settlement) -> Entry:
    delivery = settlement.delivery
    entry = ledger.stock.entries.get(delivery.id)
    if entry is None or not entry.running or entry.starts != delivery.token:
        raise LeaseLost(f"Message {delivery.id} is not held here any more: nothing was written.")
    return entry


def _settle(ledger: Ledger, entry: Entry, settlement: Settlement) -> tuple[Row, StoredResult | None]:
    """The row that tells it, and the result unless the message comes again."""
    ledger.stock.take_back(entry)
    outcome = settlement.outcome
    comes_again = outcome in ("again", "released")
    if comes_again and entry.cancelling:
        return ledger.cancel(entry, handled=True)
    due = ledger.clock.time() + settlement.delay if settlement.delay > 0 else 0.0
    row = rows.settled(entry, settlement, due)
    if comes_again:
        _repeat(entry, settlement, due)
        ledger.stock.place(entry)
        return row, None
    status: FinalStatus = "completed" if outcome == "completed" else "failed"
    return row, ledger.settle(entry, status, settlement.reply, settlement.error, handled=True)


def _repeat(entry: Entry, settlement: Settlement, due: float) -> None:
    if settlement.outcome == "again":
        entry.failures += 1
        entry.ended += 1
        entry.crashes = 0
        entry.front, entry.due, entry.in_order = settlement.front, due, settlement.in_order
    else:
        entry.front, entry.due = True, 0.0
