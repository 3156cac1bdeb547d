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

from agentq_nb._core.threads import in_long_thread
from agentq_nb._store import schema, startup_queries
from agentq_nb._store.checkpoint import Checkpointer, CheckpointNotBegun
from agentq_nb._store.connection import begin_journal, close_after_failure, connect, set_journal
from agentq_nb._store.export import remove_leftovers
from agentq_nb._store.filesystem import OpenFiles, warn_about
from agentq_nb._store.fork_safety import leak, watch_forks
from agentq_nb._store.group_commit import Done, GroupCommit
from agentq_nb._store.guard import Guard
from agentq_nb._store.journal import Journal, journal_of, remove_journal
from agentq_nb._store.maintenance import Maintenance
from agentq_nb._store.open_errors import cannot_open
from agentq_nb._store.open_store import describe_closed, prepare, tidy_up
from agentq_nb._store.row import Row
from agentq_nb._store.schema import utc
from agentq_nb._store.sql import Parameters, Readers, Table, read_alone, run_sql
from agentq_nb._store.store_paths import real_path
from agentq_nb._store.writer import Connection, Writer
from agentq_nb.errors import Forked, StoreError

T = TypeVar("T")

_TO_JOIN = 256 << 20
"""Bytes of memory in which the ids of a million messages can be compared without spilling to disk."""
_ROWS_AT_ONCE = 500


