"""Reads of the event log: trusted queries, users' SQL, and what a broker needs when it begins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from agentq_nb._core.threads import in_long_thread
from agentq_nb._store import startup_queries
from agentq_nb._store.schema import utc
from agentq_nb._store.sql import Parameters, Readers, Table, read_alone, run_sql
from agentq_nb._store.writer import Connection
from agentq_nb.errors import StoreError

_TO_JOIN = 256 << 20
"""Bytes of memory in which the ids of a million messages can be compared without spilling to disk."""
_ROWS_AT_ONCE = 500


class LogReader(ABC):
    """The reading half of the log. Every read sees all rows that were durable when it began.

    :param last: the last row when the log was opened.
    """

    def __init__(self, path: Path, readers: Readers, last: int) -> None:
        self.path = path
        self._readers = readers
        self._last_at_open = last

    @abstractmethod
    def _check(self) -> None:
        """Raise when the log is closed."""

    @abstractmethod
    def _drained(self) -> None:
        """Return when the database has every durable row. Blocks."""

    def fetch(self, query: str, parameters: Parameters = ()) -> startup_queries.Rows:
        """Run a trusted query. From any thread; blocks. Raises StoreError, also when the log is closed meanwhile."""
        return self._read(lambda cursor: cursor.execute(query, parameters).fetchall())

    def _read(self, read: Callable[[Connection], startup_queries.Rows]) -> startup_queries.Rows:
        self._check()
        self._drained()
        try:
            with self._readers.cursor() as cursor:
                return read(cursor)
        except duckdb.Error as error:
            self._check()
            raise self._not_read(error) from error

    def stream(self, query: str, parameters: Parameters = ()) -> Iterator[tuple[Any, ...]]:
        """Run a trusted query, and yield its rows, some at a time; other threads run between. Raises StoreError."""
        self._check()
        self._drained()
        try:
            with self._readers.cursor() as cursor:
                found = cursor.execute(query, parameters)
                while some := found.fetchmany(_ROWS_AT_ONCE):
                    yield from some
        except duckdb.Error as error:
            self._check()
            raise self._not_read(error) from error

    def _not_read(self, error: duckdb.Error) -> StoreError:
        return StoreError(f"{self.path} cannot be read: {str(error).partition(chr(10))[0]}. Try again.")

    async def sql(self, query: str, parameters: Parameters = ()) -> Table:
        """Run a user's query, which may only read, in a thread; cancelling the caller interrupts it.

        Raises SqlRefused.
        """
        self._check()
        await in_long_thread(self._drained)
        return await run_sql(self._readers, query, parameters)

    def live_rows(self, largest_body: int | None = None) -> startup_queries.Rows:
        """Return all rows of unsettled messages in order: seq, seconds since 1970, kind, actor id, message id, data.

        A body of more than ``largest_body`` bytes is replaced by its ``size``.
        """
        some_back = bool(self.fetch(startup_queries.ANY_REDELIVERED))
        return self._recall(startup_queries.live_rows(some_back=some_back, largest_body=largest_body), least=_TO_JOIN)

    def actor_states(self) -> list[tuple[str, str | None]]:
        """Return (actor id, state) of all actors that were not destroyed, oldest first; state is JSON or None."""
        latest = self.fetch(startup_queries.LATEST_STATES)
        states: dict[int, str] = {}
        for places in startup_queries.pages([place for _, place in latest if place is not None]):
            states.update(self._recall(startup_queries.STATES, startup_queries.span(places)))
        return [(actor, states.get(place)) for actor, place in latest]

    def dead_counts(self) -> startup_queries.Rows:
        """Return (actor id, queue, message id) of the dead letters, in the order they were sent."""
        return self._recall(startup_queries.DEAD_COUNTS) if self.fetch(startup_queries.ANY_FAILED) else []

    def pauses(self) -> startup_queries.Rows:
        """Return (actor id, queue, until, reason) of queues paused and not resumed; ``until`` may have passed."""
        return self._recall(startup_queries.PAUSES)

    def limit_rows(self) -> startup_queries.Rows:
        """Return (kind, data, seconds since 1970) of all pauses and changes of limits and of their ends, in order."""
        return self._recall(startup_queries.LIMIT_ROWS)

    def limit_starts(self, since: float) -> startup_queries.Rows:
        """Return (actor id, queue, names as JSON, time, identity) of starts of limited queues. Blocks.

        ``since`` and the time are in seconds since 1970.
        """
        return self.fetch(startup_queries.LIMIT_STARTS, [utc(since)])

    def _recall(self, query: str, parameters: Parameters = (), *, least: int = 0) -> startup_queries.Rows:
        """Run a startup query, while nothing else uses the log."""

        def read(cursor: Connection) -> startup_queries.Rows:
            return read_alone(cursor, lambda: cursor.execute(query, parameters).fetchall(), least=least)

        return self._read(read)

    def completed_keys(self) -> startup_queries.Rows:
        """Return (hash of actor, queue and idempotency key; seq) of completed messages that have a key."""
        return self.fetch(startup_queries.COMPLETED_KEYS)

    def settled_counts(self) -> startup_queries.Rows:
        """Return (actor id, queue, "completed" or "expired", number) as of opening the log. From any thread; blocks."""
        return self.fetch(startup_queries.SETTLED_COUNTS, {"last": self._last_at_open})

    def message_rows(self, message_id: str) -> startup_queries.Rows:
        """Return all rows of one message in order: seq, seconds since 1970, kind, actor id, message id, data."""
        return self.fetch(startup_queries.MESSAGE_ROWS, [message_id])

    def dead_letters(self, wanted: Mapping[str, Any]) -> startup_queries.Rows:
        """Return (seq, actor id, queue, message id) of dead letters in the order sent. From any thread; blocks.

        ``wanted`` has ``actor``, ``name``, ``queue``, ``since`` and ``error``, all of them; see ``DeadLetters``.
        """

        def read(cursor: Connection) -> startup_queries.Rows:
            found = cursor.execute(startup_queries.DEAD_LETTERS, dict(wanted))
            rows: startup_queries.Rows = []
            while some := found.fetchmany(_ROWS_AT_ONCE):  # other threads run between the fetches
                rows += some
            return rows

        return self._read(read)

    def sent_rows(self, places: Sequence[int], largest_body: int) -> startup_queries.Rows:
        """Return rows as ``live_rows`` does, but those with these sequence numbers, which are in ascending order."""
        return self.fetch(startup_queries.sent_rows(largest_body), startup_queries.span(places))

    def body(self, message_id: str, first: int) -> bytes:
        """Return the body, as JSON, of a message written at ``first`` or later. Raises StoreError."""
        found = self.fetch(startup_queries.BODY, [first, message_id])
        if not found:
            raise StoreError(f"The body of message {message_id} is not in {self.path}. See %agentq doctor.")
        return found[0][0]

    def closed_cleanly(self) -> bool:
        """Whether the previous host recorded that it stopped, or there was none."""
        return startup_queries.closed_cleanly(self._last_host_events())

    def last_life(self) -> tuple[int, bool]:
        """Return the sequence number at which the previous host started, and whether that start followed a crash."""
        return startup_queries.last_life(self._last_host_events())

    def _last_host_events(self) -> startup_queries.Rows:
        return self.fetch(startup_queries.LAST_HOST_EVENTS, [self._last_at_open])
