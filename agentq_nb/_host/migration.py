"""Move the queues of a file to a PostgreSQL server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agentq_nb._brokers.local.contents import FileContents
from agentq_nb._core.threads import in_long_thread
from agentq_nb._store import EventLog, Row
from agentq_nb.errors import StoreError, ValidationFailed

if TYPE_CHECKING:
    from agentq_nb._brokers.postgres.intake import Moved


class Migration(NamedTuple):
    """What was moved to a server, and how many of what stayed in the file."""

    server: str
    moved: Moved
    left: Mapping[str, int]


async def migrate_file(file: Path, url: str) -> Migration:
    """Move unsettled messages, dead letters, states, keys, pauses and batches to a server.

    It can be repeated: what was moved is not moved twice. Interrupted, even by ``kill -9``, it has moved everything or
    nothing; run it again. Messages leave the file once they are durable on the server.

    Raises StoreInUse while a host has the file open, ``store.exists`` if the server has actors or batches of the same
    names, Unavailable, and ``actor.validation_error``.
    """
    try:
        from agentq_nb._brokers.postgres import intake
        from agentq_nb._brokers.postgres.address import parse_address
    except ImportError as error:
        raise ValidationFailed(
            f"Queues on PostgreSQL need psycopg ({error}). Install it: pip install 'agentq-nb[postgres]'"
        ) from error
    address = parse_address(url)
    if not file.is_file():
        raise StoreError(f"There is no file {file}.", code="missing")
    log = await in_long_thread(lambda: EventLog.open(file, holder={"notebook": None}))
    try:
        contents = await in_long_thread(FileContents, log)
        await intake.prepare(address)
        left = await in_long_thread(contents.left)
        moved = await in_long_thread(intake.take_over, address, contents)
        for rows in contents.departures(address.shown, moved.departed):
            await _append(log, rows)
        return Migration(address.shown, moved, left)
    finally:
        await in_long_thread(log.close)


async def _append(log: EventLog, rows: Sequence[Row]) -> None:
    durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(error: StoreError | None) -> None:
        if error is None:
            durable.set_result(None)
        else:
            durable.set_exception(error)

    log.append(rows, done)
    await durable
