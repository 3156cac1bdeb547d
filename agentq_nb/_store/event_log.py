"""The log: one append-only table in one DuckDB file, opened by one process at a time."""

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
"""Bytes of memory with which the ids of a million messages can be compared without putting them on the disk."""
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
        """Plain sentences about how it was opened, for people."""
        self.loss: str | None = None
        """Once it was closed: what was lost by that, or where it has gone, since the file was deleted or moved."""
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
        """Open the log at ``path``, making it when it is missing. Blocks: call it in a worker thread.

        ``holder`` is told to whoever finds the log in use (``notebook``, ``connect``). With ``accept_loss`` a damaged
        log goes on without what is lost: the damaged files are kept under other names and the loss is written down.
        Raises StoreInUse, StoreDamaged, StoreTooNew, StoreNotOurs, StoreReadOnly, StoreError; nothing on disk was
        changed then, and trying again is as good as the first time.
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
        """Set once a write did not reach the disk: every later append is answered with it. Close, and open again."""
        return self._commits.failed

    @property
    def trouble(self) -> str | None:
        """Why rows do not reach the database for the moment, though they are durable in the journal; or what has
        happened to the files."""
        if self._closed or self._forked:
            return None
        return " ".join(filter(None, [self._writer.trouble, self._files.trouble()])) or None

    def on_failure(self, call: Callable[[StoreError], None]) -> None:
        """Call this on the loop once a write has failed, besides the answers to what was being written."""
        self._writer.on_failure = call

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call back on this loop. Without it, the loop of the first append is taken."""
        self._writer.loop = loop

    def append(self, rows: Sequence[Row], done: Done | None = None, time: float | None = None) -> None:
        """Add rows; they are in one commit, in order. To be called in the loop's thread.

        ``done`` is called on the loop once the commit is durable, with None; or with the error. ``time`` is seconds
        since 1970 (now, if None).
        """
        if self._closed or self._forked:
            self._check()
        self._writer.append(system_time.time() if time is None else time, rows, done)

    async def decide(self, job: Callable[[Connection], tuple[Sequence[Row], T]], time: float | None = None) -> T:
        """Read what is stored and write what follows from it, with nothing being written in between.

        ``job`` is given a connection, in the writer's thread, and must be short. The rows it returns are durable when
        this returns the value that goes with them. What was appended before is stored when it looks, and what is
        appended later comes after its rows. Raises StoreWriteFailed, and what ``job`` raises: nothing was written then.
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
        """Our own reads. From any thread; blocks. Raises StoreError, also when the log is closed meanwhile."""
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
        """Answer a person's query, which may only read. In a thread; cancelling the caller interrupts it.

        Raises SqlRefused.
        """
        self._check()
        await in_long_thread(self._drained)
        return await run_sql(self._readers, query, parameters)

    def _drained(self) -> None:
        """Let the database have all rows that are durable. Raises StoreError: old rows are not shown for new ones."""
        try:
            self._writer.drained()
        except duckdb.Error as error:
            raise StoreError(
                f"The last rows cannot be read for the moment, since the database takes nothing: "
                f"{str(error).partition(chr(10))[0]}. They are durable in {journal_of(self.path).name}. Make room on the disk."
            ) from error

    def live_rows(self, largest_body: int | None = None) -> startup_queries.Rows:
        """(seq, seconds since 1970, kind, actor id, message id, data) of all messages that are not settled, in order.

        In place of a body of more than ``largest_body`` bytes there is only its ``size``.
        """
        some_back = bool(self.fetch(startup_queries.ANY_REDELIVERED))
        return self._recall(startup_queries.live_rows(some_back=some_back, largest_body=largest_body), least=_TO_JOIN)

    def actor_states(self) -> list[tuple[str, str | None]]:
        """(actor id, state), JSON or None, of the actors that were not destroyed, oldest first."""
        latest = self.fetch(startup_queries.LATEST_STATES)
        states: dict[int, str] = {}
        for places in startup_queries.pages([place for _, place in latest if place is not None]):
            states.update(self._recall(startup_queries.STATES, startup_queries.span(places)))
        return [(actor, states.get(place)) for actor, place in latest]

    def dead_counts(self) -> startup_queries.Rows:
        """(actor id, queue, message id) of the dead letters, in the order of their sending."""
        return self._recall(startup_queries.DEAD_COUNTS) if self.fetch(startup_queries.ANY_FAILED) else []

    def pauses(self) -> startup_queries.Rows:
        """(actor id, queue, until) of the queues paused last and not resumed since; ``until`` may be past by now."""
        return self._recall(startup_queries.PAUSES)

    def _recall(self, query: str, parameters: Parameters = (), *, least: int = 0) -> startup_queries.Rows:
        """A read at the beginning, when nothing else goes on."""

        def read(cursor: Connection) -> startup_queries.Rows:
            return read_alone(cursor, lambda: cursor.execute(query, parameters).fetchall(), least=least)

        return self._read(read)

    def completed_keys(self) -> startup_queries.Rows:
        """(number of actor, queue and idempotency key; sequence number) of completed messages that have a key."""
        return self.fetch(startup_queries.COMPLETED_KEYS)

    def completed_counts(self) -> startup_queries.Rows:
        """(actor id, queue, how many) of the messages that had completed when the log was opened. From any thread; blocks."""
        return self.fetch(startup_queries.COMPLETED_COUNTS, [self._last_at_open])

    def message_rows(self, message_id: str) -> startup_queries.Rows:
        """(seq, seconds since 1970, kind, actor id, message id, data) of one message, in order."""
        return self.fetch(startup_queries.MESSAGE_ROWS, [message_id])

    def dead_letters(self, wanted: Mapping[str, Any]) -> startup_queries.Rows:
        """(place in the log, actor id, queue, message id) of dead letters, in the order of their sending. From any thread; blocks.

        ``wanted``: all of ``actor``, ``name``, ``queue``, ``since`` and ``error``, see ``DeadLetters``.
        """

        def read(cursor: Connection) -> startup_queries.Rows:
            found = cursor.execute(startup_queries.DEAD_LETTERS, dict(wanted))
            rows: startup_queries.Rows = []
            while some := found.fetchmany(_ROWS_AT_ONCE):  # other threads go on between two of these
                rows += some
            return rows

        return self._read(read)

    def sent_rows(self, places: Sequence[int], largest_body: int) -> startup_queries.Rows:
        """As ``live_rows``, but the rows at these places, which are in ascending order."""
        return self.fetch(startup_queries.sent_rows(largest_body), startup_queries.span(places))

    def body(self, message_id: str, first: int) -> bytes:
        """The body of a message that was written at ``first`` or later, as JSON. Raises StoreError."""
        found = self.fetch(startup_queries.BODY, [first, message_id])
        if not found:
            raise StoreError(f"The body of message {message_id} is not in {self.path}. See %agentq doctor.")
        return found[0][0]

    def closed_cleanly(self) -> bool:
        """The host before this one said that it stopped, or there was none."""
        return startup_queries.closed_cleanly(self._last_host_events())

    def last_life(self) -> tuple[int, bool]:
        """The sequence number at which the host before this one started, and whether it had followed on a crash."""
        return startup_queries.last_life(self._last_host_events())

    def _last_host_events(self) -> startup_queries.Rows:
        return self.fetch(startup_queries.LAST_HOST_EVENTS, [self._last_at_open])

    # --- keeping house ------------------------------------------------------------------------------------------------

    async def prune(
        self,
        before: float,
        *,
        dropped: Callable[[Sequence[str]], None] | None = None,
        spared: Callable[[], Collection[str]] | None = None,
    ) -> int:
        """Drop the history of what was settled before then; dead letters and everything live stay.

        It goes on beside the traffic, a slice at a time; cancelled, it stops after the present one. Returns the number of
        rows dropped. Raises StoreError: what went until then is accounted for.

        :param before: seconds since 1970.
        :param dropped: called on the loop with the ids of messages that are gone, after each slice.
        :param spared: asked in the writer's thread, before each slice, for messages that must not be touched.
        """
        self._check()
        try:
            rows = await self._maintenance.prune(utc(before), lambda said: self.append([said]), dropped, spared)
        except (duckdb.Error, OSError) as error:
            raise _unfinished("dropping old history", error) from error
        await self.flushed()
        return rows

    async def export(self, target: Path) -> None:
        """Write a copy that other programs can open, with all that is acknowledged by now. Never overwrites.

        It is made beside the traffic; cancelled, or killed, nothing is left of it. Raises StoreError, StoreReadOnly.
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

        Raises CheckpointNotBegun; what else it raises ends all writing.
        """
        try:
            self._checkpointer.checkpoint(self._commits.connection)
        except (OSError, duckdb.Error) as error:
            self._commits.fail(error)
            raise
        with suppress(OSError):
            self._guard.sync()

    # --- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Write what was appended, tidy up and give the file free. Blocks. Nothing happens the second time."""
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
        # Whoever still holds this log when the process ends must not hold anything of DuckDB's, which would complain.
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
        """Say in the database that no journal belongs to it. Only then may the journal go."""
        try:
            set_journal(self._connection, "")
        except duckdb.Error:
            return False
        return True

    def _sign_off(self) -> None:
        """Everything is in the one file: say how it looks."""
        facts = self._guard.identity
        if not schema.wal_of(self.path).exists():
            remove_journal(self.path)
            self._guard.write_both_marks(self.last_seq)
            facts["closed"] = describe_closed(self.path, self.last_seq)
        self._guard.write_facts(facts)

    def let_go(self) -> None:
        """In a forked child: keep neither the parent's lock nor anything whose destructor would write to its file."""
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
