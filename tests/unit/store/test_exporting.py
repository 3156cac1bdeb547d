from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest

from agentq_nb._store import EventLog, export, schema
from agentq_nb.errors import StoreError
from tests.unit.store.helpers import append, files, queued, with_log


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_copy_has_all_that_was_acknowledged_and_opens_anywhere(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.duckdb"

    async def use(log: EventLog) -> None:
        for number in range(50):
            assert await append(log, queued(str(number))) is None
        await log.export(target)
        assert await append(log, queued("later")) is None

    with_log(path, use)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy.duckdb", "log"]
    with duckdb.connect(str(target), read_only=True) as plain:
        assert plain.execute("select count(*) from messages").fetchall() == [(50,)]
        assert plain.execute("select schema_version, journal, pruned from store_facts").fetchall() == [
            (schema.version(), "", 0)
        ]
    log = EventLog.open(target)
    assert len(log.live_rows()) == 50
    assert "without" in " ".join(log.notices)
    log.close()


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from agentq_nb._store import EventLog, export, schema

export._finish = lambda copy: os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(EventLog.open(Path(sys.argv[1])).export(Path(sys.argv[2])))
"""


@pytest.mark.parametrize("beside_the_log", [True, False])
def test_what_a_killed_export_left_is_removed_by_the_next_opening_or_export(
    path: Path, tmp_path: Path, beside_the_log: bool
) -> None:
    folder = path.parent if beside_the_log else tmp_path / "elsewhere"
    folder.mkdir(exist_ok=True)
    target = folder / "copy.duckdb"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(folder.glob(".agentq-export-*"))) == 1

    async def use(log: EventLog) -> None:
        if not beside_the_log:
            await log.export(target)
        assert list(folder.glob(".agentq-export-*")) == []

    with_log(path, use)
    assert target.exists() != beside_the_log


def test_the_folder_of_an_export_that_goes_on_is_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish = export._finish

    def look(copy: Path) -> None:
        export.remove_leftovers(copy.parent.parent)
        assert copy.exists()
        finish(copy)

    monkeypatch.setattr(export, "_finish", look)
    with_log(path, lambda log: log.export(path.parent / "copy.duckdb"))
    assert (path.parent / "copy.duckdb").exists()


def test_what_only_has_the_name_of_a_leftover_is_left_alone_and_delays_nothing(tmp_path: Path) -> None:
    pipe, link, file = (tmp_path / f".agentq-export-{kind}" for kind in ("pipe", "link", "file"))
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    file.write_text("kept")
    removing = threading.Thread(target=export.remove_leftovers, args=[tmp_path], daemon=True)
    removing.start()
    removing.join(5)
    assert not removing.is_alive(), "opening a pipe waits for its other end"
    assert {pipe, link, file, tmp_path / "elsewhere"} == set(tmp_path.iterdir())


def test_without_room_it_says_how_many_bytes_it_needs_and_leaves_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def use(log: EventLog) -> None:
        await append(log, queued("sent"))
        with pytest.raises(StoreError, match=r"needs [\d,]+ bytes") as found:
            await log.export(tmp_path / "copy.duckdb")
        assert found.value.metadata["bytes"] >= path.stat().st_size

    with monkeypatch.context() as patched:
        patched.setattr(export, "_copy_bytes", full)
        with_log(path, use)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1, 1, 0))
    with_log(path, use)
    assert [file.name for file in tmp_path.iterdir()] == ["log"]


def test_an_export_never_replaces_what_is_there_also_when_it_came_meanwhile(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "copy.duckdb"
    finish = export._finish

    def come(copy: Path) -> None:
        finish(copy)
        target.write_text("mine")

    monkeypatch.setattr(export, "_finish", come)

    async def use(log: EventLog) -> None:
        for _ in range(2):
            with pytest.raises(StoreError, match="exists already"):
                await log.export(target)

    with_log(path, use)
    assert files(tmp_path) == {"copy.duckdb": b"mine"}


def test_sends_and_checkpoints_that_fall_due_do_not_change_a_copy_that_is_being_made(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentq_nb._store.checkpoint.COMMITS", 1)
    copy_bytes = export._copy_bytes
    held = threading.Event()

    async def use(log: EventLog) -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def held_up(*args: Any) -> None:
            loop.call_soon_threadsafe(begun.set)
            held.wait(10)
            copy_bytes(*args)

        monkeypatch.setattr(export, "_copy_bytes", held_up)
        await append(log, *(queued(str(number), body="x" * 300) for number in range(2000)))
        task = asyncio.ensure_future(log.export(tmp_path / "copy.duckdb"))
        await begun.wait()
        for number in range(20):
            assert await append(log, queued(f"later {number}")) is None
            log.fetch("select 1")
        held.set()
        await task

    with_log(path, use)
    with duckdb.connect(str(tmp_path / "copy.duckdb"), read_only=True) as plain:
        assert plain.execute("select count(*) from messages").fetchall() == [(2000,)]


@pytest.mark.parametrize("how", ["cancelled", "closed"])
def test_an_export_that_is_stopped_leaves_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    copy_bytes = export._copy_bytes
    held = threading.Event()

    async def use() -> None:
        log = EventLog.open(path)
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def held_up(source: int, to: Path, size: int, stop: threading.Event) -> None:
            loop.call_soon_threadsafe(begun.set)
            stop.wait(10)
            held.wait(10)
            copy_bytes(source, to, size, stop)

        monkeypatch.setattr(export, "_copy_bytes", held_up)
        task = asyncio.ensure_future(log.export(tmp_path / "copy.duckdb"))
        await begun.wait()
        held.set()
        if how == "cancelled":
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        log.close()
        if how == "closed":
            with pytest.raises(StoreError, match="stopped"):
                await task

    asyncio.run(use())
    assert [file.name for file in tmp_path.iterdir()] == ["log"]


def test_a_tilde_in_the_name_of_a_copy_is_the_home_folder(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with_log(path, lambda log: log.export(Path("~/copy.duckdb")))
    assert (tmp_path / "copy.duckdb").exists()
