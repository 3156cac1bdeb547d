"""Rows that are durable in the journal but not yet in the database, and their insertion into it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import duckdb

from agentq_nb._store.journal_scan import Frame

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

    def drain(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Insert all waiting rows, a piece per transaction. Raises duckdb.Error: the rest can be drained later."""
        present = [self._frames[number] for number in range(len(self._frames))]
        for piece in pieces(present):
            self.write(connection, piece)
            while self._frames and self._frames[0].last <= piece.last:
                self._characters_out += len(self._frames.popleft().text)

    def write(self, connection: duckdb.DuckDBPyConnection, frame: Frame) -> None:
        """Insert the rows of a frame that directly follows the drained ones. Raises duckdb.Error."""
        parameters = [frame.first, frame.rows, frame.text]
        try:
            connection.execute(_INSERT.format(table="events", data=_DATA), parameters)
        except _REFUSED:
            connection.execute(_INSERT.format(table="events", data=_ANY_DATA), parameters)
        self.drained = frame.last
