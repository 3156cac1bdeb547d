"""Group commit: make batches of rows durable in the journal, and move them into the database later.

What the journal cannot take is written into the database at once.
"""

from __future__ import annotations

import time as system_time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TypeAlias

import duckdb

from agentq_nb._store.guard import Guard
from agentq_nb._store.journal import Frame, Journal
from agentq_nb._store.schema import Row
from agentq_nb.errors import StoreError, StoreWriteFailed

Done = Callable[[StoreError | None], None]
Answers = list[tuple[Done, StoreError | None]]

# Errors caused by a row; any other is about the disk.
_BAD_ROW = (duckdb.DataError, duckdb.InvalidInputException, TypeError, ValueError, OverflowError)

_FULL_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0)
"""Seconds between attempts to make room in a full journal while the database accepts nothing."""
_LATEST_MICROS = 1 << 62

_LARGE_CHARACTERS = 2 << 20
_PIECE_CHARACTERS = 1 << 20
"""Characters per insert statement: some 20 ms of work."""

# The rows are passed as one string, which DuckDB splits without Python's lock: half the cost of its appender.
_INSERT = """
insert into {table}
select
    $1::bigint + number, make_timestamp(fields[1]::bigint), fields[2], nullif(fields[3], ''), nullif(fields[4], ''),
    nullif(fields[5], ''), {data}
from (
    select number, string_split(line, chr(9)) as fields
    from (select unnest(range($2::bigint)) as number, unnest(string_split($3::varchar, chr(10))) as line)
)
"""
_DATA = "fields[6]::json"
# For an acknowledged row that is not JSON: kept as text, since nothing that was acknowledged may be lost.
_ANY_DATA = "if(json_valid(fields[6]), fields[6], to_json(fields[6])::varchar)::json"

_REFUSED = (duckdb.DataError, duckdb.InvalidInputException)

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
        answers: Answers = [(done, None) for _, _, done in batch if done is not None]
        try:
            return answers if self._write(batch, on_loop) else None
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
            return [(done, refused) for done, _ in answers]
        except Exception as error:
            self.fail(error)
            return [(done, self.failed) for done, _ in answers]

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
        self.last += frame.rows
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
        self._region_last[journal.active] = self.last + frame.rows
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


# --- from the journal into the database ---------------------------------------------------------------------------------


def insert(connection: duckdb.DuckDBPyConnection, frames: Iterable[Frame], table: str = "events") -> None:
    """Insert the rows of frames into the table of events, or one like it. Raises duckdb.Error."""
    for piece in pieces(frames):
        connection.execute(_INSERT.format(table=table, data=_ANY_DATA), [piece.first, piece.rows, piece.text])


def pieces(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Join consecutive frames into larger ones, up to the size of one statement."""
    taken: list[Frame] = []
    characters = 0
    for frame in frames:
        if taken and (frame.first != taken[-1].last + 1 or characters + len(frame.text) > _PIECE_CHARACTERS):
            yield _joined(taken)
            taken, characters = [], 0
        taken.append(frame)
        characters += len(frame.text)
    if taken:
        yield _joined(taken)


def _joined(frames: list[Frame]) -> Frame:
    rows = sum(frame.rows for frame in frames)
    return Frame(frames[0].first, rows, "\n".join(frame.text for frame in frames))


class Backlog:
    """Frames on their way from the journal into the database. One thread adds while another may drain."""

    def __init__(self, last: int) -> None:
        self.drained = last
        """The last sequence number that is durable in the database."""
        self.is_large = False
        """Whether so much waits that it is to be drained at once."""
        self._frames: deque[Frame] = deque()
        # Each counter is changed by one thread only, so that no addition is lost.
        self._characters_in = self._characters_out = 0

    def __bool__(self) -> bool:
        return bool(self._frames)

    @property
    def characters(self) -> int:
        """Characters of all waiting rows."""
        return self._characters_in - self._characters_out

    def add(self, frame: Frame) -> None:
        """Add a frame that is durable in the journal."""
        self._frames.append(frame)
        self._characters_in += len(frame.text)
        self.is_large = self.characters >= _LARGE_CHARACTERS

    def drain(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Insert all waiting rows, a piece per transaction. Raises duckdb.Error: the rest can be drained later."""
        present = [self._frames[number] for number in range(len(self._frames))]
        for piece in pieces(present):
            self.write(connection, piece)
            while self._frames and self._frames[0].last <= piece.last:
                self._characters_out += len(self._frames.popleft().text)
        self.is_large = False

    def write(self, connection: duckdb.DuckDBPyConnection, frame: Frame) -> None:
        """Insert the rows of a frame that directly follows the drained ones. Raises duckdb.Error."""
        parameters = [frame.first, frame.rows, frame.text]
        try:
            connection.execute(_INSERT.format(table="events", data=_DATA), parameters)
        except _REFUSED:
            connection.execute(_INSERT.format(table="events", data=_ANY_DATA), parameters)
        self.drained = frame.last
