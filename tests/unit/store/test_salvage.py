"""Whatever ends an opening half-way, or a loss that is being accepted, the next try is as good as the first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agentq_nb._store import EventLog
from agentq_nb.errors import StoreDamaged, StoreError
from tests.unit.store import sweep
from tests.unit.store.kills import killed_at_each_step
from tests.unit.store.sweep import GUARD, JOURNAL, NAME, SHAPES, WAL, Damage, Files

BOTH = "killed, rows in journal and write-ahead log"


def torn_wal() -> Files:
    """The end of the write-ahead log cannot be replayed, and its rows are in the journal."""
    files = sweep.make(SHAPES[BOTH]).files
    return Damage(WAL, len(files[WAL]) - 9, 0xFF).apply(files)


def logs() -> dict[str, Files]:
    return {name: sweep.make(SHAPES[name]).files for name in ("closed", BOTH)} | {"torn write-ahead log": torn_wal()}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("which", ["closed", BOTH, "torn write-ahead log", "nothing there"])
def test_a_kill_at_any_step_of_opening_leaves_a_log_that_opens_whole(path: Path, which: str) -> None:
    files = logs()[which] if which != "nothing there" else {}
    steps = 0
    for at in killed_at_each_step(path, files):
        log = EventLog.open(path)
        assert log.notices == [], at
        if files:
            assert sweep.content_of(log) == sweep.expected_content(), at
        log.close()
        assert sorted(sweep.read_all(path.parent)) == [NAME, GUARD], at
        steps = at
    assert steps > 5


def damaged_block() -> Files:
    """A block of the database cannot be read; some rows are in the write-ahead log or the journal alone."""
    log = sweep.make(SHAPES[BOTH])
    spoilt = Damage(NAME, sweep.HEADERS + 100, 0xFF).apply(log.files)
    return Damage(NAME, sweep.HEADERS + sweep.BLOCK + 100, 0xFF).apply(spoilt)


def wal_without_journal() -> Files:
    """A flip in the write-ahead log, in front of rows that are nowhere else."""
    files = sweep.make(SHAPES[BOTH]).files
    files = Damage(WAL, len(files[WAL]) * 3 // 4, 0xFF).apply(files)
    return {name: content for name, content in files.items() if name != JOURNAL}


def hole_in_the_journal() -> Files:
    files = sweep.make(SHAPES["killed, rows in the journal"]).files
    return Damage(JOURNAL, files[JOURNAL].index(b'"body":0}'), 0xFF).apply(files)


DAMAGES = [damaged_block, wal_without_journal, hole_in_the_journal]


def rows_left(path: Path) -> int:
    """Rows that accepting the loss leaves, in a log that opens without a word afterwards."""
    EventLog.open(path, accept_loss=True).close()
    log = EventLog.open(path)
    assert log.notices == []
    ((rows, accounted, last),) = log.fetch(
        "select count(*) filter (kind = 'message.queued'),"
        " count(*) + coalesce(sum((data->>'$.missing')::bigint) filter (kind = 'store.loss_accepted'), 0), max(seq)"
        " from events"
    )
    assert accounted == last
    log.close()
    return rows


@pytest.mark.timeout(600)
@pytest.mark.parametrize("guard", ["with its guard", "without a guard"])
@pytest.mark.parametrize("spoil", DAMAGES)
def test_accepting_a_loss_that_is_killed_at_any_step_salvages_no_fewer_rows_the_next_time(
    path: Path, spoil: Callable[[], Files], guard: str
) -> None:
    files = spoil()
    if guard == "without a guard":
        del files[GUARD]
    sweep.write_all(path.parent, files)
    with pytest.raises(StoreDamaged) as raised:
        EventLog.open(path)
    assert sweep.read_all(path.parent) == files
    salvaged = rows_left(path)
    assert salvaged == raised.value.found
    for at in killed_at_each_step(path, files, accept_loss=True):
        try:
            log = EventLog.open(path)
        except StoreError:
            pass
        else:
            # The loss was written down before the process ended, or what it took is still in the journal.
            whole = sweep.content_of(log) == sweep.expected_content()
            accepted = "select count(*) from events where kind = 'store.loss_accepted'"
            assert whole or log.fetch(accepted) == [(1,)], at
            log.close()
        assert rows_left(path) >= salvaged, at
