"""Who commits what, in which order, and what happens when the disk or the database does not go along."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from agentq_nb._store import EventLog, group_commit, journal, row
from agentq_nb._store.journal_scan import scan
from agentq_nb._store.writer import Connection, LoopBudget
from agentq_nb.errors import StoreError, StoreWriteFailed
from tests.unit.runtime.world import until
from tests.unit.store.helpers import append, event, queued, with_log

NAMES = "select message_id from events order by seq"


def journal_of(path: Path) -> Path:
    return path.with_name(path.name + ".journal")


def in_journal(path: Path) -> list[str]:
    content = scan(journal_of(path))
    assert content is not None
    return [line.split("\t")[3] for frame in content.frames for line in frame.text.split("\n")]


def threads_that_commit(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each commit from now on, whether the loop's thread made it."""
    here = threading.get_ident()
    made: list[bool] = []
    write = log._commits._write

    def noted(batch: Any, on_loop: bool) -> bool:
        done = write(batch, on_loop)
        if done and any(rows for _, rows, _ in batch):
            made.append(threading.get_ident() == here)
        return done

    monkeypatch.setattr(log._commits, "_write", noted)
    return made


@contextmanager
def thread_held(log: EventLog) -> Iterator[threading.Event]:
    """The writer's thread does nothing until the event is set, or the block is left."""
    go_on, begun = threading.Event(), threading.Event()

    def hold(_: Connection) -> None:
        begun.set()
        assert go_on.wait(20)

    log._writer.submit(hold)
    assert begun.wait(20)
    try:
        yield go_on
    finally:
        go_on.set()


def database_takes(log: EventLog, monkeypatch: pytest.MonkeyPatch, fails: Callable[[], Exception | None]) -> None:
    """Let each drain raise what ``fails`` returns."""
    drain = log._commits.backlog.drain

    def maybe(connection: duckdb.DuckDBPyConnection) -> None:
        error = fails()
        if error is not None:
            raise error
        drain(connection)

    monkeypatch.setattr(log._commits.backlog, "drain", maybe)


def test_rows_are_durable_in_the_journal_before_they_are_in_the_database(path: Path) -> None:
    async def use(log: EventLog) -> None:
        with thread_held(log):
            assert await append(log, queued("a"), queued("b")) is None
            assert in_journal(path) == ["a", "b"]
            assert log.last_seq == 2
        assert log.fetch(NAMES) == [("a",), ("b",)]

    with_log(path, use)
    assert not journal_of(path).exists()


def test_the_loop_commits_by_itself_while_the_thread_has_nothing_to_commit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(log: EventLog) -> None:
        made = threads_that_commit(log, monkeypatch)
        monkeypatch.setattr(log._writer._budget, "allows", lambda: True)  # however slow this disk is
        with thread_held(log):
            for number in range(5):
                assert await append(log, queued(f"{number}")) is None
        assert made == [True] * 5

    with_log(path, use)


def test_rows_that_nothing_awaits_are_committed_after_what_follows_in_the_loop(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(log: EventLog) -> None:
        monkeypatch.setattr(log._writer._budget, "allows", lambda: True)  # however slow this disk is
        order: list[str] = []
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: loop.call_soon(order.append, "what follows has begun"))
        log.append([queued("a")], lambda _: order.append("a is durable"), awaited=False)
        await until(lambda: len(order) == 2)
        assert order == ["what follows has begun", "a is durable"]

    with_log(path, use)


