"""Many dead letters on PostgreSQL."""

from __future__ import annotations

import pytest

from agentq_nb._brokers.changes import DeadLetters
from agentq_nb._brokers.messages import Take
from agentq_nb._brokers.postgres import redelivery
from agentq_nb._brokers.postgres.connection import Transaction
from tests.unit.brokers.conformance.words import ACTOR, bodies, drain, settle, take_one
from tests.unit.brokers.postgres.hosts import Join, after_the_next, lease_of, send_to
from tests.unit.brokers.postgres_setting import PostgresSetting

pytestmark = pytest.mark.anyio


async def fail(setting: PostgresSetting, count: int) -> None:
    """Leave so many dead letters of the actor."""
    await send_to(setting.broker, ACTOR, count)
    lease = await lease_of(setting.broker, ACTOR)
    found = await lease.turn(None, Take(None, count, 0))
    for each in found:
        await settle(lease, each, "dead", error={"message": "no"})
    await lease.release()


async def test_many_are_searched_for_once_and_come_back_in_their_order(
    setting: PostgresSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redelivery, "_AT_ONCE", 3)
    await fail(setting, 10)
    asked: list[str] = []
    rows = Transaction.rows

    async def note(tx: Transaction, query: str, **parameters: object) -> object:
        asked.append(query)
        return await rows(tx, query, **parameters)

    monkeypatch.setattr(Transaction, "rows", note)
    assert await setting.broker.redeliver(DeadLetters()) == 10
    assert len([query for query in asked if "lower(%(error)s)" in query]) == 1
    assert await drain(await lease_of(setting.broker, ACTOR)) == list(range(10))


async def test_one_that_another_host_puts_back_meanwhile_and_that_fails_again_is_not_put_back_twice(
    setting: PostgresSetting, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fail(setting, 2)
    other = await join()

    async def put_back_and_failed_again() -> None:
        assert await other.redeliver(DeadLetters()) == 2
        lease = await lease_of(other, ACTOR)
        await settle(lease, await take_one(lease), "dead", error={"message": "no"})
        await lease.release()

    after_the_next("run", setting.broker, monkeypatch, put_back_and_failed_again)
    assert await setting.broker.redeliver(DeadLetters()) == 0
    lease = await lease_of(setting.broker, ACTOR)
    assert bodies(await lease.turn(None, Take(None, 10, 0))) == [1]
