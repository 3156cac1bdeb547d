"""What the local broker hands out after a death with several messages in flight, and what waits for it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from agentq_nb._brokers.base import Lease
from agentq_nb._brokers.changes import Cancel, Pause, Resume
from agentq_nb._brokers.messages import Commit, Delivery, Outcome, Take
from tests.unit.brokers.conformance.words import acquire, bodies, send, settle, take, take_one
from tests.unit.brokers.settings import LocalSetting
from tests.unit.fake_clock import settle as let_run

pytestmark = pytest.mark.anyio

FIRST, SECOND, THIRD = "worker/first", "worker/second", "worker/third"


async def die_with_in_flight(setting: LocalSetting, *actors: str) -> None:
    """One message of each actor is being handled, in that order, when the host dies."""
    for actor in actors:
        await send(setting.broker, actor, actor=actor)
        await take_one(await acquire(setting, actor))
    await setting.crash()


def ask(lease: Lease) -> asyncio.Task[Sequence[Delivery]]:
    """Wait for a message."""
    return asyncio.ensure_future(lease.turn(None, Take(None)))


async def handed_out(setting: LocalSetting, *asking: asyncio.Task[Sequence[Delivery]]) -> list[bool]:
    """Which of those who wait have got something by now, with its start on disk."""
    await let_run()
    await setting.broker.flushed()
    await let_run()
    return [task.done() for task in asking]


async def stop(*asking: asyncio.Task[Sequence[Delivery]]) -> None:
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def test_they_are_handed_out_one_at_a_time_across_actors_and_the_last_one_started_first(
    setting: LocalSetting,
) -> None:
    await die_with_in_flight(setting, FIRST, SECOND, THIRD)
    leases = [await acquire(setting, actor) for actor in (FIRST, SECOND, THIRD)]
    asking = [ask(lease) for lease in leases]
    assert await handed_out(setting, *asking) == [False, False, True]
    await settle(leases[2], (await asking[2])[0])
    assert await handed_out(setting, *asking) == [False, True, True]
    await settle(leases[1], (await asking[1])[0])
    assert await handed_out(setting, *asking) == [True, True, True]


@pytest.mark.parametrize("outcome", ["completed", "failed", "again", "released"])
async def test_any_end_of_its_attempt_but_a_crash_clears_it_also_after_a_restart(
    setting: LocalSetting, outcome: Outcome
) -> None:
    await die_with_in_flight(setting, FIRST, SECOND)
    second = await acquire(setting, SECOND)
    await settle(second, await take_one(second), outcome, error={})
    first = await acquire(setting, FIRST)
    await settle(first, await take_one(first), outcome, error={})
    await setting.crash()
    for actor in (FIRST, SECOND):
        await send(setting.broker, "new", actor=actor)
    leases = [await acquire(setting, actor) for actor in (FIRST, SECOND)]
    assert [len(await take(lease)) for lease in leases] == [1, 1], "side by side"


async def test_those_that_were_not_handled_are_suspects_after_a_restart_too(setting: LocalSetting) -> None:
    await die_with_in_flight(setting, FIRST, SECOND)
    for restart in (setting.reopen, setting.crash):
        await restart()
        first, second = await acquire(setting, FIRST), await acquire(setting, SECOND)
        assert len(await take(second)) == 1
        assert await take(first) == []


async def test_other_work_waits_for_suspects_that_are_asked_for_and_goes_on_after_them(setting: LocalSetting) -> None:
    await die_with_in_flight(setting, FIRST, SECOND)
    await send(setting.broker, "other", actor=THIRD)
    leases = [await acquire(setting, actor) for actor in (FIRST, SECOND)]
    asking = [ask(lease) for lease in leases]
    other = ask(await acquire(setting, THIRD))
    for lease, suspect in reversed(list(zip(leases, asking, strict=True))):
        assert await handed_out(setting, suspect, other) == [True, False]
        await settle(lease, suspect.result()[0])
    assert await handed_out(setting, other) == [True]


async def test_the_status_tells_which_queues_wait_for_suspects(setting: LocalSetting) -> None:
    async def held_back() -> set[str]:
        return {status.actor for status in await setting.broker.status() if status.held_back}

    await die_with_in_flight(setting, FIRST, SECOND)
    await send(setting.broker, "other", actor=THIRD)
    assert await held_back() == set(), "nobody asks for a suspect"
    first, second, third = [await acquire(setting, actor) for actor in (FIRST, SECOND, THIRD)]
    suspect = await take_one(second)
    assert await take(third) == []
    assert await held_back() == {FIRST, THIRD}
    await settle(second, suspect)
    await settle(first, await take_one(first))
    assert await held_back() == set()
    assert bodies(await take(third)) == ["other"]


async def test_a_suspect_waits_for_what_is_in_flight_and_nothing_is_added_to_it(setting: LocalSetting) -> None:
    await die_with_in_flight(setting, FIRST, SECOND)
    third = await acquire(setting, THIRD)
    await send(setting.broker, "before", actor=THIRD)
    before = await take_one(third)
    suspect = ask(await acquire(setting, SECOND))
    await send(setting.broker, "new", actor="worker/fourth")
    new = ask(await acquire(setting, "worker/fourth"))
    assert await handed_out(setting, suspect, new) == [False, False]
    await settle(third, before)
    assert await handed_out(setting, suspect, new) == [True, False]
    await stop(new)


@pytest.mark.parametrize("held_back", ["nobody runs its actor", "its queue is paused"])
async def test_a_suspect_that_cannot_be_handed_out_holds_up_nothing(setting: LocalSetting, held_back: str) -> None:
    await die_with_in_flight(setting, FIRST, SECOND)
    if held_back == "its queue is paused":
        for actor in (FIRST, SECOND):
            await setting.broker.change(actor, Pause("tasks"))
    waiting = [ask(await acquire(setting, actor)) for actor in (FIRST, SECOND) if held_back != "nobody runs its actor"]
    for number in range(3):
        await send(setting.broker, number, actor=THIRD)
    third = await acquire(setting, THIRD)
    assert bodies(await take(third, 3)) == [0, 1, 2]
    await setting.broker.change(FIRST, Resume("tasks"))
    assert await handed_out(setting, *waiting) == [False] * len(waiting), "it waits until nothing is in flight"
    await stop(*waiting)


async def test_a_suspect_that_is_cancelled_makes_way(setting: LocalSetting) -> None:
    await die_with_in_flight(setting, FIRST, SECOND)
    first = ask(await acquire(setting, FIRST))
    assert await handed_out(setting, first) == [False]
    (suspect,) = [m for m, entry in setting.broker._commit_log.live_messages.entries.items() if entry.actor == SECOND]
    await setting.broker.change(SECOND, Cancel(suspect))
    assert await handed_out(setting, first) == [True]


async def test_what_a_suspect_waits_for_is_handed_out_with_all_that_lies_before_it(setting: LocalSetting) -> None:
    await die_with_in_flight(setting, FIRST, SECOND)
    first, second = await acquire(setting, FIRST), await acquire(setting, SECOND)
    await send(setting.broker, "before", actor=FIRST)
    needed = await send(setting.broker, "needed", actor=FIRST)
    suspect = await take_one(second)
    asking = ask(first)
    assert await handed_out(setting, asking) == [False]
    waiting = asyncio.ensure_future(setting.broker.wait(needed, None, waiter=SECOND))
    seen: list[object] = []
    while not waiting.done():
        (delivery,) = await asking
        seen += bodies([delivery])
        await settle(first, delivery)
        asking = ask(first)
        await let_run()
    assert seen == [FIRST, "before", "needed"]
    assert (await waiting).status == "completed"
    await settle(second, suspect)
    await stop(asking)


async def test_what_code_outside_actors_waits_for_is_not_let_through(setting: LocalSetting) -> None:
    await die_with_in_flight(setting, FIRST, SECOND)
    needed = await send(setting.broker, "needed", actor=THIRD)
    await take_one(await acquire(setting, SECOND))
    third = ask(await acquire(setting, THIRD))
    waiting = asyncio.ensure_future(setting.broker.wait(needed, None))
    assert await handed_out(setting, third) == [False]
    waiting.cancel()
    await stop(third)


async def test_after_a_minute_all_goes_on_side_by_side_and_the_next_time_after_two(setting: LocalSetting) -> None:
    await die_with_in_flight(setting, FIRST, SECOND)
    for seconds in (60, 120):
        asking = [ask(await acquire(setting, actor)) for actor in (FIRST, SECOND)]
        assert sum(await handed_out(setting, *asking)) == 1
        await setting.clock.pass_by(seconds - 1)
        assert sum(await handed_out(setting, *asking)) == 1
        await setting.clock.pass_by(1)
        assert await handed_out(setting, *asking) == [True, True]
        assert {(await task)[0].crashes for task in asking} == {0}
        await setting.crash()


async def test_one_that_was_alone_but_for_what_was_ready_elsewhere_is_a_suspect_first(setting: LocalSetting) -> None:
    """The start of what was ready elsewhere may have been lost with the host."""
    await send(setting.broker, "ready", actor=SECOND)
    await die_with_in_flight(setting, FIRST)
    for crashes in (0, 1, 2):
        delivery = await take_one(await acquire(setting, FIRST))
        assert (delivery.crashes, delivery.attempt) == (crashes, crashes + 2)
        await setting.crash()


@pytest.mark.parametrize(("in_flight", "counted"), [((FIRST, SECOND), (0, 1, 2)), ((SECOND,), (1, 2, 3))])
async def test_one_that_was_suspected_or_counted_before_is_to_blame_whatever_was_sent_meanwhile(
    setting: LocalSetting, in_flight: tuple[str, ...], counted: tuple[int, ...]
) -> None:
    await die_with_in_flight(setting, *in_flight)
    for crashes in counted:
        lease = await acquire(setting, SECOND)
        delivery = await take_one(lease)
        assert (bodies([delivery]), delivery.crashes) == ([SECOND], crashes)
        await send(setting.broker, "ready", actor=THIRD)
        await setting.crash()


async def test_what_a_host_after_a_crash_had_found_was_not_started_unless_the_log_says_so(
    setting: LocalSetting,
) -> None:
    await send(setting.broker, "poison", actor=FIRST)
    await send(setting.broker, "ready", actor=SECOND)
    await setting.crash()
    for crashes in (0, 1):
        delivery = await take_one(await acquire(setting, FIRST))
        assert delivery.crashes == crashes
        await setting.crash()


async def test_starts_are_durable_before_they_are_acted_on_while_a_message_may_kill_the_kernel(
    setting: LocalSetting,
) -> None:
    await die_with_in_flight(setting, FIRST)
    await setting.reopen()
    await send(setting.broker, "new", actor=SECOND)
    before = setting.broker.log.last_seq
    second = await acquire(setting, SECOND)
    delivery = await take_one(second)
    assert setting.broker.log.last_seq == before + 1
    await second.commit(Commit())
    first = await acquire(setting, FIRST)
    await settle(first, await take_one(first))
    await settle(second, delivery)
    await send(setting.broker, "new", actor=SECOND)
    before = setting.broker.log.last_seq
    await take_one(second)
    assert setting.broker.log.last_seq == before, "nobody waits for the disk when there is no doubt"
