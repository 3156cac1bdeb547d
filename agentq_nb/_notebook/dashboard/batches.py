"""The dashboard's rows of batches: those with work left and the latest others, and their failures in groups.

Counts come from memory. The errors of failed rows may have to be read from the log: only when there are more of them,
and only as often as a reader notices.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from agentq_nb._actor.message import headline
from agentq_nb._brokers.batches import BatchCounts, Batches, StoredBatch
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._client.progress import Progress, progress_of, three_digits
from agentq_nb._core.clock import Clock
from agentq_nb._core.safe_text import safe_name
from agentq_nb._display.document import safe
from agentq_nb.errors import AgentqError

MOST_BATCHES = 50
_LONGEST_REASON = 400
_LONGEST_ERROR = 300
_GROUPS = 3
_ROWS_NAMED = 3
_FAILURES_READ = 200
_BETWEEN_READS = 2.0
"""Seconds between two reads of the failures of one batch."""
_READS_AT_ONCE = 5
"""How many batches' failures are read for one snapshot: with fifty of them, the first one comes soon."""
_BETWEEN_RATES = 5.0
"""Seconds after which a rate is computed again although nothing was settled: it falls slowly, and each change is sent."""

_ALIKE = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")


class _Failures(NamedTuple):
    """What was read of the failed rows of a batch."""

    failed: int
    read_at: float
    groups: list[dict[str, Any]]


class _Rate(NamedTuple):
    settled: int
    at: float
    per_minute: float


class BatchRows:
    """Reads the batches of a host for one view. Used in the host's loop."""

    def __init__(self, batches: Batches, clock: Clock) -> None:
        self._batches = batches
        self._clock = clock
        self._failures: dict[str, _Failures] = {}
        self._rates: dict[str, _Rate] = {}
        self._rows: dict[str, dict[str, Any]] = {}
        self.more = False
        """Whether there are more batches than are shown."""

    async def read(self) -> dict[str, dict[str, Any]]:
        """Return the rows by the name of the batch. While the file cannot be read, they stay as they were."""
        with suppress(AgentqError):
            self._rows = await self._read()
        return self._rows

    async def _read(self) -> dict[str, dict[str, Any]]:
        recent = await self._batches.recent(MOST_BATCHES + 1)
        self.more = len(recent) > MOST_BATCHES
        rows: dict[str, dict[str, Any]] = {}
        reads = 0
        for stored in recent[:MOST_BATCHES]:
            counts = await self._batches.counts(stored.name, stored.rows)
            if reads < _READS_AT_ONCE and self._has_new_failures(stored.name, counts.failed):
                reads += 1
                await self._read_failures(stored, counts.failed)
            rows[stored.name] = self._row(stored, counts)
        self._failures = {name: known for name, known in self._failures.items() if name in rows}
        self._rates = {name: known for name, known in self._rates.items() if name in rows}
        return rows

    def _row(self, stored: StoredBatch, counts: BatchCounts) -> dict[str, Any]:
        progress = progress_of(counts)
        return {
            "name": safe_name(stored.name),
            "actor": safe_name(stored.actor),
            "queue": safe_name(stored.queue),
            "at": f"{stored.actor} {stored.queue}",
            "created_at": round(stored.created_at, 1),
            "total": progress.total,
            "done": progress.done,
            "failed": progress.failed,
            "cancelled": progress.cancelled,
            "running": progress.running,
            "waiting": progress.waiting,
            "per_minute": self._per_minute(stored.name, progress),
            "stopped": _stopped(progress),
            "failures": self._failures[stored.name].groups if progress.failed and stored.name in self._failures else [],
        }

    def _per_minute(self, name: str, progress: Progress) -> float:
        """Return the rate. It would change with every look, so it is computed again only when it may have changed much."""
        if progress.finished:
            return 0.0
        now, known = self._clock.monotonic(), self._rates.get(name)
        if known is None or known.settled != progress.settled or now - known.at >= _BETWEEN_RATES:
            known = self._rates[name] = _Rate(progress.settled, now, float(three_digits(progress.per_minute)))
        return known.per_minute

    # --- failures -----------------------------------------------------------------------------------------------------

    def _has_new_failures(self, name: str, failed: int) -> bool:
        known = self._failures.get(name)
        if known is None:
            return failed > 0
        return failed > 0 and failed != known.failed and self._clock.monotonic() - known.read_at >= _BETWEEN_READS

    async def _read_failures(self, stored: StoredBatch, failed: int) -> None:
        found = await self._batches.failed(stored.name, stored.rows, _FAILURES_READ)
        self._failures[stored.name] = _Failures(failed, self._clock.monotonic(), groups(found, stored.rows))


def _stopped(progress: Progress) -> str | None:
    """Return why the batch is stopped, if rows wait: its queue may have been stopped since by others."""
    return None if progress.stopped is None or progress.finished else safe(progress.stopped, _LONGEST_REASON)


def groups(failures: Sequence[tuple[int, StoredResult]], rows: Sequence[range]) -> list[dict[str, Any]]:
    """Return the failures in groups, the largest first: those of one type whose texts differ only in numbers and quotes.

    ``what`` is the error of the first, ``rows`` names the positions of a few, ``count`` is how many there are.
    """
    found: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for row, result in failures:
        error = result.error or {}
        kind = str(error.get("type", "")), _ALIKE.sub("…", str(error.get("message", ""))[:1000])
        found.setdefault(kind, []).append((_position(row, rows), headline(error) or "no reason was given"))
    largest = sorted(found.values(), key=len, reverse=True)
    shown = [_group(alike) for alike in largest[:_GROUPS]]
    if rest := sum(map(len, largest[_GROUPS:])):
        shown.append({"what": f"{len(largest) - _GROUPS} other kinds of errors", "rows": "", "count": rest})
    return shown


def _group(alike: Sequence[tuple[int, str]]) -> dict[str, Any]:
    named = ", ".join(str(position) for position, _ in alike[:_ROWS_NAMED])
    what = safe(" ".join(alike[0][1][:4000].split()), _LONGEST_ERROR)
    return {"what": what, "rows": f"{named}, …" if len(alike) > _ROWS_NAMED else named, "count": len(alike)}


def _position(row: int, rows: Sequence[range]) -> int:
    """Return the position of the item of a row."""
    before = 0
    for span in rows:
        if row in span:
            return before + row - span.start
        before += len(span)
    return row
