"""Documents of batches and their progress."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from agentq_nb._actor.message import headline
from agentq_nb._batches.sync_batch import SyncBatch
from agentq_nb._client.batch import Batch
from agentq_nb._client.progress import Progress
from agentq_nb._client.receipt import Result
from agentq_nb._core.rate import three_digits, time_left
from agentq_nb._display.document import Cell, Document, shows, tone
from agentq_nb.errors import AgentqError

_NAMED = 5
"""How many failures are named."""


@shows(Batch)
def _batch(batch: Batch[Any]) -> Document:
    progress: Progress | None = None
    with suppress(AgentqError):
        progress = batch.progress()
    if progress is None:
        return Document(
            title=f"Batch '{batch.name}'", notes=["No host runs: %agentq start, or await registry.start()."]
        )
    return document_of_batch(batch.name, progress)


@shows(SyncBatch)
def _sync_batch(batch: SyncBatch) -> Document:
    return _batch(batch.batch)


@shows(Progress)
def _progress(progress: Progress) -> Document:
    return Document(facts=_facts(progress))


def document_of_batch(
    name: str, progress: Progress, failures: Sequence[Result[Any]] = (), *, live: bool = True
) -> Document:
    """Return the document of a batch.

    :param failures: the results of its first failed rows.
    :param live: False: it stays as it is, in a view that has ended.
    """
    if not live:
        progress = replace(progress, per_minute=0.0, time_left=None)
    shown = list(failures)[:_NAMED]
    notes: list[str] = []
    if shown and progress.failed > len(shown):
        notes.append(f"… and {progress.failed - len(shown)} more that failed.")
    if progress.stopped is not None:
        notes.append(f"It has stopped: {progress.stopped}")
    if progress.failed:
        notes.append("To try again what failed: await batch.retry_failed()")
    if not progress.finished and not live:
        notes.append(
            f"This was its state when the view ended. To see its state now: %agentq batches {shlex.quote(name)}"
        )
    elif not progress.finished and progress.stopped is None:
        notes.append(
            "It continues in the background. All of it as a table: await batch.frame(). To end it: await batch.cancel()"
        )
    return Document(
        title=f"Batch '{name}': {progress}",
        columns=("row", "attempts", "error") if shown else (),
        rows=[(result.row, result.attempts, headline(result.error or {})) for result in shown],
        notes=notes,
    )


def _facts(progress: Progress) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = [
        ("done", f"{progress.done} of {progress.total}"),
        ("failed", Cell(str(progress.failed), tone("failed").tone) if progress.failed else 0),
        ("running", progress.running),
        ("waiting", progress.waiting),
    ]
    if progress.cancelled:
        facts.append(("cancelled", progress.cancelled))
    if progress.per_minute:
        facts.append(("per minute", three_digits(progress.per_minute)))
    if progress.time_left is not None:
        facts.append(("left", time_left(progress.time_left)))
    if progress.stopped is not None:
        facts.append(("stopped", progress.stopped))
    return facts
