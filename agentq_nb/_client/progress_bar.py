"""What is shown of a batch while something waits for it: a line in a terminal, its live views in a notebook."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TextIO

from agentq_nb._client.progress import Progress
from agentq_nb._core.programs import kernel_of_shell
from agentq_nb._core.safe_text import safe
from agentq_nb.errors import AgentqError

_AFTER = 0.5
"""Seconds of waiting after which the line is shown: quick work needs none."""
_EVERY = 0.25
_WIDTH = 24

on_waited: list[Callable[[str], Coroutine[Any, Any, None]]] = []
"""Awaited with the name of a batch when a wait for it ends, in the context of the code that waited: see :func:`waited`."""


@asynccontextmanager
async def progress_bar(name: str, progress: Callable[[], Progress]) -> AsyncGenerator[None]:
    """Show the line on stderr while the body runs, if that is a terminal; in notebooks the batch shows itself."""
    stream = sys.stderr
    if not _is_terminal(stream) or kernel_of_shell() is not None:
        try:
            yield
        finally:
            await waited(name)
        return
    task = asyncio.ensure_future(_keep_showing(stream, name, progress))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def waited(name: str) -> None:
    """Let the live views of a batch show its state while the cell that waited for it still runs.

    Programs that execute notebooks drop what is sent between cells.
    """
    for call in list(on_waited):
        await call(name)


async def _keep_showing(stream: TextIO, name: str, progress: Callable[[], Progress]) -> None:
    await asyncio.sleep(_AFTER)
    shown = 0
    try:
        while True:
            shown = _show(stream, name, progress, shown)
            await asyncio.sleep(_EVERY)
    finally:
        if shown:
            _show(stream, name, progress, shown)
            stream.write("\n")
            stream.flush()


def _show(stream: TextIO, name: str, progress: Callable[[], Progress], before: int) -> int:
    """Write the line over the one before; return its length."""
    with suppress(AgentqError, OSError, ValueError):  # the host or the terminal has gone: the wait itself says so
        line = bar(name, progress())
        stream.write(f"\r{line}{' ' * max(0, before - len(line))}")
        stream.flush()
        return len(line)
    return before


def bar(name: str, progress: Progress) -> str:
    """Return the line."""
    share = progress.settled / progress.total if progress.total else 1.0
    full = round(share * _WIDTH)
    return f"{safe(name, 40)} {share:4.0%} [{'#' * full}{'.' * (_WIDTH - full)}] {progress}"


def _is_terminal(stream: TextIO | None) -> bool:
    with suppress(ValueError):  # it is closed
        return stream is not None and stream.isatty()
    return False
