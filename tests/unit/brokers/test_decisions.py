"""What depends on stored rows is decided where rows are written: nothing that was acknowledged gets lost by a race."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agentq_nb._brokers.changes import Cancel, DeadLetters, Redeliver
from agentq_nb._brokers.local import control
from agentq_nb._brokers.messages import Commit, Settlement, Take
from agentq_nb._store import EventLog
from agentq_nb.errors import IdempotencyConflict, MessageUnknown
from tests.unit.brokers.conformance.words import ACTOR, acquire, drain, new_message, send, settle, take_one
from tests.unit.brokers.settings import LocalSetting
from tests.unit.fake_clock import START
from tests.unit.fake_clock import settle as let_run

pytestmark = pytest.mark.anyio

LATER = START + 86400.0


@pytest.fixture
async def setting(setting: LocalSetting) -> LocalSetting:
    # Else it is done first, in another thread, and the order is not the test's.
    await setting.broker._commit_log.learn_keys()
    return setting


@contextmanager
def writer_held_up(log: EventLog) -> Iterator[None]:
    """Within, the writer's thread does nothing: what is asked of it waits in the order it is asked."""
    release = threading.Event()
    log._writer.submit(lambda _: release.wait())
    try:
        yield
    finally:
        release.set()


async def cancelled_message(setting: LocalSetting, **options: str) -> str:
    message = await send(setting.broker, **options)
    await setting.broker.change(ACTOR, Cancel(message))
    return message


async def completed_message(setting: LocalSetting, body: object = 1, **options: str) -> str:
    message = await send(setting.broker, body, **options)
    lease = await acquire(setting)
    await settle(lease, await take_one(lease))
    await lease.release()
    return message


async def test_what_was_redelivered_while_history_was_pruned_is_delivered_after_a_crash(setting: LocalSetting) -> None:
    message = await cancelled_message(setting)
    with writer_held_up(setting.broker.log):
        redelivering = asyncio.ensure_future(setting.broker.change(ACTOR, Redeliver(message)))
        await let_run()
        pruning = asyncio.ensure_future(setting.broker.log.prune(LATER))
        await let_run()
    assert await redelivering == 1
    await pruning
    await setting.crash()
    assert await drain(await acquire(setting)) == [1]


async def test_what_was_pruned_before_it_is_redelivered_is_unknown(setting: LocalSetting) -> None:
    message = await cancelled_message(setting)
    await setting.broker.log.prune(LATER)
    with pytest.raises(MessageUnknown):
        await setting.broker.change(ACTOR, Redeliver(message))
    assert await drain(await acquire(setting)) == []


async def test_two_that_redeliver_at_once_put_it_back_once(setting: LocalSetting) -> None:
    message = await cancelled_message(setting)
    with writer_held_up(setting.broker.log):
        both = [asyncio.ensure_future(setting.broker.change(ACTOR, Redeliver(message))) for _ in range(2)]
        await let_run()
    assert sorted(await asyncio.gather(*both)) == [0, 1]
    assert await drain(await acquire(setting)) == [1]
    await setting.crash()
    assert await drain(await acquire(setting)) == []


async def test_a_message_that_is_coming_back_is_cancelled_by_a_cancel(setting: LocalSetting) -> None:
    message = await cancelled_message(setting)
    with writer_held_up(setting.broker.log):
        redelivering = asyncio.ensure_future(setting.broker.change(ACTOR, Redeliver(message)))
        await let_run()
        cancelling = asyncio.ensure_future(setting.broker.change(ACTOR, Cancel(message)))
        await let_run()
    assert await asyncio.gather(redelivering, cancelling) == [1, 1]
    assert await drain(await acquire(setting)) == []


async def test_a_message_that_is_coming_back_can_be_waited_for(setting: LocalSetting) -> None:
    message = await cancelled_message(setting)
    with writer_held_up(setting.broker.log):
        redelivering = asyncio.ensure_future(setting.broker.change(ACTOR, Redeliver(message)))
        await let_run()
        setting.broker._commit_log.results.forget(message)
        asking = asyncio.ensure_future(setting.broker.wait(message, 0))
        await let_run()
    await redelivering
    assert (await asking).status in ("queued", "cancelled")
    assert await drain(await acquire(setting)) == [1]
    assert (await setting.broker.wait(message, 0)).status == "completed"


