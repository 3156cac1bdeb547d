"""Connections to PostgreSQL: how transactions are isolated, which ones are undone, and what a notification may contain."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from agentq_nb._brokers.messages import Enqueued, NewMessage
from agentq_nb._brokers.moved import MovedMessage
from agentq_nb._brokers.postgres import session
from agentq_nb._brokers.postgres.address import parse_address
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.postgres.intake import take_over
from agentq_nb._brokers.postgres.sql import snapshot
from agentq_nb._core.ids import MessageId, mint_id
from tests.unit.brokers.conformance.words import ACTOR, send, soon, until
from tests.unit.brokers.postgres.hosts import Join, after_the_next
from tests.unit.brokers.postgres_setting import PostgresSetting

pytestmark = pytest.mark.anyio


@pytest.fixture
async def setting(postgres_url: str) -> AsyncIterator[PostgresSetting]:
    setting = await PostgresSetting.open(postgres_url)
    yield setting
    await setting.close()


# --- isolation --------------------------------------------------------------------------------------------------------


async def test_transactions_see_what_was_committed_whatever_the_server_isolates_by_default(
    setting: PostgresSetting,
) -> None:
    """Limits are read after they are locked: an older snapshot would miss the starts of other hosts."""
    strict = "&options=-c%20default_transaction_isolation%3Dserializable"
    broker = await PostgresBroker.open(setting.url + strict, clock=setting.clock)

    async def isolation(tx: Transaction) -> Any:
        return await tx.row("select current_setting('transaction_isolation')")

    assert await broker.database.run(isolation) == ("read committed",)
    await broker.close()


# --- what is undone ---------------------------------------------------------------------------------------------------


class SlowContents:
    """A store with one message, which is read as slowly as the test wants."""

    store = "slow"

    def __init__(self) -> None:
        self.read_on = threading.Event()
        self.message = MovedMessage(mint_id(), ACTOR, "tasks", "queued", b"1", {}, 0.0)

    def messages(self) -> Iterator[MovedMessage]:
        self.read_on.wait()
        yield self.message

    def unsettled(self) -> list[MessageId]:
        return [self.message.id]

    def actors(self) -> list[Any]:
        return []

    pauses = batches = totals = actors


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every transaction that waits for its client is taken for one that stands still."""
    monkeypatch.setattr(session, "STALLED", 0.0)
    monkeypatch.setattr(session, "_LOOKING", math.inf)


async def test_moving_a_store_is_not_undone_however_slowly_it_is_read(
    setting: PostgresSetting, postgres_url: str, impatient: None
) -> None:
    contents = SlowContents()
    moving = asyncio.ensure_future(asyncio.to_thread(take_over, parse_address(setting.url), contents))
    copies = "select 1 from pg_stat_activity where wait_event = 'ClientRead' and query ilike 'copy %'"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        await until(lambda: connection.execute(copies).fetchone() is not None)
    await setting.broker.database.run(session.end_stalled)
    contents.read_on.set()
    assert (await soon(moving)).departed == {contents.message.id}


async def test_an_export_is_not_undone_however_slowly_it_is_written(
    setting: PostgresSetting, tmp_path: Path, impatient: None
) -> None:
    await send(setting.broker, 1)
    with snapshot(parse_address(setting.url)) as views:
        names = [next(views).name]
        await setting.broker.database.run(session.end_stalled)
        names += [view.name for view in views for _ in view.pages]
    assert "messages" in names


async def test_a_broker_whose_every_task_was_cancelled_closes_its_connections_and_ends_its_session(
    setting: PostgresSetting, postgres_url: str
) -> None:
    """Code in the loop of a host may cancel what is not its own, the pool's tasks too."""
    before = asyncio.all_tasks()
    broker = await PostgresBroker.open(setting.url, clock=setting.clock)
    pooled = broker.database._pool._pool
    await until(lambda: len(pooled) > 0)
    processes = [connection.info.backend_pid for connection in pooled]
    for task in asyncio.all_tasks() - before:
        task.cancel()
    await soon(broker.close())
    with psycopg.connect(postgres_url, autocommit=True) as connection:

        def gone() -> bool:
            query = "select from pg_stat_activity where pid = any(%s)"
            return connection.execute(query, [processes]).fetchone() is None

        await until(gone)
    assert not setting.clock.alive(broker.session)


# --- notifications ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", ["", "1", "[]", '["other", ["sent", "worker/a"]]', '["other", 7]', '["other", []]'])
async def test_a_notification_that_is_none_of_ours_ends_nothing(
    setting: PostgresSetting, postgres_url: str, payload: str
) -> None:
    schema = parse_address(setting.url).schema
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("select pg_notify(%s, %s)", [schema, payload])
        with setting.broker.notifications.watch(("settled", "m")) as watch:
            watch.clear()
            connection.execute("select pg_notify(%s, %s)", [schema, '["other", ["settled", "m"]]'])
            await until(watch.rung)
    assert not setting.broker.notifications._tasks[0].done()


async def test_a_host_that_joins_while_another_looks_whether_it_is_alone_is_notified(
    setting: PostgresSetting, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def one_joins() -> None:
        await join()
        await until(lambda: setting.broker.notifications.others)

    assert not setting.broker.notifications.others
    after_the_next("look", setting.broker, monkeypatch, one_joins)
    await setting.broker._upkeep.look_for_others()
    assert setting.broker.notifications.others


async def test_a_change_that_fits_into_no_notification_does_not_keep_others_from_being_sent(
    setting: PostgresSetting,
) -> None:
    other = await PostgresBroker.open(setting.url, clock=setting.clock)
    await until(lambda: setting.broker.notifications.others)
    with other.notifications.watch(("settled", "m")) as watch:
        setting.broker.notifications.announce([("listening", ACTOR, "\N{SNOWMAN}" * 5000)])
        await until(lambda: not setting.broker.notifications._sending.is_set())
        watch.clear()
        setting.broker.notifications.announce([("settled", "m")])
        await until(watch.rung)
    assert not any(task.done() for task in setting.broker.notifications._tasks)
    await other.close()


# --- what was moved ---------------------------------------------------------------------------------------------------


async def test_a_key_of_a_message_that_was_sent_after_others_names_it_where_it_was_moved_to(
    setting: PostgresSetting,
) -> None:
    contents = SlowContents()
    options = {"idempotency_key": "key", "after": [mint_id()]}
    contents.message = contents.message._replace(status="completed", options=options, ended_at=1.0, reply=b"2")
    contents.read_on.set()
    await asyncio.to_thread(take_over, parse_address(setting.url), contents)
    again = await setting.broker.enqueue([NewMessage(mint_id(), ACTOR, "tasks", b"1", options)])
    assert again == [Enqueued(contents.message.id, repeated=True)]
