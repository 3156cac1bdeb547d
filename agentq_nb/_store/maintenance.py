"""Long-running maintenance alongside normal writes: pruning, compaction and export.

Long steps run in threads of their own and only read. Changes to the database are made in slices, in the writer's thread
between its other work; the size of a slice follows from the duration of the last ones.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from agentq_nb._core.threads import in_long_thread, to_its_end
from agentq_nb._store import compaction, export, prune
from agentq_nb._store.database_file import DatabaseFile
from agentq_nb._store.schema import Row, row, wal_of
from agentq_nb._store.sql import Readers
from agentq_nb.errors import StoreError

T = TypeVar("T")

_LONGEST_SLICE = 0.025
"""Seconds that a slice should take at most; half of what a job may occupy the writer's thread."""
_FEWEST_ROWS, _MOST_ROWS = 1000, 24_000
_FEWEST_DROPPED = 4000
"""Finding the rows to delete takes most of a slice's time, even if they are few."""
_ROOM = 64 << 20
"""Bytes that must be free on the disk besides the space that moving the rows takes."""


class Pace:
    """The number of rows per slice, adapted to the duration of the last one."""

    def __init__(self, fewest: int = _FEWEST_ROWS) -> None:
        self.rows = self._fewest = fewest

    def took(self, seconds: float) -> None:
        """Adapt to the duration of a slice."""
        if seconds > _LONGEST_SLICE:
            self.rows = max(self._fewest, self.rows // 2)
        elif seconds < _LONGEST_SLICE * 0.7:
            self.rows = min(_MOST_ROWS, self.rows * 5 // 4)


class Maintenance:
    """The maintenance of one log. Used from its event loop."""

    def __init__(
        self,
        file: DatabaseFile,
        readers: Readers,
        submit: Callable[[Callable[[duckdb.DuckDBPyConnection], Any]], Future[Any]],
        checkpoint: Callable[[], None],
    ) -> None:
        """``checkpoint`` makes one, in the writer's thread. ``submit`` raises StoreError once the log was closed."""
        self._file = file
        self._readers = readers
        self._submit = submit
        self._checkpoint_now = checkpoint
        self._source = export.Source(file)
        self._shrinking = False

    @property
    def snapshot_needed(self) -> bool:
        """Whether a copy is being made, so that no checkpoint may be."""
        return self._source.in_use

    # --- pruning ------------------------------------------------------------------------------------------------------

    async def prune(
        self,
        before: datetime,
        append: Callable[[Row], None],
        dropped: Callable[[Sequence[str]], None] | None,
        spared: Callable[[], Collection[str]] | None,
    ) -> int:
        """Delete history that was settled before a time, and compact where that pays. Return the number of rows.

        See :meth:`EventLog.prune`.
        """
        total = 0
        pace = Pace(_FEWEST_DROPPED)
        await self._slice(lambda _: None)  # now every acknowledged row is in the database
        with self._readers.cursor() as cursor:
            search = await to_its_end(prune.Search, cursor, before)
            try:
                while (part := await to_its_end(search.take, pace.rows)) is not None:

                    def drop(
                        connection: duckdb.DuckDBPyConnection, part: prune.Part = part
                    ) -> tuple[int, Sequence[str]]:
                        nonlocal total
                        begun = time.perf_counter()
                        rows, gone = prune.drop(connection, part, spared() if spared is not None else ())
                        total += rows
                        pace.took(time.perf_counter() - begun)
                        return rows, gone

                    await self._slice(drop, lambda done: dropped(done[1]) if dropped is not None else None)
            finally:
                if total:
                    with suppress(StoreError):  # the log was closed meanwhile; the database has the count
                        append(row("store.pruned", data=json.dumps({"before": before.isoformat(), "rows": total})))
        if total:
            # The rows are deleted; failing to shrink the file is no reason to fail.
            with suppress(duckdb.Error, OSError, StoreError):
                await self.shrink()
        return total

    # --- compaction ---------------------------------------------------------------------------------------------------

    async def shrink(self) -> None:
        """Shrink the file where that pays, there is room for it, and it is not being done already.

        Raises StoreError, duckdb.Error: then the log is still whole.
        """
        if self._shrinking:
            return
        self._shrinking = True
        try:
            await self._checkpoint()
            # Rows that were moved to places after the old ones have to move once more before the file can be truncated.
            for _ in range(2):
                if not await self._pays():
                    return
                await self._move_all()
        finally:
            self._shrinking = False

    async def _pays(self) -> bool:
        gain = await in_long_thread(self._read, compaction.estimate)
        return gain.pays and shutil.disk_usage(self._file.path.parent).free > gain.needed + _ROOM

    async def _move_all(self) -> None:
        query = "select coalesce(max(seq), 0) from events"
        last = await in_long_thread(self._read, lambda cursor: cursor.execute(query).fetchall()[0][0])
        pace = Pace()
        after = rows = characters = 0
        while True:
            found = await in_long_thread(
                self._read, lambda cursor, after=after: compaction.next_rows(cursor, after, last, pace.rows)
            )
            if found is None:
                break
            until, more_rows, more_characters = found

            def move(connection: duckdb.DuckDBPyConnection, after: int = after, until: int = until) -> None:
                begun = time.perf_counter()
                compaction.move(connection, after, until)
                pace.took(time.perf_counter() - begun)

            await self._slice(move)
            after, rows, characters = until, rows + more_rows, characters + more_characters
            if rows >= compaction.CHECKPOINT_ROWS or characters >= compaction.CHECKPOINT_CHARACTERS:
                rows = characters = 0
                await self._checkpoint()
        await self._checkpoint()

    async def _checkpoint(self) -> None:
        await self._slice(lambda _: None if self.snapshot_needed else self._checkpoint_now())

    # --- export -------------------------------------------------------------------------------------------------------

    async def export(self, target: Path) -> None:
        """Write a copy to ``target``. See :meth:`EventLog.export`."""
        target = target.expanduser().absolute()
        export.check_target(target)
        stop = threading.Event()
        try:
            sizes = await self._slice(lambda _: self._hold(stop))
            await _run_to_end(in_long_thread(self._source.export, target, sizes, stop), stop.set)
        finally:
            self._source.release(stop)

    def _hold(self, stop: threading.Event) -> tuple[int, int]:
        if not wal_of(self._file.path).exists():
            self._checkpoint_now()  # the file was deleted: only DuckDB has its rows, and writes them into the database
        return self._source.hold(stop)

    # --- common -------------------------------------------------------------------------------------------------------

    def _read(self, job: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        with self._readers.cursor() as cursor:
            return job(cursor)

    async def _slice(self, job: Callable[[duckdb.DuckDBPyConnection], T], done: Callable[[T], None] | None = None) -> T:
        """Run ``job`` in the writer's thread, then ``done`` with its result. A cancelled caller waits for both."""

        async def work() -> T:
            result: T = await asyncio.wrap_future(self._submit(job))
            if done is not None:
                done(result)
            return result

        return await _run_to_end(work())

    def stop(self) -> None:
        """Stop copies and wait for their end, before the database is closed. Blocks, in any thread."""
        self._source.stop()


async def _run_to_end(work: Coroutine[Any, Any, T], stop: Callable[[], None] | None = None) -> T:
    """Wait for the end of ``work``. When cancelled, call ``stop``, wait all the same, and raise CancelledError then."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if stop is not None:
            stop()
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise
