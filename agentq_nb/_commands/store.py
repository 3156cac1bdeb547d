"""Commands on the store's file: query it, copy it, prune its history."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where
from agentq_nb._commands.parser import rest, span, word
from agentq_nb._core.threads import in_long_thread
from agentq_nb._display.document import Document, moment_text


def moment(text: str) -> float:
    """Return ``7d`` (ago), ``2026-11-01`` or ``2026-11-01T12:00`` as seconds since 1970. A bare time is local."""
    with suppress(ValueError):
        return time.time() - span(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ValueError("a time like 7d, 12h, 2026-11-01 or 2026-11-01T12:00") from None


@dataclass(frozen=True, kw_only=True)
class Sql(Command):
    """Read the file with a query. In a notebook the answer is a DataFrame, where pandas or polars is installed.

    Tables and views: events, actors, messages, queues, pauses, attempts, sessions, transcripts, results. Only
    reads are accepted. %%agentq sql takes the text of the cell as the query.
    """

    name: ClassVar[str] = "sql"
    where: ClassVar[Where] = "both"
    only_waits: ClassVar[bool] = True

    query: str = rest("QUERY", "what DuckDB understands as a read")

    async def run(self, context: CommandContext) -> Any:
        table = await context.host().sql(self.query)
        return await in_long_thread(table.frame) if context.in_kernel else table


@dataclass(frozen=True, kw_only=True)
class Export(Command):
    """Write a copy of the file for other programs, which cannot open it while a host runs."""

    name: ClassVar[str] = "export"
    where: ClassVar[Where] = "both"

    path: str = word("PATH", "the new file, like copy.duckdb; it must not exist")

    async def run(self, context: CommandContext) -> Path:
        path = context.folder / Path(self.path).expanduser()
        await context.host().export(path)
        return path


@dataclass(frozen=True, kw_only=True)
class Prune(Command):
    """Drop the history of messages that were settled before a time, and shrink the file."""

    name: ClassVar[str] = "prune"
    where: ClassVar[Where] = "both"

    before: float = word("BEFORE", "a time, like 7d (seven days ago), 12h or 2026-11-01 (local time)", convert=moment)

    async def run(self, context: CommandContext) -> Document:
        dropped = await context.host().prune(self.before)
        return Document(notes=[f"Dropped {dropped:,} rows of what was settled before {moment_text(self.before)} UTC."])
