"""Several hosts whose queues have limits, on one PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from agentq_nb import ConcurrencyLimit
from agentq_nb._brokers.base import Lease
from agentq_nb._brokers.postgres.broker import PostgresBroker
from tests.unit.brokers.conformance.words import (
    new_message,
)
from tests.unit.brokers.postgres_setting import PostgresSetting

GPU = ConcurrencyLimit(1, name="gpu")
Join = Callable[..., Awaitable[PostgresBroker]]


@pytest.fixture
async def setting(postgres_url: str) -> AsyncIterator[PostgresSetting]:
    setting = await PostgresSetting.open(postgres_url)
    yield setting
    await setting.close()


@pytest.fixture
async def join(setting: PostgresSetting) -> AsyncIterator[Join]:
    """Add another host that declares these limits of its class; the first host declares them too."""
    joined: list[PostgresBroker] = []

    async def join(*limits: Any) -> PostgresBroker:
        joined.append(await PostgresBroker.open(setting.url, clock=setting.clock))
        for broker in (setting.broker, joined[-1]):
            await broker.limits.declare("worker", {"tasks": list(limits)})
        return joined[-1]

    yield join
    for broker in joined:
        await broker.close()


async def lease_of(broker: PostgresBroker, actor: str) -> Lease:
    lease = await broker.acquire(actor, broker.session)
    assert lease is not None
    return lease


async def used(broker: PostgresBroker, name: str) -> int:
    (found,) = [limit for limit in await broker.limits.look() if limit.name == name]
    return found.used


async def send_to(broker: PostgresBroker, actor: str, count: int, first: int = 0) -> None:
    await broker.enqueue([new_message(number, actor=actor) for number in range(first, first + count)])


async def until_waiting(broker: PostgresBroker, count: int) -> None:
    async with asyncio.timeout(10):
        while (await broker.limits.look())[0].waiting != count:  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.005)
