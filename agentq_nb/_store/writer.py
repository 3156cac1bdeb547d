"""How long durable writes may keep the event loop from other work."""

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
from agentq_nb._store.row import Row
from agentq_nb.errors import StoreError

_FREE = 0.001
_SHARE = 0.1
_LIMIT = 0.05


class LoopBudget:
    """Allows writes on the loop while the disk is fast.

    What each write takes beyond a millisecond is a debt, which 10 % of the time that passes pays off. Above 50 ms of debt
    nothing is allowed, so a slow disk holds the loop up for a tenth of the time at most. A limit on single writes
    would not do: one slow write among thousands would send all traffic elsewhere.
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
        """Count a write that took so many seconds."""
        if seconds > _FREE:
            if not self._debt:
                self._counted_at = time.monotonic()
            self._debt += seconds - _FREE


T = TypeVar("T")

Connection = duckdb.DuckDBPyConnection

_LARGEST_ON_LOOP = 256 << 10
"""Characters of a commit above which copying and summing them takes the loop too long."""
_DRAIN_CHARACTERS = 2 << 20
_DRAIN_AFTER = 0.2
"""Seconds without a commit after which the journal is drained."""
_DRAIN_AGAIN = 1.0
"""Seconds before a drain that failed is tried again."""


class Writer:
    """Appends rows in order, each append whole in one commit. Used from one event loop's thread.

    One thread commits at a time: the loop's only while the writer's own has no commit to make (``_handed``) and no
    decision is being made in it (``_deciding``). ``_writing`` keeps a close in another thread out of the loop's commits.
    """

    def __init__(self, commits: GroupCommit) -> None:
        self.commits = commits
        self.loop: asyncio.AbstractEventLoop | None = None
        self.trouble: str | None = None
        """Why rows do not reach the database for the moment, though they are durable."""
        self.on_failure: Callable[[StoreError], None] | None = None
        """Called on the loop once a write has failed, besides the answers to what was being written."""
        self._budget = LoopBudget()
        self._gathered: list[Append] = []
        self._scheduled = False
        self._handed = 0
        self._deciding = 0
        self._failure_told = False
        self._closing = False
        self._drain_asked = False
        self._drain_timer: asyncio.TimerHandle | None = None
        self._writing = threading.Lock()
        self._jobs: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="agentq log writer", daemon=True)
        self._thread.start()

    # --- appending, in the loop's thread ------------------------------------------------------------------------------

    def append(self, time: float, rows: Sequence[Row], done: Done | None) -> None:
        """Gather rows for the next commit."""
        self._gathered.append((time, rows, done))
        if self.loop is None or self.loop.is_closed():
            try:
                self._move_to(asyncio.get_running_loop())
            except RuntimeError:  # the process ends and no loop runs any more: it goes out with the close
                return
        if self._scheduled or self._handed:
            return
        self._scheduled = True
        assert self.loop is not None
        if self._may_commit_here():
            self.loop.call_soon(self._hand_over)
        else:
            # One tick more, so that a burst, and what a quick handler adds, shares its first trip to the thread.
            self.loop.call_soon(self.loop.call_soon, self._hand_over)

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Go on in another loop. What the one before left to the thread is done first; its callbacks are gone."""
        if self.loop is not None:
            done = threading.Event()
            self._jobs.put(done.set)
            done.wait()
        self.loop, self._scheduled, self._handed, self._deciding = loop, False, 0, 0

    def _may_commit_here(self) -> bool:
        return self.commits.journal is not None and not self._handed and not self._deciding and self._budget.allows()

    def _hand_over(self) -> None:
        """Commit what was gathered, here or in the thread."""
        self._scheduled = False
        answers: Answers | None = None
        with self._writing:
            if self._closing or not self._gathered:
                return
            batch, self._gathered = self._gathered, []
            if self._may_commit_here() and _is_small(batch):
                answers = self.commits.commit(batch, on_loop=True)
            if answers is None:
                self._hand(batch)
                return
        if self.commits.journal is not None:
            self._budget.spend(self.commits.journal.seconds)
        self._after_commit(answers)

    def _hand(self, batch: list[Append]) -> None:
        """Let the thread commit a batch."""
        self._handed += 1
        self._jobs.put(lambda: self._tell(self._committed, self.commits.commit(batch, on_loop=False) or []))

    def _committed(self, answers: Answers) -> None:
        """The thread has made a commit."""
        self._handed = max(0, self._handed - 1)
        if not self._scheduled and not self._handed:
            self._hand_over()  # the next commit begins before those who waited for this one run
        self._after_commit(answers)

    def _after_commit(self, answers: Answers) -> None:
        self._plan_drain()
        self._tell_failure()
        for done, error in answers:
            try:
                done(error)
            except Exception as raised:
                assert self.loop is not None
                self.loop.call_exception_handler({"message": "a callback of the log raised", "exception": raised})

    def _tell_failure(self) -> None:
        failed = self.commits.failed
        if failed is not None and not self._failure_told:
            self._failure_told = True
            if self.on_failure is not None:
                self.on_failure(failed)

    def idle(self) -> bool:
        """Everything appended is durable, or was answered with an error."""
        return not self._handed and not self._gathered

    # --- draining -----------------------------------------------------------------------------------------------------

    def _plan_drain(self) -> None:
        """Drain when much has gathered in the journal, or when nothing more comes for a while."""
        backlog = self.commits.backlog
        if backlog.characters >= _DRAIN_CHARACTERS:
            self._ask_for_drain()
        elif backlog and self._drain_timer is None and self.loop is not None:
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
        """The rows are durable in the journal, so a drain that fails is tried again."""
        self._drain_asked = False
        try:
            self.commits.drain()
            self.trouble = None
        except (duckdb.FatalException, OSError) as error:
            self.commits.fail(error)
            self._tell(self._tell_failure)
        except Exception as error:
            self.trouble = f"The database takes nothing for the moment: {str(error).partition(chr(10))[0]}"
            self._tell(self._drain_again)

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
        """Do ``job`` in the writer's thread once all rows that are durable by then are in the database.

        Rows go on being written to the journal meanwhile, as long as it has room: a job must be short (50 ms).
        """
        return self._submit(job, None)

    def decide(self, job: Callable[[Connection], tuple[Sequence[Row], T]], time: float) -> Future[T]:
        """Do ``job`` with nothing being written meanwhile; the rows it returns are durable when the future is done.

        What was appended before is in the database when ``job`` looks; what is appended later comes after its rows.
        To be called in the loop's thread.
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
                self._tell(self._tell_failure)
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
                    return  # nobody waits for it any longer
                try:
                    self.commits.drain()
                    answer.set_result(job(self.commits.connection))
                except BaseException as error:
                    answer.set_exception(error)
            finally:
                if ended is not None:
                    self._tell(ended)

        self._jobs.put(work)
        return answer

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            # The thread holds no batch while it waits for the next one.
            job = None

    def _tell(self, call: Callable[..., None], *args: Any) -> None:
        if self.loop is not None:
            with suppress(RuntimeError):  # the loop was closed: nobody is left to be told
                self.loop.call_soon_threadsafe(call, *args)

    # --- the end ------------------------------------------------------------------------------------------------------

    def let_go(self) -> None:
        """In a forked child, where there is no thread: what belongs to the parent is never destroyed."""
        leak(self.commits.connection)
        if self.commits.journal is not None:
            self.commits.journal.close()

    def close(self) -> None:
        """Commit what was gathered, drain the journal and end the thread. Callbacks still come, on the loop."""
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
