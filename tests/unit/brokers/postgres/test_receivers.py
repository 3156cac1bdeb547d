"""Receivers that wait on PostgreSQL: what they miss is made up for, and waiting costs the server nothing for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentq_nb._brokers.messages import Take
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb._brokers.postgres.notifications import POLL
from agentq_nb._core.ids import actor_id
from agentq_nb.errors import LeaseLost
from tests.unit.brokers.conformance.words import ACTOR, HOST, bodies, rest, send, soon, take
from tests.unit.brokers.postgres.hosts import lease_of
from tests.unit.brokers.postgres_setting import PostgresSetting

pytestmark = pytest.mark.anyio


@pytest.fixture
async def setting(postgres_url: str) -> AsyncIterator[PostgresSetting]:
    setting = await PostgresSetting.open(postgres_url)
    yield setting
    await setting.close()


@pytest.fixture
async def deaf(setting: PostgresSetting) -> AsyncIterator[PostgresBroker]:
    """A host that no notification of the others reaches."""
    broker = await PostgresBroker.open(setting.url, clock=setting.clock)
    broker.notifications._tasks[0].cancel()
    await rest()
    yield broker
    await broker.close()


async def pass_by(setting: PostgresSetting) -> None:
    """Move on by the time after which hosts look by themselves."""
    setting.clock.pass_by_alive(POLL)
    await setting.calm()


@pytest.mark.parametrize("delay", [0.0, 12.0], ids=["due", "delayed"])
@pytest.mark.parametrize("queues", [None, ["tasks"]], ids=["all queues", "a queue"])
async def test_a_message_of_another_host_comes_without_a_notification(
    setting: PostgresSetting, deaf: PostgresBroker, delay: float, queues: list[str] | None
) -> None:
    lease = await deaf.acquire(ACTOR, HOST)
    assert lease is not None
    receiving = asyncio.ensure_future(lease.turn(None, Take(queues)))
    await rest()
    await send(setting.broker, "unheard", delay=delay)
    async with asyncio.timeout(20):
        while not receiving.done():
            await pass_by(setting)
    assert bodies(receiving.result()) == ["unheard"]


async def test_a_lease_that_the_database_no_longer_has_is_noticed_by_those_who_wait(
    setting: PostgresSetting,
) -> None:
    lease = await setting.broker.acquire(ACTOR, HOST)
    assert lease is not None
    waiting = asyncio.ensure_future(lease.until_due(None, None))
    await setting.calm()
    setting.clock._execute("update {schema}.actors set epoch = null, session = null")  # as a standby may have it
    async with asyncio.timeout(20):
        while not waiting.done():
            await pass_by(setting)
    with pytest.raises(LeaseLost):
        waiting.result()
    assert lease.lost.is_set()


async def test_one_that_takes_anyway_is_woken_by_a_new_message_without_another_look(
    setting: PostgresSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await lease_of(setting.broker, ACTOR)
    assert await take(lease) == []
    waiting = asyncio.ensure_future(lease.until_due(None, None, may_be_early=True))
    await setting.calm()
    assert not waiting.done()
    monkeypatch.setattr(lease, "begin", None)  # each look would begin there
    await send(setting.broker, "there")
    await soon(waiting)
    monkeypatch.undo()
    assert bodies(await take(lease)) == ["there"]


async def test_actors_that_wait_for_messages_do_not_ask_the_server_each_by_itself(
    setting: PostgresSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, asked = setting.broker, 0
    run = broker.database.run

    async def counted(*args: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        return await run(*args, **options)

    async def wait(actor: str) -> asyncio.Future[None]:
        lease = await broker.acquire(actor, HOST)
        assert lease is not None
        return asyncio.ensure_future(lease.until_due(["tasks"], None))

    async def asked_while_time_passes() -> int:
        nonlocal asked
        asked = 0
        for _ in range(4):
            await pass_by(setting)
        return asked

    waiting = [await wait(ACTOR)]
    monkeypatch.setattr(broker.database, "run", counted)
    for_one = await asked_while_time_passes()
    more = [await wait(actor_id("worker", str(number))) for number in range(20)]
    await setting.calm()
    assert for_one > 0
    assert await asked_while_time_passes() < for_one + len(more)
    for each in (*waiting, *more):
        each.cancel()
