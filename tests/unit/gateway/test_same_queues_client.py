"""Tests of clients in the host's own process, which hold word by word for one that has only the queues on PostgreSQL."""

from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import psycopg
import pytest

from agentq_nb import Actor, create_client, setup
from agentq_nb._brokers.postgres.address import parse_address
from agentq_nb._client.client import Client
from tests.unit.gateway import test_same_client
from tests.unit.runtime import test_acting, test_cancelling, test_looking, test_pausing, test_send_options, test_sending
from tests.unit.runtime.test_cancelling import work  # noqa: F401  # a fixture
from tests.unit.runtime.test_looking import stepwise  # noqa: F401  # a fixture
from tests.unit.runtime.test_pausing import worker  # noqa: F401  # a fixture
from tests.unit.runtime.world import World, _abandon

pytestmark = pytest.mark.anyio

# Beside what differs for every client of another process: a message can be sent before any host runs, and pauses because
# of a provider's limit have no history there.
DIFFERENT = {
    *test_same_client.DIFFERENT,
    "test_pruning_drops_old_pauses_and_keeps_the_present_ones",
}

_schemas = itertools.count(1)


def collect(module: ModuleType) -> None:
    """Collect the tests of a module that use a world on the machine's clock."""
    for name, test in vars(module).items():
        if name.startswith("test_") and name not in DIFFERENT and "world" in inspect.signature(test).parameters:
            # Queries over the events of a file are of no use here.
            globals().update({} if "registry.sql(" in inspect.getsource(test) else {name: test})


for each in (test_acting, test_cancelling, test_looking, test_pausing, test_send_options, test_sending):
    collect(each)


class SharedWorld(World):
    """A world whose queues are on PostgreSQL, and whose client knows only their address."""

    def __init__(self, folder: Path, address: str) -> None:
        super().__init__(folder)
        self.address = address
        self._clients: list[Client] = []

    async def start(self, **use: type[Actor]) -> Client:
        self.registry = setup(use=use, store=self.address)
        self._used.append(self.registry)
        await self.registry.start()
        return create_client(self.address, use=use)

    async def crash(self, **use: type[Actor]) -> Client:
        """The host ends without a word, and others have noticed."""
        use = use or dict(self.registry.classes)
        broker = self.registry.lifecycle.shared_broker
        assert broker is not None
        assert broker.on_close is not None
        await broker.abandon()
        await _abandon(self.registry)
        await broker.on_close()
        schema = parse_address(self.address).schema
        with psycopg.connect(parse_address(self.address).conninfo) as connection:
            connection.execute(f"update {schema}.sessions set until = 0 where session = %s".encode(), [broker.session])
        return await self.start(**use)


@pytest.fixture
async def world(
    tmp_path: Path,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    monkeypatch.chdir(tmp_path)
    schema = f"client_{os.getpid()}_{next(_schemas)}"
    made = SharedWorld(tmp_path, f"{postgres_url}?schema={schema}")
    yield made
    await made.close()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"drop schema if exists {schema} cascade".encode())
