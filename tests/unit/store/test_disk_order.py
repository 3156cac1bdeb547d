"""A file has its name only once all of it is durable, and nothing is acknowledged before the name is, too."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from pathlib import Path

import pytest

from agentq_nb._store import EventLog, checkpoint_copy, schema
from agentq_nb._store import journal as journals
from tests.unit.store.disk_order import DiskOrder, Named
from tests.unit.store.helpers import append, queued

pytestmark = pytest.mark.anyio


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> DiskOrder:
    return DiskOrder(monkeypatch)


def durable(name: str) -> Named:
    return Named(name, unsynced=False, folder_synced=True)


async def test_a_new_log_and_its_journal_are_durable_before_anything_is_written(
    order: DiskOrder, tmp_path: Path
) -> None:
    log = EventLog.open(tmp_path / "x.duckdb")
    named = order.named
    log.close()
    assert named == [durable("x.duckdb"), durable("x.duckdb.journal")]


async def test_the_journal_of_an_opening_after_a_crash_replaces_the_old_one_durably(
    order: DiskOrder, tmp_path: Path
) -> None:
    path = tmp_path / "x.duckdb"
    log = EventLog.open(path)
    assert await append(log, queued("m1")) is None
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for file in sorted(tmp_path.glob("x.duckdb*")):
        # In another process: this one would give up DuckDB's lock.
        subprocess.run(["cp", file, crashed], check=True)  # noqa: ASYNC221
    log.close()
    before = len(order.named)
    log = EventLog.open(crashed / "x.duckdb")
    named = order.named[before:]
    log.close()
    assert durable("x.duckdb.journal") in named


async def test_the_copy_before_a_checkpoint_is_durable_before_the_checkpoint_begins(
    order: DiskOrder, tmp_path: Path
) -> None:
    path = tmp_path / "x.duckdb"
    log = EventLog.open(path)
    assert await append(log, queued("m1")) is None
    before = len(order.named)
    log.close()  # makes the last checkpoint
    assert order.named[before:] == [durable("x.duckdb.checkpoint")]


async def test_an_export_is_durable_before_it_has_its_name(order: DiskOrder, tmp_path: Path) -> None:
    log = EventLog.open(tmp_path / "x.duckdb")
    assert await append(log, queued("m1")) is None
    before = len(order.named)
    await log.export(tmp_path / "copy.duckdb")
    named = order.named[before:]
    log.close()
    assert durable("copy.duckdb") in named
    assert not any(name.unsynced for name in named)


@pytest.mark.parametrize("direct", [True, False])
async def test_what_is_acknowledged_was_written_durably(
    order: DiskOrder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, direct: bool
) -> None:
    """``direct``: whether the file system knows writes that are durable on return."""
    if not direct:
        monkeypatch.setattr(journals, "_RWF_DSYNC", 0)
    log = EventLog.open(tmp_path / "x.duckdb")
    assert order.unsynced_writes == set()
    acknowledged: list[set[int]] = []
    told = threading.Event()

    def done(error: object) -> None:
        assert error is None
        acknowledged.append(set(order.unsynced_writes))
        told.set()

    for number in range(3):
        told.clear()
        log.append([queued(f"m{number}")], done)
        while not told.is_set():  # noqa: ASYNC110  # it is set on the loop
            await asyncio.sleep(0.001)
    log.close()
    assert acknowledged == [set()] * 3


def test_the_recorder_sees_a_missing_sync(order: DiskOrder, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("not synced")
    os.replace(tmp_path / "new", tmp_path / "file")
    assert order.named == [Named("file", unsynced=True, folder_synced=False)]


def test_the_copy_of_a_checkpoint_is_durable_once_it_is_written(order: DiskOrder, tmp_path: Path) -> None:
    checkpoint_copy.write_copy(tmp_path / "x.duckdb", b"blocks")
    assert order.named == [durable("x.duckdb.checkpoint")]


def test_a_database_is_moved_into_its_place_durably(order: DiskOrder, tmp_path: Path) -> None:
    (tmp_path / "finished").write_bytes(b"rows")
    schema.move_into_place(tmp_path / "finished", tmp_path / "x.duckdb")
    assert order.named == [durable("x.duckdb")]


def test_a_journal_takes_its_name_durably_and_is_durable_itself(order: DiskOrder, tmp_path: Path) -> None:
    made = journals.Journal(tmp_path / "x.journal.new", "store", 1)
    made.take_name(tmp_path / "x.journal")
    made.close()
    assert order.named == [durable("x.journal")]
    assert order.unsynced_writes == set()
