"""Senders that wait for room at the local broker: very many, and against a plain model."""

from __future__ import annotations

import asyncio

import pytest

from agentq_nb.errors import StoreFull
from tests.unit.brokers.conformance.words import acquire, drain, new_message, rest, soon
from tests.unit.brokers.settings import LocalSetting

pytestmark = pytest.mark.anyio


async def test_a_thousand_senders_are_served_in_order_and_none_is_lost(setting: LocalSetting) -> None:
    await setting.broker.enqueue([new_message(-1, max_size=10) for _ in range(10)])
    offers = [new_message(number, max_size=10) for number in range(1000)]
    senders = [asyncio.ensure_future(setting.broker.enqueue([offer], None)) for offer in offers]
    await rest()
    cancelled = set(range(0, 1000, 7))
    for number in cancelled:
        senders[number].cancel()
    lease = await acquire(setting)
    seen: list[int] = []
    while len(seen) < 1010 - len(cancelled):
        seen += await drain(lease)
        await asyncio.sleep(0)
    left = [number for number in range(1000) if number not in cancelled]
    assert seen == [*[-1] * 10, *left]
    answers = await soon(asyncio.gather(*(senders[number] for number in left)))
    assert [answer[0].id for answer in answers] == [offers[number].id for number in left]


async def test_a_store_at_its_limit_refuses_messages_until_the_limit_is_gone(setting: LocalSetting) -> None:
    setting.broker.store_limit.bytes = 1
    with pytest.raises(StoreFull):
        await setting.broker.enqueue([new_message(1)])
    setting.broker.store_limit.bytes = None
    await setting.broker.enqueue([new_message(2)])
    assert await drain(await acquire(setting)) == [2]
