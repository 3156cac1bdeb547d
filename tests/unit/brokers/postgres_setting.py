"""The PostgreSQL broker under test: a schema of its own in a real server, whose clock is the test's."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg

from agentq_nb._brokers.postgres import ready_actors
from agentq_nb._brokers.postgres.broker import PostgresBroker
from tests.postgres_queues import drop_schema, new_schema
from tests.unit.fake_clock import FakeClock, settle


def is_busy(broker: PostgresBroker) -> bool:
    """Whether a transaction runs, or waits for a connection or its turn, or limits are about to be read."""
    connections = broker.database._pool.get_stats()
    asking = connections["requests_waiting"] > 0 or connections["pool_available"] < connections["pool_size"]
    refreshing = broker.limits._refreshing is not None
    return asking or refreshing or any(lease._tasks for lease in broker.leases.values())


class DatabaseClock(FakeClock):
    """The test's clock, which the database goes by as well.

    :ivar calm: returns once nothing is left to do before time goes on.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.calm = settle
        self._url = url
        self._connection = psycopg.connect(url, autocommit=True)
        self._schema: str | None = None
        self._apart = 0
        """Seconds by which this machine's clock is ahead of the server's."""

    @property
    def rules(self) -> bool:
        """Whether it is the clock of a schema."""
        return self._schema is not None

    def rule(self, schema: str) -> None:
        """Be the clock of a schema from now on."""
        ready_actors._SHARE = 0  # between searches a host pauses by the machine's clock, and this one stands still
        self._schema = schema
        self._execute("create table if not exists {schema}.test_clock as select 0::float8 as now")
        self._execute(
            "create or replace function {schema}.now() returns float8 language sql stable "
            "as $$ select now from {schema}.test_clock $$"
        )
        self._tell()

    def expire_sessions(self, *, alive: str = "") -> None:
        """Make every host that is connected look dead, but for the session that is alive."""
        self._execute(f"update {{schema}}.sessions set until = 0 where session <> '{alive}'")

    def forget_suspects(self) -> None:
        """Let no message look as if it had crashed its host."""
        self._execute("update {schema}.messages set suspicion = 0 where suspicion > 0")

    def pass_by_alive(self, seconds: float) -> None:
        """Move on while every host renews its session."""
        self._execute(f"update {{schema}}.sessions set until = until + {seconds!r}")
        self.advance(seconds)

    def alive(self, session: str) -> bool:
        """Whether a host has its session, and its time is not over."""
        found = self._execute(f"select until > {{schema}}.now() from {{schema}}.sessions where session = '{session}'")
        return found.fetchone() == (True,)

    async def settled(self) -> None:
        await self.calm()

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self._tell()

    def jump(self, seconds: int) -> None:
        super().jump(seconds)
        self._tell()

    def jump_alone(self, seconds: int) -> None:
        """Set this machine's clock, and not the server's."""
        self._apart += seconds
        super().jump(seconds)

    def _tell(self) -> None:
        self._execute(f"update {{schema}}.test_clock set now = {self.time() - self._apart!r}")

    def _execute(self, text: str) -> psycopg.Cursor[Any]:
        return self._connection.execute(text.format(schema=self._schema).encode())

    def end(self) -> None:
        """Drop the schema, and that of its views."""
        assert self._schema is not None
        drop_schema(self._url, self._schema)
        self.disconnect()

    def disconnect(self) -> None:
        """Close its own connection."""
        self._connection.close()


class PostgresSetting:
    """See :class:`tests.unit.brokers.settings.Setting`."""

    broker: PostgresBroker

    def __init__(self, url: str) -> None:
        self._schema = new_schema()
        self.url = f"{url}?schema={self._schema}"
        self.clock = DatabaseClock(url)
        self.clock.calm = self.calm

    @classmethod
    async def open(cls, url: str) -> PostgresSetting:
        setting = cls(url)
        await setting._open()
        setting.clock.rule(setting._schema)
        return setting

    async def _open(self) -> None:
        self.broker = await PostgresBroker.open(self.url, clock=self.clock)

    async def reopen(self) -> None:
        await self.broker.close()
        await self._open()

    async def crash(self) -> None:
        """The host dies without a word, and is not heard of for longer than its lease."""
        await self.calm()
        await self.broker.abandon()
        self.clock.expire_sessions()
        await self._open()

    async def renew(self) -> None:
        """Lose every lease as after a commit that may have failed, and wait until the server has ended them."""
        leases = list(self.broker.leases.values())
        self.broker.leases.clear()
        for lease in leases:
            lease.lose()
            await self.broker._end(lease)

    async def prune(self) -> None:
        await self.broker.prune(self.clock.time() + 1)

    async def calm(self) -> None:
        quiet = 0
        while quiet < 3:
            await settle(10)
            quiet = 0 if is_busy(self.broker) else quiet + 1
            await asyncio.sleep(0.0 if quiet else 0.001)

    def forget_suspects(self) -> None:
        self.clock._execute("update {schema}.messages set suspicion = 0")

    async def close(self) -> None:
        await self.broker.close()
        self.clock.end()
