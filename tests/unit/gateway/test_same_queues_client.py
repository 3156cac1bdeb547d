"""Tests of clients in the host's own process, which hold word by word for one that has only the queues on PostgreSQL."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest

from agentq_nb import Actor, create_client
from agentq_nb._client.client import Client
from tests.unit.gateway import test_same_client
from tests.unit.runtime import test_acting, test_cancelling, test_looking, test_pausing, test_send_options, test_sending
from tests.unit.runtime.postgres_world import SharedWorld
from tests.unit.runtime.test_cancelling import work  # noqa: F401  # a fixture
from tests.unit.runtime.test_looking import stepwise  # noqa: F401  # a fixture
from tests.unit.runtime.test_pausing import worker  # noqa: F401  # a fixture
from tests.unit.runtime.world import World

pytestmark = pytest.mark.anyio

# Beside what differs for every client of another process: a message can be sent before any host runs, and pauses because
# of a provider's limit have no history there.
DIFFERENT = {
    *test_same_client.DIFFERENT,
    "test_pruning_drops_old_pauses_and_keeps_the_present_ones",
}


def collect(module: ModuleType) -> None:
    """Collect the tests of a module that use a world on the machine's clock."""
    for name, test in vars(module).items():
        if name.startswith("test_") and name not in DIFFERENT and "world" in inspect.signature(test).parameters:
            # Queries over the events of a file are of no use here.
            globals().update({} if "registry.sql(" in inspect.getsource(test) else {name: test})


for each in (test_acting, test_cancelling, test_looking, test_pausing, test_send_options, test_sending):
    collect(each)


class ClientsWorld(SharedWorld):
    """A world whose client knows only the address of the queues."""

    async def start(self, **use: type[Actor]) -> Client:
        await super().start(**use)
        return create_client(self.address, use=use)


@pytest.fixture
async def world(tmp_path: Path, store: str) -> AsyncIterator[World]:
    made = ClientsWorld(tmp_path, store)
    yield made
    await made.close()
