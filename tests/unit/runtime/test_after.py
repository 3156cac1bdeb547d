"""``send(after=...)``: messages that wait for others, as handlers, senders and those who look see them."""

from __future__ import annotations

import asyncio
import gc
import re
import time
from typing import Any

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, Message, Queue, Result, Retry, action
from agentq_nb._commands.queries import details_of
from agentq_nb._display import document_of
from agentq_nb._display.document import as_text
from agentq_nb.errors import (
    BatchError,
    MessageCancelled,
    PredecessorFailed,
    PredecessorUnknown,
    ValidationFailed,
    WaitWouldDeadlock,
)
from tests.unit.runtime.world import World, queue_of

pytestmark = pytest.mark.anyio


class Review(BaseModel):
    stars: int


class Reviewer(Actor):
    reviews = Queue(str, reply=Review, retry=Retry(attempts=1))
    reports = Queue(str)
    held = Queue(str)

    @reviews.handler
    async def review(self, body: str) -> Review:
        if body == "bad":
            raise ValueError("no stars at all")
        return Review(stars=len(body))

    @reports.handler
    def report(self, body: str, message: Message[str, Any]) -> list[Any]:
        return [(one.message_id, type(one.response).__name__, one.response.stars) for one in message.after]

    @action
    async def take(self) -> list[Any]:
        message = await self.queue.next("held", timeout=5)
        return [] if message is None else [one.response for one in message.after]


class Waiter(Actor):
    asks = Queue(str, concurrency=2)
    others = Queue(str)

    @asks.handler
    async def ask(self, body: str, message: Message[str, Any]) -> str:
        (other, how) = body.split()
        target = self.actors.waiter.get_or_create(other)
        if how == "send_and_wait":
            return (await target.send("others", "x", after=message, wait=True, timeout=5)).status
        middle = await target.send("others", "x", after=message)
        last = await target.send("others", "y", after=[middle])
        return (await last.result(timeout=5)).status

    @others.handler
    async def other(self, body: str) -> str:
        return body


def shown(value: object) -> str:
    document = document_of(value)
    assert document is not None
    return as_text(document)


async def test_a_handler_gets_the_typed_replies_in_the_order_given(world: World) -> None:
    handle = (await world.start(reviewer=Reviewer)).reviewer.get_or_create("x")
    first, second = [await handle.send("reviews", body) for body in ("one", "three")]
    report = await handle.send("reports", "all", after=[second, first.id])
    assert (await report.result(10)).response == [[second.id, "Review", 5], [first.id, "Review", 3]]


async def test_a_message_without_after_has_no_results(world: World) -> None:
    handle = (await world.start(reviewer=Reviewer)).reviewer.get_or_create("x")
    assert (await handle.send("reports", "none", wait=True, timeout=10)).response == []
    await handle.send("held", "none")
    assert await handle.take() == []


async def test_what_waits_is_cancelled_with_the_first_reason_along_a_chain(world: World) -> None:
    handle = (await world.start(reviewer=Reviewer)).reviewer.get_or_create("x")
    await handle.pause("reviews")
    first = await handle.send("reviews", "bad")
    second = await handle.send("reports", "second", after=first)
    third = await handle.send("reports", "third", after=second)
    await handle.resume("reviews")
    result = await third.result(10)
    assert result.status == "cancelled"
    assert result.error is not None
    assert result.error["message"] == (
        f"Message {second.id}, which it waited for, was cancelled, because message {first.id} failed: ValueError: no "
        "stars at all."
    )
    with pytest.raises(MessageCancelled, match=rf"was cancelled.*no stars at all.*%agentq retry {first.id}"):
        result.unwrap()
    rows = (await world.registry.sql("select status, error->>'code' from messages order by created_at")).rows
    assert [tuple(row) for row in rows] == [
        ("failed", "error"),
        ("cancelled", "predecessor_failed"),
        ("cancelled", "predecessor_failed"),
    ]
    with pytest.raises(PredecessorFailed, match=f"message {first.id}.* failed: ValueError"):
        await handle.send("reports", "late", after=first)
    with pytest.raises(PredecessorUnknown, match=r"Nothing was sent.*same store"):
        await handle.send("reports", "lost", after="0123456789abcdef")


@pytest.mark.parametrize("bad", [7, [None], {"a": "b"}, b"0a", "no id!", [["0a"]]])
async def test_after_takes_receipts_messages_and_ids_only(world: World, bad: Any) -> None:
    handle = (await world.start(reviewer=Reviewer)).reviewer.get_or_create("x")
    with pytest.raises(ValidationFailed, match="after takes receipts"):
        await handle.send("reports", "x", after=bad)


async def test_after_nothing_is_no_after(world: World) -> None:
    handle = (await world.start(reviewer=Reviewer)).reviewer.get_or_create("x")
    for nothing in (None, [], ()):
        assert (await handle.send("reports", "x", after=nothing, wait=True, timeout=10)).status == "completed"


