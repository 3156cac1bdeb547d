"""Numbers given as options are looked at before anything is done with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Actor, AgentqError, Queue, Retry, action, setup
from agentq_nb._core import number_options
from tests.unit.runtime.world import World, queue_of

pytestmark = pytest.mark.anyio

NO_NUMBERS = ["5", True, float("nan"), timedelta(seconds=5), [5], b"5", 5j]


class Numbered(Actor):
    words = Queue(str)

    @action
    async def try_next(self, timeout: Any) -> str:
        return await _refused(lambda: self.queue.next(timeout=timeout))

    @action
    async def try_next_of_queue(self, timeout: Any) -> str:
        return await _refused(lambda: self.words.next(timeout=timeout))

    @action
    async def try_after(self, seconds: Any) -> str:
        return await _refused(lambda: self.schedule.after(seconds, "try_after", 1))

    @action
    async def try_at(self, when: Any) -> str:
        return await _refused(lambda: self.schedule.at(when, "try_at", 1))

    @action
    async def try_batch(self, count: Any) -> str:
        return await _refused(lambda: self.queue.next_batch(count, timeout=0))

    @action
    async def try_retry(self, after: Any) -> str:
        message = await self.queue.next(completable=True)
        assert message is not None
        told = await _refused(lambda: message.retry(after))
        await message.complete("done")
        return told


async def _refused(call: Callable[[], Any]) -> str:
    try:
        return f"not refused: {await call()}"
    except (AgentqError, TypeError) as error:
        return str(error)


@pytest.mark.parametrize("wrong", NO_NUMBERS, ids=repr)
async def test_a_timeout_that_is_no_number_is_refused_and_nothing_is_sent(world: World, wrong: Any) -> None:
    client = await world.start(numbered=Numbered)
    handle = client.numbered.get_or_create("x")
    with pytest.raises(AgentqError, match="timeout is a number of seconds") as caught:
        await handle.send("words", "a", wait=True, timeout=wrong)
    assert repr(wrong) in str(caught.value)
    assert (await handle.status()).queues == []
    receipt = await handle.send("words", "a")
    with pytest.raises(AgentqError, match="timeout is a number of seconds"):
        await receipt.result(wrong)


@pytest.mark.parametrize("wrong", NO_NUMBERS, ids=repr)
async def test_what_a_handler_gives_as_a_number_and_is_none_is_refused_and_takes_nothing(
    world: World, wrong: Any
) -> None:
    client = await world.start(numbered=Numbered)
    handle = client.numbered.get_or_create("x")
    receipt = await handle.send("words", "a")
    assert "timeout is a number" in await handle.try_next(wrong)
    assert "timeout is a number" in await handle.try_next_of_queue(wrong)
    assert "schedule.after takes seconds" in await handle.try_after(wrong)
    assert "schedule.at takes a time" in await handle.try_at(wrong)
    assert "count is a whole number" in await handle.try_batch(wrong)
    assert "count is a whole number" in await handle.try_batch(1.5)
    assert (await queue_of(handle, "words")).ready == 1
    assert "after is a number" in await handle.try_retry(wrong)
    assert (await receipt.result(5)).response == "done"


def test_whole_numbers_too_large_for_a_float_have_no_end() -> None:
    assert number_options.seconds("timeout", 10**400) is None
    assert number_options.is_positive(10**400)
    assert not number_options.is_delay(10**400)
    assert not number_options.is_positive(-(10**400))


@pytest.mark.parametrize("wrong", [*NO_NUMBERS, 0, -1], ids=repr)
@pytest.mark.parametrize("option", ["max_size", "max_message_bytes", "max_reply_bytes", "handler_timeout"])
def test_numbers_of_a_queue_that_are_none_are_refused(option: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=rf"Queue\({option}=...\) must be"):
        Queue(str, **{option: wrong})


@pytest.mark.parametrize("wrong", ["5", True, float("nan"), float("inf"), 0, -1], ids=repr)
def test_a_retention_that_is_no_length_of_time_is_refused(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(AgentqError, match="retention is in seconds"):
        setup(store=tmp_path / "kept.duckdb", retention=wrong)


@pytest.mark.parametrize("wrong", [*NO_NUMBERS, -1], ids=repr)
def test_numbers_of_a_retry_and_of_a_class_that_are_none_are_refused(wrong: Any) -> None:
    for option in ("attempts", "crashes", "backoff"):
        with pytest.raises(ValueError, match=rf"Retry\({option}=...\) must be"):
            Retry(**{option: wrong})
    for option in ("sleep_timeout", "action_timeout"):
        with pytest.raises(TypeError, match=f"{option} is in seconds"):
            type("Odd", (Actor,), {}, **{option: wrong})


async def test_all_kinds_of_real_numbers_are_taken(world: World) -> None:
    client = await world.start(numbered=Numbered)
    receipt = await client.numbered.get_or_create("x").send("words", "a")
    for timeout in (0, 0.0, -1, Fraction(1, 1000)):
        assert (await receipt.result(timeout)).status == "timed_out"
    with pytest.raises(AgentqError, match="timeout is a number"):
        await receipt.result(Decimal(1))  # type: ignore[arg-type]


async def test_a_receipt_can_be_awaited_and_never_raises_for_failed_work(world: World) -> None:
    class Fails(Actor):
        words = Queue(str, reply=str, retry=Retry(attempts=1))

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                if message.body == "bad":
                    raise ValueError("no")
                await message.complete(message.body.upper())

    client = await world.start(fails=Fails)
    handle = client.fails.get_or_create("x")
    receipt = await handle.send("words", "good")
    assert (await receipt).response == "GOOD"
    bad = await (await handle.send("words", "bad"))
    assert (bad.status, bad.error["message"]) == ("failed", "no")
    many = await asyncio.gather(*[await handle.send("words", word) for word in ("a", "bad")])
    assert [result.status for result in many] == ["completed", "failed"]
