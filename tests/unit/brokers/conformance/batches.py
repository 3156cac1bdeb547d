"""Batches: which rows are sent, what is told of them, and what is done with them, also after a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from agentq_nb._brokers.batches import NewBatch, StoredBatch
from agentq_nb._brokers.values import Cancel, Commit, Delivery, Outcome, Settlement, Take
from agentq_nb._core.ids import ActorId
from agentq_nb._policies.admission import Limits
from agentq_nb._policies.retry import Failure, FailureKind
from agentq_nb.errors import BatchElsewhere, BatchPruned, BatchTooLarge, BatchUnknown, QueueFull
from tests.unit.brokers.conformance.words import (
    ACTOR,
    OTHER,
    PATIENCE,
    acquire,
    bodies,
    drain,
    rest,
    restart,
    send,
    settle,
    soon,
    status_of,
    survives,
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


def failure(type: str = "KeyError", stop_after: int = 3, *, hopeless: bool = False) -> Failure:
    return Failure(FailureKind(type, "work.py:7"), f"{type}: 'tex'", stop_after, hopeless)


def failed(delivery: Delivery, told: Failure | None = None, outcome: Outcome = "dead") -> Settlement:
    return Settlement(delivery, outcome, error={"message": "no"}, failure=told or failure())


REASON = "3 messages in a row failed with the same error: KeyError: 'tex'"


async def stop(setting: Setting, *given: Any) -> None:
    """Send rows, of which the first three fail alike."""
    await send_rows(setting, *given)
    for _ in range(3):
        lease = await acquire(setting)
        await lease.commit(Commit([failed(await take_one(lease))]))
        await lease.release()


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

    # --- doing work again, and not at all -----------------------------------------------------------------------------

    async def test_only_failed_rows_are_retried_and_keep_their_numbers(self, setting: Setting) -> None:
        await send_rows(setting, "a", "b", "c", "d")
        await settle_next(setting)
        for _ in range(2):
            await settle_next(setting, "dead", error={})
        assert await setting.broker.batches.retry_failed(NAME, [range(2), range(3, 4)]) == 1
        assert await counts_of(setting) == {"completed": 1, "failed": 1, "waiting": 2}
        assert sorted(await drained(setting)) == ["b", "d"]
        assert (await setting.broker.batches.find(NAME)).total == 4
        assert await setting.broker.batches.retry_failed(NAME, [range(4)]) == 1
        assert await setting.broker.batches.retry_failed(NAME, [range(4)]) == 0

    async def test_redone_rows_are_new_messages_in_the_place_of_settled_ones(self, setting: Setting) -> None:
        await send_rows(setting, "a", "a", "b", options={"priority": 3})
        await settle_next(setting)
        await settle_next(setting, "dead", error={})
        before = await messages_of(setting)
        redone = await setting.broker.batches.redo(NAME, [range(3)], Limits())
        assert (numbers(redone), redone.added, redone.total) == ([3, 4, 2], 2, 5)
        assert await rows_of(setting) == [3, 4, 2]
        after = await messages_of(setting)
        assert ([one in before for one in after], after[2]) == ([False, False, True], before[2])
        await send(setting.broker, "ordinary", priority=1)
        assert await drained(setting) == ["b", "a", "a", "ordinary"]
        assert (await send_rows(setting, "b", "a", "a")).added == 0

    @pytest.mark.parametrize(("limits", "error"), [(Limits(3), QueueFull), (Limits(1), BatchTooLarge)])
    async def test_what_has_no_room_is_not_redone(
        self, setting: Setting, limits: Limits, error: type[Exception]
    ) -> None:
        await send_rows(setting, "a", "b")
        assert await drained(setting) == ["a", "b"]
        for body in ("others", "wait"):
            await send(setting.broker, body)
        with pytest.raises(error):
            await setting.broker.batches.redo(NAME, [range(2)], limits)
        assert (await rows_of(setting), await counts_of(setting)) == ([0, 1], {"completed": 2})

    async def test_cancelling_settles_what_waits_and_asks_what_runs_to_stop(self, setting: Setting) -> None:
        await send_rows(setting, "runs", "waits", "stays")
        lease = await acquire(setting)
        asked: list[str] = []
        lease.cancelling = asked.append
        running = await take_one(lease)
        assert await setting.broker.batches.cancel(NAME, [range(2)]) == 2
        assert asked == [running.id]
        assert await counts_of(setting) == {"running": 1, "cancelled": 1, "waiting": 1}
        await settle(lease, running, "again")
        assert await counts_of(setting) == {"cancelled": 2, "waiting": 1}
        assert await drain(lease) == ["stays"]
        assert await setting.broker.batches.cancel(NAME, [range(3)]) == 0

    # --- stopped by failures ------------------------------------------------------------------------------------------

    async def test_messages_that_fail_alike_in_a_row_stop_the_queue_with_the_reason(self, setting: Setting) -> None:
        batches = setting.broker.batches
        await stop(setting, *range(5))
        assert await counts_of(setting) == {"failed": 3, "waiting": 2, "stopped": REASON}
        assert await soon(batches.finished(NAME, [range(5)])) == REASON
        told = await soon(batches.settled(NAME, None, None))
        assert ([row for row, _ in told.rows], told.stopped) == ([0, 1, 2], None)
        assert (await soon(batches.settled(NAME, told.cursor, None))).stopped == REASON
        (status,) = await setting.broker.status(ACTOR)
        assert (status.paused, status.stopped, status.pause_reason) == (True, True, REASON)
        lease = await acquire(setting)
        assert await take(lease) == []
        assert await batches.resume(NAME)
        assert not await batches.resume(NAME)
        assert await drain(lease) == [3, 4]
        assert await counts_of(setting) == {"failed": 3, "completed": 2}

    async def test_it_waits_for_what_is_at_work_before_it_is_over(self, setting: Setting) -> None:
        await send_rows(setting, *range(5))
        lease = await acquire(setting)
        held = await take(lease, 4)
        waiting = asyncio.ensure_future(setting.broker.batches.finished(NAME, [range(5)]))
        for delivery in held[:3]:
            await lease.commit(Commit([failed(delivery)]))
        await rest()
        assert not waiting.done()
        await settle(lease, held[3])
        assert await soon(waiting) == REASON

    @pytest.mark.parametrize(
        "between", [failure("ValueError"), None, "the same message"], ids=["another", "success", "same message"]
    )
    async def test_other_failures_successes_and_repetitions_do_not_stop_it(
        self, setting: Setting, between: Failure | str | None
    ) -> None:
        await send_rows(setting, *range(6))
        lease = await acquire(setting)
        for number in range(4):
            delivery = await take_one(lease)
            if between == "the same message":
                await lease.commit(Commit([failed(delivery, outcome="again")._replace(front=True)]))
            elif number != 2:
                await lease.commit(Commit([failed(delivery)]))
            elif isinstance(between, Failure):
                await lease.commit(Commit([failed(delivery, between)]))
            else:
                await settle(lease, delivery)
        assert "stopped" not in await counts_of(setting)
        assert len(await take(lease)) == 1

    async def test_one_failure_that_every_other_message_would_share_stops_it(self, setting: Setting) -> None:
        await send_rows(setting, "a", "b")
        lease = await acquire(setting)
        await lease.commit(Commit([failed(await take_one(lease), failure(hopeless=True))]))
        assert "as every other one would be" in (await counts_of(setting))["stopped"]
        assert await take(lease) == []

    async def test_the_settlements_of_one_commit_count_once(self, setting: Setting) -> None:
        await send_rows(setting, *range(4))
        lease = await acquire(setting)
        await lease.commit(Commit([failed(delivery) for delivery in await take(lease, 3)]))
        assert await counts_of(setting) == {"failed": 3, "waiting": 1}

    async def test_what_was_at_work_when_it_stopped_and_fails_alike_goes_back_uncounted(self, setting: Setting) -> None:
        await send_rows(setting, *range(7))
        lease = await acquire(setting)
        held = await take(lease, 6)
        for delivery in held[:3]:
            await lease.commit(Commit([failed(delivery)]))
        for delivery, told, outcome in (
            (held[3], failure(), "dead"),
            (held[4], failure(), "failed"),
            (held[5], failure("ValueError"), "dead"),
        ):
            await lease.commit(Commit([failed(delivery, told, outcome)]))
        assert await counts_of(setting) == {"failed": 5, "waiting": 2, "stopped": REASON}
        await setting.broker.batches.resume(NAME)
        back = await take_one(lease)
        assert (bodies([back]), back.attempt, back.failures) == ([3], 1, 0)

    @pytest.mark.parametrize("how", ["retried", "redone"])
    async def test_retrying_and_redoing_resume_it(self, setting: Setting, how: str) -> None:
        await stop(setting, *range(4))
        if how == "retried":
            assert await setting.broker.batches.retry_failed(NAME, [range(4)]) == 3
        else:
            assert (await setting.broker.batches.redo(NAME, [range(4)], Limits())).added == 3
        assert sorted(await drained(setting)) == [0, 1, 2, 3]
        assert await counts_of(setting) == {"completed": 4}

    async def test_whoever_waits_is_woken_when_it_stops_and_when_it_is_resumed(self, setting: Setting) -> None:
        await send_rows(setting, *range(4))
        lease = await acquire(setting)
        waiting = asyncio.ensure_future(setting.broker.batches.finished(NAME, [range(4)]))
        for _ in range(3):
            await lease.commit(Commit([failed(await take_one(lease))]))
        assert await soon(waiting) == REASON
        receiving = asyncio.ensure_future(lease.turn(None, Take(None)))
        await rest()
        assert not receiving.done()
        await setting.broker.batches.resume(NAME)
        assert bodies(await soon(receiving)) == [3]

    # --- pruned -------------------------------------------------------------------------------------------------------

    async def test_one_that_was_pruned_says_so_and_is_not_done_again_unless_asked(self, setting: Setting) -> None:
        batches = setting.broker.batches
        await send_rows(setting, "a", "b")
        assert await drained(setting) == ["a", "b"]
        await setting.prune()
        found = await batches.find(NAME)
        assert (found.total, found.pruned) == (2, 2)
        assert await counts_of(setting) == {"pruned": 2}
        assert list(await batches.read(NAME, [0, 1])) == [None, None]
        assert await soon(batches.finished(NAME, found.rows)) is None
        for given in (("a", "b"), ("c",)):
            with pytest.raises(BatchPruned):
                await send_rows(setting, *given)
        with pytest.raises(BatchPruned):
            await batches.redo(NAME, found.rows, Limits())
        again = await send_rows(setting, "b", "a", again=True)
        assert (numbers(again), again.added) == ([2, 3], 2)
        assert await drained(setting) == ["b", "a"]
        assert await counts_of(setting) == {"completed": 2}
        found = await batches.find(NAME)
        assert (numbers(found), found.total, found.pruned) == ([2, 3], 4, 0)
        assert (await send_rows(setting, "a", "b")).added == 0, "what is known again is not done again"

    async def test_one_with_unsettled_rows_is_not_pruned_and_failed_rows_stay(self, setting: Setting) -> None:
        await send_rows(setting, "a", "b", "c")
        await settle_next(setting)
        await settle_next(setting, "dead", error={})
        await setting.prune()
        assert await counts_of(setting) == {"completed": 1, "failed": 1, "waiting": 1}
        await settle_next(setting)
        await setting.prune()
        assert await counts_of(setting) == {"failed": 1, "pruned": 2}
        assert await setting.broker.batches.retry_failed(NAME, [range(3)]) == 1
        assert await drained(setting) == ["b"]

    # --- restarts -----------------------------------------------------------------------------------------------------

    @survives
    async def test_it_is_found_again_with_its_rows_facts_and_states(self, setting: Setting, how: str) -> None:
        await send_rows(setting, "a", "b", "a", facts={"first": True})
        sent = await send_rows(setting, "c", "b", "d", whole=True, facts={"first": False})
        lease = await acquire(setting)
        assert bodies([await take_one(lease)]) == ["a"]
        await lease.release()
        for outcome in ("completed", "dead"):
            await settle_next(setting, outcome, error={})
        await restart(setting, how)
        found = await setting.broker.batches.find(NAME)
        assert found == sent._replace(added=0, earlier=None)
        assert await counts_of(setting) == {"failed": 1, "waiting": 2}
        again = await send_rows(setting, "a", "a", "d")
        assert (numbers(again), again.added, again.earlier) == ([0, 2, 4], 0, {"first": False})
        assert await drained(setting) == ["a", "c", "d"]
        assert [stored.name for stored in await setting.broker.batches.recent(3)] == [NAME]

    @survives
    async def test_redone_and_retried_rows_are_where_they_were(self, setting: Setting, how: str) -> None:
        await send_rows(setting, "a", "b", "c")
        await settle_next(setting)
        await settle_next(setting, "dead", error={})
        await setting.broker.batches.redo(NAME, [range(1)], Limits())
        await setting.broker.batches.retry_failed(NAME, [range(1, 2)])
        await restart(setting, how)
        assert await rows_of(setting) == [3, 1, 2]
        assert await counts_of(setting) == {"waiting": 3}
        assert (await send_rows(setting, "c", "b", "a")).added == 0
        assert sorted(await drained(setting)) == ["a", "b", "c"]

    @survives
    async def test_a_stopped_one_is_stopped_until_it_is_resumed(self, setting: Setting, how: str) -> None:
        await stop(setting, *range(5))
        await restart(setting, how)
        assert await soon(setting.broker.batches.finished(NAME, [range(5)])) == REASON
        assert await take(await acquire(setting)) == []
        await setting.broker.batches.resume(NAME)
        await restart(setting, how)
        assert await drained(setting) == [3, 4]
        assert await soon(setting.broker.batches.finished(NAME, [range(5)])) is None

    @survives
    async def test_a_pruned_one_is_known_to_be(self, setting: Setting, how: str) -> None:
        await send_rows(setting, "a", "b")
        assert await drained(setting) == ["a", "b"]
        await setting.prune()
        await restart(setting, how)
        with pytest.raises(BatchPruned):
            await send_rows(setting, "a")
        await send_rows(setting, "a", again=True)
        await restart(setting, how)
        assert (await send_rows(setting, "a")).added == 0
        assert await counts_of(setting) == {"waiting": 1}
        assert await drained(setting) == ["a"]

    async def test_what_was_at_work_at_a_death_is_counted_as_waiting_and_handled_again(self, setting: Setting) -> None:
        await send_rows(setting, "a", "b")
        await take_one(await acquire(setting))
        assert await counts_of(setting) == {"running": 1, "waiting": 1}
        await setting.crash()
        assert await counts_of(setting) == {"waiting": 2}
        again = await take_one(await acquire(setting))
        assert (bodies([again]), again.crashes) == (["a"], 1)
