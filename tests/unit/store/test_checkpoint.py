from __future__ import annotations

import contextlib
import os
import random
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from agentq_nb._store import EventLog, checkpoint, checkpoint_copy, schema
from agentq_nb._store.checkpoint import Checkpointer, CheckpointNotBegun
from agentq_nb._store.checkpoint_copy import restore
from agentq_nb._store.database_file import BLOCKS_START, active_header
from agentq_nb._store.open_store import check_log
from agentq_nb._store.renamed_notebook import holds_nothing, unfinished_messages
from agentq_nb.errors import StoreDamaged, StoreInUse
from tests.unit.store.helpers import files, queued, with_log, write

ROWS = 40
Files = dict[str, bytes]


@dataclass
class Interrupted:
    """A store as it is before and after the moment when a checkpoint counts, with the copy there."""

    path: Path
    store_id: str
    before: Files
    after: Files

    def put(self, state: Files, **changed: bytes | None) -> None:
        """Make the folder look so; ``database`` and ``copy`` say what is different, None: missing."""
        names = {"database": self.path.name, "copy": f"{self.path.name}.checkpoint", "guard": f"{self.path.name}.guard"}
        wanted: dict[str, bytes | None] = {**state, **{names[key]: content for key, content in changed.items()}}
        for file in self.path.parent.iterdir():
            file.unlink()
        for name, content in wanted.items():
            if content is not None:
                (self.path.parent / name).write_bytes(content)

    @property
    def copy(self) -> bytes:
        return self.before[f"{self.path.name}.checkpoint"]

    def half_new(self, take: Callable[[], bool], size: int = 512) -> bytes:
        """The database with some of what the checkpoint wrote, and the header of before."""
        before, after = self.before[self.path.name], self.after[self.path.name]
        parts = [before[:BLOCKS_START]]
        for start in range(BLOCKS_START, len(after), size):
            old = before[start : start + size].ljust(size, b"\0")
            parts.append(after[start : start + size] if take() else old)
        return b"".join(parts)


def count(log: EventLog) -> int:
    return log.fetch("select count(*) from events")[0][0]


async def counted(log: EventLog) -> tuple[int, list[str]]:
    return count(log), log.notices


def interrupt(path: Path, seed: int = 1) -> Interrupted:
    write(path, *(queued(f"{seed}-{number}") for number in range(ROWS - 1)))
    connection = schema.open_database(path)
    ((store_id,),) = connection.execute("select store_id from store_facts").fetchall()
    checkpointer = Checkpointer(path, store_id, connection)
    connection.execute(
        "insert into events values (?, now()::timestamp, 'message.queued', 'worker/main', 'last', null, "
        """'{"queue":"tasks","body":1}')""",
        [ROWS],
    )
    checkpointer._copy(connection)
    before = files(path.parent)
    connection.execute("checkpoint")
    after = files(path.parent)
    connection.close()
    checkpointer.close()
    return Interrupted(path, store_id, before, after)


# --- a checkpoint that was interrupted --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [512, 4096])
@pytest.mark.parametrize("seed", range(4))
def test_a_torn_checkpoint_is_undone_and_without_the_copy_it_is_damage(path: Path, seed: int, size: int) -> None:
    interrupted = interrupt(path)
    choose = random.Random(seed)
    torn = interrupted.half_new(lambda: choose.random() < 0.5, size)
    interrupted.put(interrupted.before, database=torn, copy=None)
    with pytest.raises(StoreDamaged):
        EventLog.open(path)
    interrupted.put(interrupted.before, database=torn)
    assert with_log(path, counted) == (ROWS, [])
    assert sorted(files(path.parent)) == [path.name, f"{path.name}.guard"]


def test_new_metadata_under_the_old_root_is_put_back_though_it_reads_whole(path: Path) -> None:
    interrupted = interrupt(path)
    interrupted.put(interrupted.before, database=interrupted.half_new(lambda: True))
    assert restore(path, interrupted.store_id) is None
    before = interrupted.before[path.name]
    # What was written to free blocks may stay.
    assert path.read_bytes()[: BLOCKS_START + (256 << 10)] == before[: BLOCKS_START + (256 << 10)]
    assert not schema.checkpoint_of(path).exists()


def test_once_the_header_has_moved_on_only_the_copy_goes(path: Path) -> None:
    interrupted = interrupt(path)
    interrupted.put(interrupted.after)
    assert restore(path, interrupted.store_id) is None
    assert path.read_bytes() == interrupted.after[path.name]
    assert not schema.checkpoint_of(path).exists()
    assert with_log(path, counted) == (ROWS, [])


