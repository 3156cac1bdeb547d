"""Hosts on one PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb._brokers.statuses import Home
from tests.postgres_server import DURABLE, Server, required_server
from tests.unit.brokers.postgres.hosts import Join
from tests.unit.brokers.postgres_setting import PostgresSetting


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of a file's own, which its tests stop and start."""
    with required_server(DURABLE) as server:
        yield server


@pytest.fixture
async def setting(postgres_url: str) -> AsyncIterator[PostgresSetting]:
    setting = await PostgresSetting.open(postgres_url)
    yield setting
    await setting.close()


@pytest.fixture
async def join(setting: PostgresSetting) -> AsyncIterator[Join]:
    """Add another host on the same queues."""
    joined: list[PostgresBroker] = []

    async def join(*limits: Any, options: str = "", home: Home | None = None) -> PostgresBroker:
        joined.append(await PostgresBroker.open(setting.url + options, clock=setting.clock, home=home))
        if limits:
            for broker in (setting.broker, joined[-1]):
                await broker.limits.declare("worker", {"tasks": list(limits)})
        return joined[-1]

    yield join
    for broker in joined:
        await broker.close()
