"""When a message leaves its queue: plain and completable, once, by its own receiver; and results for who waits."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, AgentqError, Message, Queue, Retry, WaitWouldDeadlock, action
from agentq_nb.errors import ReplyTooLarge
from tests.unit.runtime.world import World, queue_of, until, until_status

pytestmark = pytest.mark.anyio


class Answer(BaseModel):
    text: str


class Desk(Actor):
    """Its actions receive; what they hold settles by their own rules."""

    asks = Queue(str, reply=Answer)
    plain = Queue(str)

    @action
    async def take(self, completable: bool = True) -> Any:
        message = await self.queue.next(None if completable else "plain", timeout=1, completable=completable)
        return None if message is None else [message.body, message.attempt]

    @action
    async def take_twice(self) -> None:
        await self.queue.next(timeout=1, completable=True)
        await self.queue.next("plain", timeout=1)

    @action
    async def complete_twice(self) -> list[str]:
        message = await self.queue.next(timeout=1, completable=True)
        assert message is not None
        await message.complete(Answer(text="once"))
        return [await refusal(message.complete(Answer(text="twice"))), await refusal(message.fail("late"))]

    @action
    async def complete_plain(self) -> str:
        message = await self.queue.next("plain", timeout=1)
        assert message is not None
        return await refusal(message.complete())

    @action
    async def complete_badly_then_well(self) -> str:
        message: Message[str, Any] | None = await self.queue.next("asks", timeout=1, completable=True)
        assert message is not None
        refused = await refusal(message.complete({"text": 5}))
        await message.complete({"text": "good"})
        return refused


async def refusal(settling: Any) -> str:
    try:
        await settling
    except AgentqError as error:
        return error.full_code
    return "not refused"


async def test_a_plain_message_settles_when_the_same_receiver_asks_again(world: World) -> None:
    second, gate = asyncio.Event(), asyncio.Event()

    class Worker(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            async for message in self.queue.iter():
                if message.body == 2:
                    second.set()
                    await gate.wait()

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    first = await handle.send("tasks", 1)
    await handle.send("tasks", 2)
    await second.wait()
    assert (await first.result(5)).status == "completed"
    assert (await queue_of(handle, "tasks")).running == 1


async def test_a_plain_message_settles_when_its_call_returns(world: World) -> None:
    client = await world.start(desk=Desk)
    handle = client.desk.get_or_create("x")
    receipt = await handle.send("plain", "a")
    assert await handle.take(False) == ["a", 1]
    assert (await receipt.result(5)).status == "completed"


async def test_nobody_elses_asking_settles_what_a_receiver_holds(world: World) -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    class Worker(Desk):
        async def run(self) -> None:
            async for _ in self.queue.iter(["plain"]):
                started.set()
                await gate.wait()
                raise ValueError("only now")

    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("x")
    receipt = await handle.send("plain", "a")
    await started.wait()
    await handle.send("asks", "b")
    action_waits = asyncio.create_task(handle.take())
    await asyncio.sleep(0.05)
    assert await receipt.status() == "running"
    gate.set()
    await until_status(receipt, "delayed")
    await action_waits


async def test_a_completable_message_left_unsettled_is_put_back_first_and_uncounted(world: World) -> None:
    client = await world.start(desk=Desk)
    handle = client.desk.get_or_create("x")
    await handle.send("plain", "first")
    await handle.send("plain", "second")
    assert await handle.take() == ["first", 1]
    assert await handle.take() == ["first", 1]
    assert await handle.take(False) == ["first", 1], "a plain receive takes it too"
    assert await handle.take(False) == ["second", 1]


async def test_asking_again_without_completing_is_an_error_of_its_own(world: World) -> None:
    client = await world.start(desk=Desk)
    handle = client.desk.get_or_create("x")
    await handle.send("plain", "a")
    with pytest.raises(AgentqError) as caught:
        await handle.take_twice()
    assert caught.value.full_code == "queue.previous_message_not_completed"


async def test_settling_twice_is_refused_and_the_first_answer_stands(world: World) -> None:
    client = await world.start(desk=Desk)
    handle = client.desk.get_or_create("x")
    receipt = await handle.send("asks", "a")
    assert await handle.complete_twice() == ["queue.already_completed"] * 2
    assert (await receipt.result(5)).response == Answer(text="once")


async def test_completing_what_was_received_plainly_is_refused(world: World) -> None:
    client = await world.start(desk=Desk)
    handle = client.desk.get_or_create("x")
    await handle.send("plain", "a")
    assert await handle.complete_plain() == "queue.complete_not_configured"


class Reviewer(Actor):
    """Its run forgets ``completable``; its action names what it may receive plainly."""

    review = Queue(str, reply=Answer)
    perhaps = Queue(str, reply=Answer | None)
    plain = Queue(str)

    @action
    async def ask(self, how: str) -> Any:
        async def iterate(iteration: Any) -> Any:
            async for message in iteration:
                return message
            return None

        message = await {
            "iter": lambda: iterate(self.queue.iter()),
            "iter of the queue": lambda: iterate(self.review.iter()),
            "next": lambda: self.queue.next(timeout=1),
            "next by name": lambda: self.queue.next("review", timeout=1),
            "try_next": lambda: self.review.try_next(),
            "batch": lambda: self.queue.next_batch(5, timeout=1),
            "others": lambda: self.queue.next(["plain", "perhaps"], timeout=1),
            "completable": lambda: self.queue.next("review", timeout=1, completable=True),
        }[how]()
        return None if message is None else message.body


@pytest.mark.parametrize("how", ["iter", "iter of the queue", "next", "next by name", "try_next", "batch"])
async def test_a_queue_that_declares_a_reply_is_not_received_without_completable(world: World, how: str) -> None:
    client = await world.start(reviewer=Reviewer)
    handle = client.reviewer.get_or_create("x")
    receipt = await handle.send("review", "a")
    with pytest.raises(AgentqError) as caught:
        await handle.ask(how)
    assert caught.value.full_code == "queue.reply_needed"
    assert "queue 'review' of actor 'reviewer/x' declares reply=Answer" in caught.value.message
    assert "'perhaps', 'plain'" in caught.value.message
    assert await receipt.status() == "queued"
    assert await handle.ask("completable") == "a"


async def test_a_queue_whose_reply_may_be_none_is_received_plainly(world: World) -> None:
    client = await world.start(reviewer=Reviewer)
    handle = client.reviewer.get_or_create("x")
    receipt = await handle.send("perhaps", "a")
    assert await handle.ask("others") == "a"
    assert (await receipt.result(5)).status == "completed"


async def test_a_queue_without_reply_type_completes_with_any_json_or_nothing(world: World) -> None:
    class Loose(Actor):
        tasks = Queue(Any)

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                await (message.complete(message.body) if message.body else message.complete())

    client = await world.start(loose=Loose)
    handle = client.loose.get_or_create("x")
    assert (await handle.send("tasks", {"a": [1]}, wait=True, timeout=5)).response == {"a": [1]}
    assert (await handle.send("tasks", None, wait=True, timeout=5)).response is None


async def test_a_reply_that_does_not_fit_is_refused_and_can_be_given_again(world: World) -> None:
    client = await world.start(desk=Desk)
    handle = client.desk.get_or_create("x")
    receipt = await handle.send("asks", "a")
    assert await handle.complete_badly_then_well() == "actor.validation_error"
    assert (await receipt.result(5)).response == Answer(text="good")


@pytest.mark.parametrize("reply", [{1, 2}, b"bytes", float("nan"), object(), "\ud800"])
async def test_a_reply_that_cannot_be_written_fails_the_attempt_with_a_clear_error(world: World, reply: Any) -> None:
    class Odd(Actor):
        tasks = Queue(Any)

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                try:
                    await message.complete({"reply": reply})
                except AgentqError as error:
                    await message.fail(error)

    client = await world.start(odd=Odd)
    result = await client.odd.get_or_create("x").send("tasks", 1, wait=True, timeout=5)
    if isinstance(reply, set):
        assert result.status in ("completed", "failed")  # a set may be a JSON list
        return
    assert result.status == "failed"
    assert result.error["code"] == "validation_error"


async def test_completing_in_a_task_that_nobody_waits_for_does_not_block_the_mailbox(world: World) -> None:
    seen: list[int] = []
    kept: list[asyncio.Task[None]] = []

    class Hurried(Actor, sleep_timeout=0.05):
        tasks = Queue(int)

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                seen.append(message.body)
                kept.append(asyncio.create_task(message.complete()))
                await asyncio.sleep(0)

    client = await world.start(hurried=Hurried)
    handle = client.hurried.get_or_create("x")
    receipts = [await handle.send("tasks", number) for number in range(10)]
    for receipt in receipts:
        assert (await receipt.result(5)).status == "completed"
    assert seen == list(range(10))

    async def asleep() -> bool:
        return (await handle.status()).state == "asleep"

    await until(asleep)


# --- waiting ----------------------------------------------------------------------------------------------------------


class Slow(Actor):
    """Completes when the test lets it."""

    tasks = Queue(dict[str, Any], reply=dict[str, Any])
    gate: asyncio.Event

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            await type(self).gate.wait()
            await message.complete({"echo": message.body})

    @action
    async def ask_itself(self) -> Any:
        result = await self.queue.push("tasks", {"n": 1}, wait=True, timeout=5)
        return result.response


@pytest.fixture
def slow() -> type[Slow]:
    made: type[Slow] = type("Slow", (Slow,), {})
    made.gate = asyncio.Event()
    return made


async def test_a_waiting_sender_gets_the_reply(world: World, slow: type[Slow]) -> None:
    slow.gate.set()
    client = await world.start(slow=slow)
    result = await client.slow.get_or_create("x").send("tasks", {"value": 123}, wait=True, timeout=5)
    assert (result.status, result.response) == ("completed", {"echo": {"value": 123}})
    assert result.unwrap() == {"echo": {"value": 123}}


async def test_a_wait_that_times_out_leaves_the_job_going_and_its_result_to_be_had_later(
    world: World, slow: type[Slow]
) -> None:
    client = await world.start(slow=slow)
    result = await client.slow.get_or_create("x").send("tasks", {"n": 1}, wait=True, timeout=0.05)
    assert (result.status, result.response) == ("timed_out", None)
    with pytest.raises(AgentqError) as caught:
        result.unwrap()
    assert caught.value.full_code == "queue.timed_out"
    slow.gate.set()
    assert (await client.receipt(result.message_id).result(5)).response == {"echo": {"n": 1}}
    client = await world.restart()
    assert (await client.receipt(result.message_id).result()).response == {"echo": {"n": 1}}
    client = await world.crash()
    assert (await client.receipt(result.message_id).result()).response == {"echo": {"n": 1}}


async def test_nobody_consuming_is_a_timeout_and_no_error(world: World) -> None:
    client = await world.start(desk=Desk)
    result = await client.desk.get_or_create("x").send("plain", "a", wait=True, timeout=0.05)
    assert result.status == "timed_out"


async def test_an_action_can_ask_its_own_run_and_wait(world: World, slow: type[Slow]) -> None:
    slow.gate.set()
    client = await world.start(slow=slow)
    assert await client.slow.get_or_create("x").ask_itself() == {"echo": {"n": 1}}


async def test_interrupting_a_wait_stops_the_waiting_and_not_the_work(world: World, slow: type[Slow]) -> None:
    client = await world.start(slow=slow)
    handle = client.slow.get_or_create("x")
    waiting = asyncio.create_task(handle.send("tasks", {"n": 1}, wait=True))
    await until(lambda: _running(handle))
    message = (await queue_of(handle, "tasks")).running_ids[0]
    waiting.cancel()
    slow.gate.set()
    assert (await client.receipt(message).result(5)).status == "completed"


async def _running(handle: Any) -> bool:
    return (await queue_of(handle, "tasks")).running == 1


async def test_a_plain_send_behind_a_waiting_one_does_not_wait_for_it(world: World, slow: type[Slow]) -> None:
    client = await world.start(slow=slow)
    handle = client.slow.get_or_create("x")
    waiting = asyncio.create_task(handle.send("tasks", {"n": 1}, wait=True, timeout=5))
    await until(lambda: _running(handle))
    await handle.send("tasks", {"n": 2})
    assert not waiting.done()
    slow.gate.set()
    await waiting


async def test_purging_a_queue_cancels_what_nobody_handles_and_tells_who_waits(world: World) -> None:
    client = await world.start(desk=Desk)
    handle = client.desk.get_or_create("x")
    waiting = asyncio.create_task(handle.send("plain", "a", wait=True))
    await asyncio.gather(*(handle.send("plain", "b") for _ in range(199)))
    assert await handle.purge("plain") == 200
    assert (await waiting).status == "cancelled"
    assert (await queue_of(handle, "plain")).live == 0


async def test_stopping_the_host_ends_waits_with_an_error_and_keeps_the_work(world: World) -> None:
    client = await world.start(desk=Desk)
    receipt = await client.desk.get_or_create("x").send("plain", "a")
    waiting = asyncio.create_task(receipt.result())
    await asyncio.sleep(0.02)
    await world.registry.stop()
    with pytest.raises(AgentqError) as caught:
        await waiting
    assert caught.value.full_code == "host.unavailable"
    await world.start(desk=Desk)
    assert await receipt.status() == "queued"


async def test_an_unknown_message_id_is_an_error(world: World) -> None:
    client = await world.start(desk=Desk)
    with pytest.raises(AgentqError) as caught:
        await client.receipt("0" * 20).result()
    assert caught.value.full_code == "queue.message_unknown"


# --- waits that could never end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["send", "receipt", "itself", "action", "action of another"])
async def test_waiting_on_oneself_is_refused_at_once(world: World, way: str) -> None:
    told: list[BaseException] = []

    class Helper(Actor):
        @action
        async def ask(self) -> None:
            await self.actors.selfish.get_or_create("x").send("tasks", 2, wait=True)

    class Selfish(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                if message.body == 1:
                    try:
                        await self.wait(message)
                    except WaitWouldDeadlock as error:
                        told.append(error)
                await message.complete()

        async def wait(self, message: Message[int, Any]) -> None:
            if way == "send":
                await self.queue.push("tasks", 2, wait=True)
            elif way == "receipt":
                await (await self.queue.push("tasks", 2)).result()
            elif way == "itself":
                await self.actors.receipt(message.id).result()
            elif way == "action":
                await self.actors.selfish.get_or_create("x").ask()
            else:
                await self.actors.helper.get_or_create("h").ask()

        @action
        async def ask(self) -> None:
            await self.queue.push("tasks", 2, wait=True)

    client = await world.start(selfish=Selfish, helper=Helper)
    result = await client.selfish.get_or_create("x").send("tasks", 1, wait=True, timeout=5)
    assert result.status == "completed"
    assert len(told) == 1
    assert "would never end" in str(told[0])
    if way in ("send", "action", "action of another"):
        table = await world.registry.sql("select count(*) from messages")
        assert table.rows[0][0] == 1, "it was refused before anything was written"


async def test_a_cycle_of_waits_is_refused_at_the_one_who_closes_it(world: World) -> None:
    told: list[str] = []

    class Link(Actor):
        tasks = Queue(list[str], reply=str)

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                way = message.body
                if way:
                    try:
                        await self.actors.link.get_or_create(way[0]).send("tasks", way[1:], wait=True)
                    except WaitWouldDeadlock:
                        told.append(self.key[0])
                await message.complete("done")

    client = await world.start(link=Link)
    result = await client.link.get_or_create("a").send("tasks", ["b", "c", "a", "b"], wait=True, timeout=5)
    assert result.status == "completed"
    assert told == ["c"]


async def test_waiting_for_another_queue_that_nothing_holds_up_is_allowed(world: World) -> None:
    class Two(Actor):
        first = Queue(int, reply=int)
        second = Queue(int, reply=int)

        async def run(self) -> None:
            helper = asyncio.create_task(self.serve_second())
            async for message in self.queue.iter(["first"], completable=True):
                result = await self.queue.push("second", message.body, wait=True, timeout=5)
                await message.complete(result.response)
            await helper

        async def serve_second(self) -> None:
            async for message in self.queue.iter(["second"], completable=True):
                await message.complete(message.body * 2)

    client = await world.start(two=Two)
    assert (await client.two.get_or_create("x").send("first", 21, wait=True, timeout=5)).response == 42


async def test_a_wait_with_a_timeout_that_could_never_end_is_refused_too(world: World) -> None:
    told = asyncio.Event()

    class Selfish(Actor):
        tasks = Queue(int)

        async def run(self) -> None:
            async for _ in self.queue.iter():
                try:
                    await self.queue.push("tasks", 2, wait=True, timeout=60)
                except WaitWouldDeadlock:
                    told.set()
                return

    client = await world.start(selfish=Selfish)
    await client.selfish.get_or_create("x").send("tasks", 1)
    await asyncio.wait_for(told.wait(), 5)


class Wordy(Actor):
    """Its replies are too large, and it ends with the error that says so in several ways."""

    words = Queue(str, reply=str, max_reply_bytes=8192)
    worked: ClassVar[list[str]] = []

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            self.worked.append(message.body)
            if message.body == "mended":
                with suppress(ReplyTooLarge):
                    await message.complete("é" * 5000)
                await message.complete("short")
            elif message.body == "grouped":
                async with asyncio.TaskGroup() as group:
                    group.create_task(message.complete("é" * 5000))
            elif message.body == "reworded":
                try:
                    await message.complete("é" * 5000)
                except ReplyTooLarge as error:
                    raise RuntimeError("the report could not be sent") from error
            else:
                await message.complete("é" * 5000)


@pytest.mark.parametrize("body", ["plain", "grouped", "reworded"])
async def test_work_whose_reply_is_too_large_is_not_done_again_and_its_beginning_is_kept(
    world: World, body: str
) -> None:
    Wordy.worked.clear()
    client = await world.start(wordy=Wordy)
    result = await client.wordy.get_or_create("x").send("words", body, wait=True, timeout=5)
    assert result.status == "failed"
    assert Wordy.worked == [body]
    assert result.error["code"] == "reply_too_large"
    assert "max_reply_bytes" in result.error["message"]
    kept = result.error["metadata"]
    assert (kept["size"], kept["limit"], kept["message_id"]) == (10_002, 8192, result.message_id)
    assert kept["beginning"] == '"' + "é" * 2047


async def test_a_handler_may_complete_with_another_reply_after_one_that_is_too_large(world: World) -> None:
    client = await world.start(wordy=Wordy)
    result = await client.wordy.get_or_create("x").send("words", "mended", wait=True, timeout=5)
    assert (result.status, result.response) == ("completed", "short")


async def test_only_the_message_whose_reply_is_too_large_is_final(slow_world: World) -> None:
    seen: list[tuple[int, int]] = []

    class Pairs(Actor):
        numbers = Queue(int, reply=str, max_reply_bytes=10, retry=Retry(attempts=2, backoff=1.0))

        async def run(self) -> None:
            while messages := await self.queue.next_batch(2, completable=True):
                seen.extend((message.body, message.attempt) for message in messages)
                await messages[0].complete("too long for ten bytes" if messages[0].body == 1 else "ok")

    client = await slow_world.start(pairs=Pairs)
    handle = client.pairs.get_or_create("x")
    await handle.pause("numbers")
    first, second = [await handle.send("numbers", number) for number in (1, 2)]
    await handle.resume("numbers")
    assert (await first.result(5)).status == "failed"
    assert await second.status() in ("delayed", "queued")
    assert (1, 1) in seen
