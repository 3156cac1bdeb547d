"""Limits and providers' pauses in the local broker: times of deliveries, their order, and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import ConcurrencyLimit, RateLimit
from agentq_nb._brokers.base import Lease
from agentq_nb._brokers.values import Commit, Delivery, LimitReached, Pause, QueueStatus, Resume, Settlement, Take
from agentq_nb.errors import AgentqError
from tests.unit.brokers.conformance.restarting import survives
from tests.unit.brokers.conformance.words import (
    ACTOR,
    OTHER,
    acquire,
    bodies,
    drain,
    new_message,
    rest,
    send,
    settle,
    soon,
    take,
    take_one,
    until,
)
from tests.unit.brokers.settings import LocalSetting

pytestmark = pytest.mark.anyio

THREE_A_MINUTE = RateLimit(3, per=60, name="api")


class LimitedSetting:
    """A local broker whose queues have limits: they are declared again after each restart, as classes are."""

    def __init__(self, setting: LocalSetting) -> None:
        self.local = setting
        self.declared: dict[str, dict[str, list[Any]]] = {}

    @property
    def broker(self) -> Any:
        return self.local.broker

    @property
    def clock(self) -> Any:
        return self.local.clock

    async def declare(self, *limits: Any, name: str = "worker", queue: str = "tasks") -> None:
        self.declared.setdefault(name, {})[queue] = list(limits)
        await self.broker.limits.declare(name, self.declared[name])

    async def restart(self, how: str) -> None:
        await (self.local.reopen() if how == "reopened" else self.local.crash())
        for name, limits in self.declared.items():
            await self.broker.limits.declare(name, limits)

    def limit(self, name: str = "api") -> Any:
        (found,) = [status for status in self.broker.limits.status() if status.name == name]
        return found

    async def queue(self, actor: str = ACTOR) -> QueueStatus:
        (found,) = await self.broker.status(actor)
        return found


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[LimitedSetting]:
    setting = await LocalSetting.open(tmp_path)
    yield LimitedSetting(setting)
    await setting.close()


async def send_numbers(limited: LimitedSetting, count: int, actor: str = ACTOR, first: int = 0) -> None:
    await limited.broker.enqueue([new_message(number, actor=actor) for number in range(first, first + count)])


async def meets_limit(
    lease: Lease, delivery: Delivery, *, until: float | None = None, limit: str | None = None, **facts: Any
) -> None:
    """Settle as a handler that raised RateLimited."""
    otherwise = Settlement(delivery, "again", error={"message": "429"}, front=True)
    reached = LimitReached(limit, until, "429", facts.get("max_pause"), otherwise)
    await lease.commit(Commit([Settlement(delivery, "limited", limited=reached)]))


# --- rate limits ------------------------------------------------------------------------------------------------------


async def test_no_more_messages_are_handed_out_than_the_window_has_room_for(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 10)
    lease = await acquire(limited.local)
    assert await drain(lease) == [0, 1, 2]
    limited.clock.advance(59.9)
    assert await drain(lease) == []
    limited.clock.advance(0.2)
    assert await drain(lease) == [3, 4, 5]


async def test_a_batch_counts_as_many_starts_as_it_has_messages(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 10)
    assert bodies(await take(await acquire(limited.local), 5)) == [0, 1, 2]


@pytest.mark.parametrize("outcome", ["again", "released"])
async def test_repeated_and_released_attempts_count_as_starts(limited: LimitedSetting, outcome: Any) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 1)
    lease = await acquire(limited.local)
    for _ in range(3):
        await settle(lease, await take_one(lease), outcome, front=True)
    assert await take(lease) == []


async def test_a_start_is_durable_before_the_message_is_handed_out(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 1)
    await take_one(await acquire(limited.local))
    kinds = limited.broker.log.fetch("select kind from events where kind in ('message.started', 'limit.started')")
    assert sorted(kinds) == [("limit.started",), ("message.started",)]


async def test_messages_of_queues_without_limits_have_no_rows_and_no_gate(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send(limited.broker, "free", actor="other/a")
    assert await drain(await acquire(limited.local, "other/a")) == ["free"]
    assert limited.broker._commit_log.live_messages.actors["other/a"].gates == ()
    assert limited.broker.log.fetch("select 1 from events where kind = 'limit.started'") == []


async def test_a_limit_without_a_name_is_each_queues_own(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(1, per=60))
    for actor in (ACTOR, OTHER):
        await send_numbers(limited, 2, actor)
        assert await drain(await acquire(limited.local, actor)) == [0]
    assert {status.name for status in limited.broker.limits.status()} == {f"{ACTOR} tasks", f"{OTHER} tasks"}


async def test_all_limits_of_a_queue_hold(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(2, per=1), RateLimit(3, per=60), ConcurrencyLimit(1, name="gpu"))
    await send_numbers(limited, 9)
    lease = await acquire(limited.local)
    first = await take(lease, 5)
    assert bodies(first) == [0]
    assert await take(lease) == []
    await settle(lease, first[0])
    assert await drain(lease) == [1]
    limited.clock.advance(1.1)
    assert await drain(lease) == [2]


async def test_a_spread_limit_keeps_its_distance(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(4, per=60, spread=True))
    await send_numbers(limited, 9)
    lease = await acquire(limited.local)
    for number in range(4):
        assert await drain(lease) == [number]
        limited.clock.advance(14.9)
        assert await drain(lease) == []
        limited.clock.advance(0.2)


async def test_who_waits_is_woken_when_the_window_has_room(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 4)
    lease = await acquire(limited.local)
    await drain(lease)
    waiting = asyncio.ensure_future(lease.turn(None, Take(None)))
    await rest()
    limited.clock.advance(59)
    await rest()
    assert not waiting.done()
    limited.clock.advance(2)
    assert bodies(await soon(waiting)) == [3]


async def test_a_sleeping_actor_is_named_only_when_its_limit_has_room(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 3)
    await drain(await acquire(limited.local))
    hints = limited.broker.ready_actors({"worker": None})
    hint = asyncio.ensure_future(hints.__anext__())
    await send_numbers(limited, 1, OTHER)
    await rest()
    assert not hint.done()
    limited.clock.advance(61)
    assert await soon(hint) == OTHER


async def test_a_take_that_is_cancelled_while_its_start_is_written_counts_as_a_start(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(1, per=60, name="api"))
    await send_numbers(limited, 1)
    lease = await acquire(limited.local)
    taking = asyncio.ensure_future(lease.turn(None, Take(None)))
    await asyncio.sleep(0)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert (await limited.queue()).ready == 1
    assert limited.limit().used == 1
    assert await take(lease) == []


async def test_status_says_which_limit_holds_a_queue_and_until_when(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 4)
    assert ((await limited.queue()).limited_by, limited.limit().used) == (None, 0)
    await drain(await acquire(limited.local))
    shown = await limited.queue()
    assert shown.limited_by == "api"
    assert shown.next_start == pytest.approx(limited.clock.time() + 60, abs=0.1)
    assert limited.limit().used == 3
    assert limited.limit().next_start == shown.next_start


# --- shared by name ---------------------------------------------------------------------------------------------------


async def test_a_name_is_one_limit_for_all_actors_and_classes(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await limited.declare(THREE_A_MINUTE, name="other")
    await send_numbers(limited, 2)
    await send_numbers(limited, 2, "other/a", first=2)
    assert await drain(await acquire(limited.local)) == [0, 1]
    assert await drain(await acquire(limited.local, "other/a")) == [2]


async def test_the_oldest_message_of_all_queues_starts_first(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(1, per=10, name="api"))
    leases = {actor: await acquire(limited.local, actor) for actor in (ACTOR, OTHER)}
    await send(limited.broker, "before")
    await drain(leases[ACTOR])
    order = [ACTOR, OTHER, OTHER, ACTOR, OTHER, ACTOR, ACTOR]
    seen: list[int] = []

    async def receive(lease: Lease) -> None:
        commit: Commit | None = None
        while True:
            (delivery,) = await lease.turn(commit, Take(None))
            seen.extend(bodies([delivery]))
            commit = Commit([Settlement(delivery, "completed")])

    tasks = [asyncio.ensure_future(receive(lease)) for lease in (leases[OTHER], leases[ACTOR])]
    await rest()
    for number, actor in enumerate(order):
        await send(limited.broker, number, actor=actor)
    for number in range(len(order)):
        limited.clock.advance(10.2)
        await until(lambda number=number: len(seen) > number)
        await rest()
    assert seen == list(range(len(order)))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_who_does_not_ask_holds_nobody_up(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(1, per=10, name="api"))
    await acquire(limited.local)
    await send(limited.broker, "older, whose actor is busy")
    await send(limited.broker, "newer", actor=OTHER)
    assert await drain(await acquire(limited.local, OTHER)) == ["newer"]


# --- concurrency limits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["completed", "failed", "again", "released"])
async def test_a_place_is_free_again_when_the_attempt_has_ended(limited: LimitedSetting, outcome: Any) -> None:
    await limited.declare(ConcurrencyLimit(1, name="gpu"))
    first, second = await acquire(limited.local), await acquire(limited.local, OTHER)
    for actor in (ACTOR, OTHER):
        await send_numbers(limited, 1, actor)
    delivery = await take_one(first)
    waiting = asyncio.ensure_future(second.turn(None, Take(None)))
    await rest()
    assert not waiting.done()
    await settle(first, delivery, outcome)
    assert bodies(await soon(waiting)) == [0]


@survives
async def test_nobody_is_at_work_after_a_restart(limited: LimitedSetting, how: str) -> None:
    await limited.declare(ConcurrencyLimit(1, name="gpu"))
    await send_numbers(limited, 2)
    await take_one(await acquire(limited.local))
    await limited.restart(how)
    assert limited.limit("gpu").used == 0
    assert bodies(await take(await acquire(limited.local), 2)) == [0]


async def test_no_message_is_at_work_after_a_failed_write(limited: LimitedSetting) -> None:
    await limited.declare(ConcurrencyLimit(1, name="gpu"))
    await send_numbers(limited, 2)
    await take_one(await acquire(limited.local))
    await limited.local.renew()
    assert limited.limit("gpu").used == 0
    assert bodies(await take(await acquire(limited.local), 2)) == [0]


# --- restarts ---------------------------------------------------------------------------------------------------------


@survives
async def test_the_window_holds_across_a_restart(limited: LimitedSetting, how: str) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 2)
    lease = await acquire(limited.local)
    assert await drain(lease) == [0, 1]
    limited.clock.advance(30)
    await send_numbers(limited, 9, first=2)
    assert await drain(lease) == [2]
    await limited.restart(how)
    lease = await acquire(limited.local)
    assert await drain(lease) == []
    limited.clock.advance(29.9)
    assert await drain(lease) == []
    limited.clock.advance(0.2)
    assert await drain(lease) == [3, 4]
    limited.clock.advance(29.8)
    assert await drain(lease) == []
    limited.clock.advance(0.4)
    assert await drain(lease) == [5]


@survives
async def test_what_was_in_flight_counts_in_the_window_after_a_restart(limited: LimitedSetting, how: str) -> None:
    await limited.declare(RateLimit(1, per=60, name="api"))
    await send_numbers(limited, 2)
    await take_one(await acquire(limited.local))
    await limited.restart(how)
    lease = await acquire(limited.local)
    assert await take(lease) == []
    limited.clock.advance(61)
    assert bodies(await take(lease)) == [0]


async def test_a_clock_set_back_before_a_restart_lets_nothing_start_early(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(1, per=60, name="api"))
    await send_numbers(limited, 2)
    await drain(await acquire(limited.local))
    limited.clock.advance(30)
    limited.clock.jump(-3600)
    await limited.restart("reopened")
    lease = await acquire(limited.local)
    limited.clock.advance(59)
    assert await drain(lease) == []
    limited.clock.advance(2)
    assert await drain(lease) == [1], "a stored start later than now counts as now"


async def test_a_clock_that_is_set_while_it_runs_changes_nothing(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(1, per=60, name="api"))
    await send_numbers(limited, 2)
    lease = await acquire(limited.local)
    await drain(lease)
    limited.clock.jump(3600)
    assert await drain(lease) == []
    limited.clock.advance(61)
    assert await drain(lease) == [1]


async def test_pruning_leaves_starts_that_still_count(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(2, per=3600, name="api"))
    await send_numbers(limited, 3)
    lease = await acquire(limited.local)
    await drain(lease)
    limited.clock.advance(600)
    await limited.broker.log.prune(limited.clock.time())
    assert limited.broker.log.fetch("select 1 from events where kind = 'message.completed'") == []
    await limited.restart("crashed")
    assert await drain(await acquire(limited.local)) == []
    limited.clock.advance(3001)
    await limited.broker.log.prune(limited.clock.time())
    assert limited.broker.log.fetch("select 1 from events where kind = 'limit.started'") == []
    assert await drain(await acquire(limited.local, OTHER)) == []


# --- changes by users -------------------------------------------------------------------------------------------------


async def test_a_limit_is_changed_while_queues_wait_for_it(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 9)
    lease = await acquire(limited.local)
    await drain(lease)
    waiting = asyncio.ensure_future(lease.turn(None, Take(None)))
    await rest()
    changed = await limited.broker.limits.change("api", 5, None)
    assert (changed.count, changed.per, changed.declared, changed.changed) == (5, 60, THREE_A_MINUTE, True)
    (delivery,) = await soon(waiting)
    await settle(lease, delivery)
    assert await drain(lease) == [4]


async def test_a_longer_window_counts_the_starts_that_the_shorter_one_had_forgotten(limited: LimitedSetting) -> None:
    await limited.declare(THREE_A_MINUTE)
    await send_numbers(limited, 9)
    lease = await acquire(limited.local)
    await drain(lease)
    limited.clock.advance(100)
    assert limited.limit().used == 0
    await limited.broker.limits.change("api", None, 600)
    assert limited.limit().used == 3
    limited.clock.advance(499)
    assert await drain(lease) == []
    limited.clock.advance(2)
    assert await drain(lease) == [3, 4, 5]


@survives
async def test_a_change_lasts_across_restarts_until_it_is_reset(limited: LimitedSetting, how: str) -> None:
    await limited.declare(THREE_A_MINUTE)
    await limited.broker.limits.change("api", 1, 30)
    await limited.restart(how)
    assert (limited.limit().count, limited.limit().per) == (1, 30)
    await limited.broker.limits.reset("api")
    assert not limited.limit().changed
    await limited.restart(how)
    assert (limited.limit().count, limited.limit().per) == (3, 60)


@survives
async def test_a_change_ends_when_the_limit_is_declared_differently(limited: LimitedSetting, how: str) -> None:
    await limited.declare(THREE_A_MINUTE)
    await limited.broker.limits.change("api", 1, None)
    await limited.declare(THREE_A_MINUTE)
    assert limited.limit().count == 1
    await limited.declare(RateLimit(7, per=60, name="api"))
    assert limited.limit().count == 7
    await limited.declare(THREE_A_MINUTE)
    await limited.restart(how)
    assert limited.limit().count == 3


@pytest.mark.parametrize(
    ("name", "count", "per", "code"),
    [
        ("apy", 1, None, "queue.limit_unknown"),
        ("api", 0, None, "actor.validation_error"),
        ("api", None, -1, "actor.validation_error"),
        ("gpu", None, 60, "actor.validation_error"),
    ],
)
async def test_a_change_that_makes_no_sense_is_refused(
    limited: LimitedSetting, name: str, count: Any, per: Any, code: str
) -> None:
    await limited.declare(THREE_A_MINUTE, ConcurrencyLimit(2, name="gpu"))
    with pytest.raises(AgentqError) as caught:
        await limited.broker.limits.change(name, count, per)
    assert caught.value.full_code == code
    assert not any(status.changed for status in limited.broker.limits.status())


async def test_starts_are_counted_on_when_a_class_is_deployed_again(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(2, per=60))
    await send_numbers(limited, 9)
    lease = await acquire(limited.local)
    assert await drain(lease) == [0, 1]
    await limited.declare(RateLimit(3, per=60))
    assert await drain(lease) == [2]
    await limited.declare()
    assert await drain(lease) == [3, 4, 5, 6, 7, 8]


# --- pauses by providers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [None, "api", "named nowhere"])
async def test_a_message_that_meets_a_limit_comes_first_again_with_no_attempt_lost(
    limited: LimitedSetting, limit: str | None
) -> None:
    await send_numbers(limited, 2)
    lease = await acquire(limited.local)
    first = await take_one(lease)
    await meets_limit(lease, first, until=limited.clock.time() + 100, limit=limit)
    assert await take(lease) == []
    shown = await limited.queue()
    assert (shown.paused, shown.paused_until, shown.pause_reason) == (True, limited.clock.time() + 100, "429")
    limited.clock.advance(99)
    assert await take(lease) == []
    limited.clock.advance(1)
    again, second = await take(lease, 2)
    assert (again.id, again.attempt, again.failures, bodies([second])) == (first.id, 1, 0, [1])
    assert not (await limited.queue()).paused


async def test_a_pause_holds_all_queues_of_the_name_and_no_others(limited: LimitedSetting) -> None:
    shared = ConcurrencyLimit(9, name="api")
    await limited.declare(shared)
    await limited.declare(shared, name="sharing")
    await limited.declare(ConcurrencyLimit(9, name="another"), name="apart")
    for actor in (ACTOR, "sharing/a", "apart/a", "free/a"):
        await send_numbers(limited, 1, actor)
    lease = await acquire(limited.local)
    await meets_limit(lease, await take_one(lease), until=limited.clock.time() + 100, limit="api")
    assert await take(await acquire(limited.local, "sharing/a")) == []
    assert (await limited.queue("sharing/a")).limited_by == "api"
    for actor in ("apart/a", "free/a"):
        assert await drain(await acquire(limited.local, actor)) == [0]


@survives
@pytest.mark.parametrize("seconds", [None, 3600.0])
async def test_a_pause_is_there_after_a_restart(limited: LimitedSetting, how: str, seconds: float | None) -> None:
    await send_numbers(limited, 3)
    lease = await acquire(limited.local)
    end = None if seconds is None else limited.clock.time() + seconds
    await meets_limit(lease, await take_one(lease), until=end)
    before = await limited.queue()
    await limited.restart(how)
    assert await limited.queue() == before
    lease = await acquire(limited.local)
    assert await take(lease) == []
    limited.clock.advance(seconds or 5)
    assert len(await take(lease, 3)) == (3 if seconds else 1), "without a known end one message is tried"


async def test_who_waits_is_woken_at_the_end_of_a_pause(limited: LimitedSetting) -> None:
    await send_numbers(limited, 1)
    lease = await acquire(limited.local)
    await meets_limit(lease, await take_one(lease), until=limited.clock.time() + 100)
    waiting = asyncio.ensure_future(lease.turn(None, Take(None)))
    hints = limited.broker.ready_actors({"worker": None})
    await rest()
    limited.clock.advance(100)
    assert bodies(await soon(waiting)) == [0]
    await lease.release()
    assert await soon(hints.__anext__()) == ACTOR


async def test_one_message_at_a_time_is_tried_until_one_meets_no_limit(limited: LimitedSetting) -> None:
    await limited.declare(ConcurrencyLimit(9, name="api"))
    leases = [await acquire(limited.local, actor) for actor in (ACTOR, OTHER)]
    for actor in (ACTOR, OTHER):
        await send_numbers(limited, 3, actor)
    await meets_limit(leases[0], await take_one(leases[0]), limit="api")
    for length in (5, 10, 20):
        limited.clock.advance(length - 1)
        assert await take(leases[0]) == []
        limited.clock.advance(1)
        (tried,) = await take(leases[0], 3)
        assert (await take(leases[1]), tried.attempt) == ([], 1)
        if length < 20:
            await meets_limit(leases[0], tried, limit="api")
    await settle(leases[0], tried)
    assert bodies(await take(leases[1], 3)) == [0, 1, 2]
    assert not (await limited.queue()).paused


async def test_a_tried_message_that_is_put_back_leaves_the_question_open(limited: LimitedSetting) -> None:
    await send_numbers(limited, 3)
    lease = await acquire(limited.local)
    await meets_limit(lease, await take_one(lease))
    limited.clock.advance(5)
    await settle(lease, await take_one(lease), "released")
    assert len(await take(lease, 3)) == 1
    assert (await limited.queue()).paused


async def test_messages_in_flight_that_meet_the_same_limit_make_one_pause(limited: LimitedSetting) -> None:
    await send_numbers(limited, 4)
    lease = await acquire(limited.local)
    for delivery in await take(lease, 4):
        await meets_limit(lease, delivery)
    assert (await limited.queue()).paused_until == limited.clock.time() + 5
    limited.clock.advance(5)
    assert bodies(await take(lease, 4)) == [0]


async def test_a_pause_beyond_the_longest_allowed_fails_the_attempt(limited: LimitedSetting) -> None:
    await send_numbers(limited, 1)
    lease = await acquire(limited.local)
    await meets_limit(lease, await take_one(lease), until=limited.clock.time() + 601, max_pause=600.0)
    shown = await limited.queue()
    assert (shown.paused, shown.ready) == (False, 1)
    again = await take_one(lease)
    assert (again.attempt, again.failures) == (2, 1)


@survives
async def test_a_pause_is_ended_by_hand(limited: LimitedSetting, how: str) -> None:
    await send_numbers(limited, 2)
    lease = await acquire(limited.local)
    await meets_limit(lease, await take_one(lease), until=limited.clock.time() + 3600)
    assert await limited.broker.change(ACTOR, Resume("tasks")) == 1
    assert await limited.broker.change(ACTOR, Resume("tasks")) == 0
    assert len(await take(lease)) == 1
    await limited.restart(how)
    assert not (await limited.queue()).paused


async def test_the_pause_of_a_name_is_ended_by_hand(limited: LimitedSetting) -> None:
    await limited.declare(ConcurrencyLimit(9, name="api"))
    await send_numbers(limited, 2)
    lease = await acquire(limited.local)
    await meets_limit(lease, await take_one(lease), until=limited.clock.time() + 3600, limit="api")
    assert (limited.limit().paused_until, limited.limit().reason) == (limited.clock.time() + 3600, "429")
    assert await limited.broker.limits.resume("api")
    assert not await limited.broker.limits.resume("api")
    assert len(await take(lease)) == 1


async def test_a_pause_by_hand_and_one_by_the_provider_both_hold(limited: LimitedSetting) -> None:
    await send_numbers(limited, 1)
    lease = await acquire(limited.local)
    delivery = await take_one(lease)
    await limited.broker.change(ACTOR, Pause("tasks", limited.clock.time() + 10))
    await meets_limit(lease, delivery, until=limited.clock.time() + 100)
    limited.clock.advance(10)
    assert await take(lease) == []
    limited.clock.advance(90)
    assert len(await take(lease)) == 1


async def test_a_destroyed_actor_leaves_no_pause_behind(limited: LimitedSetting) -> None:
    await send_numbers(limited, 1)
    lease = await acquire(limited.local)
    await meets_limit(lease, await take_one(lease), until=limited.clock.time() + 100)
    await lease.commit(Commit(destroy=True))
    await lease.release()
    await limited.restart("reopened")
    await send_numbers(limited, 1)
    assert len(await take(await acquire(limited.local))) == 1


async def test_a_kernel_is_kept_alive_only_for_what_may_start_in_time(limited: LimitedSetting) -> None:
    await limited.declare(RateLimit(1, per=3600, name="api"))
    await send_numbers(limited, 2)
    await drain(await acquire(limited.local))
    now = limited.clock.time()
    assert not await limited.broker.works_until({"worker": ["tasks"]}, now + 3000)
    assert await limited.broker.works_until({"worker": ["tasks"]}, now + 4000)


async def test_a_kernel_is_kept_alive_for_a_pause_that_ends_just_in_time(limited: LimitedSetting) -> None:
    await send_numbers(limited, 2)
    lease, end = await acquire(limited.local), limited.clock.time() + 100
    await meets_limit(lease, await take_one(lease), until=end)
    assert (await limited.queue()).paused_until == end
    assert not await limited.broker.works_until({"worker": ["tasks"]}, end - 1)
    assert await limited.broker.works_until({"worker": ["tasks"]}, end)


async def test_a_suspect_whose_queue_is_paused_by_a_provider_holds_nothing_back(limited: LimitedSetting) -> None:
    """Otherwise all other messages would wait for it, for a minute at least."""
    for actor in (ACTOR, OTHER):
        await send_numbers(limited, 2, actor)
    lease, other = await acquire(limited.local), await acquire(limited.local, OTHER)
    _, meets = await take(lease, 2)
    await take_one(other)
    await meets_limit(lease, meets, until=limited.clock.time() + 3600)
    await limited.restart("crashed")
    lease, other = await acquire(limited.local), await acquire(limited.local, OTHER)
    waiting = asyncio.ensure_future(lease.turn(None, Take(None)))
    await rest()
    assert await drain(other) == [0, 1]
    waiting.cancel()
