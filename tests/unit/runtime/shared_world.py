"""A host whose queues are on a real PostgreSQL, on the machine's clock or on one that the test moves for both."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path
from typing import Any

import psycopg

from agentq_nb import Actor, current_registry
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb._client.client import Client
from tests.unit.brokers.postgres_setting import DatabaseClock
from tests.unit.fake_clock import settle
from tests.unit.runtime import world
from tests.unit.runtime.world import World

_schemas = itertools.count(1)


class SharedWorld(World):
    """See :class:`World`. The host's own file is in the working directory, which is the test's folder."""

    def __init__(self, folder: Path, server: str, clock: DatabaseClock | None = None, **options: Any) -> None:
        super().__init__(folder, clock, **options)
        self.schema = f"world_{os.getpid()}_{next(_schemas)}"
        self.server = server
        self.store: Any = f"{server}?schema={self.schema}"

    async def create(self) -> None:
        """Make the tables, which go by the test's clock."""
        broker = await PostgresBroker.open(self.store)
        if isinstance(self.clock, DatabaseClock):
            self.clock.rule(self.schema)
        await broker.close()

    async def crash(self, **use: type[Actor]) -> Client:
        """The host dies with what is in flight, and its lease is over when the next one starts."""
        use = use or dict(self.registry.classes)
        shared = self.registry.lifecycle.shared_broker
        assert shared is not None
        await shared.abandon()
        await world._abandon(self.registry)
        if shared.on_close is not None:
            await shared.on_close()
        self._execute("update {schema}.sessions set until = 0")
        return await self.start(**use)

    async def starts(self) -> list[float]:
        with psycopg.connect(self.server) as connection:
            query = f"select at from {self.schema}.limit_starts where name = 'api' order by at"
            return [row[0] for row in connection.execute(query.encode())]

    async def pass_by(self, seconds: float) -> None:
        assert self.clock is not None
        until_time = self.clock.monotonic() + seconds
        await rest()
        while (due := self.clock.next_due()) is not None and due <= until_time:
            self.clock.advance(max(0.0, due - self.clock.monotonic()))
            await rest()
        self.clock.advance(max(0.0, until_time - self.clock.monotonic()))
        await rest()

    async def close(self) -> None:
        await super().close()
        self._execute("drop schema {schema} cascade")

    def _execute(self, text: str) -> None:
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(text.format(schema=self.schema).encode())


async def rest() -> None:
    """Let tasks run until no transaction is under way, several times in a row."""
    quiet = 0
    async with asyncio.timeout(20):
        while quiet < 3:
            await settle(10)
            await asyncio.sleep(0.004)
            quiet = quiet + 1 if _is_quiet() else 0


def _is_quiet() -> bool:
    registry = current_registry()
    shared = None if registry is None else registry.lifecycle.shared_broker
    if shared is None or shared.database.closed:
        return True
    if shared.limits._refreshing is not None:
        return False  # what is shown of limits follows in a moment
    pool = shared.database._pool.get_stats()
    return pool["pool_available"] == pool["pool_size"] and not pool.get("requests_waiting")
