"""Several hosts on one PostgreSQL: who runs what, what wakes an actor, and what a host that was taken for dead may still write."""

from __future__ import annotations

import asyncio
import json

import psycopg
import pytest

from agentq_nb._brokers.changes import Cancel, Pause, Resume
from agentq_nb._brokers.messages import Commit, LimitReached, Settlement, Take
from agentq_nb._brokers.postgres.address import parse_address
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb._brokers.postgres.migration import VERSION
from agentq_nb.errors import LeaseLost, StoreTooNew, Unavailable, ValidationFailed
from tests.postgres_queues import own_queues
from tests.unit.brokers.conformance.words import (
    ACTOR,
    bodies,
    drain,
    new_message,
    rest,
    send,
    settle,
    soon,
    status_of,
    take,
    take_one,
    until,
)
from tests.unit.brokers.postgres.hosts import Join, lease_of
from tests.unit.brokers.postgres_setting import PostgresSetting

pytestmark = pytest.mark.anyio


async def test_a_message_sent_by_one_host_is_handled_by_another_and_its_reply_comes_back(
    setting: PostgresSetting, join: Join
) -> None:
    other = await join()
    lease = await lease_of(other, ACTOR)
    receiving = asyncio.ensure_future(lease.turn(None, Take(None)))
    await rest()
    message = await send(setting.broker, "hello")
    waiting = asyncio.ensure_future(setting.broker.wait(message, None))
    (delivery,) = await soon(receiving)
    await settle(lease, delivery, reply=b'"done"')
    assert (await soon(waiting)).reply == b'"done"'


async def test_hosts_are_woken_for_an_actor_that_another_host_sent_to(setting: PostgresSetting, join: Join) -> None:
    other = await join()
    hint = asyncio.ensure_future(anext(other.ready_actors({"worker": None})))
    await rest()
    await send(setting.broker)
    assert await soon(hint) == ACTOR


async def test_of_hosts_that_want_an_actor_at_once_one_gets_it(setting: PostgresSetting, join: Join) -> None:
    brokers = [setting.broker, await join(), await join()]
    leases = await asyncio.gather(*(broker.acquire(ACTOR, f"host-{n}") for n, broker in enumerate(brokers)))
    assert len([lease for lease in leases if lease is not None]) == 1


async def test_a_running_message_is_cancelled_from_another_host(setting: PostgresSetting, join: Join) -> None:
    other = await join()
    lease = await lease_of(other, ACTOR)
    told: list[str] = []
    lease.cancelling = told.append
    message = await send(setting.broker)
    delivery = await take_one(lease)
    assert await setting.broker.change(ACTOR, Cancel(message)) == 1
    await until(lambda: bool(told))
    await settle(lease, delivery, "released")
    assert await status_of(setting.broker, message) == "cancelled"


async def test_a_cancellation_whose_notification_was_lost_reaches_the_handler_by_looking(
    setting: PostgresSetting, join: Join
) -> None:
    other = await join()
    lease = await lease_of(other, ACTOR)
    told: list[str] = []
    lease.cancelling = told.append
    message = await send(setting.broker)
    await take_one(lease)
    other.notifications._tasks[0].cancel()
    await rest()
    await setting.broker.change(ACTOR, Cancel(message))
    assert told == []
    async with asyncio.timeout(20):
        while not told:
            setting.clock._execute("update {schema}.sessions set until = {schema}.now() + 15")
            setting.clock.advance(5)
            await asyncio.sleep(0.05)
    assert set(told) == {message}


async def test_a_pause_made_by_one_host_holds_for_all_and_so_does_its_end(setting: PostgresSetting, join: Join) -> None:
    other = await join()
    await other.change(ACTOR, Pause("tasks"))
    await send(setting.broker, "held")
    lease = await lease_of(setting.broker, ACTOR)
    assert await take(lease) == []
    receiving = asyncio.ensure_future(lease.turn(None, Take(None)))
    await rest()
    await other.change(ACTOR, Resume("tasks"))
    assert bodies(await soon(receiving)) == ["held"]


