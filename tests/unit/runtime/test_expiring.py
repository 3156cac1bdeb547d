"""``ttl``: messages that are not started in time expire, and everybody is told."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from agentq_nb import Actor, AgentqError, Queue, action
from agentq_nb._display import document_of
from agentq_nb._display.document import as_text
from agentq_nb.errors import MessageExpired
from tests.unit.runtime.world import World, queue_of

pytestmark = pytest.mark.anyio


class Inbox(Actor):
    """It takes messages only when it is told to."""

    letters = Queue(str)
    news = Queue(str, ttl=timedelta(seconds=30))

    @action
    async def take_all(self) -> list[str]:
        taken: list[str] = []
        while (message := await self.queue.try_next()) is not None:
            taken.append(message.body)
        return taken

    @action
    async def pass_on(self, queue: str, options: dict[str, Any]) -> str:
        return (await self.queue.push(queue, "pushed", **options)).id


async def test_an_expired_message_is_a_result_of_that_status(slow_world: World) -> None:
    handle = (await slow_world.start(inbox=Inbox)).inbox.get_or_create("x")
    receipt = await handle.send("letters", "late", ttl=10)
    waiting = asyncio.ensure_future(receipt.result())
    await slow_world.pass_by(10)
    result = await waiting
    assert (result.status, result.ok, result.attempts, result.response) == ("expired", False, 0, None)
    assert result.error is not None
    assert result.error["message"] == "It was not started within its ttl of 10 s in queue 'letters'."
    with pytest.raises(MessageExpired, match=rf"expired\. It was not started.*%agentq retry {receipt.id}"):
        result.unwrap()
    assert await receipt.status() == "expired"
    assert await handle.take_all() == []


async def test_why_a_message_waits_names_when_it_expires_until_it_is_started(slow_world: World) -> None:
    handle = (await slow_world.start(inbox=Inbox)).inbox.get_or_create("x")
    queued, delayed = await handle.send("letters", "a", ttl=90), await handle.send("letters", "b", delay=60, ttl=30)
    forever = await handle.send("letters", "c")
    await slow_world.pass_by(30)
    for receipt in (queued, delayed):
        reason = (await receipt.result(0)).reason
        assert reason is not None
        assert "It expires in 60 s, at " in reason
        assert "unless it is started before." in reason
    assert "expires" not in ((await forever.result(0)).reason or "")


async def test_a_send_that_waits_is_told_without_a_class_too(slow_world: World) -> None:
    client = await slow_world.start(inbox=Inbox)
    receipt = await client.inbox.get_or_create("x").send("letters", "late", ttl=10)
    await slow_world.registry.stop()
    slow_world.registry.classes.clear()
    del slow_world.registry
    client = await slow_world.start()
    waiting = asyncio.ensure_future(client.receipt(receipt.id).result())
    await slow_world.pass_by(10)
    assert (await waiting).status == "expired"


async def test_it_is_in_views_and_status_and_can_be_put_back(slow_world: World) -> None:
    handle = (await slow_world.start(inbox=Inbox)).inbox.get_or_create("x")
    receipt = await handle.send("letters", "late", ttl=10)
    await slow_world.pass_by(10)
    registry = slow_world.registry
    for view in ("messages", "results"):
        rows = (await registry.sql(f"select status, error->>'code', attempts from {view}")).rows
        assert [tuple(row) for row in rows] == [("expired", "expired", 0)]
    counts = await registry.sql("select expired, queued from queues")
    assert tuple(counts.rows[0]) == (1, 0)
    assert (await queue_of(handle, "letters")).expired == 1
    shown = as_text(document_of(await registry.status()))
    assert "expired" in shown
    assert await handle.redeliver(receipt.id)
    assert (await queue_of(handle, "letters")).expired == 0
    await slow_world.pass_by(100)
    assert await handle.take_all() == ["late"]
    assert (await receipt.result()).status == "completed"


async def test_expired_messages_are_counted_across_restarts(slow_world: World) -> None:
    client = await slow_world.start(inbox=Inbox)
    handle = client.inbox.get_or_create("x")
    first = await handle.send("letters", "late", ttl=10)
    await handle.send("letters", "later", ttl=10)
    await slow_world.pass_by(10)
    await handle.redeliver(first.id)
    handle = (await slow_world.restart()).inbox.get_or_create("x")
    assert (await queue_of(handle, "letters")).expired == 1
    await handle.send("letters", "latest", ttl=10)
    await slow_world.pass_by(10)
    assert (await queue_of(handle, "letters")).expired == 2


async def test_completed_messages_are_counted_across_restarts(slow_world: World) -> None:
    handle = (await slow_world.start(inbox=Inbox)).inbox.get_or_create("x")
    for number in (1, 2):
        await handle.send("letters", "in time")
        assert await handle.take_all() == ["in time"]
        assert (await queue_of(handle, "letters")).completed == number
        handle = (await slow_world.restart()).inbox.get_or_create("x")


async def test_a_queue_gives_its_ttl_to_sends_that_have_none(slow_world: World) -> None:
    handle = (await slow_world.start(inbox=Inbox)).inbox.get_or_create("x")
    own = await handle.send("news", "own", ttl=60)
    default = await handle.send("news", "default")
    as_none = await handle.send("news", "none", ttl=None)
    without = await handle.send("news", "without", ttl=float("inf"))
    pushed = await handle.pass_on("news", {"ttl": timedelta(seconds=45)})
    await slow_world.pass_by(30)
    assert [await r.status() for r in (own, default, as_none, without)] == ["queued", "expired", "expired", "queued"]
    await slow_world.pass_by(15)
    assert await slow_world.registry.sql("select status from messages where message_id = ?", [pushed])
    client = slow_world.registry
    assert (await client.sql("select status from messages where message_id = ?", [pushed])).rows[0][0] == "expired"
    await slow_world.pass_by(15)
    assert await handle.take_all() == ["without"]


async def test_the_key_of_an_expired_message_is_free(slow_world: World) -> None:
    handle = (await slow_world.start(inbox=Inbox)).inbox.get_or_create("x")
    first = await handle.send("letters", "a", ttl=10, idempotency_key="k")
    again = await handle.send("letters", "a", ttl=99, idempotency_key="k")
    assert again.id == first.id
    await slow_world.pass_by(10)
    assert (await handle.send("letters", "b", idempotency_key="k")).id != first.id


@pytest.mark.parametrize("ttl", [0, -1, "10", True, float("nan"), 1e12, timedelta(0), timedelta(days=-1), [5]])
async def test_a_ttl_that_does_not_fit_is_refused_and_nothing_is_written(world: World, ttl: Any) -> None:
    handle = (await world.start(inbox=Inbox)).inbox.get_or_create("x")
    with pytest.raises(AgentqError) as refused:
        await handle.send("letters", "a", ttl=ttl)
    assert refused.value.full_code == "actor.validation_error"
    assert str(refused.value).startswith("ttl is a number of seconds above 0 and up to a hundred years")
    assert repr(ttl)[:20] in str(refused.value)
    assert await handle.take_all() == []


@pytest.mark.parametrize("ttl", [0, "10", True, float("nan")])
def test_a_queue_refuses_such_a_ttl_where_it_is_declared(ttl: Any) -> None:
    with pytest.raises(ValueError, match=r"Queue\(ttl=\.\.\.\) is a number of seconds above 0"):
        Queue(str, ttl=ttl)
    assert Queue(str, ttl=float("inf")).ttl is None
    assert Queue(str, ttl=timedelta(minutes=1)).ttl == 60
