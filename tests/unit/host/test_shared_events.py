"""Listening to events of actors on a server that cannot always be reached, and after the loop of the host has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from agentq_nb._brokers.exchange import Exchange
from agentq_nb._client.broadcasts import Listeners
from agentq_nb._core.loop_portal import LoopPortal
from agentq_nb._host.shared_events import SharedEvents
from agentq_nb.errors import NoHost
from tests.unit.brokers.conformance.words import ACTOR, until
from tests.unit.brokers.postgres_setting import PostgresSetting

pytestmark = pytest.mark.anyio


@pytest.fixture
async def setting(postgres_url: str) -> AsyncIterator[PostgresSetting]:
    setting = await PostgresSetting.open(postgres_url)
    yield setting
    await setting.close()


@pytest.fixture
async def portal() -> AsyncIterator[LoopPortal]:
    portal = LoopPortal(asyncio.get_running_loop())
    yield portal
    portal.close()


@pytest.fixture
def events(setting: PostgresSetting, portal: LoopPortal) -> SharedEvents:
    async def exchange() -> Exchange:
        return setting.broker.exchange

    return SharedEvents(exchange, portal, Listeners(portal.loop))


def count(setting: PostgresSetting) -> int:
    """How many listeners the server knows."""
    row = setting.clock._execute("select count(*) from {schema}.listeners").fetchone()
    assert row is not None
    return row[0]


async def test_a_listener_is_added_as_soon_as_the_server_can_be_reached(
    setting: PostgresSetting, events: SharedEvents
) -> None:
    setting.clock._execute("alter table {schema}.listeners rename to away")
    stop = events.listen(ACTOR, "progress", print)
    await until(lambda: setting.broker.trouble is not None)
    setting.clock._execute("alter table {schema}.away rename to listeners")
    await events.told()
    assert count(setting) == 1
    stop()
    await until(lambda: count(setting) == 0)
    assert events.listening == 0


async def test_a_listener_that_ended_before_the_server_could_be_reached_is_not_added_later(
    setting: PostgresSetting, events: SharedEvents
) -> None:
    setting.clock._execute("alter table {schema}.listeners rename to away")
    stop = events.listen(ACTOR, "progress", print)
    await until(lambda: setting.broker.trouble is not None)
    stop()
    setting.clock._execute("alter table {schema}.away rename to listeners")
    await events.told()
    await until(lambda: events.listening == 0)
    assert count(setting) == 0


async def test_a_listener_can_be_ended_after_the_host_has(portal: LoopPortal, events: SharedEvents) -> None:
    stop = events.listen(ACTOR, "progress", print)
    await events.told()
    portal.close()
    stop()
    with pytest.raises(NoHost):
        events.listen(ACTOR, "progress", print)