async def test_a_host_taken_for_dead_writes_nothing_and_the_message_comes_first_to_the_next(
    setting: PostgresSetting, join: Join
) -> None:
    """Not even the part of a commit that does not concern the message."""
    message = await send(setting.broker, "in flight")
    await send(setting.broker, "next")
    stalled = await lease_of(setting.broker, ACTOR)
    held = await take_one(stalled)
    setting.clock.expire_sessions()
    other = await join()
    lease = await lease_of(other, ACTOR)
    late = Commit([Settlement(held, "completed", reply=b'"late"')], b'{"n":1}', [new_message("call", "$schedule")])
    with pytest.raises(LeaseLost):
        await stalled.commit(late)
    assert stalled.lost.is_set()
    again = await take_one(lease)
    assert (again.id, again.attempt, again.crashes, lease.state) == (message, 2, 1, None)
    assert await take(lease, 1, ["$schedule"]) == []
    await settle(lease, again, reply=b'"in time"')
    assert (await setting.broker.wait(message, 0)).reply == b'"in time"'


async def test_what_a_process_had_in_flight_that_ended_without_a_loop_comes_again_uncounted(
    setting: PostgresSetting, join: Join
) -> None:
    await send(setting.broker)
    lease = await lease_of(setting.broker, ACTOR)
    await take_one(lease)
    setting.broker.close_now()
    other = await join()
    taken = await lease_of(other, ACTOR)
    again = await take_one(taken)
    assert (again.attempt, again.crashes) == (1, 0)
    await setting.broker.abandon()


async def test_what_several_actors_had_in_flight_comes_again_one_at_a_time(
    setting: PostgresSetting, join: Join
) -> None:
    actors = ["worker/a", "worker/b"]
    for actor in actors:
        await send(setting.broker, actor, actor=actor)
        lease = await setting.broker.acquire(actor, "host-1")
        assert lease is not None
        await take_one(lease)
    setting.clock.expire_sessions()
    other = await join()
    leases = [await other.acquire(actor, "host-2") for actor in actors]
    assert leases[0] is not None
    assert leases[1] is not None
    last = await take_one(leases[1])
    assert (last.attempt, last.crashes) == (2, 0)
    assert await take(leases[0]) == []
    await settle(leases[1], last)
    assert await drain(leases[0]) == ["worker/a"]


async def test_a_host_that_is_alive_keeps_its_actors_while_its_loop_is_blocked(setting: PostgresSetting) -> None:
    await lease_of(setting.broker, ACTOR)
    renewal = setting.broker._renewal
    assert renewal is not None
    setting.clock.expire_sessions()
    assert not setting.clock.alive(setting.broker.session)
    with psycopg.connect(parse_address(setting.url).conninfo, autocommit=True) as connection:
        assert await asyncio.to_thread(renewal._renewed, connection)
    assert setting.clock.alive(setting.broker.session)


async def test_a_host_that_others_have_ended_loses_every_lease_and_goes_on_with_a_new_session(
    setting: PostgresSetting, join: Join
) -> None:
    lease = await lease_of(setting.broker, ACTOR)
    setting.clock.expire_sessions()
    await join()
    setting.broker._session_lost()  # what the renewal finds out at its next turn
    assert lease.lost.is_set()
    await until(lambda: setting.clock.alive(setting.broker.session))
    assert await setting.broker.acquire(ACTOR, "host-1") is not None


async def test_two_hosts_send_at_once_and_every_message_is_there_once_and_in_its_senders_order(
    setting: PostgresSetting, join: Join
) -> None:
    other = await join()

    async def send_all(broker: PostgresBroker, name: str) -> None:
        for number in range(30):
            await send(broker, [name, number])

    await asyncio.gather(send_all(setting.broker, "a"), send_all(other, "b"))
    lease = await lease_of(setting.broker, ACTOR)
    seen = await drain(lease)
    for name in ("a", "b"):
        assert [number for sender, number in seen if sender == name] == list(range(30))


