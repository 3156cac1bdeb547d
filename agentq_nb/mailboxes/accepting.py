"""Which offers are taken: capacity, ids that are known already, idempotency keys. All of a call, or none."""

from __future__ import annotations

from collections.abc import Sequence, Set

from agentq_nb.errors import IdempotencyConflict
from agentq_nb.mailboxes import rows
from agentq_nb.mailboxes.keys import digest
from agentq_nb.mailboxes.ledger import Ledger
from agentq_nb.mailboxes.memory import Entry
from agentq_nb.mailboxes.protocol import Accepted, Offer
from agentq_nb.mailboxes.stock import Stock
from agentq_nb.naming import MessageId
from agentq_nb.store import Row

_NONE: frozenset[MessageId] = frozenset()


async def accept(ledger: Ledger, offers: Sequence[Offer]) -> Sequence[Accepted]:
    """See :meth:`agentq_nb.mailboxes.protocol.Mailboxes.offer`."""
    ledger.check()
    stock = ledger.stock
    known = await _known_before(ledger, offers) if _needs_a_look(ledger, offers) else _NONE
    accepted: list[Accepted] = []
    entries: list[Entry] = []
    written: list[Row] = []
    try:
        for offer in offers:
            found = _find(stock, offer, known)
            accepted.append(Accepted(found or offer.id, found is not None))
            if found is None:
                entry = stock.enter(offer)
                entries.append(entry)
                written.append(rows.queued(entry))
    except BaseException:  # one that is refused takes the others with it
        stock.withdraw(entries)
        raise
    if entries:
        await ledger.write(written, stock.arrive, entries)
    if len(entries) < len(offers):
        await ledger.flushed()
    return accepted


def _needs_a_look(ledger: Ledger, offers: Sequence[Offer]) -> bool:
    """An id minted before we began, or settled since, or a key: rare, and then the live ones do not say it all."""
    for offer in offers:
        if offer.id < ledger.opened or offer.idempotency_key is not None or ledger.results.knows(offer.id):
            return True
    return False


async def _known_before(ledger: Ledger, offers: Sequence[Offer]) -> set[MessageId]:
    """Which ids the log may hold though memory does not; and the keys of earlier runs, when a key is used."""
    known: set[MessageId] = set()
    for offer in offers:
        if offer.id < ledger.opened and offer.id not in ledger.stock.entries:
            if await ledger.read(offer.id) is not None:
                known.add(offer.id)
        elif ledger.results.knows(offer.id):
            known.add(offer.id)
        if offer.idempotency_key is not None:
            await ledger.learn_keys()
    return known


def _find(stock: Stock, offer: Offer, known: Set[MessageId]) -> MessageId | None:
    """The message that the offer was already, or that has its key. ``known`` are ids of messages that are live no more.

    Raises IdempotencyConflict.
    """
    if offer.id in stock.entries or offer.id in known:
        return offer.id
    if offer.idempotency_key is None:
        return None
    named = stock.keys.find(offer.actor, offer.queue, offer.idempotency_key)
    if named is None:
        return None
    if named[1] != digest(offer.body):
        raise IdempotencyConflict(offer.idempotency_key, named[0])
    return named[0]
