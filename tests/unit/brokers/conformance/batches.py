"""Batches: the rows that are sent, all or none, and their counts and results."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from agentq_nb._brokers.batches import NewBatch, StoredBatch
from agentq_nb._brokers.changes import Cancel
from agentq_nb._brokers.messages import Commit, Outcome, Settlement
from agentq_nb._core.ids import ActorId
from agentq_nb._policies.admission import Limits
from agentq_nb.errors import BatchElsewhere, BatchTooLarge, BatchUnknown, QueueFull
from tests.unit.brokers.conformance.words import (
    ACTOR,
    OTHER,
    PATIENCE,
    acquire,
    drain,
    rest,
    send,
    settle,
    soon,
    status_of,
    take,
    take_one,
)
from tests.unit.brokers.settings import Setting

NAME = "many"


def new_batch(given: Sequence[Any], name: str = NAME, actor: ActorId = ACTOR, **options: Any) -> NewBatch:
    return NewBatch(name, actor, "tasks", [json.dumps(body).encode() for body in given], **options)


async def send_rows(setting: Setting, *given: Any, name: str = NAME, **options: Any) -> StoredBatch:
    return await setting.broker.batches.send(new_batch(given, name, **options))


def numbers(stored: StoredBatch) -> list[int]:
    return [row for span in stored.rows for row in span]


async def rows_of(setting: Setting) -> list[int]:
    return numbers(await setting.broker.batches.find(NAME))


async def counts_of(setting: Setting, rows: Sequence[range] | None = None, name: str = NAME) -> dict[str, Any]:
    """What is not zero, without the rate."""
    batches = setting.broker.batches
    counts = await batches.counts(name, (await batches.find(name)).rows if rows is None else rows)
    return {field: value for field, value in counts._replace(per_minute=0.0)._asdict().items() if value}


async def messages_of(setting: Setting) -> list[str]:
    read = await setting.broker.batches.read(NAME, await rows_of(setting))
    return [row.result.message for row in read if row is not None]


async def settle_next(setting: Setting, outcome: Outcome = "completed", **facts: Any) -> None:
    """Settle the next message, as a host that comes for this alone."""
    lease = await acquire(setting)
    await settle(lease, await take_one(lease), outcome, **facts)
    await lease.release()


async def until_waiting(setting: Setting, senders: int) -> None:
    """Return once so many wait for room."""
    async with asyncio.timeout(PATIENCE):
        while sum(queue.waiting_senders for queue in await setting.broker.status(ACTOR)) != senders:  # noqa: ASYNC110  # as in until
            await asyncio.sleep(0.001)


async def drained(setting: Setting) -> list[Any]:
    """The bodies of all that is due, completed by a host that comes for this alone."""
    lease = await acquire(setting)
    found = await drain(lease)
    await lease.release()
    return found


class Batches:
    # --- the identity of rows -----------------------------------------------------------------------------------------

    async def test_each_body_is_a_row_of_its_own_also_where_bodies_are_equal(self, setting: Setting) -> None:
        stored = await send_rows(setting, "a", "b", "a", facts={"of": "letters"})
        assert (numbers(stored), stored.total, stored.added, stored.earlier) == ([0, 1, 2], 3, 3, None)
        assert await setting.broker.batches.find(NAME) == stored._replace(added=0)
        assert (stored.name, stored.actor, stored.queue, stored.facts) == (NAME, ACTOR, "tasks", {"of": "letters"})
        assert await drained(setting) == ["a", "b", "a"]

    async def test_rows_sent_again_are_known_by_content_and_not_by_place(self, setting: Setting) -> None:
        await send_rows(setting, "a", {"x": 1, "y": 2}, "a", facts={"first": True})
        again = await send_rows(setting, {"y": 2, "x": 1}, "a", "c", "a", facts={"first": False})
        assert (numbers(again), again.total, again.added) == ([1, 0, 3, 2], 4, 1)
        assert (again.earlier, again.facts) == ({"first": True}, {"first": False})
        assert await drained(setting) == ["a", {"x": 1, "y": 2}, "a", "c"]

    async def test_of_equal_bodies_only_those_beyond_the_rows_that_there_are_are_new(self, setting: Setting) -> None:
        await send_rows(setting, *["x"] * 2)
        assert (await send_rows(setting, "x")).added == 0
        assert (await send_rows(setting, *["x"] * 10)).added == 8
        assert await drained(setting) == ["x"] * 10

    async def test_settled_rows_count_as_done(self, setting: Setting) -> None:
        await send_rows(setting, "completed", "dead", "cancelled")
        await settle_next(setting)
        await settle_next(setting, "dead", error={"message": "no"})
        await setting.broker.batches.cancel(NAME, [range(2, 3)])
        again = await send_rows(setting, "cancelled", "dead", "completed")
        assert (numbers(again), again.added) == ([2, 1, 0], 0)
        assert await drained(setting) == []

    @pytest.mark.parametrize(("whole", "rows"), [(False, [0, 1, 2]), (True, [2, 1])])
    async def test_it_is_what_was_ever_sent_or_if_asked_what_was_sent_last(
        self, setting: Setting, whole: bool, rows: list[int]
    ) -> None:
        await send_rows(setting, "a", "b")
        assert numbers(await send_rows(setting, "c", "b", whole=whole)) == [2, 1]
        assert await rows_of(setting) == rows
        assert (await setting.broker.batches.find(NAME)).total == 3

    async def test_sent_once_more_settled_rows_are_replaced_and_the_others_stay(self, setting: Setting) -> None:
        await send_rows(setting, "a", "a", "b")
        await settle_next(setting)
        again = await send_rows(setting, "a", "a", "b", again=True)
        assert (numbers(again), again.added, again.total) == ([3, 1, 2], 1, 4)
        assert await rows_of(setting) == [3, 1, 2]
        assert await drained(setting) == ["a", "b", "a"]
        assert (await send_rows(setting, "b", "a", "a")).added == 0

    async def test_rows_have_the_options_of_their_send(self, setting: Setting) -> None:
        await send_rows(setting, "late")
        await send_rows(setting, "early", options={"priority": 2})
        await send_rows(setting, "later", options={"delay": 5.0})
        lease = await acquire(setting)
        assert await drain(lease) == ["early", "late"]
        setting.clock.advance(5)
        assert await drain(lease) == ["later"]

    async def test_a_row_is_an_ordinary_message_too(self, setting: Setting) -> None:
        await send(setting.broker, "before")
        await send_rows(setting, "row")
        (message,) = await messages_of(setting)
        await setting.broker.change(ACTOR, Cancel(message))
        assert await status_of(setting.broker, message) == "cancelled"
        assert await counts_of(setting) == {"cancelled": 1}

    async def test_a_name_belongs_to_one_queue(self, setting: Setting) -> None:
        await send_rows(setting, "a")
        with pytest.raises(BatchElsewhere):
            await setting.broker.batches.send(new_batch(["a"], actor=OTHER))
        assert await drain(await acquire(setting, OTHER)) == []

    async def test_an_unknown_name_is_an_error(self, setting: Setting) -> None:
        batches, rows = setting.broker.batches, [range(1)]
        for asked in (
            batches.find("none"),
            batches.counts("none", rows),
            batches.settled("none", None, 0),
            batches.finished("none", rows),
            batches.read("none", [0]),
            batches.failed("none", rows, 1),
            batches.retry_failed("none", rows),
            batches.redo("none", rows, Limits()),
            batches.cancel("none", rows),
            batches.resume("none"),
        ):
            with pytest.raises(BatchUnknown):
                await asked
        with pytest.raises(BatchUnknown):
            batches.counts_now("none", rows)

    # --- all or nothing -----------------------------------------------------------------------------------------------

    async def test_where_there_is_no_room_for_all_nothing_is_sent(self, setting: Setting) -> None:
        await send_rows(setting, "a", "b", max_size=3)
        with pytest.raises(QueueFull):
            await send_rows(setting, "a", "c", "d", max_size=3)
        with pytest.raises(QueueFull):
            await send_rows(setting, "c", "d", name="other", max_size=3)
        with pytest.raises(BatchUnknown):
            await setting.broker.batches.find("other")
        assert (await setting.broker.batches.find(NAME)).total == 2
        assert (await send_rows(setting, "a", "b", "c", max_size=3)).added == 1, "rows that there are need no room"
        assert await drained(setting) == ["a", "b", "c"]

    @pytest.mark.parametrize("limits", [{"max_size": 3}, {"max_bytes": 11}])
    async def test_one_that_could_never_fit_is_refused_at_once(self, setting: Setting, limits: dict[str, int]) -> None:
        with pytest.raises(BatchTooLarge):
            await soon(setting.broker.batches.send(new_batch(["a", "b", "c", "d"], **limits), None))
        with pytest.raises(BatchUnknown):
            await setting.broker.batches.find(NAME)

    async def test_one_that_waits_is_sent_whole_once_there_is_room_and_before_later_ones(
        self, setting: Setting
    ) -> None:
        await send_rows(setting, "a", "b", max_size=2)
        waiting = asyncio.ensure_future(setting.broker.batches.send(new_batch(["c", "d"], "second", max_size=2), None))
        await until_waiting(setting, 1)
        lease = await acquire(setting)
        await settle(lease, await take_one(lease))
        with pytest.raises(QueueFull):
            await send(setting.broker, "later", max_size=2)
        assert not waiting.done()
        await settle(lease, await take_one(lease))
        assert (await soon(waiting)).added == 2
        assert await drain(lease) == ["c", "d"]

    async def test_one_that_is_cancelled_while_it_waits_or_waits_too_long_sends_nothing(self, setting: Setting) -> None:
        await send_rows(setting, "a", max_size=1)
        batches = setting.broker.batches
        cancelled = asyncio.ensure_future(batches.send(new_batch(["b"], "second", max_size=1), None))
        late = asyncio.ensure_future(batches.send(new_batch(["c"], "third", max_size=1), 5.0))
        await until_waiting(setting, 2)
        cancelled.cancel()
        await until_waiting(setting, 1)
        setting.clock.advance(5)
        with pytest.raises(QueueFull):
            await soon(late)
        assert await drained(setting) == ["a"]
        assert [stored.name for stored in await batches.all()] == [NAME]

    # --- what is told -------------------------------------------------------------------------------------------------

    async def test_counts_say_how_many_rows_are_in_each_state(self, setting: Setting) -> None:
        await send_rows(setting, "completed", "dead", "running", "waiting", "cancelled")
        await send_rows(setting, "expired", options={"ttl": 5.0})
        lease = await acquire(setting)
        first, second, _ = await take(lease, 3)
        await lease.commit(Commit([Settlement(first, "completed"), Settlement(second, "dead", error={})]))
        assert await setting.broker.batches.cancel(NAME, [range(4, 5)]) == 1
        setting.clock.advance(6)
        expired = (await messages_of(setting))[5]
        assert await status_of(setting.broker, expired) == "expired"
        states = ("completed", "failed", "running", "waiting", "cancelled", "expired")
        assert await counts_of(setting) == dict.fromkeys(states, 1)
        assert await counts_of(setting, [range(1), range(3, 5)]) == {"completed": 1, "waiting": 1, "cancelled": 1}
        rows = [range(6)]
        assert setting.broker.batches.counts_now(NAME, rows) == await setting.broker.batches.counts(NAME, rows)

    async def test_settled_rows_are_told_as_they_come_from_where_one_has_read(self, setting: Setting) -> None:
        batches = setting.broker.batches
        await send_rows(setting, "a", "b", "c")
        lease = await acquire(setting)
        held = await take(lease, 3)
        await settle(lease, held[2], reply=b'"C"')
        first = await soon(batches.settled(NAME, None, None))
        assert [(row, result.reply) for row, result in first.rows] == [(2, b'"C"')]
        waiting = asyncio.ensure_future(batches.settled(NAME, first.cursor, None))
        await rest()
        assert not waiting.done()
        await settle(lease, held[0], "failed", error={"message": "no"})
        second = await soon(waiting)
        assert [(row, result.status, result.error) for row, result in second.rows] == [(0, "failed", {"message": "no"})]
        late = asyncio.ensure_future(batches.settled(NAME, second.cursor, 5.0))
        await rest()
        setting.clock.advance(5)
        assert (await soon(late)).rows == []
        assert [row for row, _ in (await soon(batches.settled(NAME, None, 0))).rows] == [2, 0]

    async def test_it_is_finished_when_the_last_of_the_rows_is_settled(self, setting: Setting) -> None:
        batches = setting.broker.batches
        await send_rows(setting, "a", "b", "c")
        waiting = asyncio.ensure_future(batches.finished(NAME, [range(2)]))
        await settle_next(setting)
        await rest()
        assert not waiting.done()
        await settle_next(setting, "dead", error={})
        assert await soon(waiting) is None
        assert await soon(batches.finished(NAME, [])) is None

    async def test_rows_are_read_in_the_order_that_is_asked_for(self, setting: Setting) -> None:
        await send_rows(setting, "a", "b")
        lease = await acquire(setting)
        delivery = await take_one(lease)
        setting.clock.advance(7)
        await settle(lease, delivery, reply=b'"A"')
        waiting, done = await setting.broker.batches.read(NAME, [1, 0], timed=True, bodies=True)
        assert waiting is not None
        assert done is not None
        assert (waiting.body, waiting.result.status, waiting.seconds) == (b'"b"', "queued", None)
        assert (done.body, done.result.status, done.result.reply, done.seconds) == (b'"a"', "completed", b'"A"', 7.0)
        assert done.result.attempts == 1

    async def test_the_first_failed_rows_are_told_with_their_errors(self, setting: Setting) -> None:
        await send_rows(setting, "a", "b", "c", "d")
        await settle_next(setting)
        for number in range(3):
            await settle_next(setting, "dead", error={"message": str(number)})
        found = await setting.broker.batches.failed(NAME, [range(4)], 2)
        assert [(row, result.error) for row, result in found] == [(1, {"message": "0"}), (2, {"message": "1"})]
        assert await setting.broker.batches.failed(NAME, [range(1)], 2) == []

    async def test_recent_ones_are_those_with_work_and_then_the_latest(self, setting: Setting) -> None:
        for name in ("first", "waits", "third"):
            setting.clock.advance(1)
            await send_rows(setting, name, name=name)
        lease = await acquire(setting)
        first, _, third = await take(lease, 3)
        await lease.commit(Commit([Settlement(first, "completed"), Settlement(third, "completed")]))
        batches = setting.broker.batches
        assert [stored.name for stored in await batches.all()] == ["first", "waits", "third"]
        assert [stored.name for stored in await batches.recent(9)] == ["waits", "third", "first"]
        assert [stored.name for stored in await batches.recent(2)] == ["waits", "third"]
