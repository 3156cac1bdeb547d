"""Batches whose work is done again, cancelled, stopped or pruned, and what a restart leaves of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentq_nb._brokers.messages import Commit, Delivery, Outcome, Settlement, Take
from agentq_nb._policies.admission import Limits
from agentq_nb._policies.retry import Failure, FailureKind
from agentq_nb.errors import BatchPruned, BatchTooLarge, QueueFull
from tests.unit.brokers.conformance.batches import (
    NAME,
    counts_of,
    drained,
    messages_of,
    numbers,
    rows_of,
    send_rows,
    settle_next,
)
from tests.unit.brokers.conformance.words import (
    ACTOR,
    acquire,
    bodies,
    drain,
    rest,
    restart,
    send,
    settle,
    soon,
    survives,
    take,
    take_one,
)
from tests.unit.brokers.settings import Setting


def failure(type: str = "KeyError", stop_after: int = 3, *, hopeless: bool = False) -> Failure:
    return Failure(FailureKind(type, "work.py:7"), f"{type}: 'tex'", stop_after, hopeless)


def failed(delivery: Delivery, told: Failure | None = None, outcome: Outcome = "dead") -> Settlement:
    return Settlement(delivery, outcome, error={"message": "no"}, failure=told or failure())


REASON = "3 messages in a row failed with the same error: KeyError: 'tex'"


async def stop(setting: Setting, *given: Any) -> None:
    """Send rows. The first three fail with the same error."""
    await send_rows(setting, *given)
    for _ in range(3):
        lease = await acquire(setting)
        await lease.commit(Commit([failed(await take_one(lease))]))
        await lease.release()


class BatchChanges:
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