async def test_the_state_follows_an_actor_from_host_to_host(setting: PostgresSetting, join: Join) -> None:
    other = await join()
    lease = await lease_of(setting.broker, ACTOR)
    await lease.commit(Commit(state=b'{"n":1}'))
    assert await other.acquire(ACTOR, "host-2") is None
    await lease.release()
    taken = await lease_of(other, ACTOR)
    assert json.loads(taken.state or b"") == {"n": 1}


async def test_a_providers_limit_pauses_the_queue_of_the_message_that_met_it_in_all_hosts(
    setting: PostgresSetting, join: Join
) -> None:
    await send(setting.broker, "limited")
    await send(setting.broker, "next")
    lease = await lease_of(setting.broker, ACTOR)
    held = await take_one(lease)
    until, otherwise = setting.clock.time() + 30, Settlement(held, "dead")
    met = LimitReached(None, until, "429 Too Many Requests", None, otherwise)
    await lease.commit(Commit([Settlement(held, "limited", limited=met)]))
    await lease.release()
    other = await join()
    taken = await lease_of(other, ACTOR)
    assert await take(taken) == []
    (queue,) = await other.status(ACTOR)
    assert (queue.paused, queue.paused_until, queue.pause_reason) == (True, until, "429 Too Many Requests")
    setting.clock.pass_by_alive(30)
    again = await take_one(taken)
    assert (bodies([again]), again.attempt) == (["limited"], 1)


async def test_a_providers_limit_that_would_pause_for_too_long_settles_otherwise(setting: PostgresSetting) -> None:
    message = await send(setting.broker, "limited")
    lease = await lease_of(setting.broker, ACTOR)
    held = await take_one(lease)
    otherwise = Settlement(held, "dead", error={"message": "a limit of a week"})
    met = LimitReached(None, setting.clock.time() + 604_800, "limit", 60.0, otherwise)
    await lease.commit(Commit([Settlement(held, "limited", limited=met)]))
    assert (await setting.broker.wait(message, 0)).error == {"message": "a limit of a week"}
    (queue,) = await setting.broker.status(ACTOR)
    assert not queue.paused


# --- the schema -------------------------------------------------------------------------------------------------------


async def test_hosts_that_start_at_once_on_an_empty_database_create_the_tables_once(
    postgres_url: str,
) -> None:
    with own_queues(postgres_url) as url:
        brokers = await asyncio.gather(*(PostgresBroker.open(url) for _ in range(4)))
        await send(brokers[0], "there")
        lease = await brokers[3].acquire(ACTOR, "host-3")
        assert lease is not None
        assert await drain(lease) == ["there"]
        for broker in brokers:
            await broker.close()


async def test_tables_of_a_newer_version_are_refused_and_left_as_they_are(setting: PostgresSetting) -> None:
    with psycopg.connect(parse_address(setting.url).conninfo, autocommit=True) as connection:
        version = f"{parse_address(setting.url).schema}.version"
        connection.execute(f"update {version} set version = {VERSION + 1}".encode())
        with pytest.raises(StoreTooNew, match="Update agentq_nb"):
            await PostgresBroker.open(setting.url)
        assert connection.execute(f"select version from {version}".encode()).fetchall() == [(VERSION + 1,)]


# --- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["postgresql://localhost/test?schema=Robert'); drop", "postgresql://localhost/test?nonsense=1"]
)
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValidationFailed):
        await PostgresBroker.open(url)


async def test_a_server_that_is_not_there_is_said_to_be_unavailable_without_the_password() -> None:
    with pytest.raises(Unavailable, match=r"127.0.0.1:1/test") as refused:
        await PostgresBroker.open("postgresql://test:secret@127.0.0.1:1/test")
    assert "secret" not in str(refused.value)
