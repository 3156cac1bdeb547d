"""The tests of handles and receipts in the host's own process hold for a client over HTTP, word by word."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentq_nb import Actor, create_client
from agentq_nb._client.client import Client
from tests.unit.gateway.raw_client import TOKEN
from tests.unit.runtime.test_cancelling import *  # noqa: F403
from tests.unit.runtime.test_full_queues import *  # noqa: F403
from tests.unit.runtime.test_outcomes import *  # noqa: F403
from tests.unit.runtime.test_pausing import *  # noqa: F403
from tests.unit.runtime.test_sending import *  # noqa: F403
from tests.unit.runtime.test_acting import *  # noqa: F403
from tests.unit.runtime.test_looking import *  # noqa: F403
from tests.unit.runtime.test_send_options import *  # noqa: F403
from tests.unit.runtime.world import World

pytestmark = pytest.mark.anyio


class RemoteWorld(World):
    """A world whose client comes over HTTP, like one of another process."""

    async def start(self, **use: type[Actor]) -> Client:
        await super().start(**use)
        server = await self.registry.serve(port=0, token=TOKEN)
        return create_client(server.url, token=server.token, use=use)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = RemoteWorld(tmp_path)
    yield made
    await made.close()
