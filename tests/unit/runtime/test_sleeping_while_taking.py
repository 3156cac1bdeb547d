"""An actor whose broker is slow to answer does not fall asleep while it asks for its messages and calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

from agentq_nb import Actor, Queue, action
from agentq_nb._brokers.postgres.address import parse_address
from agentq_nb._core.ids import actor_id
from tests.unit.brokers.postgres_setting import DatabaseClock
from tests.unit.fake_clock import FakeClock
from tests.unit.held_writes import HeldWrites
from tests.unit.runtime.postgres_world import SharedWorld
from tests.unit.runtime.world import World, until

pytestmark = pytest.mark.anyio

SLEEP_TIMEOUT = 5
ASLEEP = actor_id("drowsy", "x")


class SlowStore(ABC):
    """A store that answers no request to start a message of the actor between :meth:`hold` and :meth:`let_go`."""

    world: World

    @abstractmethod
    async def hold(self) -> None: ...

    @abstractmethod
    async def until_asked(self) -> None:
        """Return when a request waits for its answer."""

    @abstractmethod
    async def let_go(self) -> None: ...


class SlowDisk(SlowStore):
    """A file whose writes take long. Starts of what was there before a crash are durable before they are delivered."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def hold(self) -> None:
        HeldWrites(self.world.registry.lifecycle.log)

    async def until_asked(self) -> None:
        log = self.world.registry.lifecycle.log
        await until(lambda: not log._writer.idle())

    async def let_go(self) -> None:
        HeldWrites.let_go_all()


class SlowServer(SlowStore):
    """A server on which another transaction has locked the actor."""

    def __init__(self, world: SharedWorld) -> None:
        self.world = world
        at = parse_address(world.address)
        self._server, self._schema = at.conninfo, at.schema
        self._locking: AsyncConnection[Any] | None = None

    async def hold(self) -> None:
        self._locking = await AsyncConnection.connect(self._server)
        query = f"select 1 from {self._schema}.actors where actor = %s for update"
        await self._locking.execute(query.encode(), [ASLEEP])

    async def until_asked(self) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            waiting = b"select exists (select from pg_locks where not granted)"
            await until(lambda: connection.execute(waiting).fetchone() == (True,))

    async def let_go(self) -> None:
        if self._locking is not None:
            await self._locking.close()


@pytest.fixture(params=[pytest.param("file", marks=pytest.mark.file_only), "postgres"])
async def slow(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SlowStore]:
    """A store of a world whose clock stands still until it is moved."""
    monkeypatch.chdir(tmp_path)
    store: SlowStore
    if request.param == "file":
        clock = FakeClock()
        store = SlowDisk(World(tmp_path, clock))
    else:
        clock = DatabaseClock(request.getfixturevalue("postgres_url"))
        store = SlowServer(SharedWorld(tmp_path, request.getfixturevalue("store"), clock))
    for module in ("_host.host", "_brokers.local.broker", "_brokers.postgres.broker"):
        monkeypatch.setattr(f"agentq_nb.{module}.SystemClock", lambda: clock)
    yield store
    await store.let_go()
    await store.world.close()


def drowsy(log: list[str], slow: SlowStore) -> type[Actor]:
    """An actor whose store is slow once it has woken in its second host. It notes whether it is ending while it works."""

    class Drowsy(Actor, sleep_timeout=SLEEP_TIMEOUT):
        tasks = Queue(str)

        async def on_wake(self) -> None:
            log.append("wake")
            if log == ["killed", "wake"]:
                await slow.hold()

        async def on_sleep(self) -> None:
            log.append("sleep")

        @tasks.handler
        async def work(self, body: str) -> None:
            log.append(f"{body}, {'ending' if self.aborted else 'awake'}")

        @action
        async def plan(self) -> None:
            await self.schedule.after(100, self.ring)
            await self.queue.push("tasks", "handled", delay=100)

        @action
        async def ring(self) -> None:
            log.append(f"called, {'ending' if self.aborted else 'awake'}")

    return Drowsy


async def test_an_actor_does_not_sleep_while_the_store_is_slow_to_answer_its_request(slow: SlowStore) -> None:
    log: list[str] = []
    world, cls = slow.world, drowsy(log, slow)
    client = await world.start(drowsy=cls)
    handle = client.drowsy.get_or_create("x")
    await handle.plan()
    log.clear()
    await world.crash(drowsy=cls)
    log.append("killed")
    assert world.clock is not None
    world.clock.advance(101)
    await until(lambda: "wake" in log)
    await slow.until_asked()
    world.clock.advance(SLEEP_TIMEOUT + 1)
    await slow.let_go()
    await until(lambda: len(log) >= 4)
    assert log[:2] == ["killed", "wake"]
    assert sorted(log[2:]) == ["called, awake", "handled, awake"]
