"""The one writer: everything appended while one commit is on its way to the disk shares the next one.

Rows gather on the event loop's side; a thread turns each batch into one commit. An idle writer is kicked two ticks of
the loop late, so that a burst, and what a quick handler adds, shares its first commit; and the next batch starts before
those who waited for the last one run.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import duckdb

from agentq_nb.errors import StoreError, StoreWriteFailed
from agentq_nb.store.forking import leak
from agentq_nb.store.guard import Guard
from agentq_nb.store.row import Row

T = TypeVar("T")

Done = Callable[[StoreError | None], None]

# What DuckDB says about a row it cannot take; anything else is about the disk.
_BAD_ROW = (duckdb.DataError, duckdb.InvalidInputException, TypeError, ValueError)


def _fields(row: Row) -> tuple[str | None, ...]:
    if "\n" in row or row.count("\t") != 4:
        raise ValueError("a row holds a tab or a line break")
    kind, actor, message, session, data = row.split("\t")
    return kind, actor or None, message or None, session or None, data


class _Append(NamedTuple):
    time: datetime
    rows: Sequence[Row]
    done: Done | None


class Writer:
    """Appends rows in order, each append whole in one commit. Used from one event loop's thread."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, guard: Guard, database: os.PathLike[str], last: int):
        self.last = last
        """The last durable sequence number."""
        self.failed: StoreError | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.connection = connection
        self._appender = connection.appender("events")
        self._guard = guard
        self._wal = f"{os.fspath(database)}.wal"
        self._wal_size = 0
        self._gathered: list[_Append] = []
        self._busy = False
        self._jobs: queue.SimpleQueue[list[_Append] | Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="agentq log writer", daemon=True)
        self._thread.start()

    # --- the loop's side ----------------------------------------------------------------------------------------------

    def append(self, time: datetime, rows: Sequence[Row], done: Done | None) -> None:
        """Gather rows for the next commit."""
        self._gathered.append(_Append(time, rows, done))
        if not self._busy:
            if self.loop is None or self.loop.is_closed():
                try:
                    self.loop = asyncio.get_running_loop()
                except RuntimeError:  # the process ends and no loop runs any more: it goes out with the close
                    return
            self._busy = True
            self.loop.call_soon(self.loop.call_soon, self._hand_over)

    def _hand_over(self) -> None:
        batch, self._gathered = self._gathered, []
        self._busy = bool(batch)
        if batch:
            self._jobs.put(batch)

    def _committed(self, answers: list[tuple[Done, StoreError | None]]) -> None:
        self._hand_over()
        for done, error in answers:
            try:
                done(error)
            except Exception as raised:
                assert self.loop is not None
                self.loop.call_exception_handler({"message": "a callback of the log raised", "exception": raised})

    def idle(self) -> bool:
        """Everything appended is durable, or was answered with an error."""
        return not self._busy and not self._gathered

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Do ``job`` in the writer's thread, between commits."""
        answer: Future[T] = Future()

        def work() -> None:
            if not answer.set_running_or_notify_cancel():
                return  # nobody waits for it any longer
            try:
                answer.set_result(job())
            except BaseException as error:
                answer.set_exception(error)

        self._jobs.put(work)
        return answer

    def let_go(self) -> None:
        """In a forked child, where there is no thread: what belongs to the parent is never destroyed."""
        leak(self.connection)
        leak(self._appender)

    def close(self) -> None:
        """Commit what was gathered and end the thread. Callbacks still come, on the loop."""
        batch, self._gathered = self._gathered, []
        if batch:
            self._jobs.put(batch)
        self._jobs.put(None)
        self._thread.join()
        self._appender = None

    # --- the thread's side --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if callable(job):
                job()
                continue
            answers = self._commit(job)
            # The thread holds no batch while it waits for the next one.
            job = None
            self._tell(answers)

    def _tell(self, answers: list[tuple[Done, StoreError | None]]) -> None:
        try:
            if self.loop is not None:
                self.loop.call_soon_threadsafe(self._committed, answers)
        except RuntimeError:
            # The loop was closed: nobody is left to be told.
            self._busy = False

    def _commit(self, batch: list[_Append]) -> list[tuple[Done, StoreError | None]]:
        try:
            self._write(batch)
            return [(append.done, None) for append in batch if append.done is not None]
        except _BAD_ROW:
            return [answer for append in batch for answer in self._commit_alone(append)]
        except Exception as error:
            return self._fail(batch, error)

    def _commit_alone(self, append: _Append) -> list[tuple[Done, StoreError | None]]:
        """One bad row must not take the batch with it: each append gets a commit, and an answer, of its own."""
        try:
            self._write([append])
            error = None
        except _BAD_ROW as refused:
            error = StoreError(f"The log does not take this: {str(refused).partition(chr(10))[0]}", code="bad_row")
        except Exception as broken:
            return self._fail([append], broken)
        return [] if append.done is None else [(append.done, error)]

    def _fail(self, batch: list[_Append], error: Exception) -> list[tuple[Done, StoreError | None]]:
        if self.failed is None:
            self.failed = StoreWriteFailed(
                f"Writing to the log failed: {str(error).partition(chr(10))[0]}. What was being written is not "
                f"acknowledged. Make room or repair the disk; the log has to be opened again.",
            )
        return [(append.done, self.failed) for append in batch if append.done is not None]

    def _write(self, batch: list[_Append]) -> None:
        if self.failed is not None:
            raise self.failed
        number = itertools.count(self.last + 1)
        rows: list[tuple[Any, ...]] = [
            (next(number), time, *_fields(row)) for time, appended, _ in batch for row in appended
        ]
        if not rows:
            return
        appender = self._appender
        assert appender is not None
        try:
            appender.append_rows(rows)
            appender.flush()
        except BaseException:
            # What was refused stays in the appender otherwise, and would go out with the next commit.
            with suppress(duckdb.Error):
                appender.clear()
            raise
        self.last += len(rows)
        self._mark()

    def _mark(self) -> None:
        try:
            self._guard.write_mark(self.last)
            self._watch_wal()
        except OSError:
            # The rows are durable; the mark may lag.
            pass

    def _watch_wal(self) -> None:
        try:
            found = os.stat(self._wal)
        except FileNotFoundError:
            size = 0
        else:
            size = found.st_size
            if found.st_mode & 0o077:
                os.chmod(self._wal, 0o600)
        if size < self._wal_size:
            # DuckDB has just moved the write-ahead log into the database.
            self._guard.sync()
        self._wal_size = size

    def went_on_to(self, last: int) -> None:
        """Rows up to number ``last`` were committed in another way."""
        self.last = last
        self._mark()

    @contextmanager
    def tables_to_itself(self) -> Generator[duckdb.DuckDBPyConnection]:
        """The connection, with no appender that would mind a change to the tables. In the thread only."""
        self._appender = None
        try:
            yield self.connection
        finally:
            self._appender = self.connection.appender("events")
