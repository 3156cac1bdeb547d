"""Worlds whose queues are on PostgreSQL."""

from __future__ import annotations

import asyncio
import os
from abc import abstractmethod
from pathlib import Path
from typing import Any

from agentq_nb import Actor
from agentq_nb._brokers.postgres.address import parse_address
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb._client.client import Client
from tests.postgres_address.sitecustomize import SERVER, schema_of
from tests.postgres_queues import ask, expire_sessions
from tests.unit.brokers.postgres_setting import DatabaseClock
from tests.unit.runtime.world import World, _abandon


class PostgresWorld(World):
    """Its clock, if it has one, is the database's too."""

    clock: DatabaseClock | None

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the queues are."""

    async def start(self, **use: type[Actor]) -> Client:
        if self.clock is not None and not self.clock.rules:
            await (await PostgresBroker.open(self.address, clock=self.clock)).close()
            self.clock.rule(parse_address(self.address).schema)
        return await super().start(**use)

    async def starts(self) -> list[float]:
        return [at for (at,) in ask(self.address, "select at from agentq.limit_starts where name = 'api' order by at")]

    async def _abandon_broker(self) -> PostgresBroker:
        """Let the host's broker end as in a process that was killed."""
        broker = self.registry.lifecycle.shared_broker
        assert broker is not None
        await self.registry.host.enter(broker.abandon)
        return broker

    async def close(self) -> None:
        brokers = [registry.lifecycle.shared_broker for registry in self._used]
        await super().close()
        for broker in brokers:
            if broker is None or broker.database.closed:
                continue
            if broker._loop is asyncio.get_running_loop():
                await broker.abandon()
            else:
                broker.database.drop()

    async def _expire(self) -> None:
        """Let the dead host not be heard of for longer than its lease."""
        await asyncio.to_thread(expire_sessions, self.address)


class FileWorld(PostgresWorld):
    """A world with a file, where ``python -m tests.postgres`` runs the tests and gives each file an address."""

    @property
    def address(self) -> str:
        return f"{os.environ[SERVER]}?schema={schema_of(self.store)}"

    async def crash(self, **use: type[Actor]) -> Client:
        await self._abandon_broker()
        await self._expire()
        return await super().crash(**use)


class SharedWorld(PostgresWorld):
    """A world that is given an address. The host's own file is in the working directory, which is the test's folder."""

    def __init__(self, folder: Path, address: str, clock: DatabaseClock | None = None, **options: Any) -> None:
        super().__init__(folder, clock, **options)
        self.store: Any = address

    @property
    def address(self) -> str:
        return self.store

    async def crash(self, **use: type[Actor]) -> Client:
        use = use or dict(self.registry.classes)
        broker = await self._abandon_broker()
        await _abandon(self.registry)
        if broker.on_close is not None:
            await broker.on_close()
        await self._expire()
        return await self.start(**use)
