"""Keepers to be tested, each with the clock it goes by and a way to restart it."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from pathlib import Path
from typing import Protocol

from agentq_nb._brokers.base import Broker
from agentq_nb._brokers.local.broker import LocalBroker
from agentq_nb._store import EventLog
from tests.unit.fake_broker import FakeBroker
from tests.unit.fake_clock import FakeClock, settle
from tests.unit.fake_server import Server
from tests.unit.faults import Network


class Setting(Protocol):
    """A broker under test. ``broker`` is the one that is open now."""

    @property
    def clock(self) -> FakeClock: ...

    @property
    def broker(self) -> Broker: ...

    async def reopen(self) -> None:
        """Close it in good order and open it again."""
        ...

    async def crash(self) -> None:
        """Let it die with all that is in flight, and open what it has left behind."""
        ...

    async def prune(self) -> None:
        """Drop the history of all that is settled."""
        ...

    async def calm(self) -> None:
        """Return once nothing is left to do, and all is durable."""
        ...

    def forget_suspects(self) -> None:
        """Take no message for one that may have crashed the host."""
        ...

    async def close(self) -> None: ...


class FakeSetting:
    """The fake broker: its server outlives it."""

    def __init__(self, network: Network | None = None) -> None:
        self.clock = FakeClock()
        self.server = Server(self.clock)
        self.network = network
        self.broker = FakeBroker(self.server, network)

    async def reopen(self) -> None:
        await self.broker.close()
        self.broker = FakeBroker(self.server, self.network)

    async def crash(self) -> None:
        self.broker.crash()
        self.broker = FakeBroker(self.server, self.network)

    async def prune(self) -> None:
        self.server.prune(self.clock.time() + 1)

    async def calm(self) -> None:
        await settle()

    def forget_suspects(self) -> None:
        for message in self.server.messages.values():
            message.suspicion = 0

    async def close(self) -> None:
        await self.broker.close()


class LocalSetting:
    """The local broker on a real file."""

    broker: LocalBroker

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self._folder = folder
        self._lives = itertools.count()
        self._path = self._next_path()

    @classmethod
    async def open(cls, folder: Path) -> LocalSetting:
        setting = cls(folder)
        await setting._open()
        return setting

    def _next_path(self) -> Path:
        folder = self._folder / f"life{next(self._lives)}"
        folder.mkdir()
        return folder / "work.agentq.duckdb"

    async def _open(self) -> None:
        log = await asyncio.to_thread(EventLog.open, self._path)
        self.broker = await LocalBroker.open(log, clock=self.clock)

    async def reopen(self) -> None:
        await self.broker.close()
        await self._open()

    async def crash(self) -> None:
        """What a dead process leaves behind is its files as they are: so a copy of them is what is opened next."""
        await self.broker.flushed()
        before, self._path = self._path, self._next_path()
        for file in before.parent.iterdir():
            if file.is_file():
                shutil.copy(file, self._path.parent / file.name)
        await self.broker.close()
        await self._open()

    async def renew(self) -> None:
        """Open the file again under the same broker, as after a failed write."""
        await self.broker.flushed()
        await asyncio.to_thread(self.broker.log.close)
        await self.broker.renew(await asyncio.to_thread(EventLog.open, self._path))

    async def prune(self) -> None:
        await self.broker.prune(self.clock.time() + 1)

    async def calm(self) -> None:
        """Whatever waited for what was settled is due or cancelled then, too."""
        commit_log = self.broker._commit_log
        await settle()
        while True:
            await self.broker.flushed()
            await settle()
            if not commit_log.live_messages.dependents._pending and not commit_log.results.settling:
                break

    def forget_suspects(self) -> None:
        self.broker._commit_log.live_messages.suspects.clear()

    async def close(self) -> None:
        await self.broker.close()
