"""Queues on a PostgreSQL server, which several hosts share. What a host writes of itself stays in its own file."""

from __future__ import annotations

import os
import platform
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from agentq_nb._brokers.history import History, Moment, moment
from agentq_nb._brokers.local.broker import LocalBroker
from agentq_nb._brokers.statuses import Home
from agentq_nb._core.result_table import Table, TablePages
from agentq_nb._core.threads import in_long_thread, in_thread
from agentq_nb._store.export import export_tables
from agentq_nb.errors import ValidationFailed

if TYPE_CHECKING:
    from agentq_nb._brokers.postgres.broker import PostgresBroker

_HOME = ".host"
"""The file in a folder with workspaces that has the id of the home."""


async def open_queues(url: str, facts: Mapping[str, Any], local: LocalBroker, workspaces: Path) -> PostgresBroker:
    """Connect to the queues.

    :param local: the broker of this host's own file, closed together with the queues.
    :param workspaces: the folder with the files of actors.

    Raises ``actor.validation_error`` if psycopg is not installed, Unavailable and StoreTooNew.
    """
    try:
        from agentq_nb._brokers.postgres.broker import PostgresBroker
    except ImportError as error:
        raise ValidationFailed(
            f"Queues on PostgreSQL need psycopg ({error}). Install it: pip install 'agentq-nb[postgres]'"
        ) from error
    broker = await PostgresBroker.open(url, facts={**facts, **host_facts()}, home=await in_thread(home_in, workspaces))
    broker.on_close = local.close
    return broker


def home_in(workspaces: Path) -> Home:
    """Return the home of the actors whose workspaces are in this folder. Blocks. Raises OSError.

    Its id is kept in the folder: a folder that is moved to another machine is still the same home, and a new folder is a new one.
    """
    workspaces.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = workspaces / _HOME
    if not file.exists():
        # In one step: a process that is killed here must not leave an empty id, which others could have too.
        new = workspaces / f"{_HOME}-{uuid.uuid4().hex}"
        new.write_text(uuid.uuid4().hex)
        new.replace(file)
    return Home(file.read_text().strip(), f"{platform.node()}, {workspaces}")


def host_facts() -> Mapping[str, Any]:
    """Return what a host says of itself to others, beside its program and version."""
    return {"machine": socket.gethostname(), "process": os.getpid(), "started_at": time.time()}


class SharedHistory:
    """See :class:`agentq_nb._brokers.history.History`. Messages are read from the server, transcripts from the file."""

    def __init__(self, broker: PostgresBroker, local: History) -> None:
        self._broker = broker
        self._local = local

    async def messages(
        self, actor: str | None, queue: str | None, status: str | Sequence[str] | None, since: Moment | None
    ) -> Table:
        return await self._broker.history.messages(actor, queue, status, since)

    async def results(
        self, actor: str | None, queue: str | None, status: str | Sequence[str] | None, since: Moment | None
    ) -> Table:
        return await self._broker.history.results(actor, queue, status, since, self._own)

    async def transcripts(self, session: str | None, actor: str | None, since: Moment | None) -> Table:
        return await self._local.transcripts(session, actor, since)

    async def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Table:
        return await self._broker.history.sql(query, parameters, self._own)

    async def _own(self, view: str) -> Table:
        return await self._local.sql(f"select * from {view}")

    async def export(self, target: Path) -> None:
        """Write the views of all messages, and the sessions, transcripts and usage of this host, as tables of a file."""
        own = [_pages(name, await self._own(name)) for name in ("sessions", "transcripts", "usage")]
        stop = Event()
        try:
            await in_long_thread(self._export, target, own, stop)
        finally:
            stop.set()

    def _export(self, target: Path, own: Sequence[TablePages], stop: Event) -> None:
        from agentq_nb._brokers.postgres.sql import snapshot

        with snapshot(self._broker.database.address) as views:
            export_tables(target, chain(views, own), stop)

    async def prune(self, before: Moment) -> int:
        return await self._broker.prune(moment("before", before))


def _pages(name: str, table: Table) -> TablePages:
    return TablePages(name, table.columns, table.types, iter([table.rows] if table.rows else []))
