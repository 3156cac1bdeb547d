"""Calls and events between hosts on one PostgreSQL: each call is begun once, and answered with what it changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from agentq_nb._brokers.exchange import Request
from agentq_nb._brokers.messages import Answer, Commit
from agentq_nb._brokers.postgres import events
from agentq_nb._brokers.postgres.address import parse_address
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb._core.error_fields import error_json
from agentq_nb._core.ids import mint_id
from agentq_nb.errors import BodyTooLarge, LeaseLost, Unavailable, UserError
from tests.postgres_queues import count
from tests.unit.brokers.conformance.words import ACTOR, rest, soon, until
from tests.unit.brokers.postgres.hosts import Join, after_the_next
from tests.unit.brokers.postgres_setting import PostgresSetting

pytestmark = pytest.mark.anyio


@pytest.fixture
def join(join: Join, setting: PostgresSetting) -> Join:
    """Add another host, and let the hosts notice each other.

    One that thinks it is alone notifies nothing until it looks, for which these tests' time does not pass.
    """
    hosts = [setting.broker]

    async def join_and_notice(*limits: Any, options: str = "") -> PostgresBroker:
        hosts.append(await join(*limits, options=options))
        await until(lambda: all(broker.notifications.others for broker in hosts))
        return hosts[-1]

    return join_and_notice


def request(asked: bytes = b'["add",[3],{},null]') -> Request:
    return Request(mint_id(), ACTOR, "call", asked, "process")


async def taken(broker: PostgresBroker) -> Request:
    """The next request that this host gets."""
    return await soon(anext(aiter(broker.exchange.requests(lambda: ["worker"], ()))))


async def waits_for_a_lock(connection: psycopg.Connection[Any]) -> None:
    """Return when another connection waits for what this one has locked."""
    waiting = "select 1 from pg_stat_activity where pg_backend_pid() = any(pg_blocking_pids(pid))"
    async with asyncio.timeout(20):
        while connection.execute(waiting).fetchone() is None:
            connection.execute("select pg_stat_clear_snapshot()")
            await asyncio.sleep(0.01)


async def looked(setting: PostgresSetting, true: Callable[[], bool]) -> None:
    """Let time pass until it is so, in steps after which every host looks. None of them is taken for dead meanwhile."""
    async with asyncio.timeout(20):
        while not true():
            setting.clock._execute("update {schema}.sessions set until = {schema}.now() + 15")
            setting.clock.advance(5)
            await asyncio.sleep(0.05)


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still waits, before its broker is closed."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# --- calls ------------------------------------------------------------------------------------------------------------


async def test_a_request_reaches_the_host_of_the_actor_with_its_arguments_and_its_answer_comes_back_and_is_cleaned_up(
    setting: PostgresSetting, join: Join
) -> None:
    other = await join()
    assert await other.acquire(ACTOR, "other") is not None
    sent = request(json.dumps(["add", ["x" * 3_000_000], {}, None]).encode())
    asking = asyncio.ensure_future(setting.broker.exchange.ask(sent))
    assert await taken(other) == sent
    await other.exchange.answer(Answer(sent.id, b'"done"'))
    assert await soon(asking) == b'"done"'
    await until(lambda: count(setting.url, "requests") == 0)


async def test_an_error_comes_back_with_its_class_code_and_metadata(setting: PostgresSetting, join: Join) -> None:
    other = await join()
    asking = asyncio.ensure_future(setting.broker.exchange.ask(request()))
    error = UserError("Not this one.", code="own", metadata={"number": 7})
    await other.exchange.answer(Answer((await taken(other)).id, error=error_json(error)))
    with pytest.raises(UserError, match="Not this one") as raised:
        await soon(asking)
    assert (raised.value.code, raised.value.metadata) == ("own", {"number": 7})


async def test_a_request_for_an_actor_that_another_host_runs_is_left_to_that_host(
    setting: PostgresSetting, join: Join
) -> None:
    other, third = await join(), await join()
    assert await other.acquire(ACTOR, "other") is not None
    waiting = asyncio.ensure_future(taken(third))
    asking = asyncio.ensure_future(setting.broker.exchange.ask(request()))
    found = await taken(other)
    assert not waiting.done()
    await other.exchange.answer(Answer(found.id, b"1"))
    assert await soon(asking) == b"1"
    await end(waiting)


async def test_of_several_hosts_that_could_wake_the_actor_one_gets_the_request(
    setting: PostgresSetting, join: Join
) -> None:
    brokers = [await join() for _ in range(3)]
    waiting = [asyncio.ensure_future(taken(broker)) for broker in brokers]
    await rest()
    asking = asyncio.ensure_future(setting.broker.exchange.ask(request()))
    await soon(asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED))
    await rest()
    assert len([one for one in waiting if one.done()]) == 1
    await end(*waiting, asking)


async def test_an_answer_is_written_with_the_state_and_neither_after_the_lease_was_lost(
    setting: PostgresSetting, join: Join
) -> None:
    other = await join()
    lease = await other.acquire(ACTOR, "other")
    assert lease is not None
    first = asyncio.ensure_future(setting.broker.exchange.ask(request()))
    found = await taken(other)
    await lease.commit(Commit(state=b'{"n":1}', answer=Answer(found.id, b"1")))
    assert await soon(first) == b"1"
    second = asyncio.ensure_future(setting.broker.exchange.ask(request()))
    found = await taken(other)
    setting.clock.expire_sessions()
    stolen = await setting.broker.acquire(ACTOR, "host-1")
    assert stolen is not None
    with pytest.raises(LeaseLost):
        await lease.commit(Commit(state=b'{"n":2}', answer=Answer(found.id, b"2")))
    with pytest.raises(Unavailable, match="how far the call got is not known"):
        await soon(second)
    assert stolen.state == b'{"n":1}'
    await until(lambda: count(setting.url, "requests") == 0)


async def test_what_was_answered_otherwise_is_not_written(setting: PostgresSetting, join: Join) -> None:
    """As when the server was away, the host gave up, and its commit arrives after all."""
    other = await join()
    lease = await other.acquire(ACTOR, "other")
    assert lease is not None
    asking = asyncio.ensure_future(setting.broker.exchange.ask(request()))
    found = await taken(other)
    await other.exchange.answer(Answer(found.id, error=error_json(Unavailable("given up"))))
    with pytest.raises(LeaseLost):
        await lease.commit(Commit(state=b'{"n":1}', answer=Answer(found.id, b"1")))
    with pytest.raises(Unavailable, match="given up"):
        await soon(asking)
    again = await setting.broker.acquire(ACTOR, "host-1")
    assert again is None or again.state is None


async def test_a_request_that_a_dead_host_had_begun_is_never_given_to_another(
    setting: PostgresSetting, join: Join
) -> None:
    other, third = await join(), await join()
    asking = asyncio.ensure_future(setting.broker.exchange.ask(request()))
    await taken(other)
    waiting = asyncio.ensure_future(taken(third))
    await other.abandon()
    setting.clock.expire_sessions()
    await setting.broker.acquire("worker/any", "host-1")
    setting.clock.advance(6)  # the hosts that live look after the others
    with pytest.raises(Unavailable, match="not repeated automatically"):
        await soon(asking)
    await rest()
    assert not waiting.done()
    await end(waiting)


async def test_a_request_that_no_host_begins_in_time_is_taken_back_and_was_not_carried_out(
    setting: PostgresSetting, join: Join
) -> None:
    asking = asyncio.ensure_future(setting.broker.exchange.ask(request()))
    await until(lambda: count(setting.url, "requests") == 1)
    await looked(setting, asking.done)
    with pytest.raises(Unavailable, match="Nothing was done"):
        await soon(asking)
    other = await join()
    waiting = asyncio.ensure_future(taken(other))
    await rest()
    assert not waiting.done()
    await end(waiting)


async def test_a_host_that_cannot_run_it_after_all_gives_it_back_to_the_others(
    setting: PostgresSetting, join: Join
) -> None:
    other, third = await join(), await join()
    asking = asyncio.ensure_future(setting.broker.exchange.ask(request()))
    found = await taken(other)
    waiting = asyncio.ensure_future(taken(third))
    await rest()
    await other.exchange.give_back(found.id)
    assert (await soon(waiting)).id == found.id
    await end(asking)


async def test_a_withdrawn_request_is_not_begun_and_one_that_was_begun_is_stopped(
    setting: PostgresSetting, join: Join
) -> None:
    other = await join()
    told: list[str] = []
    other.exchange.on_withdrawn = told.append
    unbegun, begun = request(), request()
    exchange = setting.broker.exchange
    asking = [asyncio.ensure_future(exchange.ask(begun))]
    assert (await taken(other)).id == begun.id
    asking.append(asyncio.ensure_future(exchange.ask(unbegun)))
    await until(lambda: count(setting.url, "requests") == 2)
    await exchange.withdraw(unbegun.id)
    assert count(setting.url, "requests") == 1
    await exchange.withdraw(begun.id)
    await until(lambda: told == [begun.id])
    await end(*asking)


async def test_without_notifications_requests_answers_and_withdrawals_arrive_by_looking(
    setting: PostgresSetting, join: Join
) -> None:
    """A pooler in transaction mode drops LISTEN."""
    other = await join()
    told: list[str] = []
    other.exchange.on_withdrawn = told.append
    for broker in (setting.broker, other):
        broker.notifications._tasks[0].cancel()
    await rest()
    waiting = asyncio.ensure_future(taken(other))
    await rest()
    sent = request()
    asking = asyncio.ensure_future(setting.broker.exchange.ask(sent))
    await until(lambda: count(setting.url, "requests") == 1)
    await looked(setting, waiting.done)
    assert (await waiting).id == sent.id
    await setting.broker.exchange.withdraw(sent.id)
    await looked(setting, lambda: sent.id in told)
    await other.exchange.answer(Answer(sent.id, b"1"))
    await looked(setting, asking.done)
    assert await asking == b"1"


async def test_answers_that_nothing_reads_and_requests_of_the_dead_are_deleted(
    setting: PostgresSetting, join: Join
) -> None:
    other = await join()
    asking = asyncio.ensure_future(setting.broker.exchange.ask(request()))
    found = await taken(other)
    asking.cancel()
    await other.exchange.answer(Answer(found.id, b"1"))
    assert count(setting.url, "requests") == 1
    setting.clock.advance(600)
    await looked(setting, lambda: count(setting.url, "requests") == 0)
    third = await join()
    dying = asyncio.ensure_future(third.exchange.ask(request()))
    await until(lambda: count(setting.url, "requests") == 1)
    await third.close()
    assert count(setting.url, "requests") == 0
    with pytest.raises(Unavailable):
        await soon(dying)


async def test_arguments_that_are_too_large_are_refused_before_anything_is_written(
    setting: PostgresSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentq_nb._brokers.postgres.pending_calls._MOST_BYTES", 10)
    with pytest.raises(BodyTooLarge):
        await setting.broker.exchange.ask(request())
    assert count(setting.url, "requests") == 0


# --- events -----------------------------------------------------------------------------------------------------------


async def test_events_reach_those_who_listen_elsewhere_in_order_however_large_and_also_when_they_are_equal(
    setting: PostgresSetting, join: Join
) -> None:
    other = await join()
    heard: list[bytes] = []
    other.exchange.on_event = lambda actor, event, payload: heard.append(payload)
    await other.exchange.listen(ACTOR, "progress")
    exchange = setting.broker.exchange
    await until(lambda: exchange.wants(ACTOR, "progress"))
    assert not exchange.wants(ACTOR, "other")
    sent = [b"1", b"1", b"x" * 100_000, *(str(number).encode() for number in range(500))]
    for payload in sent:
        exchange.broadcast(ACTOR, "progress", payload)
    await until(lambda: len(heard) == len(sent))
    assert heard == sent


async def test_without_notifications_events_arrive_by_looking(setting: PostgresSetting, join: Join) -> None:
    other = await join()
    for broker in (setting.broker, other):
        broker.notifications._tasks[0].cancel()
    heard: list[bytes] = []
    other.exchange.on_event = lambda actor, event, payload: heard.append(payload)
    await other.exchange.listen(ACTOR, "progress")
    await looked(setting, lambda: setting.broker.exchange.wants(ACTOR, "progress"))
    setting.broker.exchange.broadcast(ACTOR, "progress", b"1")
    await looked(setting, lambda: heard == [b"1"])
    assert heard == [b"1"]


async def test_a_host_knows_the_listeners_that_were_there_before_it(setting: PostgresSetting, join: Join) -> None:
    heard: list[bytes] = []
    setting.broker.exchange.on_event = lambda actor, event, payload: heard.append(payload)
    await setting.broker.exchange.listen(ACTOR, "progress")
    other = await join()
    assert other.exchange.wants(ACTOR, "progress")
    other.exchange.broadcast(ACTOR, "progress", b"1")
    await until(lambda: heard == [b"1"])


async def test_a_host_that_has_just_started_hears_of_new_listeners(setting: PostgresSetting, join: Join) -> None:
    other = await join()
    third = await PostgresBroker.open(setting.url, clock=setting.clock)
    try:
        await other.exchange.listen(ACTOR, "progress")
        await until(lambda: third.exchange.wants(ACTOR, "progress"))
    finally:
        await third.close()


async def test_listeners_that_were_added_while_a_host_was_not_notified_are_known_once_it_is_again(
    setting: PostgresSetting, join: Join
) -> None:
    other = await join()
    listening = "from pg_stat_activity where query = 'listen \"{schema}\"'"
    assert len(setting.clock._execute(f"select pg_terminate_backend(pid) {listening}").fetchall()) == 2
    await until(lambda: setting.clock._execute(f"select 1 {listening}").fetchone() is None)
    await other.exchange.listen(ACTOR, "progress")
    await until(lambda: setting.broker.exchange.wants(ACTOR, "progress"))


async def test_a_listener_that_is_added_while_its_host_looks_twice_is_known_after_the_first_look(
    setting: PostgresSetting, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, events = await join(), setting.broker.exchange._events
    looking: list[asyncio.Future[None]] = []

    async def a_listener_is_added() -> None:
        await other.exchange.listen(ACTOR, "news")
        await until(lambda: events.wants(ACTOR, "news"))
        looking.append(asyncio.ensure_future(events.read_listeners()))
        await asyncio.sleep(0)  # it begins

    after_the_next("look", setting.broker, monkeypatch, a_listener_is_added)
    await events.read_listeners()
    assert events.wants(ACTOR, "news")
    await soon(asyncio.gather(*looking))


async def test_events_end_with_listening_and_with_the_session_of_the_listener_and_are_deleted(
    setting: PostgresSetting, join: Join
) -> None:
    other, third = await join(), await join()
    heard: list[bytes] = []
    other.exchange.on_event = lambda actor, event, payload: heard.append(payload)
    await other.exchange.listen(ACTOR, "progress")
    await third.exchange.listen(ACTOR, "progress")
    await until(lambda: setting.broker.exchange.wants(ACTOR, "progress"))
    setting.broker.exchange.broadcast(ACTOR, "progress", b"1")
    await until(lambda: heard == [b"1"])
    await other.exchange.ignore(ACTOR, "progress")
    await third.close()
    assert count(setting.url, "listeners") == 0
    await looked(setting, lambda: count(setting.url, "events") == 0)
    assert not setting.broker.exchange.wants(ACTOR, "progress")


async def test_a_listener_that_could_not_be_added_at_first_hears_events_once_it_was(
    setting: PostgresSetting, join: Join
) -> None:
    other = await join()
    heard: list[bytes] = []
    other.exchange.on_event = lambda actor, event, payload: heard.append(payload)
    setting.clock._execute("alter table {schema}.listeners rename to away")
    with pytest.raises(Unavailable):
        await other.exchange.listen(ACTOR, "progress")
    setting.clock._execute("alter table {schema}.away rename to listeners")
    await other.exchange.listen(ACTOR, "progress")
    await until(lambda: setting.broker.exchange.wants(ACTOR, "progress"))
    setting.broker.exchange.broadcast(ACTOR, "progress", b"1")
    await until(lambda: heard == [b"1"])
    await other.exchange.ignore(ACTOR, "progress")
    assert count(setting.url, "listeners") == 0


async def test_an_event_that_is_listened_to_again_while_listening_ends_is_still_listened_to(
    setting: PostgresSetting, join: Join
) -> None:
    other = await join()
    await other.exchange.listen(ACTOR, "progress")
    with psycopg.connect(setting.url.partition("?")[0]) as connection:
        schema = parse_address(setting.url).schema
        connection.execute(f"select * from {schema}.listeners for update".encode())
        ending = asyncio.ensure_future(other.exchange.ignore(ACTOR, "progress"))
        await waits_for_a_lock(connection)
        again = asyncio.ensure_future(other.exchange.listen(ACTOR, "progress"))
        await asyncio.wait([again], timeout=0.2)
    await soon(asyncio.gather(ending, again))
    assert count(setting.url, "listeners") == 1


async def test_of_too_many_events_while_the_server_takes_none_the_oldest_are_dropped(
    setting: PostgresSetting, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_MOST_UNSENT", 10)
    sender = await join()
    heard: list[int] = []
    setting.broker.exchange.on_event = lambda actor, event, payload: heard.append(int(payload))
    await setting.broker.exchange.listen(ACTOR, "progress")
    with psycopg.connect(setting.url.partition("?")[0]) as connection:
        schema = parse_address(setting.url).schema
        connection.execute(f"alter table {schema}.events rename to away".encode())
        for number in range(6):
            sender.exchange.broadcast(ACTOR, "progress", b"%d" % number)
        await waits_for_a_lock(connection)
        for number in range(6, 14):
            sender.exchange.broadcast(ACTOR, "progress", b"%d" % number)
    await until(lambda: sender.trouble is not None)
    setting.clock._execute("alter table {schema}.away rename to events")
    await until(lambda: 13 in heard)
    assert heard == list(range(4, 14))
