"""Which offers are taken: capacity, ids that are known already, idempotency keys. All of a call, or none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from agentq_nb._brokers.base import Accepted, Offer
from agentq_nb._brokers.local import event_rows
from agentq_nb._brokers.local.commit import Ledger
from agentq_nb._brokers.local.idempotency import Clue, Name, digest
from agentq_nb._brokers.local.live_messages import Stock
from agentq_nb._brokers.local.queues import Entry
from agentq_nb._core.ids import MessageId
from agentq_nb._core.threads import in_thread
from agentq_nb._store import Connection, Row, startup_queries
from agentq_nb.errors import IdempotencyConflict, StoreError

Taken: TypeAlias = tuple[list[Accepted], "asyncio.Future[None] | None"]
"""The answer to each offer, and what is to be waited for when some are new."""


class Known(NamedTuple):
    """What the log says of offers that memory does not know."""

    ids: frozenset[MessageId]
    """Ids of offers that are there already."""
    named: dict[MessageId, tuple[MessageId, bool]]
    """By the offer's id, the completed message that has its key, and whether the bodies are equal."""


async def accept(ledger: Ledger, offers: Sequence[Offer]) -> Sequence[Accepted]:
    """See :meth:`agentq_nb._brokers.base.Mailboxes.offer`."""
    ledger.check()
    if _needs_a_look(ledger, offers):
        accepted, durable = await _look_and_take_in(ledger, offers)
    else:
        accepted, durable = _take_in(ledger, offers, None)
    if durable is not None:
        await durable
    for answer in accepted:
        if answer.repeated:
            await ledger.flushed()
            break
    return accepted


def _needs_a_look(ledger: Ledger, offers: Sequence[Offer]) -> bool:
    """An id minted before we began, or settled since, or a key: rare, and then the live ones do not say it all."""
    for offer in offers:
        if offer.id < ledger.opened or offer.idempotency_key is not None or ledger.results.knows(offer.id):
            return True
    return False


async def _look_and_take_in(ledger: Ledger, offers: Sequence[Offer]) -> Taken:
    while True:
        try:
            return await _look_once(ledger, offers)
        except _DigestNeeded as needed:
            await _learn_digest(ledger, needed.entry)


class _DigestNeeded(Exception):
    """An offer is to be held against a live message whose body is in the log only. Nothing was taken in."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry


async def _learn_digest(ledger: Ledger, entry: Entry) -> None:
    """Raises StoreError, but not where the message has left its queue meanwhile."""
    try:
        (body,) = await ledger.read_bodies([entry])
    except StoreError:
        if not entry.gone:
            raise
    else:
        entry.digest = await in_thread(digest, body)


async def _look_once(ledger: Ledger, offers: Sequence[Offer]) -> Taken:
    """Raises _DigestNeeded."""
    if any(offer.idempotency_key is not None and _live(ledger.stock, offer) is None for offer in offers):
        await ledger.learn_keys()
    asked, clues = _what_to_look_for(ledger, offers)
    if not asked and not clues:
        return _take_in(ledger, offers, Known(frozenset(), {}))
    taken: list[Taken] = []
    await ledger.decide(
        lambda connection: ((), _look(connection, asked, clues)),
        lambda known: taken.append(_take_in(ledger, offers, known)),
    )
    return taken[0]


def _name(offer: Offer) -> Name | None:
    return None if offer.idempotency_key is None else (offer.actor, offer.queue, offer.idempotency_key)


def _live(stock: Stock, offer: Offer) -> MessageId | None:
    name = _name(offer)
    return None if name is None else stock.keys.find(name)


# --- what the log says ------------------------------------------------------------------------------------------------


def _what_to_look_for(ledger: Ledger, offers: Sequence[Offer]) -> tuple[list[MessageId], list[tuple[Offer, Clue]]]:
    """Ids minted before we began, and completed messages that may have a key: rare."""
    stock = ledger.stock
    asked: list[MessageId] = []
    clues: list[tuple[Offer, Clue]] = []
    for offer in offers:
        if offer.id < ledger.opened and offer.id not in stock.entries:
            asked.append(offer.id)
        name = _name(offer)
        if name is not None and stock.keys.find(name) is None:
            clues += [(offer, clue) for clue in stock.keys.clues(name)]
    return asked, clues


def _look(connection: Connection, asked: list[MessageId], clues: list[tuple[Offer, Clue]]) -> Known:
    """In the writer's thread."""
    found: set[MessageId] = set()
    if asked:
        found = {message for (message,) in connection.execute(startup_queries.KNOWN_IDS, [asked]).fetchall()}
    named: dict[MessageId, tuple[MessageId, bool]] = {}
    for offer, clue in clues:
        if offer.id not in named and (row := _row_of(connection, clue)) is not None:
            message, actor, queue, key, body = row
            if (actor, queue, key) == _name(offer):
                named[offer.id] = (message, digest(body.encode()) == digest(offer.body))
    return Known(frozenset(found), named)


def _row_of(connection: Connection, clue: Clue) -> tuple[str, str, str, str, str] | None:
    if clue.message is None:
        found = connection.execute(startup_queries.KEYED_MESSAGE, {"first": clue.first}).fetchall()
    else:
        found = connection.execute(
            startup_queries.KEYED_MESSAGE_FROM, {"first": clue.first, "message": clue.message}
        ).fetchall()
    return found[0] if found else None


# --- taking in --------------------------------------------------------------------------------------------------------


def _take_in(ledger: Ledger, offers: Sequence[Offer], known: Known | None) -> Taken:
    """Decide by memory as it is now. One that is refused takes the others along.

    Raises QueueFull, IdempotencyConflict, _DigestNeeded.
    """
    stock = ledger.stock
    accepted: list[Accepted] = []
    entries: list[Entry] = []
    written: list[Row] = []
    try:
        for offer in offers:
            found = offer.id if offer.id in stock.entries else None
            if found is None and known is not None:
                found = _known(ledger, offer, known)
            if found is None and offer.idempotency_key is not None:
                found = _live_namesake(stock, offer)
            accepted.append(Accepted(found or offer.id, found is not None))
            if found is None:
                entry = stock.enter(offer)
                entry.first = ledger.log.last_seq + 1
                entries.append(entry)
                written.append(event_rows.queued(entry))
    except BaseException:
        stock.withdraw(entries)
        raise
    return accepted, ledger.write(written, stock.arrive, entries) if entries else None


def _live_namesake(stock: Stock, offer: Offer) -> MessageId | None:
    """Return the live message that has the offer's key, which may be one of the same call. Raises IdempotencyConflict, _DigestNeeded."""
    live = _live(stock, offer)
    if live is None:
        return None
    entry = stock.entries[live]
    known = digest(entry.body) if entry.body else entry.digest
    if known is None:
        raise _DigestNeeded(entry)
    if known != digest(offer.body):
        raise IdempotencyConflict(offer.idempotency_key or "", live)
    return live


def _known(ledger: Ledger, offer: Offer, known: Known) -> MessageId | None:
    """The message that the offer was, or the completed one that has its key. Raises IdempotencyConflict."""
    if offer.id in known.ids or ledger.results.knows(offer.id):
        return offer.id
    if offer.id not in known.named or _live(ledger.stock, offer) is not None:
        return None
    message, same = known.named[offer.id]
    if not same:
        raise IdempotencyConflict(offer.idempotency_key or "", message)
    return message
