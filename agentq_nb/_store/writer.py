"""The writer: appends rows to the log, on the event loop while the disk is fast, else in its own thread."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import duckdb

from agentq_nb._store.fork_safety import leak
from agentq_nb._store.group_commit import Answers, Append, Done, GroupCommit
from agentq_nb._store.schema import Row
from agentq_nb.errors import StoreError

_FREE = 0.001
_SHARE = 0.1
_LIMIT = 0.05


class LoopBudget:
    """Allows writes on the loop while the disk is fast.

    The time of each write beyond a millisecond is a debt, which 10 % of the elapsed time pays off. Above 50 ms of debt
    no write is allowed, so a slow disk blocks the loop for at most a tenth of the time. A limit on single writes would
    not do: one slow write among thousands would move all traffic to the thread.
    """

    def __init__(self) -> None:
        self._debt = 0.0
        self._counted_at = 0.0

    def allows(self) -> bool:
        """Whether the next write may be made on the loop."""
        if not self._debt:
            return True
        now = time.monotonic()
        self._debt = max(0.0, self._debt - (now - self._counted_at) * _SHARE)
        self._counted_at = now
        return self._debt < _LIMIT

    def spend(self, seconds: float) -> None:
        """Count a write that took ``seconds``."""
        if seconds > _FREE:
            if not self._debt:
                self._counted_at = time.monotonic()
            self._debt += seconds - _FREE


T = TypeVar("T")

Connection = duckdb.DuckDBPyConnection

_LARGEST_ON_LOOP = 256 << 10
"""Characters of a commit above which copying and checksumming block the loop too long."""
_DRAIN_AFTER = 0.2
"""Seconds without a commit after which the journal is drained."""
_DRAIN_AGAIN = 1.0
"""Seconds before a failed drain is retried."""


class Writer:
    """Appends rows in order, each append whole in one commit. Used from one event loop's thread.

    One thread commits at a time: the loop's thread only while the writer's has no commit to make (``_handed``) and no
    decision is being made in it (``_deciding``). ``_writing`` keeps a close in another thread out of the loop's commits.
    """

    def __init__(self, commits: GroupCommit) -> None:
        self.commits = commits
        self.loop: asyncio.AbstractEventLoop | None = None
        self.trouble: str | None = None
        """Why durable rows do not reach the database at the moment; None if they do."""
        self.on_failure: Callable[[StoreError], None] | None = None
        """Called on the loop after a failed write, in addition to the callbacks of the rows being written."""
        self._budget = LoopBudget()
        self._gathered: list[Append] = []
        self._scheduled = False
        self._deferred = False
        """Whether the scheduled commit is made an iteration later than it could be."""
        self._handed = 0
        self._deciding = 0
        self._failure_reported = False
        self._closing = False
        self._drain_asked = False
        self._drain_timer: asyncio.TimerHandle | None = None
        self._writing = threading.Lock()
        self._jobs: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="agentq log writer", daemon=True)
        self._thread.start()

    # --- appending, in the loop's thread ------------------------------------------------------------------------------

    def append(self, time: float, rows: Sequence[Row], done: Done | None, *, awaited: bool = True) -> None:
        """Add rows to the next commit. ``awaited``: something waits for it, so it is made as soon as possible."""
        self._gathered.append((time, rows, done))
        if self.loop is None or self.loop.is_closed():
            try:
                self._move_to(asyncio.get_running_loop())
            except RuntimeError:  # the process is ending without a loop: the rows are written by ``close``
                return
        if self._handed or (self._scheduled and not (awaited and self._deferred)):
            return
        at_once = awaited and self._may_commit_here()
        if self._scheduled and not at_once:
            return
        self._scheduled, self._deferred = True, not at_once
        assert self.loop is not None
        if at_once:
            self.loop.call_soon(self._hand_over)
        else:
            # One iteration later a burst, with the rows of quick handlers, shares the commit in the thread; and what
            # follows an ended handler has started before the loop waits for the disk.
            self.loop.call_soon(self.loop.call_soon, self._hand_over)

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Switch to another loop. Finish the old loop's commits in the thread first; its callbacks are lost."""
        if self.loop is not None:
            done = threading.Event()
            self._jobs.put(done.set)
            done.wait()
        self.loop, self._scheduled, self._handed, self._deciding = loop, False, 0, 0

    def _may_commit_here(self) -> bool:
        return self.commits.journal is not None and not self._handed and not self._deciding and self._budget.allows()

    def _hand_over(self) -> None:
        """Commit the gathered rows, here or in the thread."""
        if (answers := self._commit_gathered()) is not None:
            self._after_commit(answers)

    def _commit_gathered(self) -> Answers | None:
        """Commit the gathered rows here, and return the callbacks; None if the thread commits them, or there are none."""
        self._scheduled = False
        answers: Answers | None = None
        with self._writing:
            if self._closing or not self._gathered:
                return None
            batch, self._gathered = self._gathered, []
            if self._may_commit_here() and _is_small(batch):
                answers = self.commits.commit(batch, on_loop=True)
            if answers is None:
                self._hand(batch)
                return None
        if self.commits.journal is not None:
            self._budget.spend(self.commits.journal.seconds)
        return answers

    def _hand(self, batch: list[Append]) -> None:
        """Let the thread commit a batch."""
        self._handed += 1
        self._jobs.put(lambda: self._call_on_loop(self._committed, self.commits.commit(batch, on_loop=False) or []))

    def _committed(self, answers: Answers) -> None:
        """Continue after a commit of the thread."""
        self._handed = max(0, self._handed - 1)
        next_answers: Answers | None = None
        if not self._scheduled and not self._handed:
            next_answers = self._commit_gathered()  # in the thread, it begins before the callbacks of this one run
        self._after_commit(answers)
        if next_answers is not None:
            self._after_commit(next_answers)

    def _after_commit(self, answers: Answers) -> None:
        self._plan_drain()
        self._report_failure()
        for done, error in answers:
            try:
                done(error)
            except Exception as raised:
                assert self.loop is not None
                self.loop.call_exception_handler({"message": "a callback of the log raised", "exception": raised})

    def _report_failure(self) -> None:
        failed = self.commits.failed
        if failed is not None and not self._failure_reported:
            self._failure_reported = True
            if self.on_failure is not None:
                self.on_failure(failed)

    def idle(self) -> bool:
        """Whether everything appended is durable, or was answered with an error."""
        return not self._handed and not self._gathered

    # --- draining -----------------------------------------------------------------------------------------------------

    def _plan_drain(self) -> None:
        """Drain when the journal has gathered much, or when no more rows come for a while."""
        backlog = self.commits.backlog
        if backlog.is_large:
            self._ask_for_drain()
        elif self._drain_timer is None and backlog.drained < self.commits.last and self.loop is not None:
            self._drain_timer = self.loop.call_later(_DRAIN_AFTER, self._drain_if_idle, self.commits.last)

    def _drain_if_idle(self, seen: int) -> None:
        self._drain_timer = None
        if seen == self.commits.last:
            self._ask_for_drain()
        else:
            self._plan_drain()

    def _ask_for_drain(self) -> None:
        if not self._drain_asked and not self._closing:
            self._drain_asked = True
            self._jobs.put(self._drain)

    def _drain(self) -> None:
        """Drain; a failed drain is retried, since the rows are durable in the journal."""
        self._drain_asked = False
        try:
            self.commits.drain()
            self.trouble = None
        except (duckdb.FatalException, OSError) as error:
            self.commits.fail(error)
            self._call_on_loop(self._report_failure)
        except Exception as error:
            self.trouble = f"The database takes nothing for the moment: {str(error).partition(chr(10))[0]}"
            self._call_on_loop(self._drain_again)

    def _drain_again(self) -> None:
        if self._drain_timer is None and self.loop is not None:
            self._drain_timer = self.loop.call_later(_DRAIN_AGAIN, self._drain_if_idle, self.commits.last)

    def drained(self) -> None:
        """Return when all durable rows are in the database. Blocks. From any thread but the writer's.

        Raises duckdb.Error.
        """
        if self.commits.backlog and self._thread.is_alive():
            self.submit(lambda _: None).result()

    # --- work in the thread -------------------------------------------------------------------------------------------

    def submit(self, job: Callable[[Connection], T]) -> Future[T]:
        """Run ``job`` in the writer's thread once all rows that are durable by then are in the database.

        Meanwhile rows are still written to the journal, as long as it has room: a job must be short (50 ms).
        """
        return self._submit(job, None)

    def decide(self, job: Callable[[Connection], tuple[Sequence[Row], T]], time: float) -> Future[T]:
        """Run ``job`` while nothing else is written; the rows it returns are durable when the future is done.

        Rows appended before are in the database when ``job`` runs; rows appended later come after its own. Call it in
        the loop's thread.
        """
        self.loop = self.loop or asyncio.get_running_loop()
        with self._writing:
            if self._gathered and not self._closing:
                batch, self._gathered = self._gathered, []
                self._hand(batch)
        self._deciding += 1

        def decide(connection: Connection) -> T:
            rows, value = job(connection)
            errors: list[StoreError | None] = []
            for done, error in self.commits.commit([(time, rows, errors.append)], on_loop=False) or ():
                done(error)
            if errors[0] is not None:
                self._call_on_loop(self._report_failure)
                raise errors[0]
            return value

        return self._submit(decide, self._decided)

    def _decided(self) -> None:
        self._deciding = max(0, self._deciding - 1)
        self._plan_drain()
        if not self._scheduled and not self._handed:
            self._hand_over()

    def _submit(self, job: Callable[[Connection], T], ended: Callable[[], None] | None) -> Future[T]:
        answer: Future[T] = Future()

        def work() -> None:
            try:
                if not answer.set_running_or_notify_cancel():
                    return  # the caller cancelled it
                try:
                    self.commits.drain()
                    answer.set_result(job(self.commits.connection))
                except BaseException as error:
                    answer.set_exception(error)
            finally:
                if ended is not None:
                    self._call_on_loop(ended)

        self._jobs.put(work)
        return answer

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            # Release the batch while waiting for the next job.
            job = None

    def _call_on_loop(self, call: Callable[..., None], *args: Any) -> None:
        if self.loop is not None:
            with suppress(RuntimeError):  # the loop was closed
                self.loop.call_soon_threadsafe(call, *args)

    # --- closing ------------------------------------------------------------------------------------------------------

    def let_go(self) -> None:
        """In a forked child, which has no such thread: leak the parent's connection, so that it is never destroyed."""
        leak(self.commits.connection)
        if self.commits.journal is not None:
            self.commits.journal.close()

    def close(self) -> None:
        """Commit the gathered rows, drain the journal and end the thread. Callbacks still run, on the loop."""
        with self._writing:
            self._closing = True
            batch, self._gathered = self._gathered, []
        if batch:
            self._hand(batch)
        self._jobs.put(None)
        self._thread.join()
        if self._drain_timer is not None:
            self._drain_timer.cancel()
        with suppress(duckdb.Error):
            self.commits.drain()


def _is_small(batch: Sequence[Append]) -> bool:
    return sum(sum(map(len, rows)) for _, rows, _ in batch) <= _LARGEST_ON_LOOP