async def test_those_who_look_see_what_it_waits_for(slow_world: World) -> None:
    handle = (await slow_world.start(reviewer=Reviewer)).reviewer.get_or_create("x")
    first = await handle.send("held", "first", delay=60)
    second = await handle.send("held", "second", after=first, delay=30)
    assert await second.status() == "blocked"
    reason = (await second.result(0)).reason
    assert reason is not None
    assert f"It waits for message {first.id} of queue 'held' of 'reviewer/x', which is delayed" in reason
    queue = await queue_of(handle, "held")
    assert (queue.ready, queue.delayed, queue.blocked, queue.live) == (0, 1, 1, 2)
    assert "blocked" in shown(await handle.status())
    details = await details_of(slow_world.registry, second.id)
    assert list(details.after) == [first.id]
    assert re.search(rf"sent after\s+{first.id} \(", shown(details))
    query = "select status, after from messages where message_id = ?"
    assert (await slow_world.registry.sql(query, [second.id])).rows == [("blocked", [first.id])]
    assert (await slow_world.registry.sql("select blocked from queues")).rows == [(1,)]
    await slow_world.pass_by(60)
    assert await handle.take() == []
    assert await second.cancel()
    assert await second.status() == "cancelled"


async def test_the_time_that_begins_shows_in_the_views(world: World) -> None:
    handle = (await world.start(reviewer=Reviewer)).reviewer.get_or_create("x")
    first = await handle.send("reviews", "good")
    later = await handle.send("held", "later", after=first, delay=3600)
    soon = await handle.send("held", "soon", after=first)
    await first.result(10)
    while await soon.status() == "blocked":  # noqa: ASYNC110  # what follows a message's end has no event
        await asyncio.sleep(0.001)
    found = dict((await world.registry.sql("select message_id, status from messages where queue = 'held'")).rows)
    assert found == {later.id: "delayed", soon.id: "queued"}
    assert (await later.status(), await soon.status()) == ("delayed", "queued")


async def test_a_batch_waits_as_a_whole(world: World) -> None:
    handle = (await world.start(reviewer=Reviewer)).reviewer.get_or_create("x")
    first = await handle.send("held", "first")
    batch = await handle.send_many("reports", [str(n) for n in range(300)], name="reports", after=first)
    assert (await queue_of(handle, "reports")).blocked == 300
    await handle.cancel(first.id)
    assert {result.status for result in await batch.results()} == {"cancelled"}
    with pytest.raises((PredecessorFailed, BatchError)):
        await handle.send_many("reports", ["one"], after=first)


async def test_a_batch_cannot_wait_for_a_row_of_its_own(world: World) -> None:
    handle = (await world.start(reviewer=Reviewer)).reviewer.get_or_create("x")
    batch = await handle.send_many("reports", ["a"], name="mine")
    (result,) = await batch.results()
    with pytest.raises(ValidationFailed, match="same send or batch"):
        await handle.send_many("reports", ["b"], name="mine", after=result.message_id)
    assert len(await batch.results()) == 1


# --- waits that could never end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["send_and_wait", "send"])
async def test_a_wait_for_what_waits_for_the_waiters_own_message_is_refused(world: World, how: str) -> None:
    client = await world.start(waiter=Waiter)
    result = await client.waiter.get_or_create("a").send("asks", f"b {how}", wait=True, timeout=20)
    assert result.status == "failed"
    assert result.error is not None
    assert result.error["code"] == WaitWouldDeadlock.code
    assert "which moves only after this message settles" in result.error["message"]
    assert f"message {result.message_id} of queue 'asks' of 'waiter/a'" in result.error["message"]


# --- many -------------------------------------------------------------------------------------------------------------


@pytest.mark.file_only  # with queues on a server the loop stands still for half a second
@pytest.mark.parametrize("ends", ["completed", "cancelled"])
async def test_ten_thousand_that_wait_for_one_do_not_block_the_loop(world: World, ends: str) -> None:
    handle = (await world.start(reviewer=Reviewer)).reviewer.get_or_create("x")
    await handle.pause("reports")
    first = await handle.send("held", "first")
    batch = await handle.send_many("reports", [str(n) for n in range(10_000)], after=first)
    longest, last, watching = 0.0, time.thread_time(), True

    async def watch() -> None:
        nonlocal longest, last
        while watching:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, last = max(longest, now - last), now

    gc.collect()
    gc.freeze()  # looking through what the tests before have left would take the time of this one's thread
    watcher = asyncio.ensure_future(watch())
    await asyncio.sleep(0.01)
    longest = 0.0
    if ends == "completed":
        await handle.take()
    else:
        await handle.cancel(first.id)
    while (await queue_of(handle, "reports")).blocked:  # noqa: ASYNC110  # what follows a message's end has no event
        await asyncio.sleep(0)
    watching = False
    await watcher
    gc.unfreeze()
    assert longest < 0.05
    queue = await queue_of(handle, "reports")
    assert queue.ready == (10_000 if ends == "completed" else 0)
    if ends == "cancelled":
        results: list[Result[Any]] = await batch.results()
        assert {result.status for result in results} == {"cancelled"}
