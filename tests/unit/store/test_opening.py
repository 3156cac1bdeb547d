from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from agentq_nb._store import EventLog, schema
from agentq_nb._store.open_errors import bytes_to_open, cannot_open
from agentq_nb._store.open_store import check_log
from agentq_nb.errors import StoreDamaged, StoreError, StoreInUse, StoreNotOurs, StoreReadOnly, StoreTooNew
from tests.unit.store.helpers import event, files, queued, write


def run_python(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_what_was_written_is_there_after_closing_and_all_files_are_private(path: Path) -> None:
    log = EventLog.open(path)
    assert log.notices == []
    assert log.last_seq == 0
    log.close()
    write(path, queued("a"), queued("b"), time=1_800_000_000.5)
    log = EventLog.open(path)
    assert log.last_seq == 2
    assert log.fetch("select seq, epoch(time), message_id from events") == [
        (1, 1_800_000_000.5, "a"),
        (2, 1_800_000_000.5, "b"),
    ]
    log.close()
    assert {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {
        path.name: 0o600,
        path.name + ".guard": 0o600,
    }


def test_a_file_that_is_open_cannot_be_opened_again_and_the_error_names_who_has_it(path: Path) -> None:
    log = EventLog.open(path, holder={"notebook": "demo.ipynb", "socket": "/run/user/1000/agentq/1.sock"})
    with pytest.raises(StoreInUse, match=r"this very process, notebook demo\.ipynb, since"):
        EventLog.open(path)
    link = path.with_name("link.duckdb")
    link.symlink_to(path)
    with pytest.raises(StoreInUse):
        EventLog.open(link)
    code = (
        "import sys; from pathlib import Path; from agentq_nb._store import EventLog; EventLog.open(Path(sys.argv[1]))"
    )
    os.link(path, path.with_name("hard.duckdb"))
    with pytest.raises(StoreInUse):
        EventLog.open(path.with_name("hard.duckdb"))
    path.with_name("hard.duckdb").unlink()
    other = run_python(code, str(path))
    assert f"in use by process {os.getpid()}, notebook demo.ipynb" in other.stderr
    assert f"agentq status --store {path}" in other.stderr
    assert f"%agentq connect {path}" in other.stderr
    path.with_name(path.name + ".guard").unlink()
    without_guard = run_python(code, str(path))
    assert f"is open in process {os.getpid()}" in without_guard.stderr
    assert not path.with_name(path.name + ".guard").exists()
    log.close()


def test_a_file_open_in_another_program_is_reported_as_in_use(path: Path) -> None:
    write(path, queued("a"))
    code = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(StoreInUse, match=f"process {other.pid}"):
            EventLog.open(path)
    EventLog.open(path).close()


def test_what_is_not_ours_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("Dear diary\n" * 500)
    before = files(path.parent)
    with pytest.raises(StoreNotOurs):
        EventLog.open(path)
    assert files(path.parent) == before
    path.unlink()
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table things(i int)")
    before = files(path.parent)
    with pytest.raises(StoreNotOurs):
        EventLog.open(path)
    assert files(path.parent) == before


def test_an_empty_file_without_history_becomes_a_log_and_with_history_is_damage(path: Path) -> None:
    path.touch()
    EventLog.open(path).close()
    write(path, queued("a"))
    path.write_bytes(b"")
    with pytest.raises(StoreDamaged) as raised:
        EventLog.open(path)
    assert (raised.value.expected, raised.value.found) == (1, 0)


@pytest.mark.parametrize("guard", ["with its guard", "without a guard"])
def test_a_newer_schema_is_refused_and_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch, guard: str) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, lambda connection: None])
        write(path, queued("a"))
    if guard == "without a guard":
        path.with_name(path.name + ".guard").unlink()
    before = files(path.parent)
    with pytest.raises(StoreTooNew):
        EventLog.open(path)
    assert files(path.parent) == before


def test_an_older_schema_is_migrated_all_or_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, queued("a"), event("host.stopped"))

    def rename_kind(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("update events set kind = 'host.ended' where kind = 'host.stopped'")

    def fail(connection: duckdb.DuckDBPyConnection) -> None:
        raise RuntimeError("no room")

    with monkeypatch.context() as broken:
        broken.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, rename_kind, fail])
        with pytest.raises(RuntimeError, match="no room"):
            EventLog.open(path)
    log = EventLog.open(path)
    assert log.fetch("select kind from events where kind like 'host.%'") == [("host.stopped",)]
    log.close()

    written_by = schema.version()
    monkeypatch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, rename_kind])
    log = EventLog.open(path)
    assert log.notices == [f"{path.name} was brought from schema {written_by} to {written_by + 1}."]
    assert log.fetch("select kind from events where kind like 'host.%'") == [("host.ended",)]
    assert log.fetch("select message_id from messages") == [("a",)]
    log.close()
    log = EventLog.open(path)
    assert log.notices == []
    log.close()


def test_a_missing_folder_and_a_folder_in_place_of_a_file_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        EventLog.open(tmp_path / "nowhere" / "work.duckdb")
    with pytest.raises(StoreError, match="is a folder"):
        EventLog.open(tmp_path)


