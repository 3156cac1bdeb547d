"""Commands on the store's file: query it, copy it, prune its history. Which file a command of the shell means."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where
from agentq_nb._commands.parser import rest, span, word
from agentq_nb._core.paths import DEFAULT_NAME, SUFFIX, VARIABLE, is_address
from agentq_nb._core.redaction import without_passwords
from agentq_nb._core.threads import in_long_thread
from agentq_nb._display.document import Document, moment_text
from agentq_nb._store.running_host import RunningHost, find_host
from agentq_nb.errors import StoreError, StoreNotBegun


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

    Tables and views: events, actors, messages, queues, pauses, attempts, sessions, transcripts, usage, results. Only
    reads are accepted. %%agentq sql takes the text of the cell as the query.

    Where the queues are on PostgreSQL, the SQL is PostgreSQL's. See the page docs/postgresql.md.
    """

    name: ClassVar[str] = "sql"
    where: ClassVar[Where] = "both"
    only_waits: ClassVar[bool] = True

    query: str = rest("QUERY", "what DuckDB, or the server, understands as a read")

    async def run(self, context: CommandContext) -> Any:
        table = await context.host().sql(self.query)
        return await in_long_thread(table.frame) if context.in_kernel else table


@dataclass(frozen=True, kw_only=True)
class Export(Command):
    """Write a copy of the file for other programs, which cannot open it while a host runs.

    Where the queues are on PostgreSQL, it is a DuckDB file with the views as tables.
    """

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


def host_of_server(address: str) -> RunningHost | None:
    """Return a host of this folder whose queues are on the server of this address."""
    shown = without_passwords(address)
    hosts = (find_host(path) for path in _files(Path.cwd()))
    return next((host for host in hosts if host is not None and host.queues == shown), None)


def _files(folder: Path) -> list[Path]:
    return sorted({*folder.glob(f"*{SUFFIX}"), *folder.glob(DEFAULT_NAME)})


def existing_store(asked: str | None, folder: Path | None = None) -> Path:
    """Return the file asked for, else that of the environment variable, else the only one in the folder.

    Of several in the folder it is the one on which a host runs. The address of a server names no file.

    Raises StoreNotBegun if it does not exist yet, and StoreError for a wrong path or several files.
    """
    folder = folder or Path.cwd()
    named = asked or os.environ.get(VARIABLE)
    if named and not is_address(named):
        path = Path(os.path.expanduser(named)).absolute()
        if path.is_file():
            return path
        shown = without_passwords(str(path))
        if asked:
            raise StoreError(f"There is no file {shown}. Check the path that --store gives.", code="missing")
        raise StoreNotBegun(f"There is no {shown} yet, which {VARIABLE} names. %agentq start makes it.")
    found = _files(folder)
    if len(found) == 1:
        return found[0]
    if len(running := [path for path in found if find_host(path) is not None]) == 1:
        return running[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise StoreError(f"There are several files here: {names}. Say which one: --store PATH", code="missing")
    raise StoreNotBegun(
        f"There is no *{SUFFIX} in {folder} yet. %agentq start in a notebook makes one beside it. "
        f"For one that is elsewhere: --store PATH"
    )
