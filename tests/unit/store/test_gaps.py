"""Rows are numbered without gaps, and a log in which one is missing is not opened as if nothing were."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from agentq_nb._store import EventLog
from agentq_nb._store.journal import Frame
from agentq_nb._store.journal_scan import JournalContent
from agentq_nb.errors import StoreDamaged
from tests.unit.store.helpers import event, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.agentq.duckdb"
    write(path, *[event("note", number=number) for number in range(5)])
    return path


def change(path: Path, statement: str) -> None:
    """Change a closed log behind its back."""
    with duckdb.connect(str(path)) as connection:
        connection.execute(statement)
        connection.execute("checkpoint")


@pytest.mark.parametrize("guard", ["there", "gone"])
@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("delete from events where seq = 1", 4),
        ("delete from events where seq = 3", 4),
        ("delete from events where seq in (2, 4)", 3),
        ("insert into events select * from events where seq = 3", 6),
    ],
)
def test_a_row_that_is_missing_or_there_twice_is_damage(path: Path, statement: str, found: int, guard: str) -> None:
    change(path, statement)
    if guard == "gone":
        path.with_name(path.name + ".guard").unlink()
    with pytest.raises(StoreDamaged) as damaged:
        EventLog.open(path)
    assert damaged.value.metadata["expected"] == 5
    assert damaged.value.metadata["found"] == found
    assert ("there twice" in damaged.value.message) == (found > 5)


def test_rows_missing_at_the_end_are_known_by_the_guard(path: Path) -> None:
    change(path, "delete from events where seq >= 4")
    with pytest.raises(StoreDamaged) as damaged:
        EventLog.open(path)
    assert damaged.value.metadata["expected"] == 5
    assert damaged.value.metadata["found"] == 3


def frame(first: int, rows: int) -> Frame:
    lines = "\n".join(f'0\tnote\t\t\t\t{{"number":{first + number}}}' for number in range(rows))
    return Frame(first, rows, lines)


@pytest.mark.parametrize(
    ("last", "frames", "reached", "missing"),
    [
        (0, [(1, 2), (3, 1)], 0, 0),
        (2, [(1, 2), (3, 1)], 0, 0),
        (1, [(1, 2), (3, 1)], 0, 0),
        (0, [(1, 2), (5, 1)], 0, 2),
        (0, [(3, 1)], 0, 2),
        (4, [(5, 1), (7, 1)], 0, 1),
        (0, [(1, 2)], 6, 4),
        (9, [(1, 2)], 6, 0),
    ],
)
def test_rows_missing_between_frames_of_the_journal_are_counted(
    last: int, frames: list[tuple[int, int]], reached: int, missing: int
) -> None:
    content = JournalContent(frames=tuple(frame(first, rows) for first, rows in frames), reached=reached)
    _, counted = content.after(last)
    assert counted == missing