def test_rows_that_something_awaits_take_those_that_nothing_awaits_along(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(log: EventLog) -> None:
        monkeypatch.setattr(log._writer._budget, "allows", lambda: True)  # however slow this disk is
        order: list[str] = []
        loop = asyncio.get_running_loop()
        log.append([queued("a")], lambda _: order.append("a"), awaited=False)
        log.append([queued("b")], lambda _: order.append("b"))
        log.append([queued("c")], lambda _: order.append("c"), awaited=False)
        loop.call_soon(lambda: loop.call_soon(order.append, "the next turn"))
        await until(lambda: len(order) == 4)
        assert order == ["a", "b", "c", "the next turn"]
        assert in_journal(path) == ["a", "b", "c"]

    with_log(path, use)


def test_on_a_slow_disk_the_thread_commits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(log: EventLog) -> None:
        made = threads_that_commit(log, monkeypatch)
        monkeypatch.setattr(log._writer._budget, "allows", lambda: False)
        for number in range(5):
            assert await append(log, queued(f"{number}")) is None
        assert made == [False] * 5
        assert log.fetch(NAMES) == [(f"{number}",) for number in range(5)]

    with_log(path, use)


def test_slow_writes_are_a_debt_that_time_pays_off(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    budget = LoopBudget()
    for _ in range(1000):
        budget.spend(0.0009)
    assert budget.allows()
    budget.spend(0.050)
    assert budget.allows(), "one slow write is no reason to change"
    budget.spend(0.005)
    assert not budget.allows()
    now = 0.02
    assert not budget.allows()
    now = 0.05
    assert budget.allows()


def test_a_commit_that_is_large_is_left_to_the_thread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(log: EventLog) -> None:
        made = threads_that_commit(log, monkeypatch)
        monkeypatch.setattr(log._writer._budget, "allows", lambda: True)
        assert await append(log, event("x", text="y" * 300_000)) is None
        assert await append(log, event("x")) is None
        assert made == [False, True]

    with_log(path, use)


def test_what_is_larger_than_the_journal_likes_goes_to_the_database_and_the_journal_goes_on_behind_it(
    path: Path,
) -> None:
    async def use(log: EventLog) -> None:
        await append(log, queued("a"))
        assert await append(log, queued("large", body="y" * 3_000_000)) is None
        await append(log, queued("b"))
        assert in_journal(path) == ["b"] or in_journal(path) == ["a", "b"]
        assert [len(data) > 1_000_000 for (data,) in log.fetch("select data from events")] == [False, True, False]
        log._commits.journal = None
        os._exit(0)

    child = os.fork()
    if child == 0:
        with_log(path, use)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    log = EventLog.open(path)
    assert log.fetch("select seq, message_id from events order by seq") == [(1, "a"), (2, "large"), (3, "b")]
    assert log.notices == []
    log.close()


def test_thousands_of_rows_pass_through_small_regions_in_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "REGION_BYTES", 16 << 10)

    async def use(log: EventLog) -> None:
        for number in range(0, 3000, 3):
            log.append([queued(f"{each:05d}") for each in range(number, number + 3)])
            if number % 7 == 0:
                await log.flushed()
        await log.flushed()
        assert log.fetch(NAMES) == [(f"{number:05d}",) for number in range(3000)]
        assert log.fetch("select count(*), max(seq) from events") == [(3000, 3000)]

    with_log(path, use)


def test_a_decision_sees_all_that_was_appended_before_and_comes_before_all_that_is_appended_later(path: Path) -> None:
    async def use(log: EventLog) -> None:
        seen: list[Any] = []

        def job(connection: Connection) -> tuple[list[str], str]:
            seen.extend(connection.execute(NAMES).fetchall())
            return [queued("decided")], "value"

        append(log, queued("before"))
        deciding = asyncio.ensure_future(log.decide(job))
        await asyncio.sleep(0)
        after = append(log, queued("after"))
        assert await deciding == "value"
        await after
        assert seen == [("before",)]
        assert log.fetch(NAMES) == [("before",), ("decided",), ("after",)]

    with_log(path, use)


def test_nothing_is_written_while_a_decision_is_made(path: Path) -> None:
    async def use(log: EventLog) -> None:
        go_on, begun = threading.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def job(_: Connection) -> tuple[list[str], None]:
            loop.call_soon_threadsafe(begun.set)
            assert go_on.wait(20)
            return [], None

        deciding = asyncio.ensure_future(log.decide(job))
        await begun.wait()
        late = append(log, queued("late"))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not late.done()
        assert in_journal(path) == []
        go_on.set()
        await deciding
        assert await late is None

    with_log(path, use)


def test_a_decision_that_raises_writes_nothing_and_the_log_goes_on(path: Path) -> None:
    async def use(log: EventLog) -> None:
        def job(_: Connection) -> tuple[list[str], None]:
            raise LookupError("no such message")

        with pytest.raises(LookupError, match="no such message"):
            await log.decide(job)
        with pytest.raises(StoreError) as refused:
            await log.decide(lambda _: (["no\trow\tat\nall"], None))
        assert refused.value.code == "bad_row"
        assert await append(log, queued("a")) is None
        assert log.fetch(NAMES) == [("a",)]

    with_log(path, use)


def test_a_failed_write_is_told_to_all_who_wait_and_to_whoever_watches(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(log: EventLog) -> None:
        told: list[StoreError] = []
        log.on_failure(told.append)
        assert await append(log, queued("a")) is None
        pwritev = os.pwritev

        def broken(descriptor: int, *rest: Any) -> int:
            if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".journal"):
                raise OSError(errno.EIO, "Input/output error")
            return pwritev(descriptor, *rest)

        with monkeypatch.context() as disk:
            disk.setattr(os, "pwritev", broken)
            errors = await asyncio.gather(append(log, queued("b")), append(log, queued("c")))
        assert all(isinstance(error, StoreWriteFailed) for error in errors)
        assert told == [log.failed]
        assert await append(log, queued("d")) is log.failed, "what failed once is not written again"
        with pytest.raises(StoreWriteFailed):
            await log.decide(lambda _: ([queued("e")], None))

    with_log(path, use)
    log = EventLog.open(path)
    assert log.fetch(NAMES) == [("a",)]
    log.close()


def test_rows_wait_in_the_journal_while_the_database_takes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(log: EventLog) -> None:
        full: list[Exception] = [duckdb.IOException("No space left on device")]
        database_takes(log, monkeypatch, lambda: full[0] if full else None)
        for number in range(10):
            assert await append(log, queued(f"{number}")) is None
        log._writer._ask_for_drain()
        await until(lambda: log.trouble is not None)
        assert "No space left" in (log.trouble or "")
        assert log.failed is None
        with pytest.raises(StoreError, match="cannot be read for the moment"):
            log.fetch(NAMES)
        with pytest.raises(StoreError, match="cannot be read for the moment"):
            await log.sql(NAMES)
        full.clear()
        assert len(log.fetch(NAMES)) == 10
        log._writer._ask_for_drain()
        await until(lambda: log.trouble is None)

    with_log(path, use)


def test_sends_wait_for_room_in_a_full_journal_and_then_say_why_there_is_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "REGION_BYTES", 16 << 10)
    pauses: list[float] = []
    full: list[Exception] = [duckdb.IOException("No space left on device")]

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            full.clear()

    monkeypatch.setattr(group_commit.system_time, "sleep", pause)

    async def use(log: EventLog) -> None:
        database_takes(log, monkeypatch, lambda: full[0] if full else None)
        for number in range(300):
            assert await append(log, queued(f"{number}")) is None
        assert len(pauses) == 3
        full.append(duckdb.IOException("No space left on device"))
        answers = [await append(log, queued(f"{number}")) for number in range(300)]
        failed = next(answer for answer in answers if answer is not None)
        assert isinstance(failed, StoreWriteFailed)
        assert "No space left" in failed.message
        full.clear()

    with_log(path, use)