class EventLog:
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
        self.path = path
        self.notices: list[str] = []
        """Sentences for users about how it was opened."""
        self.loss: str | None = None
        """Set by :meth:`close`: what was lost, or where the file is now, since it was deleted or moved."""
        self._guard = guard
        self._connection = connection
        self._readers = Readers(connection)
        self._commits = GroupCommit(connection.cursor(), guard, last, journal)
        self._commits.after_drain = self._checkpoint_if_due
        self._checkpointer = checkpointer
        self._writer = Writer(self._commits)
        others = {guard.path: guard.descriptor} | ({} if journal is None else {journal.path: journal.descriptor})
        self._files = OpenFiles(path, checkpointer.file.descriptor, others)
        self._last_at_open = last
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

    def on_failure(self, call: Callable[[StoreError], None]) -> None:
        """Call ``call`` on the loop after a failed write, in addition to the callbacks of the rows being written."""
        self._writer.on_failure = call

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call back on this loop. Without it, the loop of the first append is used."""
        self._writer.loop = loop

    def append(self, rows: Sequence[Row], done: Done | None = None, time: float | None = None) -> None:
        """Append rows, in order and in one commit. Call it in the loop's thread.

        ``done`` is called on the loop with None once the commit is durable, or with the error. ``time`` is in seconds
        since 1970 (None: now).
        """
        if self._closed or self._forked:
            self._check()
        self._writer.append(system_time.time() if time is None else time, rows, done)

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

    # --- reading ------------------------------------------------------------------------------------------------------

    def fetch(self, query: str, parameters: Parameters = ()) -> startup_queries.Rows:
        """Run a trusted query. From any thread; blocks. Raises StoreError, also when the log is closed meanwhile."""
        return self._read(lambda cursor: cursor.execute(query, parameters).fetchall())

    def _read(self, read: Callable[[Connection], startup_queries.Rows]) -> startup_queries.Rows:
        self._check()
        self._drained()
        try:
            with self._readers.cursor() as cursor:
                return read(cursor)
        except duckdb.Error as error:
            self._check()
            raise self._not_read(error) from error

    def _not_read(self, error: duckdb.Error) -> StoreError:
        return StoreError(f"{self.path} cannot be read: {str(error).partition(chr(10))[0]}. Try again.")

    async def sql(self, query: str, parameters: Parameters = ()) -> Table:
        """Run a user's query, which may only read, in a thread; cancelling the caller interrupts it.

        Raises SqlRefused.
        """
        self._check()
        await in_long_thread(self._drained)
        return await run_sql(self._readers, query, parameters)

    def _drained(self) -> None:
        """Drain the backlog, so that reads see every durable row. Raises StoreError rather than show outdated rows."""
        try:
            self._writer.drained()
        except duckdb.Error as error:
            raise StoreError(
                f"The last rows cannot be read for the moment, since the database takes nothing: "
                f"{str(error).partition(chr(10))[0]}. They are durable in {journal_of(self.path).name}. Make room on the disk."
            ) from error

    def live_rows(self, largest_body: int | None = None) -> startup_queries.Rows:
        """Return all rows of unsettled messages in order: seq, seconds since 1970, kind, actor id, message id, data.

        A body of more than ``largest_body`` bytes is replaced by its ``size``.
        """
        some_back = bool(self.fetch(startup_queries.ANY_REDELIVERED))
        return self._recall(startup_queries.live_rows(some_back=some_back, largest_body=largest_body), least=_TO_JOIN)

    def actor_states(self) -> list[tuple[str, str | None]]:
        """Return (actor id, state) of all actors that were not destroyed, oldest first; state is JSON or None."""
        latest = self.fetch(startup_queries.LATEST_STATES)
        states: dict[int, str] = {}
        for places in startup_queries.pages([place for _, place in latest if place is not None]):
            states.update(self._recall(startup_queries.STATES, startup_queries.span(places)))
        return [(actor, states.get(place)) for actor, place in latest]

    def dead_counts(self) -> startup_queries.Rows:
        """Return (actor id, queue, message id) of the dead letters, in the order they were sent."""
        return self._recall(startup_queries.DEAD_COUNTS) if self.fetch(startup_queries.ANY_FAILED) else []

    def pauses(self) -> startup_queries.Rows:
        """Return (actor id, queue, until) of queues paused and not resumed; ``until`` may have passed."""
        return self._recall(startup_queries.PAUSES)

    def _recall(self, query: str, parameters: Parameters = (), *, least: int = 0) -> startup_queries.Rows:
        """Run a startup query, while nothing else uses the log."""

        def read(cursor: Connection) -> startup_queries.Rows:
            return read_alone(cursor, lambda: cursor.execute(query, parameters).fetchall(), least=least)

        return self._read(read)

    def completed_keys(self) -> startup_queries.Rows:
        """Return (hash of actor, queue and idempotency key; seq) of completed messages that have a key."""
        return self.fetch(startup_queries.COMPLETED_KEYS)

    def completed_counts(self) -> startup_queries.Rows:
        """Return (actor id, queue, number) of messages completed before the log was opened. From any thread; blocks."""
        return self.fetch(startup_queries.COMPLETED_COUNTS, [self._last_at_open])

    def message_rows(self, message_id: str) -> startup_queries.Rows:
        """Return all rows of one message in order: seq, seconds since 1970, kind, actor id, message id, data."""
        return self.fetch(startup_queries.MESSAGE_ROWS, [message_id])

    def dead_letters(self, wanted: Mapping[str, Any]) -> startup_queries.Rows:
        """Return (seq, actor id, queue, message id) of dead letters in the order sent. From any thread; blocks.

        ``wanted`` has ``actor``, ``name``, ``queue``, ``since`` and ``error``, all of them; see ``DeadLetters``.
        """

        def read(cursor: Connection) -> startup_queries.Rows:
            found = cursor.execute(startup_queries.DEAD_LETTERS, dict(wanted))
            rows: startup_queries.Rows = []
            while some := found.fetchmany(_ROWS_AT_ONCE):  # other threads run between the fetches
                rows += some
            return rows

        return self._read(read)

    def sent_rows(self, places: Sequence[int], largest_body: int) -> startup_queries.Rows:
        """Return rows as ``live_rows`` does, but those with these sequence numbers, which are in ascending order."""
        return self.fetch(startup_queries.sent_rows(largest_body), startup_queries.span(places))

    def body(self, message_id: str, first: int) -> bytes:
        """Return the body, as JSON, of a message written at ``first`` or later. Raises StoreError."""
        found = self.fetch(startup_queries.BODY, [first, message_id])
        if not found:
            raise StoreError(f"The body of message {message_id} is not in {self.path}. See %agentq doctor.")
        return found[0][0]

    def closed_cleanly(self) -> bool:
        """Whether the previous host recorded that it stopped, or there was none."""
        return startup_queries.closed_cleanly(self._last_host_events())

    def last_life(self) -> tuple[int, bool]:
        """Return the sequence number at which the previous host started, and whether that start followed a crash."""
        return startup_queries.last_life(self._last_host_events())

    def _last_host_events(self) -> startup_queries.Rows:
        return self.fetch(startup_queries.LAST_HOST_EVENTS, [self._last_at_open])

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
