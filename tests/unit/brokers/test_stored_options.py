"""The options of a send in the log: one object in a message's first row, and what earlier versions wrote instead."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest

from agentq_nb._brokers.local import event_rows
from agentq_nb._brokers.local.broker import LocalBroker
from agentq_nb._brokers.local.queues import LiveMessage
from agentq_nb._store import EventLog, schema
from agentq_nb.errors import IdempotencyConflict
from tests.unit.brokers.conformance.words import ACTOR, HOST, acquire, drain, new_message, send
from tests.unit.brokers.settings import LocalSetting
from tests.unit.fake_clock import FakeClock
from tests.unit.store.helpers import event, queued, write

pytestmark = pytest.mark.anyio

FAR = 4_000_000_000.0


async def stored(setting: LocalSetting) -> dict[str, Any]:
    """What the first row of the only message says."""
    (row,) = await setting.broker.log.sql("select data from events where kind = 'message.queued'")
    return json.loads(row[0])


def replayed(facts: Mapping[str, Any]) -> LiveMessage:
    entries: dict[str, LiveMessage] = {}
    event_rows.replay(entries, [(7, 0.0, "message.queued", ACTOR, "m", json.dumps({"queue": "q", "body": 1, **facts}))])
    return entries["m"]


async def test_options_are_written_as_one_object_and_replayed_whole(tmp_path: Path) -> None:
    setting = await LocalSetting.open(tmp_path)
    options = {"priority": 2, "idempotency_key": "k", "delay": 60.0, "color": ["of a later version"]}
    message = await send(setting.broker, **options)
    facts = await stored(setting)
    assert facts == {"queue": "tasks", "body": 1, "due": setting.clock.time() + 60, "options": options}
    await setting.crash()
    entry = setting.broker._commit_log.live_messages.entries[message]
    assert (entry.options, entry.priority, entry.key, entry.due) == (options, 2, "k", facts["due"])
    await setting.close()


async def test_a_message_without_options_has_none_in_its_row(tmp_path: Path) -> None:
    setting = await LocalSetting.open(tmp_path)
    await send(setting.broker)
    assert await stored(setting) == {"queue": "tasks", "body": 1}
    await setting.close()


@pytest.mark.parametrize(
    ("facts", "options", "due"),
    [
        ({}, {}, 0.0),
        ({"priority": 3}, {"priority": 3}, 0.0),
        ({"key": ""}, {"idempotency_key": ""}, 0.0),
        ({"priority": -1, "due": FAR, "key": "k"}, {"priority": -1, "idempotency_key": "k"}, FAR),
        ({"due": FAR, "options": {"delay": 5.0}}, {"delay": 5.0}, FAR),
    ],
    ids=repr,
)
def test_rows_of_every_version_are_read(facts: dict[str, Any], options: dict[str, Any], due: float) -> None:
    entry = replayed(facts)
    assert entry.options == options
    assert (entry.priority, entry.key, entry.due) == (
        options.get("priority", 0),
        options.get("idempotency_key"),
        due,
    )


async def test_a_file_of_version_2_opens_with_the_priorities_delays_and_keys_it_has(tmp_path: Path) -> None:
    path = tmp_path / "work.agentq.duckdb"
    await asyncio.to_thread(
        write,
        path,
        queued("0a", body="plain"),
        queued("0b", body="urgent", priority=5),
        queued("0c", body="late", priority=-1),
        queued("0d", body="far", due=FAR),
        queued("0e", body="live", key="live"),
        queued("0f", body="done", key="done"),
        event("message.completed", "0f"),
    )
    with duckdb.connect(str(path)) as file:
        file.execute("update store_facts set schema_version = 2, views = ''")
    path.with_name(path.name + ".guard").unlink()
    log = EventLog.open(path)
    assert f"{path.name} was brought from schema 2 to {schema.version()}." in log.notices
    broker = await LocalBroker.open(log, clock=FakeClock())
    for body in ("live", "done"):
        assert await send(broker, body, idempotency_key=body) == {"live": "0e", "done": "0f"}[body]
        with pytest.raises(IdempotencyConflict):
            await broker.enqueue([new_message("another", idempotency_key=body)])
    lease = await broker.acquire(ACTOR, HOST)
    assert lease is not None
    assert await drain(lease) == ["urgent", "plain", "live", "late"]
    assert (await broker.wait("0d", 0)).status == "delayed"
    await broker.close()


async def test_a_completed_message_keeps_its_key_across_a_restart(tmp_path: Path) -> None:
    setting = await LocalSetting.open(tmp_path)
    first = await send(setting.broker, "new", idempotency_key="k")
    assert await drain(await acquire(setting)) == ["new"]
    await setting.reopen()
    assert await send(setting.broker, "new", idempotency_key="k") == first
    await setting.close()
