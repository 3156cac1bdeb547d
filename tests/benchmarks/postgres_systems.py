"""Three systems that keep queues in PostgreSQL, each used in its documented, quickest durable way.

Each has a database of its own on one server. A sender is the client of a program that handles nothing itself.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from tests.benchmarks.postgres_bodies import Task

POLL = 0.005
"""Seconds after which a program looks again for a result that it is not notified of."""


class Sender(Protocol):
    """Sends bodies, durable on return."""

    async def send(self, body: Task, queue: str = "tasks") -> Any:
        """Send one, and return what names it. Nothing handles the queue "kept"."""
        ...

    async def reply(self, sent: Any) -> str | None:
        """Wait until it is handled; return the reply, if the system keeps replies."""
        ...


@dataclass(frozen=True)
class System:
    """A system to measure.

    :ivar sender: a sender on a database, that addresses so many actors. The first one makes the tables.
    :ivar unsettled: SQL for the number of messages in "tasks" that are not settled.
    """

    name: str
    sender: Callable[[str, int], AbstractAsyncContextManager[Sender]]
    unsettled: str


# --- this package -----------------------------------------------------------------------------------------------------


class AgentqSender:
    """What a handle does, over a broker without a host: validate, number, and enqueue."""

    def __init__(self, broker: Any, actors: int) -> None:
        self._broker = broker
        self._numbers = itertools.cycle(range(actors))

    async def send(self, body: Task, queue: str = "tasks") -> str:
        from agentq_nb._brokers.messages import NewMessage
        from agentq_nb._core.ids import actor_id, mint_id

        text = Task.model_validate(body.model_dump()).model_dump_json().encode()
        actor = actor_id("kept" if queue == "kept" else "runner", str(next(self._numbers)))
        (sent,) = await self._broker.enqueue([NewMessage(mint_id(), actor, "tasks", text)])
        return sent.id

    async def reply(self, sent: str) -> str | None:
        result = await self._broker.wait(sent, None)
        assert result.status == "completed", result
        return result.reply.decode()


@asynccontextmanager
async def agentq(url: str, actors: int) -> AsyncIterator[Sender]:
    from agentq_nb._brokers.postgres.broker import PostgresBroker

    broker = await PostgresBroker.open(url)
    try:
        yield AgentqSender(broker, actors)
    finally:
        await broker.close()


# --- others -----------------------------------------------------------------------------------------------------------


class ProcrastinateSender:
    """Jobs without locks, which are the quickest. Procrastinate drops what a task returns: only its status can be asked for."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def send(self, body: Task, queue: str = "tasks") -> int:
        return await self._app.configure_task("handle", queue=queue).defer_async(**body.model_dump())

    async def reply(self, sent: int) -> str | None:
        while True:
            status = await self._app.job_manager.get_job_status_async(sent)
            if status.value == "succeeded":
                return None
            await asyncio.sleep(POLL)


@asynccontextmanager
async def procrastinate(url: str, actors: int) -> AsyncIterator[Sender]:
    from procrastinate import App, PsycopgConnector

    app = App(connector=PsycopgConnector(conninfo=url, max_size=10))
    async with app.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()
        yield ProcrastinateSender(app)


class DbosSender:
    """Workflows in a queue, from the client that needs no application."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def send(self, body: Task, queue: str = "tasks") -> Any:
        options = {"queue_name": queue, "workflow_name": "handle", "app_version": "1"}
        return await self._client.enqueue_async(options, **body.model_dump())

    async def reply(self, sent: Any) -> str | None:
        return await sent.get_result(polling_interval_sec=POLL)


@asynccontextmanager
async def dbos(url: str, actors: int) -> AsyncIterator[Sender]:
    from dbos import DBOS, DBOSClient

    await asyncio.to_thread(DBOS.migrate, url)
    client = await asyncio.to_thread(
        DBOSClient, system_database_url=url, system_database_pool_size=10, application_name="benchmark"
    )
    try:
        yield DbosSender(client)
    finally:
        await asyncio.to_thread(client.destroy)


AGENTQ = System("agentq", agentq, "select coalesce(sum(live), 0) from agentq.queues where name = 'runner'")
PROCRASTINATE = System(
    "procrastinate",
    procrastinate,
    "select count(*) from procrastinate_jobs where status in ('todo', 'doing') and task_name = 'handle' and queue_name = 'tasks'",
)
DBOS = System(
    "DBOS",
    dbos,
    "select count(*) from dbos.workflow_status where status in ('ENQUEUED', 'PENDING') and queue_name = 'tasks'",
)
SYSTEMS = (PROCRASTINATE, AGENTQ, DBOS)
"""This package between the others."""
