"""The event log: one append-only table in one DuckDB file, opened by one process at a time."""

from __future__ import annotations

import asyncio
import time as system_time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from agentq_nb._store import schema
from agentq_nb._store.checkpoint import Checkpointer, CheckpointNotBegun
from agentq_nb._store.connection import begin_journal, close_after_failure, connect, set_journal
from agentq_nb._store.export import remove_leftovers
from agentq_nb._store.filesystem import OpenFiles, size_of, warn_about
from agentq_nb._store.fork_safety import leak, watch_forks
from agentq_nb._store.group_commit import Done, GroupCommit
from agentq_nb._store.guard import Guard
from agentq_nb._store.journal import Journal, journal_of, remove_journal
from agentq_nb._store.log_reader import LogReader
from agentq_nb._store.maintenance import Maintenance
from agentq_nb._store.open_errors import cannot_open
from agentq_nb._store.open_store import describe_closed, prepare, tidy_up
from agentq_nb._store.schema import Row, utc
from agentq_nb._store.sql import Readers
from agentq_nb._store.store_paths import real_path
from agentq_nb._store.writer import Connection, Writer
from agentq_nb.errors import Forked, StoreError

T = TypeVar("T")


class EventLog(LogReader):
    """The open log. Made by :meth:`open`; used from one event loop, except where a method says otherwise."""

    def __init__(
        self,
        path: Path,
        guard: Guard,
        connection: duckdb.DuckDBPyConnection,
        last: int,
        journal: Journal | None,
        checkpointer: Checkpointer,
    ) -> None:
        super().__init__(path, Readers(connection), last)
        self.notices: list[str] = []
        """Sentences for users about how it was opened."""
        self.loss: str | None = None
        """Set by :meth:`close`: what was lost, or where the file is now, since it was deleted or moved."""
        self._guard = guard
        self._connection = connection
        self._commits = GroupCommit(connection.cursor(), guard, last, journal)
        self._commits.after_drain = self._checkpoint_if_due
        self._checkpointer = checkpointer
        self._writer = Writer(self._commits)
        others = {guard.path: guard.descriptor} | ({} if journal is None else {journal.path: journal.descriptor})
        self._files = OpenFiles(path, checkpointer.file.descriptor, others)
        self._maintenance = Maintenance(checkpointer.file, self._readers, self._slice, self._checkpoint)
        self._closed = False
        self._forked = False
        watch_forks(self)

    @classmethod
    def open(cls, path: Path, *, holder: Mapping[str, Any] | None = None, accept_loss: bool = False) -> EventLog:
        """Open the log at ``path``, creating it when it is missing. Blocks: call it in a worker thread.

        ``holder`` is reported to any process that finds the log in use (``notebook``, ``connect``). With
        ``accept_loss`` a damaged log continues without the lost rows: the damaged files are kept under other names, and
        the loss is recorded. Raises StoreInUse, StoreDamaged, StoreTooNew, StoreNotOurs, StoreReadOnly, StoreError;
        then nothing on disk was changed, and opening can be tried again.
        """
        path = real_path(path)
        if path.is_dir():
            raise StoreError(f"{path} is a folder. Give the name of a file in it with store=PATH.")
        guard = Guard.acquire(path)
        try:
            prepared = prepare(path, guard, accept_loss)
            connection, last, notices = connect(path, guard, prepared)
            try:
                guard.sign_on(last, holder or {})
                journal, notice = begin_journal(connection, path, guard.identity["store"], last)
                checkpointer = Checkpointer(path, guard.identity["store"], connection)
                log = cls(path, guard, connection, last, journal, checkpointer)
            except BaseException:
                close_after_failure(connection, path)
                raise
        except BaseException as error:
            tidy_up(path)
            guard.withdraw()
            if isinstance(error, (OSError, duckdb.Error)):
                raise cannot_open(path, error) from error
            raise
        tidy_up(path, opened=True)
        remove_leftovers(path.parent)
        log.notices += [said for said in (*notices, notice, warn_about(path.parent)) if said]
        return log

    # --- writing ------------------------------------------------------------------------------------------------------

    @property
    def last_seq(self) -> int:
        """The last durable sequence number."""
        return self._commits.last

    @property
    def failed(self) -> StoreError | None:
        """The error of a failed write, which every later append gets too. Close the log, and open it again."""
        return self._commits.failed

    @property
    def trouble(self) -> str | None:
        """Why durable rows do not reach the database at the moment, or what happened to the files; else None."""
        if self._closed or self._forked:
            return None
        return " ".join(filter(None, [self._writer.trouble, self._files.trouble()])) or None

    def bytes_used(self) -> int:
        """Return the bytes of the database's files, and of rows that are still to be moved there.

        The journal itself is not counted: it is allocated whole, and does not grow.
        """
        files = (self.path, schema.wal_of(self.path), schema.checkpoint_of(self.path))
        return sum(map(size_of, files)) + self._commits.backlog.characters

    def on_failure(self, call: Callable[[StoreError], None]) -> None:
        """Call ``call`` on the loop after a failed write, in addition to the callbacks of the rows being written."""
        self._writer.on_failure = call

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call back on this loop. Without it, the loop of the first append is used."""
        self._writer.loop = loop

    def append(
        self, rows: Sequence[Row], done: Done | None = None, time: float | None = None, *, awaited: bool = True
    ) -> None:
        """Append rows, in order and in one commit. Call it in the loop's thread.

        ``done`` is called on the loop with None once the commit is durable, or with the error. ``time`` is in seconds
        since 1970 (None: now). Where nothing is ``awaited``, other code of the loop may run before the commit.
        """
        if self._closed or self._forked:
            self._check()
        self._writer.append(system_time.time() if time is None else time, rows, done, awaited=awaited)

    async def decide(self, job: Callable[[Connection], tuple[Sequence[Row], T]], time: float | None = None) -> T:
        """Read stored rows and write rows that follow from them, atomically.

        ``job`` gets a connection, in the writer's thread, and must be short. The rows it returns are durable when this
        returns its value. Rows appended before are visible to it, and rows appended later come after its own.
        Raises StoreWriteFailed, and what ``job`` raises: then nothing was written.
        """
        self._check()
        try:
            return await asyncio.wrap_future(self._writer.decide(job, system_time.time() if time is None else time))
        except duckdb.Error as error:
            raise self._not_read(error) from error

    async def flushed(self) -> None:
        """Return when everything appended so far is durable. Raises StoreWriteFailed."""
        self._check()
        if self._writer.idle():
            if self.failed is not None:
                raise self.failed
            return
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle(error: StoreError | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(None)
            else:
                answer.set_exception(error)

        self.append([], settle)
        await answer

    # --- maintenance --------------------------------------------------------------------------------------------------

    async def prune(
        self,
        before: float,
        *,
        dropped: Callable[[Sequence[str]], None] | None = None,
        spared: Callable[[], Collection[str]] | None = None,
    ) -> int:
        """Delete history: messages, sessions and states settled before a time. Dead letters and live messages stay.

        It runs alongside normal writes, a slice at a time; when cancelled it stops after the current slice. Returns the
        number of deleted rows. Raises StoreError: rows deleted until then are accounted for.

        :param before: seconds since 1970.
        :param dropped: called on the loop after each slice with the ids of deleted messages.
        :param spared: called in the writer's thread before each slice; returns messages that must stay.
        """
        self._check()
        try:
            rows = await self._maintenance.prune(utc(before), lambda said: self.append([said]), dropped, spared)
        except (duckdb.Error, OSError) as error:
            raise _unfinished("dropping old history", error) from error
        await self.flushed()
        return rows

    async def export(self, target: Path) -> None:
        """Write a copy, with every row acknowledged so far, that other programs can open. Never overwrites.

        It is made alongside normal writes; cancelled or killed, it leaves nothing behind. Raises StoreError,
        StoreReadOnly.
        """
        self._check()
        try:
            await self._maintenance.export(target)
        except (duckdb.Error, OSError) as error:
            raise _unfinished("the export", error) from error

    def _slice(self, job: Callable[[Connection], T]) -> Future[T]:
        self._check()
        return self._writer.submit(job)

    def _checkpoint_if_due(self) -> None:
        if self._checkpointer.due_after_commit() and not self._maintenance.snapshot_needed:
            with suppress(CheckpointNotBegun):
                self._checkpoint()

    def _checkpoint(self) -> None:
        """Move DuckDB's write-ahead log into the database. In the writer's thread.

        Raises CheckpointNotBegun; any other error ends all writing.
        """
        try:
            self._checkpointer.checkpoint(self._commits.connection)
        except (OSError, duckdb.Error) as error:
            self._commits.fail(error)
            raise
        with suppress(OSError):
            self._guard.sync()

    # --- closing ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Write all appended rows, checkpoint, and release the file. Blocks. A second call does nothing."""
        if self._closed or self._forked:
            return
        self._closed = True
        self.loss = self._files.loss()
        self._maintenance.stop()
        self._readers.close()
        self._writer.close()
        journal = self._commits.journal
        finished = self._commits.all_in_database and self._needs_no_journal()
        with suppress(duckdb.Error, OSError, CheckpointNotBegun):
            self._checkpointer.checkpoint(self._connection, last=True)
        self._commits.connection.close()
        self._connection.close()
        # A log that is referenced until the process ends must not keep DuckDB's objects, which would complain.
        del self._connection, self._commits.connection
        self._checkpointer.close()
        with suppress(OSError):
            if journal is not None:
                journal.close()
            if finished:
                self._sign_off()
            else:
                self._guard.write_facts(self._guard.identity)
        self._guard.release()

    def _needs_no_journal(self) -> bool:
        """Record in the database that no journal belongs to it. Only then may the journal be removed."""
        try:
            set_journal(self._connection, "")
        except duckdb.Error:
            return False
        return True

    def _sign_off(self) -> None:
        """Record the file's final state in the guard: every row is in that one file."""
        facts = self._guard.identity
        if not schema.wal_of(self.path).exists():
            remove_journal(self.path)
            self._guard.write_both_marks(self.last_seq)
            facts["closed"] = describe_closed(self.path, self.last_seq)
        self._guard.write_facts(facts)

    def let_go(self) -> None:
        """In a forked child: close the guard, and never destroy objects whose destructor would write to the file."""
        if self._closed:
            return
        self._forked = True
        leak(self._connection)
        leak(self._readers)
        self._writer.let_go()
        self._guard.release()

    def _drained(self) -> None:
        """Drain the backlog, so that reads see every durable row. Raises StoreError rather than show outdated rows."""
        try:
            self._writer.drained()
        except duckdb.Error as error:
            raise StoreError(
                f"The last rows cannot be read for the moment, since the database takes nothing: "
                f"{str(error).partition(chr(10))[0]}. They are durable in {journal_of(self.path).name}. Make room on the disk."
            ) from error

    def _check(self) -> None:
        if self._forked:
            raise Forked()
        if self._closed:
            raise StoreError(
                f"{self.path} was closed when its host was stopped. Start it again: %agentq start", code="closed"
            )


def _unfinished(what: str, error: Exception) -> StoreError:
    said = str(error).partition(chr(10))[0]
    return StoreError(f"Stopped {what}: {said}. What was done until then is complete; the rest can be done again.")
