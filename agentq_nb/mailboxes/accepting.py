"""Which offers are taken: capacity, ids that are known already, idempotency keys. Decided before anything is changed."""

from __future__ import annotations

from collections.abc import Sequence, Set

from agentq_nb.errors import IdempotencyConflict, QueueFull
from agentq_nb.mailboxes import rows
from agentq_nb.mailboxes.keys import digest
from agentq_nb.mailboxes.ledger import Ledger
from agentq_nb.mailboxes.protocol import Accepted, Offer
from agentq_nb.mailboxes.stock import Stock
from agentq_nb.naming import ActorId, MessageId


async def accept(ledger: Ledger, offers: Sequence[Offer]) -> Sequence[Accepted]:
    """See :meth:`agentq_nb.mailboxes.protocol.Mailboxes.offer`."""
    ledger.check()
    known = await _known_before(ledger, offers) if _needs_a_look(ledger, offers) else frozenset[MessageId]()
    accepted, fresh = _decide(ledger.stock, offers, known)
    if fresh:
        entries = [ledger.stock.enter(offer) for offer in fresh]
        await ledger.write([rows.queued(entry) for entry in entries], lambda: ledger.stock.arrive(entries))
    if len(fresh) < len(offers):
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


def _decide(stock: Stock, offers: Sequence[Offer], known: Set[MessageId]) -> tuple[list[Accepted], list[Offer]]:
    """The answer to each offer, and the offers that are new. ``known`` are ids of messages that are live no more.

    Raises QueueFull and IdempotencyConflict: all or none.
    """
    accepted: list[Accepted] = []
    fresh: dict[MessageId, Offer] = {}
    room: dict[tuple[ActorId, str], int] = {}
    keyed: dict[tuple[ActorId, str, str], Offer] = {}
    for offer in offers:
        if offer.id in stock.entries or offer.id in known or offer.id in fresh:
            accepted.append(Accepted(offer.id, repeated=True))
            continue
        if offer.idempotency_key is not None and (named := _named(stock, offer, keyed)) is not None:
            accepted.append(Accepted(named, repeated=True))
            continue
        if offer.max_size is not None:
            _find_room(stock, offer, offer.max_size, room)
        fresh[offer.id] = offer
        accepted.append(Accepted(offer.id))
    return accepted, list(fresh.values())


def _named(stock: Stock, offer: Offer, keyed: dict[tuple[ActorId, str, str], Offer]) -> MessageId | None:
    """The message that has the offer's key already, be it one of the same call."""
    key = offer.idempotency_key
    assert key is not None
    found = stock.keys.find(offer.actor, offer.queue, key)
    if found is None:
        first = keyed.setdefault((offer.actor, offer.queue, key), offer)
        if first is offer:
            return None
        found = (first.id, digest(first.body))
    if found[1] != digest(offer.body):
        raise IdempotencyConflict(key, found[0])
    return found[0]


def _find_room(stock: Stock, offer: Offer, max_size: int, room: dict[tuple[ActorId, str], int]) -> None:
    place = (offer.actor, offer.queue)
    left = room.get(place)
    if left is None:
        left = max_size - stock.box(offer.actor).shelf(offer.queue).live
    if left <= 0:
        raise QueueFull(offer.actor, offer.queue, max_size)
    room[place] = left - 1
