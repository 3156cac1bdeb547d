"""What hosts on PostgreSQL are to notify of: each event is written with its cause, and is for one host at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from agentq_nb._brokers.changes import Cancel, Resume
from agentq_nb._brokers.messages import Commit, LimitReached, Settlement
from agentq_nb._brokers.postgres import notable_events
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb._brokers.postgres.lease import PostgresLease
from agentq_nb._brokers.statuses import Home
from agentq_nb._policies.retry import Failure
from agentq_nb.errors import LeaseLost
from tests.postgres_queues import count
from tests.unit.brokers.conformance.batches import new_batch
from tests.unit.brokers.conformance.words import ACTOR, send, settle, take, take_one
from tests.unit.brokers.postgres import hosts
from tests.unit.brokers.postgres_setting import PostgresSetting

pytestmark = pytest.mark.anyio

Join = Callable[[str], Awaitable[PostgresBroker]]

GONE = notable_events._RESTART + 1
"""Seconds after which a host that is not heard of is taken for gone."""


@pytest.fixture
def join(join: hosts.Join) -> Join:
    """Add another host on the same queues, with a folder of this name."""
    return lambda name: join(home=Home(name, "here"))


async def leased(broker: PostgresBroker) -> PostgresLease:
    lease = await broker.acquire(ACTOR, "host")
    assert lease is not None
    return lease


async def fail(broker: PostgresBroker, lease: PostgresLease) -> None:
    await send(broker)
    await settle(lease, await take_one(lease), "dead", error={"code": "internal_error", "type": "ValueError"})


async def told(broker: PostgresBroker) -> list[str]:
    """Take in all events, and return their kinds."""
    events = await broker.notable_events.read((), at_once=True)
    await broker.notable_events.delete([event.id for event in events])
    return [event.kind for event in events]


# --- what is written ----------------------------------------------------------------------------------------------------


async def test_nothing_is_written_while_no_host_sends_notifications(setting: PostgresSetting) -> None:
    await fail(setting.broker, await leased(setting.broker))
    assert count(setting.url, "notable_events") == 0


async def test_a_failed_message_is_told_with_its_error_and_nothing_of_its_body(setting: PostgresSetting) -> None:
    broker = setting.broker
    await broker.notable_events.begin()
    lease = await leased(broker)
    await fail(broker, lease)
    await send(broker, "secret")
    await settle(lease, await take_one(lease))
    (event,) = await broker.notable_events.read((), at_once=True)
    assert event[1:] == (
        "message.failed",
        ACTOR,
        {"queue": "tasks", "code": "internal_error", "type": "ValueError"},
    )


async def test_what_is_not_committed_is_not_told(setting: PostgresSetting) -> None:
    broker = setting.broker
    await broker.notable_events.begin()
    lease = await leased(broker)
    await send(broker)
    delivery = await take_one(lease)
    await setting.renew()
    again = await leased(broker)
    with pytest.raises(LeaseLost):
        await settle(lease, delivery, "dead", error={"code": "late"})
    assert await told(broker) == []
    await settle(again, await take_one(again), "dead", error={"code": "again"})
    assert await told(broker) == ["message.failed"]


async def test_a_batch_is_done_with_its_last_row_and_again_after_a_repetition(setting: PostgresSetting) -> None:
    broker = setting.broker
    await broker.notable_events.begin()
    lease = await leased(broker)
    batch = await broker.batches.send(new_batch([1, 2]))
    first, second = await take(lease, 2)
    await settle(lease, first)
    assert await told(broker) == []
    await settle(lease, second, "dead", error={"code": "no"})
    assert await told(broker) == ["message.failed", "batch.done"]
    await broker.batches.retry_failed(batch.name, batch.rows)
    assert await told(broker) == []
    await settle(lease, await take_one(lease))
    assert await told(broker) == ["batch.done"]


async def test_a_batch_that_is_cancelled_whole_is_done_once(setting: PostgresSetting) -> None:
    broker = setting.broker
    await broker.notable_events.begin()
    batch = await broker.batches.send(new_batch(list(range(50))))
    assert await broker.batches.cancel(batch.name, batch.rows) == 50
    assert await told(broker) == ["batch.done"]


async def test_a_stopped_queue_and_a_providers_limit_are_told_once_each(setting: PostgresSetting) -> None:
    broker = setting.broker
    await broker.notable_events.begin()
    lease = await leased(broker)
    error = {"code": "internal_error", "type": "KeyError"}
    failure = Failure(("KeyError",), "KeyError: 'x'", 2)  # type: ignore[arg-type]  # any kind that is the same
    for _ in range(3):
        await send(broker)
    for delivery in await take(lease, 3):
        await lease.commit(Commit([Settlement(delivery, "dead", error=error, failure=failure)]))
    assert await told(broker) == ["message.failed", "queue.paused", "message.failed"]
    await broker.change(ACTOR, Resume("tasks"))  # the third message, which went back, meets a limit
    for _ in range(3):
        delivery = await take_one(lease)
        limited = LimitReached(None, None, "slow down", None, Settlement(delivery, "dead"))
        await lease.commit(Commit([Settlement(delivery, "limited", limited=limited)]))
        setting.clock.advance(60)
    events = await broker.notable_events.read((), at_once=True)
    assert [(event.kind, event.fields["limit"], event.fields["known"]) for event in events] == [
        ("limit.paused", f"{ACTOR} tasks", "false")
    ]


@pytest.mark.parametrize("seed", range(5))
async def test_of_hosts_that_settle_the_rows_of_a_batch_at_once_one_says_that_it_is_done(
    setting: PostgresSetting, join: Join, seed: int
) -> None:
    """One runs the actor, and others cancel what waits; the last row may be the doing of any of them."""
    chance = random.Random(seed)
    brokers = [setting.broker, await join("a"), await join("b")]
    for broker in brokers:
        await broker.notable_events.begin()
    lease = await leased(setting.broker)
    batch = await setting.broker.batches.send(new_batch(list(range(30))))
    deliveries = await take(lease, 15)
    taken = {delivery.id for delivery in deliveries}
    rows = await setting.broker.batches.read(batch.name, range(30))
    waiting = [row.result.message for row in rows if row is not None and row.result.message not in taken]

    async def cancel(messages: list[str]) -> None:
        for message in messages:
            await chance.choice(brokers).change(ACTOR, Cancel(message))

    async def complete() -> None:
        for delivery in deliveries:
            await settle(lease, delivery)

    await asyncio.gather(complete(), cancel(waiting[::2]), cancel(waiting[1::2]))
    kinds = [kind for broker in brokers for kind in await told(broker)]
    assert kinds == ["batch.done"]


# --- whose it is --------------------------------------------------------------------------------------------------------


async def test_an_event_is_for_the_host_that_caused_it_if_that_notifies(setting: PostgresSetting, join: Join) -> None:
    one, other = await join("one"), await join("other")
    for broker in (one, other):
        await broker.notable_events.begin()
    await fail(one, await leased(one))
    assert await told(other) == []
    assert await told(one) == ["message.failed"]


async def test_an_event_of_a_host_that_does_not_notify_is_for_one_of_those_that_do(
    setting: PostgresSetting, join: Join
) -> None:
    notifying = [await join("a"), await join("b")]
    for broker in notifying:
        await broker.notable_events.begin()
    lease = await leased(setting.broker)
    for _ in range(20):
        await fail(setting.broker, lease)
    read = await asyncio.gather(*(broker.notable_events.read((), at_once=True) for broker in notifying))
    events = [event.id for events in read for event in events]
    assert len(events) == len(set(events)) == 20


async def test_an_event_stays_until_it_is_deleted_and_comes_again_after_a_restart(
    setting: PostgresSetting, join: Join
) -> None:
    one = await join("one")
    await one.notable_events.begin()
    await fail(one, await leased(one))
    (event,) = await one.notable_events.read((), at_once=True)
    assert await one.notable_events.read([event.id], at_once=True) == []
    await one.abandon()
    other = await join("other")
    await other.notable_events.begin()
    assert await told(other) == []
    again = await join("one")
    assert await again.notable_events.read((), at_once=True) == [event]
    assert await told(again) == ["message.failed"]
    assert await told(again) == []


async def test_events_of_a_host_that_does_not_return_are_for_another(setting: PostgresSetting, join: Join) -> None:
    one, other = await join("one"), await join("other")
    for broker in (one, other):
        await broker.notable_events.begin()
    await fail(one, await leased(one))
    await one.abandon()
    for _ in range(10):
        setting.clock.advance(GONE / 11)
        assert await told(other) == []
    setting.clock.advance(GONE)
    assert await told(other) == ["message.failed"]
    assert await told(await join("one")) == []


async def test_a_host_that_ends_its_notifications_leaves_its_events_to_others(
    setting: PostgresSetting, join: Join
) -> None:
    one, other = await join("one"), await join("other")
    for broker in (one, other):
        await broker.notable_events.begin()
    await fail(one, await leased(one))
    await one.notable_events.end()
    assert await told(other) == ["message.failed"]


async def test_what_happens_while_none_notifies_is_forgotten(setting: PostgresSetting) -> None:
    broker = setting.broker
    lease = await leased(broker)
    await broker.notable_events.begin()
    await fail(broker, lease)
    await broker.notable_events.end()
    assert count(setting.url, "notable_events") == 0
    await fail(broker, lease)
    await broker.notable_events.begin()
    assert await told(broker) == []


async def test_what_no_host_comes_for_is_deleted_after_a_week(setting: PostgresSetting, join: Join) -> None:
    one = await join("one")
    await one.notable_events.begin()
    await one.abandon()
    lease = await leased(setting.broker)
    await fail(setting.broker, lease)
    delete = notable_events.delete_old
    setting.clock.advance(notable_events._KEPT)
    await setting.broker.database.run(delete)
    assert count(setting.url, "notable_events") == 1
    setting.clock.advance(GONE)
    await setting.broker.database.run(delete)
    assert count(setting.url, "notable_events") == 0
    lease = await leased(setting.broker)
    await fail(setting.broker, lease)
    assert count(setting.url, "notable_events") == 0


async def test_hosts_look_only_if_there_may_be_something(setting: PostgresSetting, join: Join) -> None:
    one = await join("one")
    events = one.notable_events
    await events.begin()
    assert await events.read(()) == []
    setting.clock._execute(
        "insert into {schema}.notable_events (host, at, kind, actor, fields) "
        f"values ('{one.database.host}', 0, 'message.failed', '', '{{}}')".replace("{}", "{{}}")
    )
    assert await events.read(()) == []
    setting.clock.advance(5)
    assert len(await events.read(())) == 1
    one.notifications.announce([("noted",)])
    assert len(await events.read(())) == 1
