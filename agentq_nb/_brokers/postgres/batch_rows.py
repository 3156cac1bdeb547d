"""The rows of batches: read, found by content, added and replaced, in one transaction."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from agentq_nb._brokers.batches import NewBatch, StoredBatch
from agentq_nb._brokers.messages import NewMessage, digest
from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.postgres.rows import UNSETTLED
from agentq_nb._core.ids import ActorId, mint_id
from agentq_nb.errors import BatchUnknown


class BatchRecord(NamedTuple):
    """A batch as its table has it."""

    name: str
    actor: ActorId
    queue: str
    created_at: float
    facts: Mapping[str, Any]
    view: Sequence[int]
    total: int

    def stored(self, pruned: int, rows: Sequence[int] | None = None, **values: Any) -> StoredBatch:
        """Return it for users; ``rows`` in place of all of its rows."""
        spans = ranges(self.view if rows is None else rows)
        return StoredBatch(
            self.name, self.actor, self.queue, self.created_at, spans, self.total, pruned, self.facts, **values
        )


ROWS = """
from agentq.batch_rows r left join agentq.messages m on m.id = r.message
where r.batch = %(name)s and r.number = any(%(numbers)s)
"""
"""The rows of a batch that are asked for, with their messages; those that were pruned have none."""

_SELECT = "select name, actor, queue, created_at, facts, view, total from agentq.batches"


def _record(row: Sequence[Any]) -> BatchRecord:
    name, actor, queue, created_at, facts, view, total = row
    return BatchRecord(name, actor, queue, created_at, json.loads(facts), view, total)


async def lock_name(tx: Transaction, name: str) -> None:
    """Lock this batch until the end of the transaction: others can neither send nor change it."""
    await tx.ask("select pg_advisory_xact_lock(hashtextextended(%(name)s, 0))", name=name)


async def lookup(tx: Transaction, name: str) -> BatchRecord | None:
    """Return a batch, if there is one of this name."""
    row = await tx.row(f"{_SELECT} where name = %(name)s", name=name)
    return None if row is None else _record(row)


async def find(tx: Transaction, name: str) -> BatchRecord:
    """Return a batch. Raises BatchUnknown."""
    found = await lookup(tx, name)
    if found is None:
        raise BatchUnknown(name, [row[0] for row in await tx.rows("select name from agentq.batches order by number")])
    return found


async def all_batches(tx: Transaction) -> list[BatchRecord]:
    """Return all batches, in the order in which they were first sent."""
    return [_record(row) for row in await tx.rows(f"{_SELECT} order by number")]


_RECENT = f"""
{_SELECT} b
order by exists (
    select from agentq.batch_rows r join agentq.messages m on m.id = r.message
    where r.batch = b.name and r.number = any(b.view) and m.status in {UNSETTLED}
) desc, number desc
limit %(most)s
"""


async def recent_batches(tx: Transaction, most: int) -> list[BatchRecord]:
    """Return those with unsettled rows, then the latest others."""
    return [_record(row) for row in await tx.rows(_RECENT, most=most)]


_PRUNED = """
select count(*)
from agentq.batch_rows r
where r.batch = %(name)s and r.number = any(%(numbers)s)
  and not exists (select from agentq.messages m where m.id = r.message)
"""


async def count_pruned(tx: Transaction, batch: BatchRecord, numbers: Sequence[int] | None = None) -> int:
    """Return how many of the rows were pruned."""
    given = list(batch.view if numbers is None else numbers)
    row = await tx.row(_PRUNED, name=batch.name, numbers=given)
    return 0 if row is None else row[0]


# --- matching by content ----------------------------------------------------------------------------------------------


class CountingRow(NamedTuple):
    """A row that was not replaced; without ``status`` it was pruned."""

    number: int
    content: bytes
    status: str | None

    @property
    def live(self) -> bool:
        return self.status in ("queued", "blocked", "running")


_COUNTING = """
select r.number, r.content, m.status
from agentq.batch_rows r left join agentq.messages m on m.id = r.message
where r.batch = %(name)s and not r.replaced
order by r.number
"""


async def counting_rows(tx: Transaction, name: str) -> list[CountingRow]:
    """Return the rows that bodies are compared with."""
    return [CountingRow(*row) for row in await tx.rows(_COUNTING, name=name)]


class Matched(NamedTuple):
    """The rows of the bodies that were given, in their order.

    :ivar new: messages for those that have no row yet, or are done again; theirs are the numbers from ``first`` on.
    :ivar replaced: rows that are done again, with their new numbers.
    """

    given: list[int]
    new: list[NewMessage]
    replaced: dict[int, int]


def match(new_batch: NewBatch, rows: Iterable[CountingRow], total: int) -> Matched:
    """Find the row of each body by its content: of equal bodies each has a row of its own."""
    left: dict[bytes, deque[CountingRow]] = {}
    for row in rows:
        if row.status is not None:
            left.setdefault(row.content, deque()).append(row)
    matched = Matched([], [], {})
    for body in new_batch.bodies:
        same = left.get(digest(body))
        row = same.popleft() if same else None
        if row is not None and (row.live or not new_batch.again):
            matched.given.append(row.number)
            continue
        number = total + len(matched.new)
        matched.given.append(number)
        if row is not None:
            matched.replaced[row.number] = number
        matched.new.append(
            NewMessage(
                mint_id(),
                new_batch.actor,
                new_batch.queue,
                body,
                new_batch.options,
                new_batch.max_size,
                new_batch.max_bytes,
            )
        )
    return matched


# --- writing ----------------------------------------------------------------------------------------------------------

_SAVE = """
insert into agentq.batches (name, actor, queue, created_at, facts, view, total)
values (%(name)s, %(actor)s, %(queue)s, agentq.now(), %(facts)s, %(view)s, %(total)s)
on conflict (name) do update set facts = excluded.facts, view = excluded.view, total = excluded.total
"""

_ADD = """
insert into agentq.batch_rows (batch, number, message, content)
select %(name)s, row.* from unnest(%(numbers)s::int[], %(messages)s::text[], %(contents)s::bytea[]) as row
"""

_REPLACE = "update agentq.batch_rows set replaced = true where batch = %(name)s and number = any(%(numbers)s)"


async def save(tx: Transaction, batch: BatchRecord, new: Sequence[NewMessage], replaced: Iterable[int] = ()) -> None:
    """Store a batch, whose ``total`` counts its new rows as well."""
    await tx.ask(
        _SAVE,
        name=batch.name,
        actor=batch.actor,
        queue=batch.queue,
        facts=json.dumps(dict(batch.facts)),
        view=list(batch.view),
        total=batch.total,
    )
    first = batch.total - len(new)
    if new:
        await tx.ask(
            _ADD,
            name=batch.name,
            numbers=list(range(first, batch.total)),
            messages=[message.id for message in new],
            contents=[digest(message.body) for message in new],
        )
    if gone := list(replaced):
        await tx.ask(_REPLACE, name=batch.name, numbers=gone)


def numbers(rows: Iterable[range]) -> list[int]:
    """Return the numbers in ranges of rows."""
    return [number for span in rows for number in span]


def ranges(rows: Sequence[int]) -> tuple[range, ...]:
    """Return numbers as ranges of consecutive ones, in the same order."""
    found: list[range] = []
    for number in rows:
        if found and found[-1].stop == number:
            found[-1] = range(found[-1].start, number + 1)
        else:
            found.append(range(number, number + 1))
    return tuple(found)