async def test_a_wait_whose_read_was_overtaken_by_a_whole_life_of_the_message_ends(
    setting: LocalSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was live when it was read, and is neither live nor remembered when the answer is there."""
    message = await cancelled_message(setting)
    await setting.broker.change(ACTOR, Redeliver(message))
    log, read, go_on = setting.broker.log, threading.Event(), threading.Event()
    rows_of = log.message_rows

    def slow(asked: str) -> object:
        rows = rows_of(asked)
        read.set()
        go_on.wait()
        return rows

    live_messages = setting.broker._commit_log.live_messages
    entry = live_messages.entries.pop(message)  # as between the decision to put it back and its coming into memory
    monkeypatch.setattr(log, "message_rows", slow)
    waiting = asyncio.ensure_future(setting.broker.wait(message, None))
    await asyncio.to_thread(read.wait)
    live_messages.entries[message] = entry
    lease = await acquire(setting)
    await settle(lease, await take_one(lease))
    setting.broker._commit_log.results.forget(message)
    go_on.set()
    assert (await asyncio.wait_for(waiting, 10)).status == "completed"


async def test_it_is_put_back_even_when_whoever_asked_was_cancelled_meanwhile(setting: LocalSetting) -> None:
    message = await cancelled_message(setting)
    with writer_held_up(setting.broker.log):
        redelivering = asyncio.ensure_future(setting.broker.change(ACTOR, Redeliver(message)))
        await let_run()
        redelivering.cancel()
        await let_run()
    assert await setting.broker.change(ACTOR, Redeliver(message)) == 0
    assert await drain(await acquire(setting)) == [1]


async def dead_message(setting: LocalSetting, body: object = 1) -> str:
    message = await send(setting.broker, body)
    lease = await acquire(setting)
    await settle(lease, await take_one(lease), "dead", error={"message": "no"})
    await lease.release()
    return message


@pytest.mark.parametrize("meanwhile", ["redelivered", "done again", "failed again"])
@pytest.mark.parametrize("found_before", [True, False], ids=["after it was found", "after it was read"])
async def test_what_changes_while_many_are_redelivered_is_left_as_it_is(
    setting: LocalSetting, monkeypatch: pytest.MonkeyPatch, meanwhile: str, found_before: bool
) -> None:
    """It is found as a dead letter, and is something else, or another dead letter, when it would be put back."""
    message = await dead_message(setting)
    commit_log, log = setting.broker._commit_log, setting.broker.log
    asked, found = commit_log.live_messages.settled, log.dead_letters(DeadLetters()._asdict())

    async def change() -> None:
        await setting.broker.change(ACTOR, Redeliver(message))
        lease = await acquire(setting)
        if meanwhile != "redelivered":
            await settle(lease, await take_one(lease), "dead" if meanwhile == "failed again" else "completed")
        await lease.release()

    async def late_change(job: Any, then: Any) -> Any:
        monkeypatch.undo()
        await change()
        return await commit_log.decide(job, then)

    if found_before:
        await change()
    else:
        monkeypatch.setattr(commit_log, "decide", late_change)
    assert await control._redeliver_some(commit_log, found, asked) == 0
    expected = {"redelivered": [1], "done again": [], "failed again": []}[meanwhile]
    assert await drain(await acquire(setting)) == expected


async def test_dead_letters_that_are_redelivered_are_there_after_a_crash_in_the_same_order(
    setting: LocalSetting,
) -> None:
    for number in range(3):
        await dead_message(setting, number)
    await send(setting.broker, "before")
    assert await setting.broker.redeliver(DeadLetters()) == 3
    await send(setting.broker, "behind")
    await setting.crash()
    assert await drain(await acquire(setting)) == ["before", 0, 1, 2, "behind"]


async def test_many_are_redelivered_in_pieces_that_do_not_hold_the_writer(
    setting: LocalSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    await setting.broker.enqueue([new_message(number) for number in range(250)])
    lease = await acquire(setting)
    taken = await lease.turn(None, Take(None, 250, 0))
    await lease.commit(Commit([Settlement(one, "dead", error={"message": "no"}) for one in taken]))
    pieces: list[int] = []
    decide = setting.broker.log.decide

    async def counting(job: Any, time: float | None = None) -> Any:
        revived = await decide(job, time)
        pieces.append(len(revived))
        return revived

    monkeypatch.setattr(setting.broker.log, "decide", counting)
    assert await setting.broker.redeliver(DeadLetters(name="worker")) == 250
    assert max(pieces) <= 100


async def test_one_offer_made_twice_at_once_after_a_restart_is_one_message(setting: LocalSetting) -> None:
    offer = new_message("once")
    await setting.reopen()
    setting.broker._commit_log.opened = "f" * 25  # it was minted before
    with writer_held_up(setting.broker.log):
        both = [asyncio.ensure_future(setting.broker.enqueue([offer])) for _ in range(2)]
        await let_run()
    answers = [answer for (answer,) in await asyncio.gather(*both)]
    assert sorted(answer.repeated for answer in answers) == [False, True]
    assert await drain(await acquire(setting)) == ["once"]


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_key_names_a_completed_message_until_that_is_pruned_and_is_free_at_once_then(
    setting: LocalSetting, restarted: bool
) -> None:
    message = await completed_message(setting, {"a": 1, "b": 2}, idempotency_key="k")
    await completed_message(setting, "other", idempotency_key="l")
    if restarted:
        await setting.reopen()
    assert await send(setting.broker, {"b": 2, "a": 1}, idempotency_key="k") == message
    with pytest.raises(IdempotencyConflict):
        await send(setting.broker, {"b": 3}, idempotency_key="k")
    assert await setting.broker.log.prune(LATER) > 0
    again = await send(setting.broker, {"b": 3}, idempotency_key="k")
    assert again != message
    assert await drain(await acquire(setting)) == [{"b": 3}]


async def test_of_two_that_send_with_a_key_whose_message_was_pruned_one_is_new(setting: LocalSetting) -> None:
    await completed_message(setting, "old", idempotency_key="k")
    await setting.broker.log.prune(LATER)
    with writer_held_up(setting.broker.log):
        both = [asyncio.ensure_future(send(setting.broker, "new", idempotency_key="k")) for _ in range(2)]
        await let_run()
    first, second = await asyncio.gather(*both)
    assert first == second
    assert await drain(await acquire(setting)) == ["new"]


async def test_a_redelivered_message_takes_its_key_again_unless_another_has_it(setting: LocalSetting) -> None:
    message = await cancelled_message(setting, idempotency_key="k")
    await setting.broker.change(ACTOR, Redeliver(message))
    assert await send(setting.broker, idempotency_key="k") == message
    await setting.broker.change(ACTOR, Cancel(message))
    other = await send(setting.broker, idempotency_key="k")
    await setting.broker.change(ACTOR, Redeliver(message))
    assert await send(setting.broker, idempotency_key="k") == other
