"""``agentq migrate``: move the queues of a file to a PostgreSQL server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where
from agentq_nb._commands.parser import word
from agentq_nb._core.paths import is_address
from agentq_nb._display.document import Document, moment_text, shows
from agentq_nb._host.migration import Migration, migrate_file


def _server(text: str) -> str:
    if not is_address(text):
        raise ValueError("the address of a PostgreSQL server, like postgresql://user@server/database")
    return text


@dataclass(frozen=True, kw_only=True)
class Migrate(Command):
    """Move the queues of a file to a PostgreSQL server, while no host has the file open.

    Moved are: unsettled messages, also scheduled ones, with their order, their attempts, and what they wait for; dead letters;
    actors' states; completed messages that an idempotency key names; pauses; batches with their results. The rest of the
    history, sessions and transcripts stay in the file, where a host beside it finds them. Changed limits and what limits have
    counted stay too.

    It moves everything or nothing, and can be run again after it was interrupted. It refuses actors and batches whose names
    the server has already: ?schema=NAME in the address makes a place of its own.
    """

    name: ClassVar[str] = "migrate"
    where: ClassVar[Where] = "shell"

    file: str = word("FILE", "the file, like analysis.agentq.duckdb")
    server: str = word("ADDRESS", "like postgresql://user@server/database", convert=_server)

    async def run(self, context: CommandContext) -> Migration:
        return await migrate_file((context.folder / Path(self.file).expanduser()).absolute(), self.server)


@shows(Migration)
def _migration(found: Migration) -> Document:
    moved = found.moved
    counts = {
        "unsettled messages": moved.unsettled,
        "scheduled calls": moved.scheduled,
        "dead letters": moved.dead,
        "results that keys, batches or messages need": moved.results,
        "actors' states": moved.actors,
        "paused queues": moved.pauses,
        "batches": moved.batches,
    }
    title = f"Moved to {found.server}"
    if moved.earlier is not None:
        title = f"This file was moved to {found.server} at {moment_text(moved.earlier)} UTC. Nothing was moved now"
        counts = {}
    return Document(
        title=title,
        columns=("what", "moved", "left in the file"),
        rows=[
            *((what, f"{count:,}", "") for what, count in counts.items()),
            *((what, "", f"{count:,}") for what, count in found.left.items()),
        ],
        notes=[
            "The messages are cancelled in the file, so a host on it does not work on them again. Start hosts with "
            "--store ADDRESS, or the variable AGENTQ_DB."
        ],
    )
