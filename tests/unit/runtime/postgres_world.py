"""A world whose queues are on PostgreSQL, where ``python -m tests.postgres`` runs the tests."""

from __future__ import annotations

import os

import psycopg

from agentq_nb import Actor
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb._client.client import Client
from tests.postgres_address.sitecustomize import SERVER, schema_of
from tests.unit.brokers.postgres_setting import DatabaseClock
from tests.unit.runtime.world import World


class PostgresWorld(World):
    """Its clock, if it has one, is the database's too."""

    clock: DatabaseClock | None

    async def start(self, **use: type[Actor]) -> Client:
        if self.clock is not None and not self.clock.rules:
            await self._hand_over_time()
        return await super().start(**use)

    async def _hand_over_time(self) -> None:
        assert self.clock is not None
        schema = schema_of(self.store)
        await (await PostgresBroker.open(f"{os.environ[SERVER]}?schema={schema}", clock=self.clock)).close()
        self.clock.rule(schema)

    async def crash(self, **use: type[Actor]) -> Client:
        """As if the process had been killed, and not been heard of for longer than its lease."""
        broker = self.registry.lifecycle.shared_broker
        assert broker is not None
        await self.registry.host.enter(broker.abandon)
        address = broker.database.address
        with psycopg.connect(address.conninfo, autocommit=True) as connection:
            connection.execute(address.statement("update agentq.sessions set until = 0"))
        return await super().crash(**use)
