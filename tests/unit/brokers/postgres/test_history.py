"""What became of messages in PostgreSQL, as tables that have the columns of the local store's views."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agentq_nb._brokers.local.history import LocalHistory
from agentq_nb._brokers.postgres.history import MessageHistory
from agentq_nb._core.result_table import Table
from agentq_nb.errors import ValidationFailed
from tests.unit.brokers.conformance.words import ACTOR, acquire, send, settle, take_one
from tests.unit.brokers.postgres_setting import PostgresSetting
from tests.unit.brokers.settings import LocalSetting, Setting
from tests.unit.fake_clock import START

pytestmark = pytest.mark.anyio


async def work(setting: Setting) -> None:
    """Some messages that end in different ways."""
    sent: list[tuple[Any, dict[str, Any]]] = [
        ({"text": "a\u0000b"}, {"idempotency_key": "k", "origin": "http"}),
        ("dies", {"queue": "other", "priority": 2}),
        ("waits", {"delay": 60.0}),
        ("internal", {"queue": "$schedule"}),
        ("elsewhere", {"actor": "other/x"}),
    ]
    for body, options in sent:
        await send(setting.broker, body, **options)
        setting.clock.advance(1)
    lease = await acquire(setting)
    setting.clock.advance(2)
    for queue, outcome, facts in (
        ("tasks", "completed", {"reply": b'{"ok":true}'}),
        ("other", "dead", {"error": {"message": "no"}}),
    ):
        delivery = await take_one(lease, [queue])
        setting.clock.advance(3)
        await settle(lease, delivery, outcome, **facts)  # type: ignore[arg-type]


def rows(table: Table) -> list[dict[str, Any]]:
    columns = {name: values for name, _, values in table.typed() if name != "message_id"}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


async def test_messages_and_results_are_those_that_the_local_store_shows(
    setting: PostgresSetting, tmp_path: Path
) -> None:
    local = await LocalSetting.open(tmp_path)
    await work(setting)
    await work(local)
    await local.broker.flushed()
    theirs = LocalHistory(lambda: local.broker.log, local.broker.prune)
    ours = MessageHistory(setting.broker.database)
    for ask in ("messages", "results"):
        found = [await getattr(history, ask)(None, None, None, None) for history in (ours, theirs)]
        assert found[0].columns == found[1].columns
        assert list(found[0].types) == list(found[1].types)
        expected = rows(found[1])
        for row in expected:  # their clocks stand still and the real one does not: see views.sql on "delayed"
            row["status"] = "delayed" if row.get("body") == "waits" else row["status"]
        assert rows(found[0]) == expected
    await local.close()


async def test_conditions_select_messages(setting: PostgresSetting) -> None:
    await work(setting)
    history = MessageHistory(setting.broker.database)

    async def queues(*asked: Any) -> list[str]:
        return [row["queue"] for row in rows(await history.messages(*asked))]

    assert await queues(ACTOR, None, None, None) == ["tasks", "other", "tasks"]
    assert await queues("other", None, None, None) == ["tasks"]
    assert await queues(None, "other", None, None) == ["other"]
    assert await queues(None, None, ["failed", "delayed"], None) == ["other", "tasks"]
    assert await queues(None, None, None, START + 5) == []
    late = datetime.fromtimestamp(START + 11, UTC)
    assert [row["queue"] for row in rows(await history.results(None, None, None, late))] == ["other"]
    assert len(await history.results(None, None, None, timedelta(days=10_000))) == 2
    with pytest.raises(ValidationFailed, match="No message has status 'done'"):
        await history.messages(None, None, "done", None)
