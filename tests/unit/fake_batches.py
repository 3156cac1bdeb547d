"""Batches of the second broker: a list of messages under a name, looked through from the beginning each time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from agentq_nb._brokers.batches import BatchCounts, BatchRow, Cursor, NewBatch, SettledRows, StoredBatch
from agentq_nb._brokers.changes import Cancel, Resume
from agentq_nb._brokers.messages import NewMessage, StoredResult
from agentq_nb._core.ids import mint_id
from agentq_nb._policies.admission import Limits
from agentq_nb.errors import BatchElsewhere, BatchPruned, BatchTooLarge, BatchUnknown
from tests.unit.fake_server import Rows, Stored

if TYPE_CHECKING:
    from tests.unit.fake_broker import FakeBroker

T = TypeVar("T")


class FakeBatches:
    """See :class:`agentq_nb._brokers.batches.Batches`. What begins with an underscore is one transaction."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self._server = broker.server

    async def _call(self, apply: Callable[[], T]) -> T:
        return await self._broker.call(apply)

    # --- sending and finding ------------------------------------------------------------------------------------------

    async def send(self, new_batch: NewBatch, room_timeout: float | None = 0.0) -> StoredBatch:
        return await self._broker.with_room(lambda sender: self._send(new_batch, sender), room_timeout)

    def _send(self, new_batch: NewBatch, sender: object) -> StoredBatch:
        batch = self._server.batches.get(new_batch.name)
        earlier = None if batch is None else batch.facts
        if batch is None:
            batch = Rows(new_batch.name, new_batch.actor, new_batch.queue, self._server.clock.time())
        if (batch.actor, batch.queue) != (new_batch.actor, new_batch.queue):
            raise BatchElsewhere(batch.name, batch.actor, batch.queue)
        if not new_batch.again and any(batch.ids[row] is None for row in self._counting(batch)):
            raise BatchPruned(batch.name)
        limits = Limits(new_batch.max_size, new_batch.max_bytes)
        left = [(row, message) for row in self._counting(batch) if (message := self._message(batch, row)) is not None]
        given: list[int] = []
        replaced: dict[int, int] = {}
        new: list[NewMessage] = []
        for body in new_batch.bodies:
            same = next((pair for pair in left if json.loads(pair[1].new_message.body) == json.loads(body)), None)
            if same is not None:
                left.remove(same)
            if same is not None and (same[1].live or not new_batch.again):
                given.append(same[0])
                continue
            given.append(len(batch.ids) + len(new))
            if same is not None:
                replaced[same[0]] = given[-1]
            new.append(NewMessage(mint_id(), batch.actor, batch.queue, body, new_batch.options, *limits))
        self._add(batch, new, limits, sender)
        if new_batch.again:
            self._replace(batch, replaced)
        batch.view = given if new_batch.whole else [*batch.view, *(row for row in given if row not in batch.view)]
        batch.facts = dict(new_batch.facts)
        return self._stored(batch, given, added=len(new))._replace(earlier=earlier)

    def _add(self, batch: Rows, new: Sequence[NewMessage], limits: Limits, sender: object) -> None:
        for number, limit, unit in (
            (len(new), limits.messages, "messages"),
            (sum(len(one.body) for one in new), limits.bytes, "bytes"),
        ):
            if limit is not None and number > limit:
                raise BatchTooLarge(batch.actor, batch.queue, number, limit, unit)
        self._server.enqueue(new, sender)
        self._server.batches[batch.name] = batch
        for one in new:
            self._server.messages[one.id].batch = (batch, len(batch.ids))
            batch.ids.append(one.id)

    def _replace(self, batch: Rows, replaced: dict[int, int]) -> None:
        """Put new rows in place of others; those that were pruned go, too."""
        gone = {row for row in self._counting(batch) if batch.ids[row] is None}
        batch.replaced |= {*replaced, *gone}
        batch.view = [replaced.get(row, row) for row in batch.view if row not in gone]

    async def find(self, name: str) -> StoredBatch:
        return await self._call(lambda: self._stored(self._find(name)))

    async def all(self) -> Sequence[StoredBatch]:
        found = await self._call(lambda: [self._stored(batch) for batch in self._server.batches.values()])
        return [stored._replace(pruned=0) for stored in found]

    async def recent(self, most: int) -> Sequence[StoredBatch]:
        def found() -> list[StoredBatch]:
            newest = list(self._server.batches.values())[::-1]
            newest.sort(key=lambda batch: not self._live(batch, batch.view))
            return [self._stored(batch) for batch in newest[:most]]

        return await self._call(found)

    def _find(self, name: str) -> Rows:
        self._server.expire()
        if name not in self._server.batches:
            raise BatchUnknown(name, list(self._server.batches))
        return self._server.batches[name]

    def _stored(self, batch: Rows, given: Sequence[int] | None = None, *, added: int = 0) -> StoredBatch:
        rows = batch.view if given is None else given
        return StoredBatch(
            name=batch.name,
            actor=batch.actor,
            queue=batch.queue,
            created_at=batch.created_at,
            rows=ranges(rows),
            total=len(batch.ids),
            pruned=sum(batch.ids[row] is None for row in rows),
            facts=batch.facts,
            added=added,
        )

    def _message(self, batch: Rows, row: int) -> Stored | None:
        message = batch.ids[row]
        return None if message is None else self._server.messages[message]

    def _messages(self, batch: Rows, rows: Iterable[int]) -> list[Stored]:
        return [message for row in rows if (message := self._message(batch, row)) is not None]

    def _live(self, batch: Rows, rows: Iterable[int]) -> list[Stored]:
        return [message for message in self._messages(batch, rows) if message.live]

    @staticmethod
    def _counting(batch: Rows) -> list[int]:
        return [row for row in range(len(batch.ids)) if row not in batch.replaced]

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def counts(self, name: str, rows: Sequence[range]) -> BatchCounts:
        return await self._call(lambda: self.counts_now(name, rows))

    def counts_now(self, name: str, rows: Sequence[range]) -> BatchCounts:
        batch = self._find(name)
        messages = self._messages(batch, numbers(rows))
        statuses = [message.status for message in messages]
        running = sum(message.live and message.holder is not None for message in messages)
        return BatchCounts(
            completed=statuses.count("completed"),
            failed=statuses.count("failed"),
            cancelled=statuses.count("cancelled"),
            expired=statuses.count("expired"),
            running=running,
            waiting=statuses.count(None) - running,
            pruned=sum(batch.ids[row] is None for row in numbers(rows)),
            per_minute=self._per_minute(batch, messages),
            stopped=self._stopped(batch),
        )

    def _per_minute(self, batch: Rows, messages: Sequence[Stored]) -> float:
        now = self._server.clock.time()
        length = min(now - batch.created_at, 300.0)
        recent = sum(not message.live and message.ended_at >= now - length for message in messages)
        return 60 * recent / length if length else 0.0

    def _stopped(self, batch: Rows) -> str | None:
        return self._server.stops.get((batch.actor, batch.queue))

    def _has_stopped(self, batch: Rows, rows: Iterable[int]) -> bool:
        running = any(message.holder is not None for message in self._live(batch, rows))
        return self._stopped(batch) is not None and not running

    async def settled(self, name: str, cursor: Cursor | None, timeout: float | None) -> SettledRows:
        clock = self._server.clock
        deadline = None if timeout is None else clock.monotonic() + timeout
        while True:
            version = self._server.version
            found = await self._call(lambda: self._settled(name, cursor))
            over = deadline is not None and clock.monotonic() >= deadline
            if found.rows or found.stopped is not None or over:
                return found
            await self._server.change(version, deadline)

    def _settled(self, name: str, cursor: Cursor | None) -> SettledRows:
        batch, place = self._find(name), 0 if cursor is None else cursor.place
        rows = [row for row in batch.order[place:] if (m := self._message(batch, row)) is not None and not m.live]
        found = [(row, self._result(batch, row)) for row in rows]
        stopped = self._stopped(batch) if not found and self._has_stopped(batch, batch.view) else None
        return SettledRows(Cursor(0, len(batch.order)), found, stopped)

    def _result(self, batch: Rows, row: int) -> StoredResult:
        message = self._message(batch, row)
        assert message is not None
        return self._server.standing(message.id)

    async def finished(self, name: str, rows: Sequence[range]) -> str | None:
        def look() -> tuple[bool, str | None]:
            batch = self._find(name)
            if not self._live(batch, numbers(rows)):
                return True, None
            return self._has_stopped(batch, numbers(rows)), self._stopped(batch)

        while True:
            version = self._server.version
            over, stopped = await self._call(look)
            if over:
                return stopped
            await self._server.change(version)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def read(
        self, name: str, rows: Sequence[int], *, timed: bool = False, bodies: bool = False
    ) -> Sequence[BatchRow | None]:
        def one(batch: Rows, row: int) -> BatchRow | None:
            message = self._message(batch, row)
            if message is None:
                return None
            body = message.new_message.body if bodies else None
            return BatchRow(self._result(batch, row), message.seconds if timed else None, body)

        return await self._call(lambda: [one(self._find(name), row) for row in rows])

    async def failed(self, name: str, rows: Sequence[range], most: int) -> Sequence[tuple[int, StoredResult]]:
        def found() -> list[tuple[int, StoredResult]]:
            batch = self._find(name)
            messages = [(row, self._message(batch, row)) for row in numbers(rows)]
            failed = [row for row, message in messages if message is not None and message.status == "failed"]
            return [(row, self._result(batch, row)) for row in failed[:most]]

        return await self._call(found)

    # --- changing -----------------------------------------------------------------------------------------------------

    async def retry_failed(self, name: str, rows: Sequence[range]) -> int:
        return await self._call(lambda: self._retry_failed(self._find(name), list(numbers(rows))))

    def _retry_failed(self, batch: Rows, rows: Sequence[int]) -> int:
        failed = [message for message in self._messages(batch, rows) if message.status == "failed"]
        for message in sorted(failed, key=lambda message: message.order):
            self._server.put_back(message)
        self._resume(batch)
        return len(failed)

    async def redo(self, name: str, rows: Sequence[range], limits: Limits) -> StoredBatch:
        return await self._call(lambda: self._redo(self._find(name), list(numbers(rows)), limits))

    def _redo(self, batch: Rows, rows: Sequence[int], limits: Limits) -> StoredBatch:
        if any(batch.ids[row] is None for row in rows):
            raise BatchPruned(batch.name)
        settled = [row for row in rows if not self._live(batch, [row])]
        new = [
            NewMessage(mint_id(), batch.actor, batch.queue, one.body, one.options, *limits)
            for one in (message.new_message for message in self._messages(batch, settled))
        ]
        replaced = {row: len(batch.ids) + number for number, row in enumerate(settled)}
        self._add(batch, new, limits, None)
        self._replace(batch, replaced)
        self._resume(batch)
        again = [replaced.get(row, row) for row in rows]
        return self._stored(batch, again, added=len(new))._replace(earlier=batch.facts)

    async def cancel(self, name: str, rows: Sequence[range]) -> int:
        def cancel() -> int:
            batch = self._find(name)
            live = self._live(batch, numbers(rows))
            return sum(self._server.apply(batch.actor, Cancel(message.id)) for message in live)

        return await self._call(cancel)

    async def resume(self, name: str) -> bool:
        return await self._call(lambda: self._resume(self._find(name)))

    def _resume(self, batch: Rows) -> bool:
        stopped = self._stopped(batch) is not None
        if stopped:
            self._server.apply(batch.actor, Resume(batch.queue))
        self._server.changed()
        return stopped


def numbers(rows: Iterable[range]) -> Iterable[int]:
    return (row for span in rows for row in span)


def ranges(rows: Sequence[int]) -> tuple[range, ...]:
    """Numbers as ranges of consecutive ones, in the same order."""
    starts = [place for place, row in enumerate(rows) if place == 0 or rows[place - 1] != row - 1]
    ends = [*starts[1:], len(rows)]
    return tuple(range(rows[start], rows[end - 1] + 1) for start, end in zip(starts, ends, strict=False))