def test_a_header_that_was_half_written_is_put_back_too(path: Path) -> None:
    interrupted = interrupt(path)
    before, after = interrupted.before[path.name], interrupted.after[path.name]
    changed = next(offset for offset in (4096, 8192) if before[offset : offset + 64] != after[offset : offset + 64])
    torn = bytearray(interrupted.half_new(lambda: True))
    torn[changed : changed + 24] = after[changed : changed + 24]
    torn[changed + 24 : changed + 32] = b"\xff" * 8
    interrupted.put(interrupted.before, database=bytes(torn))
    assert with_log(path, counted) == (ROWS, [])


@pytest.mark.parametrize("wrong", range(6))
def test_restoring_that_is_killed_is_as_good_when_repeated(
    path: Path, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    interrupted = interrupt(path)
    choose = random.Random(5)
    interrupted.put(interrupted.before, database=interrupted.half_new(lambda: choose.random() < 0.5))

    class Killed(BaseException):
        pass

    done = 0

    def step(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            done += 1
            if done == wrong:
                raise Killed
            return call(*args, **kwargs)

        return counted

    with monkeypatch.context() as patch:
        for name in ("fsync", "unlink"):
            patch.setattr(os, name, step(getattr(os, name)))
        patch.setattr(checkpoint_copy, "_write_piece", step(checkpoint_copy._write_piece))
        patch.setattr(checkpoint_copy, "sync_file", step(checkpoint_copy.sync_file))
        with contextlib.suppress(Killed):
            restore(path, interrupted.store_id)
        assert done >= min(wrong, 5)
    assert with_log(path, counted) == (ROWS, [])


def test_a_database_that_another_program_has_open_is_not_restored(path: Path) -> None:
    interrupted = interrupt(path)
    interrupted.put(interrupted.before)
    program = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(StoreInUse):
            EventLog.open(path)
        assert schema.checkpoint_of(path).exists()
        other.stdin.close()


@pytest.mark.parametrize("counted_already", [False, True])
def test_a_checkpoint_is_not_undone_where_something_else_is_damaged(path: Path, counted_already: bool) -> None:
    interrupted = interrupt(path)
    choose = random.Random(5)
    if counted_already:
        interrupted.put(interrupted.after)
    else:
        torn = interrupted.half_new(lambda: choose.random() < 0.5)
        interrupted.put(interrupted.before, database=torn)
    path.with_name(path.name + ".journal").write_bytes(b"spoilt")
    state = files(path.parent)
    with pytest.raises(StoreDamaged):
        EventLog.open(path)
    assert files(path.parent) == state
    path.with_name(path.name + ".journal").unlink()
    assert with_log(path, counted) == (ROWS, [])


# --- a copy that is of no use -----------------------------------------------------------------------------------------


def spoilt_copies(copy: bytes) -> list[bytes]:
    flipped = bytearray(copy)
    flipped[len(copy) // 2] ^= 1
    return [b"", copy[:100], copy[:-1], copy + b"\0", bytes(flipped)]


@pytest.mark.parametrize("which", range(5))
def test_a_damaged_copy_is_told_where_the_database_is_whole_and_is_damage_where_it_is_torn(
    path: Path, which: int
) -> None:
    interrupted = interrupt(path)
    spoilt = spoilt_copies(interrupted.copy)[which]
    choose = random.Random(5)
    interrupted.put(interrupted.before, copy=spoilt, database=interrupted.half_new(lambda: choose.random() < 0.5))
    state = files(path.parent)
    with pytest.raises(StoreDamaged):
        EventLog.open(path)
    assert files(path.parent) == state
    interrupted.put(interrupted.before, copy=spoilt)
    rows, notices = with_log(path, counted)
    assert rows == ROWS
    assert notices == [f"{path.name}.checkpoint was damaged and was not used."]
    assert not schema.checkpoint_of(path).exists()


@pytest.mark.parametrize("guard", [True, False])
def test_a_copy_from_another_store_is_never_put_in(path: Path, tmp_path: Path, guard: bool) -> None:
    interrupted = interrupt(path)
    (tmp_path / "other").mkdir()
    other = interrupt(tmp_path / "other" / path.name, seed=2)
    interrupted.put(interrupted.before, copy=other.copy, **({} if guard else {"guard": None}))
    rows, notices = with_log(path, counted)
    assert rows == ROWS
    assert f"{path.name}.checkpoint does not belong to {path.name} as it is now, and was not used." in notices


def test_without_the_guard_a_copy_is_known_by_what_no_checkpoint_changes(path: Path) -> None:
    interrupted = interrupt(path)
    choose = random.Random(5)
    interrupted.put(interrupted.before, guard=None, database=interrupted.half_new(lambda: choose.random() < 0.5))
    rows, _ = with_log(path, counted)
    assert rows == ROWS


def test_a_copy_of_a_later_checkpoint_than_the_database_is_not_put_in(path: Path) -> None:
    interrupted = interrupt(path)
    interrupted.put(interrupted.before)
    with_log(path, counted)
    connection = schema.open_database(path)
    checkpointer = Checkpointer(path, interrupted.store_id, connection)
    checkpointer._copy(connection)
    later = schema.checkpoint_of(path).read_bytes()
    connection.close()
    checkpointer.close()
    interrupted.put(interrupted.before, copy=later)
    rows, notices = with_log(path, counted)
    assert rows == ROWS
    assert notices == [f"{path.name}.checkpoint does not belong to {path.name} as it is now, and was not used."]


def test_a_new_log_is_not_begun_where_a_copy_tells_that_there_was_one(path: Path) -> None:
    interrupted = interrupt(path)
    interrupted.put({}, copy=interrupted.copy)
    with pytest.raises(StoreDamaged):
        EventLog.open(path)


# --- looking without changing -----------------------------------------------------------------------------------------


def test_looking_sees_the_log_as_it_will_be_and_changes_nothing(path: Path) -> None:
    interrupted = interrupt(path)
    choose = random.Random(5)
    interrupted.put(interrupted.before, database=interrupted.half_new(lambda: choose.random() < 0.5))
    state = files(path.parent)
    check_log(path)
    assert unfinished_messages(path) == ROWS
    assert not holds_nothing(path)
    assert files(path.parent) == state


# --- making checkpoints -----------------------------------------------------------------------------------------------


def open_for_checkpoints(path: Path) -> tuple[duckdb.DuckDBPyConnection, Checkpointer]:
    write(path, *(queued(f"{number}") for number in range(ROWS)))
    connection = schema.open_database(path)
    return connection, Checkpointer(path, "store", connection)


def change(connection: duckdb.DuckDBPyConnection) -> None:
    """A commit that changes nothing."""
    connection.begin()
    connection.execute("update store_facts set pruned = pruned + 1")
    connection.execute("update store_facts set pruned = pruned - 1")
    connection.commit()


def test_duckdb_makes_no_checkpoint_by_itself(path: Path) -> None:
    write(path, queued("1"))
    headers = path.read_bytes()[4096:BLOCKS_START]
    connection = schema.open_database(path)
    for number in range(20):
        connection.execute(
            "insert into events select 1, null, repeat('x', 100), md5(range::varchar), null, null, null from range(10000)"
        )
        assert schema.wal_of(path).stat().st_size > number << 20
    connection.close()
    assert path.read_bytes()[4096:BLOCKS_START] == headers
    assert schema.wal_of(path).stat().st_size > 16 << 20


def test_the_copy_holds_both_headers_and_every_block_that_was_written_in_place(path: Path) -> None:
    connection, checkpointer = open_for_checkpoints(path)
    for _ in range(6):
        change(connection)
        before = path_bytes(checkpointer)
        checkpointer._copy(connection)
        copy = checkpoint_copy.Copy.decoded(schema.checkpoint_of(path).read_bytes())
        assert copy is not None
        connection.execute("checkpoint")
        after = path_bytes(checkpointer)
        saved = {piece.offset for piece in copy.pieces}
        assert 4096 in saved
        assert 12288 in saved
        header = active_header(before[4096:BLOCKS_START])
        assert header is not None
        assert copy.iteration == header.iteration
        for piece in copy.pieces:
            assert piece.content == before[piece.offset : piece.offset + len(piece.content)]
            if piece.in_use:
                assert piece.is_of(after[piece.offset : piece.offset + len(piece.content)])
        checkpointer.checkpoint(connection)
    connection.close()
    checkpointer.close()


def path_bytes(checkpointer: Checkpointer) -> bytes:
    return checkpointer.file.read(1 << 30, 0)


def test_the_copy_is_private_and_goes_when_the_checkpoint_is_done(path: Path) -> None:
    connection, checkpointer = open_for_checkpoints(path)
    change(connection)
    checkpointer._copy(connection)
    assert stat.S_IMODE(schema.checkpoint_of(path).stat().st_mode) == 0o600
    checkpointer.checkpoint(connection)
    assert not schema.checkpoint_of(path).exists()
    assert stat.S_IMODE(schema.wal_of(path).stat().st_mode) == 0o600
    checkpointer.checkpoint(connection, last=True)
    connection.close()
    checkpointer.close()
    assert sorted(files(path.parent)) == [path.name, f"{path.name}.guard"]


def test_a_copy_is_private_from_its_beginning(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        sync(descriptor)

    monkeypatch.setattr(checkpoint_copy.os, "fsync", noted)
    checkpoint_copy.write_copy(path, b"content")
    assert seen[0] == 0o600
    assert schema.checkpoint_of(path).read_bytes() == b"content"


def test_a_second_try_keeps_the_copy_of_the_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connection, checkpointer = open_for_checkpoints(path)
    change(connection)
    checkpointer._copy(connection)
    first = schema.checkpoint_of(path).read_bytes()
    # As if a checkpoint had failed after it had written a block in place.
    monkeypatch.setattr(checkpointer.file, "read", lambda length, offset: pytest.fail("read again"))
    monkeypatch.setattr(checkpointer.file, "headers", lambda: path.open("rb").read()[4096:BLOCKS_START])
    checkpointer._copy(connection)
    assert schema.checkpoint_of(path).read_bytes() == first
    connection.close()
    checkpointer.close()


def test_a_checkpoint_that_cannot_begin_is_put_off_and_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, checkpointer = open_for_checkpoints(path)
    change(connection)
    monkeypatch.setattr(checkpoint, "COMMITS", 2)
    assert [checkpointer.due_after_commit() for _ in range(3)] == [False, True, True]
    state = set(files(path.parent))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _no_space)
        with pytest.raises(CheckpointNotBegun, match="No space left"):
            checkpointer.checkpoint(connection)
    assert set(files(path.parent)) == state
    assert [checkpointer.due_after_commit() for _ in range(2)] == [False, True]
    checkpointer.checkpoint(connection)
    assert not checkpointer.due_after_commit()
    connection.close()
    checkpointer.close()


def test_a_checkpoint_that_cannot_begin_is_tried_again_only_when_more_was_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, checkpointer = open_for_checkpoints(path)
    change(connection)
    monkeypatch.setattr(checkpoint, "WAL_BYTES", 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _no_space)
        with pytest.raises(CheckpointNotBegun):
            checkpointer.checkpoint(connection)
    assert not checkpointer.due_after_commit()
    change(connection)
    assert checkpointer.due_after_commit()
    connection.close()
    checkpointer.close()


def _no_space(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_checkpoint_keeps_the_lock_of_duckdb(path: Path) -> None:
    connection, checkpointer = open_for_checkpoints(path)
    change(connection)
    checkpointer.checkpoint(connection)
    program = "import duckdb, sys; duckdb.connect(sys.argv[1])"
    found = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert "Could not set lock" in found.stderr
    connection.close()
    checkpointer.close()


def test_killed_at_any_step_of_a_checkpoint_everything_is_there(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[Files] = []

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def watch(*args: Any, **kwargs: Any) -> Any:
            # Not by reading the database: closing it would take the lock.
            states.append(photograph(path))
            done = call(*args, **kwargs)
            states.append(photograph(path))
            return done

        return watch

    write(path, *(queued(f"{number}") for number in range(ROWS)))
    log = EventLog.open(path)
    for name in ("replace", "fsync", "unlink"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    monkeypatch.setattr(checkpoint, "sync_file", watched(checkpoint.sync_file))
    monkeypatch.setattr(checkpoint_copy, "sync_file", watched(checkpoint_copy.sync_file))
    log._writer.submit(lambda connection: (change(connection), log._checkpoint())).result()
    monkeypatch.undo()
    log.close()
    assert len(states) >= 10
    for number, state in enumerate(states):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        for name, content in state.items():
            (folder / name).write_bytes(content)
        assert with_log(folder / path.name, counted) == (ROWS, []), number


def photograph(path: Path) -> Files:
    """The files of a log that is open, copied by another process."""
    target = path.parent.parent / "photograph"
    subprocess.run(["rm", "-rf", target], check=True)
    subprocess.run(["cp", "-r", path.parent, target], check=True)
    return files(target)
