"""How far a batch is, in words, in a terminal's line and in a document."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

from agentq_nb import Result
from agentq_nb._brokers.batches import BatchCounts
from agentq_nb._client import progress_bar
from agentq_nb._client.progress import Progress, progress_of
from agentq_nb._core.rate import duration
from agentq_nb._display import document_of
from agentq_nb._display.batches import document_of_batch
from agentq_nb._display.document import Document, as_text

HALF = progress_of(BatchCounts(completed=12, failed=2, cancelled=1, expired=1, running=3, waiting=13, per_minute=8.0))


def test_counts_become_progress_in_words() -> None:
    assert (HALF.total, HALF.settled, HALF.finished, HALF.time_left) == (32, 16, False, 120)
    assert str(HALF) == "12 of 32 done, 2 failed, 2 cancelled, 3 running, 13 waiting, 8 a minute, 2 min 0 s left"
    assert progress_of(BatchCounts(completed=3)).time_left is None


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0.3, "0.3"), (8.0, "8"), (12.5, "12.5"), (312.4, "312"), (3608.1, "3610"), (1234567.0, "1230000")],
)
def test_a_rate_has_three_digits(rate: float, text: str) -> None:
    progress = progress_of(BatchCounts(waiting=100, per_minute=rate))
    assert f", {text} a minute, " in str(progress)
    assert ("per minute", text) in (document_of(progress) or Document()).facts


def test_no_time_is_left_only_when_nothing_waits() -> None:
    assert str(progress_of(BatchCounts(waiting=1, per_minute=3000))).endswith("1 s left")


def test_a_batch_that_has_stopped_has_no_rate() -> None:
    stopped = progress_of(BatchCounts(completed=3, waiting=5, per_minute=8.0, stopped="ten rows failed"))
    assert str(stopped) == "3 of 8 done, 5 waiting, stopped"
    assert (stopped.per_minute, stopped.time_left) == (0, None)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_line_of_a_terminal_shows_the_share_that_is_settled() -> None:
    line = progress_bar.bar("reviews\x1b[31m", HALF)
    assert line.startswith("reviews")
    assert "\x1b" not in line
    assert " 50% [############............] 12 of 32 done" in line


@pytest.mark.anyio
@pytest.mark.parametrize("is_terminal", [True, False])
async def test_the_line_is_written_only_to_a_terminal(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal)
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(progress_bar, "_AFTER", 0.0)
    asked: list[Progress] = []

    def progress() -> Progress:
        asked.append(HALF)
        return HALF

    async with progress_bar.progress_bar("reviews", progress):
        await asyncio.sleep(0.01)
    assert ("12 of 32 done" in stream.getvalue()) is is_terminal
    assert bool(asked) is is_terminal


def test_a_document_says_how_many_failures_it_does_not_name() -> None:
    failures = [Result[Any]("failed", f"m{row}", error={"message": "odd"}, row=row) for row in range(10)]
    many = progress_of(BatchCounts(completed=3, failed=22))
    assert "and 17 more that failed" in as_text(document_of_batch("odd", many, failures))
    few = progress_of(BatchCounts(completed=3, failed=5))
    assert "more" not in as_text(document_of_batch("odd", few, failures[:5]))
    assert "more" not in as_text(document_of_batch("odd", many))


def test_a_document_names_failures_and_says_what_can_be_done() -> None:
    failed = Result("failed", "m1", error={"message": "three is odd", "type": "ValueError"}, attempts=3, row=3)
    text = as_text(document_of_batch("odd", HALF, [failed]))
    assert "Batch 'odd': 12 of 32 done, 2 failed" in text
    assert "ValueError: three is odd" in text
    assert "await batch.retry_failed()" in text
    assert "await batch.cancel()" in text
    ended = as_text(document_of_batch("odd ones", HALF, live=False))
    assert "%agentq batches 'odd ones'" in ended
    assert "12 of 32 done, 2 failed, 2 cancelled, 3 running, 13 waiting\n" in ended
    assert "in the background" not in ended
    stopped = progress_of(BatchCounts(waiting=5, stopped="ten rows failed"))
    assert "It has stopped: ten rows failed" in as_text(document_of_batch("odd", stopped))