READ_ONLY = """
import os, sys
from pathlib import Path
from agentq_nb._store import EventLog
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    EventLog.open(Path(sys.argv[1]))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def path_for_all() -> Iterator[Path]:
    """Where a log may lie that other users can look at. Those folders that pytest makes are for one user."""
    with tempfile.TemporaryDirectory(prefix="agentq-test-") as made:
        Path(made).chmod(0o755)
        folder = Path(made, "log")
        folder.mkdir()
        yield folder / "work.agentq.duckdb"


@pytest.mark.parametrize("there", ["a log there", "nothing there"])
def test_a_folder_that_cannot_be_written_is_reported(path_for_all: Path, there: str) -> None:
    path = path_for_all
    if there == "a log there":
        write(path, queued("a"))
    for file in path.parent.iterdir():
        file.chmod(0o444)
    path.parent.chmod(0o555)
    before = files(path.parent)
    said = run_python(READ_ONLY, str(path)).stdout
    path.parent.chmod(0o700)
    assert said.startswith(StoreReadOnly.__name__), said
    assert "store=PATH" in said
    assert files(path.parent) == before


FORK = """
import asyncio, os, sys
from pathlib import Path
from agentq_nb.errors import Forked
from agentq_nb._store import EventLog, row

async def begin(log):
    log.append([row("x", None, None, None)] * 10)
    await log.flushed()

path = Path(sys.argv[1])
log = EventLog.open(path)
asyncio.run(begin(log))
before = [(name, os.stat(path.parent / name).st_mtime_ns) for name in os.listdir(path.parent)]
child = os.fork()
if child == 0:
    for use in (lambda: log.append([]), lambda: log.fetch("select 1")):
        try:
            use()
            sys.exit(3)
        except Forked:
            pass
    log.close()
    sys.exit(7)
assert os.waitpid(child, 0)[1] == 7 << 8
assert before == [(name, os.stat(path.parent / name).st_mtime_ns) for name in os.listdir(path.parent)]
asyncio.run(begin(log))
sleeper = os.fork()
if sleeper == 0:
    os.read(0, 1)
    os._exit(0)
os.kill(os.getpid(), 9)
"""


def test_a_forked_child_cannot_use_the_log_harm_it_or_hold_its_lock(path: Path) -> None:
    held_open, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", FORK, str(path)], stdin=held_open, stderr=subprocess.DEVNULL
    ) as parent:
        assert parent.wait(30) == -9
    log = EventLog.open(path)  # the sleeping child is still there
    assert log.last_seq == 20
    log.close()
    os.close(writing)
    os.close(held_open)


def test_a_log_in_a_network_folder_opens_with_a_warning(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = f"server:/home {path.parent} nfs4 rw 0 0\n"
    monkeypatch.setattr("agentq_nb._store.filesystem._mounts", lambda: mounts)
    log = EventLog.open(path)
    assert len(log.notices) == 1
    assert "network file system (nfs4)" in log.notices[0]
    assert "--store PATH" in log.notices[0]
    log.close()


def make_loop(name: Path) -> None:
    name.symlink_to(name.name)


def make_broken_link(name: Path) -> None:
    name.symlink_to("nowhere")


def make_device(name: Path) -> None:
    name.symlink_to("/dev/null")


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, make_loop, make_broken_link, make_device])
@pytest.mark.parametrize("there", ["a log there", "nothing there"])
def test_whatever_is_no_regular_file_is_named_at_once_and_nothing_is_changed(
    path: Path, make: Callable[[Path], None], there: str
) -> None:
    if there == "a log there":
        write(path, queued("a"))
    for suffix in ("", ".guard", ".wal", ".journal", ".checkpoint", ".journal.new", ".wal.kept", ".new", ".rebuilt"):
        if make is make_broken_link and not suffix:
            continue  # a log is made where the link leads
        name, aside = path.with_name(path.name + suffix), path.with_name("aside")
        if name.exists():
            name.rename(aside)
        make(name)
        before = sorted(path.parent.iterdir())
        for use in (EventLog.open, check_log):
            with pytest.raises(StoreError, match="store=PATH") as raised:
                use(path)
            assert os.path.realpath(name) in raised.value.message or str(name) in raised.value.message
        assert sorted(path.parent.iterdir()) == before
        if make is Path.mkdir:
            name.rmdir()
        else:
            name.unlink()
        if aside.exists():
            aside.rename(name)


@pytest.mark.parametrize("content", [b"00000000 \n", b"", b"\0" * 5120, b"\xff" * 6000])
def test_a_guard_that_says_nothing_is_written_again_and_noticed(path: Path, content: bytes) -> None:
    write(path, queued("a"))
    path.with_name(path.name + ".guard").write_bytes(content)
    log = EventLog.open(path)
    assert "Opened without" in log.notices[0]
    log.close()
    log = EventLog.open(path)
    assert log.notices == []
    log.close()


def test_a_log_that_finds_no_room_says_how_much_it_needs(path: Path) -> None:
    write(path, queued("a"))
    path.with_name(path.name + ".journal").write_bytes(bytes(1000))
    error = cannot_open(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    needed = bytes_to_open(path)
    assert (error.code, error.metadata) == ("disk_full", {"path": str(path), "bytes": needed})
    assert error.message == (
        f"{path} cannot be opened: No space left on device. Nothing is lost. "
        f"Make room for {needed:,} bytes in {path.parent}, and try again."
    )


def test_a_guard_whose_facts_are_damaged_is_written_again_and_says_that_no_rows_are_missing(path: Path) -> None:
    write(path, queued("a"))
    guard = path.with_name(path.name + ".guard")
    guard.write_bytes(b"\xff" * 4096 + guard.read_bytes()[4096:])
    log = EventLog.open(path)
    assert log.notices == [f"{guard.name} was damaged and is written again; all rows up to its mark are there."]
    log.close()
    log = EventLog.open(path)
    assert log.notices == []
    log.close()


def test_what_a_crash_in_an_earlier_opening_left_is_removed(path: Path) -> None:
    write(path, queued("1"))
    for name in ("wal.kept", "checkpoint.new", "journal.new"):
        path.with_name(f"{path.name}.{name}").write_bytes(b"x")
    write(path, queued("2"))
    assert sorted(files(path.parent)) == [path.name, f"{path.name}.guard"]
