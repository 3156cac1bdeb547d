"""Handlers that raise, in every way: attempts, backoff, dead letters, and nothing silent or hot."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, field_validator

from agentq_nb import Actor, Queue, Retry, UserError, action
from agentq_nb.errors import ValidationFailed
from tests.unit.runtime.world import World, breathe, queue_of, until, until_state, until_status

pytestmark = pytest.mark.anyio


class Boom(Exception):
    pass


def failing_actor(seen: list[tuple[Any, int]], bad: Any = "bad", *, failures: int = 99, **retry: Any) -> type[Actor]:
    """Handles in order; fails at the body ``bad`` so many times."""

    class Failing(Actor):
        tasks = Queue(Any, retry=Retry(**retry))

        async def run(self) -> None:
            async for message in self.queue.iter():
                seen.append((message.body, message.attempt))
                if message.body == bad and message.attempt <= failures:
                    raise Boom(f"cannot do {message.body}")

    return Failing


async def test_a_failed_attempt_waits_its_backoff_is_overtaken_and_comes_first_when_due(slow_world: World) -> None:
    seen: list[tuple[Any, int]] = []
    client = await slow_world.start(failing=failing_actor(seen, failures=1, backoff=10))
    handle = client.failing.get_or_create("x")
    bad = await handle.send("tasks", "bad")
    await until(lambda: seen)
    await until_status(bad, "delayed")
    await handle.send("tasks", "overtakes")
    await until(lambda: len(seen) == 2)
    await slow_world.pass_by(9.9)
    assert seen == [("bad", 1), ("overtakes", 1)]
    await slow_world.pass_by(0.2)
    await until(lambda: len(seen) == 3)
    assert seen[2] == ("bad", 2)


async def test_in_order_nothing_overtakes_a_message_that_waits_for_its_next_attempt(slow_world: World) -> None:
    seen: list[tuple[Any, int]] = []
    client = await slow_world.start(failing=failing_actor(seen, failures=2, backoff=10, in_order=True))
    handle = client.failing.get_or_create("x")
    await handle.send("tasks", "bad")
    await handle.send("tasks", "second")
    for _ in range(3):
        await slow_world.pass_by(10)
    await until(lambda: len(seen) == 4)
    assert seen == [("bad", 1), ("bad", 2), ("bad", 3), ("second", 1)]


async def test_in_order_holds_for_every_message_of_a_batch_whatever_its_delay(slow_world: World) -> None:
    seen: list[Any] = []

    class Batches(Actor):
        tasks = Queue(str, retry=Retry(in_order=True))

        async def run(self) -> None:
            first = await self.queue.next_batch(2, completable=True)
            await first[0].retry(after=20)
            await first[1].retry(after=5)
            async for message in self.queue.iter():
                seen.append(message.body)

        @action
        async def send_all(self) -> None:
            for body in ("a", "b", "c"):
                await self.queue.push("tasks", body)

    class Sender(Actor):
        tasks = Batches.tasks

    client = await slow_world.start(batches=Sender)
    handle = client.batches.get_or_create("x")
    for body in ("a", "b", "c"):
        await handle.send("tasks", body)
    await slow_world.restart(batches=Batches)
    await slow_world.pass_by(6)
    assert seen == []
    await slow_world.pass_by(15)
    await until(lambda: sorted(seen) == ["a", "b", "c"])


async def test_cancelling_the_message_that_holds_up_its_queue_lets_the_others_go(slow_world: World) -> None:
    seen: list[tuple[Any, int]] = []
    client = await slow_world.start(failing=failing_actor(seen, backoff=1000, in_order=True))
    handle = client.failing.get_or_create("x")
    bad = await handle.send("tasks", "bad")
    await until_status(bad, "delayed")
    await handle.send("tasks", "second")
    assert await bad.cancel()
    await until(lambda: seen == [("bad", 1), ("second", 1)])


async def test_after_the_last_attempt_it_is_a_dead_letter_with_its_traceback_and_only_then_failed(
    slow_world: World,
) -> None:
    seen: list[tuple[Any, int]] = []
    client = await slow_world.start(failing=failing_actor(seen, backoff=1, attempts=3))
    handle = client.failing.get_or_create("x")
    bad = await handle.send("tasks", "bad")
    waiting = asyncio.create_task(bad.result())
    await until(lambda: len(seen) == 1)
    await slow_world.pass_by(1)
    await until(lambda: len(seen) == 2)
    assert not waiting.done()
    await slow_world.pass_by(1)
    result = await asyncio.wait_for(waiting, 5)
    assert (result.status, result.attempts) == ("failed", 3)
    assert result.error is not None
    assert "Boom: cannot do bad" in result.error["traceback"]
    assert (await queue_of(handle, "tasks")).dead == 1
    assert (await queue_of(handle, "tasks")).live == 0
    status = await handle.status()
    assert status.last_error is not None
    assert "cannot do bad" in status.last_error["message"]
    assert not status.recovered
    good = asyncio.create_task(handle.send("tasks", "good", wait=True))
    await slow_world.pass_by(10)
    await asyncio.wait_for(good, 5)

    async def recovered() -> bool:
        return (await handle.status()).recovered

    await until(recovered)


async def test_a_dead_letter_is_redelivered_with_its_attempts_counted_anew_also_after_a_restart(
    slow_world: World,
) -> None:
    seen: list[tuple[Any, int]] = []
    client = await slow_world.start(failing=failing_actor(seen, attempts=1))
    handle = client.failing.get_or_create("x")
    bad = await handle.send("tasks", "bad")
    assert (await bad.result()).status == "failed"
    assert await handle.redeliver(bad.id)
    await until(lambda: len(seen) == 2)
    await until_status(bad, "failed")
    client = await slow_world.restart(failing=failing_actor(seen, failures=0))
    handle = client.failing.get_or_create("x")
    assert await handle.redeliver(bad.id)
    assert (await client.receipt(bad.id).result()).status == "completed"
    assert seen == [("bad", 1)] * 3
    assert not await handle.redeliver(bad.id), "completed work is not redelivered"
    assert (await queue_of(handle, "tasks")).dead == 0


async def test_the_default_backoff_doubles_and_three_attempts_are_the_default(slow_world: World) -> None:
    seen: list[tuple[Any, int]] = []
    client = await slow_world.start(failing=failing_actor(seen))
    bad = await client.failing.get_or_create("x").send("tasks", "bad")
    for pause, count in [(0, 1), (1, 2), (2, 3)]:
        if pause:
            await slow_world.pass_by(pause - 0.1)
            assert len(seen) == count - 1
            await slow_world.pass_by(0.1)
        await until(lambda count=count: len(seen) == count)
        await breathe()
    assert (await bad.result(5)).status == "failed"


async def test_a_backoff_function_gets_the_failures_so_far(slow_world: World) -> None:
    seen: list[tuple[Any, int]] = []
    asked: list[int] = []

    def backoff(failures: int) -> float:
        asked.append(failures)
        return 0.0

    client = await slow_world.start(failing=failing_actor(seen, backoff=backoff, attempts=4))
    bad = await client.failing.get_or_create("x").send("tasks", "bad")
    assert (await bad.result(5)).status == "failed"
    assert asked == [1, 2, 3]


async def test_fail_is_final_and_retry_asks_for_another_attempt(slow_world: World) -> None:
    seen: list[tuple[str, int]] = []

    class Choosy(Actor):
        tasks = Queue(str, retry=Retry(attempts=2))

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                seen.append((message.body, message.attempt))
                if message.body == "fail":
                    await message.fail(ValueError("no use"))
                else:
                    await message.retry(after=7)

    client = await slow_world.start(choosy=Choosy)
    handle = client.choosy.get_or_create("x")
    failed = await (await handle.send("tasks", "fail")).result(5)
    assert (failed.status, failed.attempts) == ("failed", 1)
    assert failed.error is not None
    assert failed.error["type"] == "ValueError"
    again = await handle.send("tasks", "retry")
    await until_status(again, "delayed")
    await slow_world.pass_by(7)
    assert (await again.result(5)).status == "failed"
    assert seen == [("fail", 1), ("retry", 1), ("retry", 2)]


async def test_run_goes_on_after_a_failure_with_the_messages_behind(world: World) -> None:
    seen: list[tuple[Any, int]] = []
    client = await world.start(failing=failing_actor(seen, backoff=1000))
    handle = client.failing.get_or_create("x")
    for body in ("bad", 1, 2, 3):
        await handle.send("tasks", body)
    await until(lambda: seen == [("bad", 1), (1, 1), (2, 1), (3, 1)])


async def test_run_that_raises_before_it_takes_anything_is_started_again_ever_more_seldom(slow_world: World) -> None:
    starts = 0

    class Broken(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            nonlocal starts
            starts += 1
            raise Boom("cannot even start")

    client = await slow_world.start(broken=Broken)
    handle = client.broken.get_or_create("x")
    await handle.send("tasks", 1)
    await until(lambda: starts == 1)
    await breathe()
    status = await handle.status()
    assert (status.run, starts) == ("restarting", 1)
    assert status.restarts_at == slow_world.clock.time() + 1  # type: ignore[union-attr]
    assert status.last_error is not None
    assert status.last_error["message"] == "cannot even start"
    for pause, expected in [(1, 2), (2, 3), (4, 4)]:
        await slow_world.pass_by(pause)
        await until(lambda expected=expected: starts == expected)
    assert (await queue_of(handle, "tasks")).ready == 1, "nothing was lost"


async def test_run_that_returns_with_its_message_put_back_does_not_spin(slow_world: World) -> None:
    attempts: list[int] = []

    class Hasty(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                attempts.append(message.attempt)
                return

    client = await slow_world.start(hasty=Hasty)
    handle = client.hasty.get_or_create("x")
    await handle.send("tasks", 1)
    await until(lambda: attempts)
    await breathe()
    await breathe()
    assert len(attempts) <= 2
    assert (await handle.status()).run == "restarting"
    await slow_world.pass_by(30)
    assert 4 <= len(attempts) <= 8
    assert set(attempts) == {1}, "what was put back counts no attempt"


async def test_run_that_returns_early_is_started_again_when_a_message_is_due(world: World) -> None:
    seen: list[int] = []

    class OneByOne(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            async for message in self.queue.iter():
                seen.append(message.body)
                return

    client = await world.start(one=OneByOne)
    handle = client.one.get_or_create("x")
    for number in range(3):
        receipt = await handle.send("tasks", number)
        assert (await receipt.result(5)).status == "completed"
    assert seen == [0, 1, 2]


async def test_leaving_the_loop_keeps_the_plain_message_until_the_call_returns(world: World) -> None:
    left, go_on = asyncio.Event(), asyncio.Event()

    class Leaver(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            async for _ in self.queue.iter():
                break
            left.set()
            await go_on.wait()

    client = await world.start(leaver=Leaver)
    receipt = await client.leaver.get_or_create("x").send("tasks", 1)
    await left.wait()
    assert await receipt.status() == "running"
    go_on.set()
    assert (await receipt.result(5)).status == "completed"


async def test_leaving_the_loop_and_iterating_anew_settles_the_plain_message(world: World) -> None:
    seen: list[int] = []

    class Twice(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            while True:
                async for message in self.queue.iter():
                    seen.append(message.body)
                    break

    client = await world.start(twice=Twice)
    handle = client.twice.get_or_create("x")
    receipts = [await handle.send("tasks", number) for number in range(3)]
    await until(lambda: seen == [0, 1, 2])
    assert (await receipts[1].result(5)).status == "completed"


@pytest.mark.parametrize("kind", ["exit", "cancelled", "group", "unprintable", "metadata", "surrogate"])
async def test_whatever_a_handler_raises_fails_one_attempt_and_the_host_goes_on(slow_world: World, kind: str) -> None:
    attempts: list[int] = []

    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even my text")

    def throw() -> None:
        if kind == "exit":
            sys.exit(3)
        if kind == "cancelled":
            raise asyncio.CancelledError
        if kind == "group":
            raise BaseExceptionGroup("many", [Boom("one"), KeyError("two")])
        if kind == "unprintable":
            raise Unprintable
        if kind == "metadata":
            loop: list[Any] = []
            loop.append(loop)
            raise UserError("odd", metadata={"nan": float("nan"), "loop": loop, "object": Unprintable()})
        raise UserError("half a character: \ud800 and \0", metadata={"text": "\ud800"}, code="\ud800")

    class Thrower(Actor):
        tasks = Queue(int, retry=Retry(attempts=2, backoff=5))

        async def run(self) -> None:
            async for message in self.queue.iter():
                attempts.append(message.attempt)
                throw()

    class Neighbour(Actor):
        @action
        async def well(self) -> bool:
            return True

    client = await slow_world.start(thrower=Thrower, neighbour=Neighbour)
    receipt = await client.thrower.get_or_create("x").send("tasks", 1)
    await until(lambda: attempts == [1])
    await breathe()
    await until_status(receipt, "delayed")
    assert (await client.thrower.get_or_create("x").status()).last_error is not None
    await slow_world.pass_by(5)
    result = await receipt.result(5)
    assert (result.status, attempts) == ("failed", [1, 2])
    assert await client.neighbour.get_or_create("x").well()
    assert (await slow_world.registry.status()).trouble is None
    table = await slow_world.registry.sql("select count(*) from messages where status = 'failed'")
    assert table.rows[0][0] == 1


async def test_forgetting_to_complete_fails_the_attempt_visibly_and_does_not_end_the_actor(slow_world: World) -> None:
    seen: list[tuple[str, int]] = []

    class Forgetful(Actor):
        tasks = Queue(str, retry=Retry(attempts=2, backoff=3))

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                seen.append((message.body, message.attempt))
                if message.body == "fine":
                    await message.complete()

    client = await slow_world.start(forgetful=Forgetful)
    handle = client.forgetful.get_or_create("x")
    forgotten = await handle.send("tasks", "forgotten")
    fine = await handle.send("tasks", "fine")
    assert (await fine.result(5)).status == "completed"
    status = await handle.status()
    assert status.last_error is not None
    assert status.last_error["code"] == "previous_message_not_completed"
    await slow_world.pass_by(3)
    result = await forgotten.result(5)
    assert result.status == "failed"
    assert result.error is not None
    assert result.error["code"] == "previous_message_not_completed"


@pytest.mark.file_only
@pytest.mark.parametrize("hook", ["on_sleep", "on_destroy"])
async def test_a_last_hook_that_fails_is_told_in_the_log_and_holds_nothing_up(world: World, hook: str) -> None:
    async def fail(self: Any) -> None:
        raise RuntimeError("the last word went wrong")

    class Ending(Actor):
        @action
        async def end(self) -> None:
            self.sleep() if hook == "on_sleep" else self.destroy()

    setattr(Ending, hook, fail)
    client = await world.start(ending=Ending)
    handle = client.ending.get_or_create("x")
    await handle.end()
    told = f"select data->>'$.error.message' from events where kind = '{hook}.failed'"

    async def written() -> bool:
        return bool((await world.registry.sql(told)).rows)

    await until(written)
    assert "the last word went wrong" in (await world.registry.sql(told)).rows[0][0]
    if hook == "on_sleep":
        await until_state(handle, "asleep")
        assert "the last word went wrong" in (await handle.status()).last_error["message"]
    await handle.end()  # it wakes, and is made anew, as if nothing had happened


async def test_what_went_wrong_in_run_is_still_shown_when_the_actor_sleeps_and_gone_after_a_deploy(
    slow_world: World,
) -> None:
    class Failing(Actor, sleep_timeout=5):
        tasks = Queue(str)
        failed = False

        async def run(self) -> None:
            if not type(self).failed:
                type(self).failed = True
                raise RuntimeError("a bad start")
            await self.queue.next()

    client = await slow_world.start(failing=Failing)
    handle = client.failing.get_or_create("x")
    await handle.send("tasks", "a")
    await slow_world.pass_by(2)
    await slow_world.pass_by(20)
    await until_state(handle, "asleep")
    status = await handle.status()
    assert "a bad start" in status.last_error["message"]
    assert status.recovered

    class Mended(Actor):
        tasks = Queue(str)

    await slow_world.deploy(failing=Mended)
    assert (await handle.status()).last_error is None


class Moody(BaseModel):
    """Its validator fails with what pydantic does not expect, once it is told to."""

    number: int
    fails_with: ClassVar[type[BaseException] | None] = None

    @field_validator("number")
    @classmethod
    def check(cls, number: int) -> int:
        if cls.fails_with is not None:
            raise cls.fails_with("the check is broken")
        return number


class MoodyTaker(Actor):
    tasks = Queue(Moody)

    async def run(self) -> None:
        async for _ in self.queue.iter():
            pass


@pytest.fixture
def moody() -> Iterator[type[Moody]]:
    yield Moody
    Moody.fails_with = None


async def test_a_body_whose_type_raises_anything_is_a_dead_letter_with_the_reason(
    world: World, moody: type[Moody]
) -> None:
    client = await world.start(taker=MoodyTaker)
    handle = client.taker.get_or_create("x")
    await handle.pause("tasks")
    receipt = await handle.send("tasks", {"number": 1})
    moody.fails_with = KeyError
    await handle.resume("tasks")
    result = await receipt.result(timeout=5)
    assert result.status == "failed"
    assert result.error is not None
    assert "KeyError" in result.error["message"]
    moody.fails_with = None
    assert (await handle.send("tasks", {"number": 2}, wait=True, timeout=5)).ok


async def test_a_body_whose_type_raises_anything_is_refused_when_it_is_sent(world: World, moody: type[Moody]) -> None:
    client = await world.start(taker=MoodyTaker)
    moody.fails_with = ZeroDivisionError
    with pytest.raises(ValidationFailed, match="ZeroDivisionError"):
        await client.taker.get_or_create("x").send("tasks", {"number": 1})


async def test_a_type_that_cannot_be_asked_at_all_leaves_the_message_in_its_queue(
    world: World, moody: type[Moody]
) -> None:
    client = await world.start(taker=MoodyTaker)
    handle = client.taker.get_or_create("x")
    await handle.pause("tasks")
    receipt = await handle.send("tasks", {"number": 1})
    moody.fails_with = SystemExit
    await handle.resume("tasks")
    await until(lambda: _last_error(handle))
    moody.fails_with = None
    assert (await receipt.result(timeout=10)).ok


async def _last_error(handle: Any) -> bool:
    return bool((await handle.status()).last_error)


async def test_an_error_whose_causes_form_a_circle_fails_the_message_like_any_other(world: World) -> None:
    class Circular(Actor):
        tasks = Queue(int, retry=Retry(attempts=1))

        @tasks.handler
        async def work(self, body: int) -> None:
            first, second = Boom("the first"), Boom("the second")
            first.__cause__, second.__cause__ = second, first
            raise first

    client = await world.start(circular=Circular)
    receipt = await client.circular.get_or_create("x").send("tasks", 1)
    result = await receipt.result(5)
    assert result.status == "failed"
    assert "the first" in str(result.error)
