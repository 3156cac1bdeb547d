"""A renamed notebook finds its file again: noticed before a new one is begun, renamed whole, never half."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentq_nb._store import EventLog, renamed_notebook
from agentq_nb._store.renamed_notebook import adopt, check_before_begun, left_behind
from agentq_nb.errors import StoreDamaged, StoreError, StoreInUse, StoreLeftBehind
from tests.unit.store.helpers import append, event, queued, with_log


def store_of(folder: Path, name: str, open_messages: int = 0, done: int = 0) -> Path:
    """A store with messages in it, closed cleanly, and a workspace."""
    path = folder / f"{name}.agentq.duckdb"
    with_log(path, lambda log: fill(log, open_messages, done))
    workspace = folder / f"{name}.agentq" / "vm" / "main"
    workspace.mkdir(parents=True)
    (workspace / "notes.txt").write_text("from the agent")
    return path


async def fill(log: EventLog, open_messages: int, done: int) -> None:
    await append(log, event("host.started"))
    for number in range(open_messages + done):
        await append(log, queued(f"m{number}"))
    for number in range(done):
        await append(log, event("message.completed", f"m{open_messages + number}"))


def notebook(folder: Path, name: str) -> Path:
    path = folder / f"{name}.ipynb"
    path.write_text("{}")
    return path


def messages(path: Path) -> int:
    async def count(log: EventLog) -> int:
        return (await log.sql("select count(*) from messages")).rows[0][0]

    return with_log(path, count)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- noticing ---------------------------------------------------------------------------------------------------------


def test_unfinished_work_of_a_notebook_that_is_gone_forbids_beginning_anew(tmp_path: Path) -> None:
    store_of(tmp_path, "a", open_messages=2, done=3)
    new = notebook(tmp_path, "b")
    before = files(tmp_path)
    with pytest.raises(StoreLeftBehind) as told:
        check_before_begun(tmp_path / "b.agentq.duckdb", new)
    for words in ("a.agentq.duckdb holds 2 unfinished messages", "a.ipynb is gone", "--adopt a.agentq.duckdb", "--new"):
        assert words in told.value.message
    assert files(tmp_path) == before


def test_a_file_without_open_work_is_only_told_of(tmp_path: Path) -> None:
    store_of(tmp_path, "a", done=3)
    (said,) = check_before_begun(tmp_path / "b.agentq.duckdb", notebook(tmp_path, "b"))
    assert "a.agentq.duckdb is beside it" in said
    assert "%agentq start --adopt a.agentq.duckdb" in said


def test_there_is_nothing_to_tell_where_nothing_was_left_behind(tmp_path: Path) -> None:
    new = notebook(tmp_path, "b")
    target = tmp_path / "b.agentq.duckdb"
    assert check_before_begun(target, new) == []
    store_of(tmp_path, "a", open_messages=1)
    notebook(tmp_path, "a")
    assert check_before_begun(target, new) == []  # its notebook is there
    store_of(tmp_path, "script", open_messages=1)
    (tmp_path / "script.py").write_text("# a notebook by Jupytext")
    assert check_before_begun(target, new) == []
    store_of(tmp_path, "c", open_messages=1)
    assert check_before_begun(target, None) == []  # a program
    assert check_before_begun(tmp_path / "else.duckdb", new) == []  # the user chose the file
    store_of(tmp_path, "b")
    assert check_before_begun(target, new) == []  # it has a file


def test_a_file_in_which_nothing_ever_was_is_passed_over(tmp_path: Path) -> None:
    store_of(tmp_path, "Untitled")
    assert check_before_begun(tmp_path / "b.agentq.duckdb", notebook(tmp_path, "b")) == []


def test_a_kernel_that_knows_an_old_name_only_says_how_it_learns_the_new_one(tmp_path: Path) -> None:
    store_of(tmp_path, "a", open_messages=1)
    notebook(tmp_path, "analysis")
    untitled = tmp_path / "Untitled.ipynb"
    (said,) = check_before_begun(tmp_path / "Untitled.agentq.duckdb", untitled)
    assert "no Untitled.ipynb" in said
    assert "restart the kernel" in said
    store_of(tmp_path, "Untitled", done=1)
    assert check_before_begun(tmp_path / "Untitled.agentq.duckdb", untitled) == []  # it was told when it was begun


def test_a_file_that_a_kernel_still_has_was_not_left_behind(tmp_path: Path) -> None:
    path = store_of(tmp_path, "a", open_messages=1)

    async def look(log: EventLog) -> list[Any]:
        return left_behind(tmp_path)

    assert with_log(path, look) == []


def test_one_that_cannot_be_read_is_told_of_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.agentq.duckdb").write_bytes(b"no database")
    (one,) = left_behind(tmp_path)
    assert one.unfinished is None
    assert files(tmp_path) == ["a.agentq.duckdb"]
    assert len(check_before_begun(tmp_path / "b.agentq.duckdb", notebook(tmp_path, "b"))) == 1


def test_after_a_crash_what_is_in_the_write_ahead_log_counts_too(tmp_path: Path) -> None:
    path = killed(tmp_path)
    assert path.with_name(path.name + ".wal").exists()
    (one,) = left_behind(tmp_path)
    assert one.unfinished == 5


# --- adopting ---------------------------------------------------------------------------------------------------------


def killed(folder: Path) -> Path:
    """A store whose process was killed with five messages in its write-ahead log."""
    path = folder / "a.agentq.duckdb"
    code = (
        "import asyncio, os, signal\n"
        "from pathlib import Path\n"
        "from agentq_nb._store import EventLog\n"
        "from tests.unit.store.helpers import append, queued\n"
        "async def main():\n"
        f"    log = EventLog.open(Path({str(path)!r}))\n"
        "    for number in range(5):\n"
        "        await append(log, queued(f'm{number}'))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    return path


def test_the_file_its_guard_and_its_workspaces_get_the_new_name(tmp_path: Path) -> None:
    source = store_of(tmp_path, "a", open_messages=2)
    target = tmp_path / "b.agentq.duckdb"
    adopt(source, target)
    assert files(tmp_path) == ["b.agentq.duckdb", "b.agentq.duckdb.guard", "b.agentq/vm/main/notes.txt"]
    assert messages(target) == 2


def test_what_a_crash_left_in_the_write_ahead_log_is_taken_along(tmp_path: Path) -> None:
    source = killed(tmp_path)
    target = tmp_path / "b.agentq.duckdb"
    adopt(source, target)
    assert files(tmp_path) == ["b.agentq.duckdb", "b.agentq.duckdb.guard"]
    assert messages(target) == 5


def test_a_new_file_with_nothing_in_it_makes_room(tmp_path: Path) -> None:
    source = store_of(tmp_path, "a", done=2)
    target = tmp_path / "b.agentq.duckdb"
    with_log(target, lambda log: fill(log, 0, 0))
    adopt(source, target)
    assert messages(target) == 2
    assert not source.exists()


def holds_work(folder: Path) -> None:
    with_log(folder / "b.agentq.duckdb", lambda log: fill(log, 1, 0))


def holds_work_in_a_journal(folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    path = killed(elsewhere)
    path.with_name(path.name + ".journal").rename(folder / "b.agentq.duckdb.journal")


def has_workspaces(folder: Path) -> None:
    (folder / "b.agentq" / "vm").mkdir(parents=True)
    (folder / "b.agentq" / "vm" / "other.txt").write_text("of another agent")


def has_notebook(folder: Path) -> None:
    notebook(folder, "a")


def is_missing(folder: Path) -> None:
    (folder / "a.agentq.duckdb").unlink()


def is_no_database(folder: Path) -> None:
    (folder / "a.agentq.duckdb").write_bytes(b"x" * 5000)


def lacks_rows(folder: Path) -> None:
    path = killed(folder)
    for suffix in (".wal", ".journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("arrange", "says"),
    [
        (holds_work, "b.agentq.duckdb is this notebook's file already, with work in it"),
        (holds_work_in_a_journal, "is damaged: the file is gone"),
        (has_workspaces, "is there already, with files in it"),
        (has_notebook, "belongs to a.ipynb, which is still there"),
        (is_missing, "There is no file"),
        (is_no_database, "is damaged"),
        (lacks_rows, "is damaged"),
    ],
)
def test_what_cannot_be_adopted_stays_as_it_is(arrange: Callable[[Path], Any], says: str, tmp_path: Path) -> None:
    if arrange is not lacks_rows:
        store_of(tmp_path, "a", open_messages=1)
    arrange(tmp_path)
    before = files(tmp_path)
    with pytest.raises(StoreError, match=says):
        adopt(tmp_path / "a.agentq.duckdb", tmp_path / "b.agentq.duckdb")
    assert files(tmp_path) == before


def test_a_file_that_somebody_has_open_is_not_renamed(tmp_path: Path) -> None:
    source = store_of(tmp_path, "a", open_messages=1)

    async def adopt_it(log: EventLog) -> None:
        with pytest.raises(StoreInUse):
            adopt(source, tmp_path / "b.agentq.duckdb")

    with_log(source, adopt_it)
    assert source.exists()
    with_log(tmp_path / "b.agentq.duckdb", lambda log: fill(log, 0, 0))

    async def adopt_over(log: EventLog) -> None:
        with pytest.raises(StoreInUse):
            adopt(source, tmp_path / "b.agentq.duckdb")

    with_log(tmp_path / "b.agentq.duckdb", adopt_over)
    assert messages(source) == 1


def _adopt_and_die(source: Path, target: Path, at: int) -> None:
    """Adopt, and be killed at the ``at``-th change of a name."""
    calls = 0

    def counted(rename: Callable[..., None]) -> Callable[..., None]:
        def rename_or_die(*arguments: Any, **named: Any) -> None:
            nonlocal calls
            if calls == at:
                os.kill(os.getpid(), signal.SIGKILL)
            calls += 1
            rename(*arguments, **named)

        return rename_or_die

    renamed_notebook.os.rename = counted(os.rename)  # type: ignore[assignment]  # at the machine's edge
    adopt(source, target)


@pytest.mark.parametrize("at", range(4))
def test_killed_at_any_step_nothing_is_lost_and_adopting_again_goes_on(at: int, tmp_path: Path) -> None:
    source, target = store_of(tmp_path, "a", open_messages=3), tmp_path / "b.agentq.duckdb"
    process = multiprocessing.get_context("spawn").Process(target=_adopt_and_die, args=(source, target, at))
    process.start()
    process.join(60)
    assert process.exitcode == (0 if at == 3 else -signal.SIGKILL)
    if source.exists():
        adopt(source, target)
    assert messages(target) == 3
    assert (tmp_path / "b.agentq" / "vm" / "main" / "notes.txt").read_text() == "from the agent"
    assert check_before_begun(target, notebook(tmp_path, "b")) == []


def test_a_damaged_file_says_how_to_go_on(tmp_path: Path) -> None:
    lacks_rows(tmp_path)
    with pytest.raises(StoreDamaged):
        adopt(tmp_path / "a.agentq.duckdb", tmp_path / "b.agentq.duckdb")