def test_a_database_that_gives_up_for_good_is_a_failure_even_if_nobody_writes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(log: EventLog) -> None:
        told = asyncio.Event()
        log.on_failure(lambda _: told.set())
        database_takes(log, monkeypatch, lambda: duckdb.FatalException("the database has been invalidated"))
        assert await append(log, queued("a")) is None
        await asyncio.wait_for(told.wait(), 20)
        assert log.failed is not None

    with_log(path, use)
    log = EventLog.open(path)
    assert log.fetch(NAMES) == [("a",)]
    log.close()


@pytest.mark.parametrize("data", ["no json", '{"a":"\x01"}', '{"a":'])
def test_a_row_that_was_acknowledged_though_it_is_no_json_is_kept_as_text(path: Path, data: str) -> None:
    async def use(log: EventLog) -> None:
        assert await append(log, queued("a"), f"x\t\tb\t\t{data}", queued("c")) is None
        assert log.fetch("select data->>'$' from events where message_id = 'b'") == [(data,)]
        assert log.fetch(NAMES) == [("a",), ("b",), ("c",)]

    with_log(path, use)


def test_a_row_that_is_no_json_is_refused_where_it_is_made() -> None:
    with pytest.raises(StoreError) as refused:
        row("x", data="no json")
    assert refused.value.code == "bad_row"


