"""Group commit: make batches of rows durable in the journal, or in the database when the journal cannot take them."""

from __future__ import annotations

import time as system_time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

import duckdb

from agentq_nb._store.backlog import Backlog
from agentq_nb._store.guard import Guard
from agentq_nb._store.journal import Journal
from agentq_nb._store.journal_scan import Frame
from agentq_nb._store.schema import Row
from agentq_nb.errors import StoreError, StoreWriteFailed

Done = Callable[[StoreError | None], None]
Answers = list[tuple[Done, StoreError | None]]

# Errors caused by a row; any other is about the disk.
_BAD_ROW = (duckdb.DataError, duckdb.InvalidInputException, TypeError, ValueError, OverflowError)

_FULL_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0)
"""Seconds between attempts to make room in a full journal while the database accepts nothing."""
_LATEST_MICROS = 1 << 62


Append: TypeAlias = tuple[float, Sequence[Row], Done | None]
"""A time in seconds since 1970, rows that are committed together or not at all, and a callback."""


class GroupCommit:
    """Assigns sequence numbers to rows and makes them durable. One thread at a time may use it.

    Rows are acknowledged once they are in a frame of the journal, or in the database. After a failed write nothing more
    is written: how much of it is on the disk is unknown until that is read back.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, guard: Guard, last: int, journal: Journal | None) -> None:
        self.last = last
        """The last durable sequence number."""
        self.failed: StoreError | None = None
        self.connection = connection
        self.journal = journal
        self.backlog = Backlog(last)
        self.after_drain: Callable[[], None] | None = None
        """Called when rows have reached the database."""
        self._guard = guard
        self._region_last = [last, last]

    def commit(self, batch: Sequence[Append], *, on_loop: bool) -> Answers | None:
        """Commit a batch as one, and return the callbacks with their results.

        ``on_loop``: return None, with nothing done, if that would wait for the database or split the batch.
        """
        try:
            if not self._write(batch, on_loop):
                return None
            return [(done, None) for _, _, done in batch if done is not None]
        except _BAD_ROW as error:
            if on_loop:
                return None
            if len(batch) > 1:
                # One bad row must not fail the whole batch: each append gets its own commit and result.
                return [answer for append in batch for answer in self.commit([append], on_loop=False) or ()]
            refused = StoreError(
                f"A row was not written, since the log cannot hold it: {str(error).partition(chr(10))[0]}.",
                code="bad_row",
            )
            return [(done, refused) for _, _, done in batch if done is not None]
        except Exception as error:
            self.fail(error)
            return [(done, self.failed) for _, _, done in batch if done is not None]

    def fail(self, error: Exception) -> None:
        """Record a failure, after which nothing is written."""
        if self.failed is None:
            self.failed = StoreWriteFailed(
                f"Writing to {self._guard.database} failed: {str(error).partition(chr(10))[0]}. What was being "
                "written is not acknowledged. Make room on the disk or repair it; the host then opens the file again "
                "by itself.",
            )

    def _write(self, batch: Sequence[Append], on_loop: bool) -> bool:
        if self.failed is not None:
            raise self.failed
        lines: list[str] = []
        for time, rows, _ in batch:
            micros = int(time * 1e6 + 0.5)
            if not 0 <= micros < _LATEST_MICROS:
                raise ValueError(f"the time {time} cannot be stored")
            lines += [f"{micros}\t{row}" for row in rows]
        if not lines:
            return True
        frame = Frame(self.last + 1, len(lines), "\n".join(lines))
        if frame.text.count("\n") != frame.rows - 1 or frame.text.count("\t") != 5 * frame.rows:
            raise ValueError("a row has a tab or a line break inside a field")
        payload = frame.text.encode()
        if not self._write_to_journal(frame, payload, on_loop):
            if on_loop:
                return False
            self._write_to_database(frame)
        self.last = frame.last
        with suppress(OSError):  # the rows are durable; the mark may lag
            self._guard.write_mark(self.last)
        return True

    def _write_to_journal(self, frame: Frame, payload: bytes, on_loop: bool) -> bool:
        """Write to the journal. Return False if there is none, the frame is too large for it, or it is full."""
        journal = self.journal
        if journal is None or len(payload) > journal.largest:
            return False
        if not journal.fits(len(payload)):
            other = 1 - journal.active
            if self._region_last[other] > self.backlog.drained:
                if on_loop:
                    return False
                self._make_room()
            journal.begin(other, frame.first)
        journal.append(frame.first, frame.rows, payload)
        self._region_last[journal.active] = frame.last
        self.backlog.add(frame)
        return True

    def _make_room(self) -> None:
        """Drain. A database that accepts nothing at the moment is retried for some seconds."""
        for pause in _FULL_PAUSES:
            try:
                return self.drain()
            except duckdb.FatalException:
                raise
            except duckdb.Error:
                system_time.sleep(pause)
        return self.drain()

    def _write_to_database(self, frame: Frame) -> None:
        self.drain()
        self.backlog.write(self.connection, frame)
        if self.journal is not None:
            # All rows of the journal are in the database now. The next frame does not follow them, so restart a region.
            self.journal.begin(1 - self.journal.active, frame.last + 1)
        self._reached_database()

    def drain(self) -> None:
        """Move all rows into the database. In the writer's thread. Raises duckdb.Error."""
        if self.backlog:
            self.backlog.drain(self.connection)
            self._reached_database()

    def _reached_database(self) -> None:
        if self.after_drain is not None:
            self.after_drain()

    @property
    def all_in_database(self) -> bool:
        """Whether nothing failed, and every durable row is in the database."""
        return self.failed is None and not self.backlog