@pytest.mark.parametrize("time", [float("nan"), float("inf"), -1.0, 1e300])
def test_a_time_that_cannot_be_stored_is_refused_alone(path: Path, time: float) -> None:
    async def use(log: EventLog) -> None:
        bad, good = append(log, queued("bad"), time=time), append(log, queued("good"))
        refused = await bad
        assert isinstance(refused, StoreError)
        assert refused.code == "bad_row"
        assert await good is None
        assert log.fetch(NAMES) == [("good",)]

    with_log(path, use)


def test_without_room_for_a_journal_the_log_works_and_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journal.Journal, "_fill_with_zeros", full)

    async def use(log: EventLog) -> None:
        assert any("There is no journal" in notice and "8 MiB" in notice for notice in log.notices)
        assert await append(log, queued("a")) is None
        await log.decide(lambda _: ([queued("b")], None))
        assert log.fetch(NAMES) == [("a",), ("b",)]

    with_log(path, use)
    assert [file.name for file in path.parent.iterdir() if "journal" in file.name] == []


def test_a_log_whose_loop_ended_in_the_middle_goes_on_in_another(path: Path) -> None:
    log = EventLog.open(path)

    async def leave_something() -> None:
        log.append([queued("left")])

    async def go_on() -> None:
        assert await append(log, queued("next")) is None

    asyncio.run(leave_something())
    asyncio.run(go_on())
    assert log.fetch(NAMES) == [("left",), ("next",)]
    log.close()


def test_a_close_that_cannot_tell_the_database_that_the_journal_goes_keeps_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise duckdb.IOException("No space left on device")

    async def use(log: EventLog) -> None:
        assert await append(log, queued("a")) is None
        monkeypatch.setattr("agentq_nb._store.event_log.set_journal", full)

    with_log(path, use)
    assert journal_of(path).exists()
    monkeypatch.undo()
    log = EventLog.open(path)
    assert log.notices == []
    assert log.fetch(NAMES) == [("a",)]
    log.close()


async def _decide_while_the_database_is_broken(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await append(log, queued("a")) is None
    database_takes(log, monkeypatch, lambda: duckdb.IOException("No space left on device"))
    with pytest.raises(StoreError, match="No space left"):
        await log.decide(lambda _: ([queued("b")], None))
    monkeypatch.undo()
    assert log.fetch(NAMES) == [("a",)]


def test_a_decision_that_cannot_read_says_so_and_writes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_log(path, lambda log: _decide_while_the_database_is_broken(log, monkeypatch))


def test_whoever_appended_first_is_told_first_though_the_thread_committed_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next commit is made on the loop before the callbacks of the thread's: they must not overtake them."""

    async def scenario(log: EventLog) -> None:
        made = threads_that_commit(log, monkeypatch)
        told: list[str] = []
        large = row("test.event", "a/b", None, None, '{"text":"' + "x" * (300 << 10) + '"}')
        log.append([large], lambda _: told.append("first"))
        await until(lambda: not log._writer._gathered)
        log.append([event("test.event", "m")], lambda _: told.append("second"))
        await until(lambda: len(told) == 2)
        assert (made, told) == ([False, True], ["first", "second"])

    with_log(path, scenario)
