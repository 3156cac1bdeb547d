"""Limits of queues and RateLimited, as actors and users see them."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from agentq_nb import Actor, AgentqError, ConcurrencyLimit, Queue, RateLimit, RateLimited, Retry, WaitWouldDeadlock
from agentq_nb._display import document_of
from agentq_nb._display.document import as_text
from agentq_nb.errors import LimitConflict
from tests.unit.runtime.world import World, breathe, queue_of, until

pytestmark = pytest.mark.anyio


class Caller(Actor):
    """Notes what it begins; meets a limit as often as it is told to."""

    tasks = Queue(str, retry=Retry(attempts=2, backoff=0), limits=[ConcurrencyLimit(3, name="api")], max_pause=7200)
    other = Queue(str)
    begun: list[tuple[str, int]]
    limits: list[BaseException]
    completable: bool

    async def run(self) -> None:
        async for message in self.queue.iter(completable=self.completable):
            self.begun.append((message.body, message.attempt))
            if self.limits:
                raise self.limits.pop(0)
            if self.completable:
                await message.complete()


@pytest.fixture(params=[False, True], ids=["plain", "completable"])
def caller(request: pytest.FixtureRequest) -> type[Caller]:
    made: type[Caller] = type("Caller", (Caller,), {})
    made.begun, made.limits, made.completable = [], [], request.param
    return made


async def test_a_handler_that_meets_a_limit_gets_its_message_again_with_no_attempt_lost(
    slow_world: World, caller: type[Caller]
) -> None:
    caller.limits = [RateLimited("slow down", retry_after=3600, limit="api")]
    handle = (await slow_world.start(caller=caller)).caller.get_or_create("x")
    receipts = [await handle.send("tasks", body) for body in ("first", "second")]
    await slow_world.pass_by(1)
    queue = await queue_of(handle, "tasks")
    assert (queue.paused, queue.limited_by, queue.pause_reason) == (True, "api", "RateLimited: slow down")
    status = await handle.status()
    assert (status.last_error, status.run) == (None, "running"), "a limit is no failure of run"
    await handle.send("other", "goes on")
    await slow_world.pass_by(3590)
    caller.limits = [RateLimited(retry_after=60)]
    await slow_world.pass_by(20)
    assert (await queue_of(handle, "tasks")).paused
    await slow_world.pass_by(61)
    assert [(await receipt.result(5)).status for receipt in receipts] == ["completed"] * 2
    assert caller.begun == [("first", 1), ("goes on", 1), ("first", 1), ("first", 1), ("second", 1)]


async def test_a_limit_in_a_task_group_is_recognised(slow_world: World, caller: type[Caller]) -> None:
    caller.limits = [ExceptionGroup("both", [ValueError("other"), RateLimited(retry_after=60)])]
    handle = (await slow_world.start(caller=caller)).caller.get_or_create("x")
    receipt = await handle.send("tasks", "first")
    await slow_world.pass_by(61)
    assert (await receipt.result(5)).status == "completed"
    assert caller.begun == [("first", 1)] * 2


async def test_an_error_raised_because_of_a_limit_is_another_error(slow_world: World, caller: type[Caller]) -> None:
    error = ValueError("given up")
    error.__cause__ = RateLimited(retry_after=60)
    caller.limits = [error]
    handle = (await slow_world.start(caller=caller)).caller.get_or_create("x")
    receipt = await handle.send("tasks", "first")
    await slow_world.pass_by(2)
    assert (await receipt.result(5)).status == "completed"
    assert caller.begun == [("first", 1), ("first", 2)]


async def test_a_pause_beyond_max_pause_fails_the_message_as_usual(slow_world: World, caller: type[Caller]) -> None:
    caller.limits = [RateLimited("tomorrow", retry_after=86400) for _ in range(2)]
    handle = (await slow_world.start(caller=caller)).caller.get_or_create("x")
    receipt = await handle.send("tasks", "first")
    await slow_world.pass_by(5)
    result = await receipt.result(5)
    assert (result.status, caller.begun) == ("failed", [("first", 1), ("first", 2)])
    assert "tomorrow" in str(result.error)


async def test_without_a_known_end_one_message_at_a_time_is_tried_and_none_is_burnt(
    slow_world: World, caller: type[Caller]
) -> None:
    caller.limits = [RateLimited() for _ in range(5)]
    handle = (await slow_world.start(caller=caller)).caller.get_or_create("x")
    receipts = [await handle.send("tasks", str(number)) for number in range(3)]
    await slow_world.pass_by(5 + 10 + 20 + 40 + 80 + 5)
    assert [(await receipt.result(5)).status for receipt in receipts] == ["completed"] * 3
    assert caller.begun == [("0", 1)] * 6 + [("1", 1), ("2", 1)]


async def test_a_pause_is_ended_by_hand_and_why_says_what_it_waits_for(slow_world: World, caller: type[Caller]) -> None:
    caller.limits = [RateLimited("5-hour limit", retry_after=3600, limit="api")]
    client = await slow_world.start(caller=caller)
    handle = client.caller.get_or_create("x")
    receipt = await handle.send("tasks", "first")
    await slow_world.pass_by(1)
    result = await receipt.result(0)
    assert "provider's limit" in str(result.reason)
    assert "5-hour limit" in str(result.reason)
    shown = as_text(document_of(await slow_world.registry.status()))  # type: ignore[arg-type]  # a status has one
    assert "5-hour limit" in shown
    assert await handle.resume("tasks")
    assert (await receipt.result(5)).status == "completed"


@pytest.mark.parametrize("how", ["restart", "crash"])
async def test_a_pause_survives(slow_world: World, caller: type[Caller], how: str) -> None:
    caller.limits = [RateLimited(retry_after=600)]
    handle = (await slow_world.start(caller=caller)).caller.get_or_create("x")
    receipt = await handle.send("tasks", "first")
    await slow_world.pass_by(1)
    await getattr(slow_world, how)(caller=caller)
    await slow_world.pass_by(500)
    assert len(caller.begun) == 1
    await slow_world.pass_by(100)
    assert (await receipt.result(5)).status == "completed"
    assert caller.begun == [("first", 1)] * 2


# --- limits of queues -------------------------------------------------------------------------------------------------


def limited(limit: Any, begun: list[str], *, gate: asyncio.Event | None = None) -> type[Actor]:
    class Limited(Actor):
        tasks = Queue(str, limits=[limit])

        async def run(self) -> None:
            async for message in self.queue.iter():
                begun.append(message.body)
                if gate is not None:
                    await gate.wait()

    return Limited


async def test_the_window_is_shared_by_classes_and_actors(slow_world: World) -> None:
    begun: list[str] = []
    limit = RateLimit(2, per=60, name="api")
    client = await slow_world.start(a=limited(limit, begun), b=limited(limit, begun))
    for number, handle in enumerate(
        (client.a.get_or_create("x"), client.a.get_or_create("y"), client.b.get_or_create())
    ):
        await handle.send("tasks", str(number))
    await slow_world.pass_by(1)
    assert len(begun) == 2  # which two depends on whose actors awake first
    await slow_world.pass_by(60)
    await until(lambda: sorted(begun) == ["0", "1", "2"])


async def test_actors_that_sleep_are_woken_when_there_is_room(slow_world: World) -> None:
    begun: list[str] = []
    handle = (await slow_world.start(a=limited(RateLimit(1, per=600), begun))).a.get_or_create("x")
    for number in range(3):
        await handle.send("tasks", str(number))
    await slow_world.pass_by(1)
    await slow_world.pass_by(400)
    assert (await handle.status()).state == "asleep"
    await slow_world.pass_by(201)
    assert begun == ["0", "1"]


async def test_registry_limits_shows_the_use_and_changes_it_live(slow_world: World) -> None:
    begun: list[str] = []
    use = {"a": limited(RateLimit(5, per=60, name="api"), begun)}
    handle = (await slow_world.start(**use)).a.get_or_create("x")
    await slow_world.registry.limits.change("api", count=2)
    for number in range(9):
        await handle.send("tasks", str(number))
    await slow_world.pass_by(1)
    limits = slow_world.registry.limits
    assert (list(limits), limits["api"].used, limits["api"].count, len(begun)) == (["api"], 2, 2, 2)
    assert slow_world.clock is not None
    assert limits["api"].next_start == pytest.approx(slow_world.clock.time() + 59, abs=0.5)
    assert "2 (declared 5)" in as_text(document_of(limits))  # type: ignore[arg-type]  # limits have one
    await slow_world.restart(**use)
    assert slow_world.registry.limits["api"].count == 2
    await slow_world.registry.limits.reset("api")
    await slow_world.pass_by(1)
    assert len(begun) == 5
    with pytest.raises(AgentqError, match="Did you mean 'api'"):
        await limits.change("apis", count=1)


async def test_a_host_in_the_background_shows_its_limits_too(background_world: World) -> None:
    await background_world.start(a=limited(RateLimit(5, per=60, name="api"), []))
    assert background_world.registry.limits["api"].count == 5


# --- two declarations -------------------------------------------------------------------------------------------------


async def test_two_declarations_of_a_name_that_differ_are_an_error_that_names_both(world: World) -> None:
    use = {"a": limited(RateLimit(5, per=60, name="api"), []), "b": limited(RateLimit(6, per=60, name="api"), [])}
    with pytest.raises(LimitConflict) as caught:
        await world.start(**use)
    for part in ("'api'", "5 per 60 s by a.tasks", "6 per 60 s by b.tasks"):
        assert part in caught.value.message


async def test_a_limit_of_two_classes_is_changed_in_one_after_the_other(world: World) -> None:
    old, new = RateLimit(5, per=60, name="api"), RateLimit(9, per=60, name="api")
    await world.start(a=limited(old, []), b=limited(old, []))
    first, second = limited(new, []), limited(new, [])
    with pytest.raises(LimitConflict):
        await world.registry.deploy("a", first)
    assert world.registry.limits["api"].count == 5
    await world.registry.deploy("b", second)
    assert world.registry.limits["api"].count == 9
    assert dict(world.registry.classes) == {"a": first, "b": second}


async def test_setup_again_with_both_classes_changed_deploys_both(world: World) -> None:
    old, new = RateLimit(5, per=60, name="api"), ConcurrencyLimit(9, name="api")
    await world.start(a=limited(old, []), b=limited(old, []))
    await world.start(a=limited(new, []), b=limited(new, []))
    assert world.registry.limits["api"].per is None


# --- waits ------------------------------------------------------------------------------------------------------------


class Asking(Actor):
    """Waits for a message of another actor that shares its limit."""

    tasks = Queue(str, limits=[ConcurrencyLimit(2, name="places")])
    errors: list[str]
    both: asyncio.Barrier

    async def run(self) -> None:
        async for message in self.queue.iter():
            if message.body == "leaf":
                continue
            if message.body == "together":
                await self.both.wait()
            other = self.actors.asking.get_or_create(f"{self.key[0]} leaf")
            try:
                await other.send("tasks", "leaf", wait=True, timeout=3)
            except WaitWouldDeadlock as error:
                self.errors.append(error.message)


@pytest.fixture
async def asking() -> type[Asking]:
    made: type[Asking] = type("Asking", (Asking,), {})
    made.errors, made.both = [], asyncio.Barrier(2)
    return made


async def test_a_wait_for_a_place_that_nobody_will_leave_is_refused(world: World, asking: type[Asking]) -> None:
    client = await world.start(asking=asking)
    receipts = [await client.asking.get_or_create(name).send("tasks", "together") for name in "ab"]
    assert [(await receipt.result(5)).status for receipt in receipts] == ["completed"] * 2
    (error,) = asking.errors
    assert "limit 'places'" in error


async def test_a_wait_for_a_place_that_is_free_goes_on(world: World, asking: type[Asking]) -> None:
    client = await world.start(asking=asking)
    receipt = await client.asking.get_or_create("a").send("tasks", "alone")
    assert (await receipt.result(5)).status == "completed"
    assert asking.errors == []


async def test_a_limit_of_one_place_refuses_every_wait_for_it(world: World, asking: type[Asking]) -> None:
    client = await world.start(asking=asking)
    await world.registry.limits.change("places", count=1)
    receipt = await client.asking.get_or_create("a").send("tasks", "alone")
    assert (await receipt.result(5)).status == "completed"
    assert len(asking.errors) == 1


async def test_on_the_machines_clock_no_window_is_exceeded(world: World) -> None:
    received: list[int] = []

    class Timed(Actor):
        tasks = Queue(int, limits=[RateLimit(4, per=0.25, name="api")])

        async def run(self) -> None:
            async for message in self.queue.iter():
                received.append(message.body)

    client = await world.start(timed=Timed)
    for number in range(20):
        await client.timed.get_or_create(str(number % 3)).send("tasks", number)
    await until(lambda: len(received) == 20)
    # A start is its commit: a busy machine may hand over the message of one late, and that of the next at once.
    starts = await world.starts()
    assert len(starts) == 20
    assert all(later - earlier >= 0.25 - 1e-5 for earlier, later in zip(starts, starts[4:], strict=False))
    await breathe()


# --- errors of providers' clients, and handlers -----------------------------------------------------------------------


class ProviderError(Exception):
    """As the clients of providers have it: the status, the headers and the body of the answer."""

    def __init__(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status_code = status
        self.body = {"type": "error", "error": {"type": kind, "message": message}}
        self.response = SimpleNamespace(status_code=status, headers=headers or {}, text="")


@pytest.mark.parametrize("plain", [False, True])
async def test_a_clients_error_in_a_handler_pauses_its_queue_without_being_told(world: World, plain: bool) -> None:
    begun: list[float] = []

    def work(body: str) -> str:
        begun.append(time.monotonic())
        if len(begun) == 1:
            raise ProviderError(429, "rate_limit_error", "Number of requests exceeded", {"retry-after": "1"})
        return body

    class Plain(Actor):
        tasks = Queue(str, reply=str, retry=Retry(attempts=1))

        @tasks.handler
        def handle(self, body: str) -> str:
            return work(body)

    class Async(Actor):
        tasks = Queue(str, reply=str, retry=Retry(attempts=1))

        @tasks.handler
        async def handle(self, body: str) -> str:
            return work(body)

    client = await world.start(a=Plain if plain else Async)
    result = await client.a.get_or_create("x").send("tasks", "one", wait=True, timeout=20)
    assert (result.status, result.response, result.attempts) == ("completed", "one", 1)
    assert begun[1] - begun[0] >= 1


async def test_a_provider_that_wants_money_makes_a_dead_letter_at_once_with_advice(world: World) -> None:
    class Poor(Actor):
        tasks = Queue(str, retry=Retry(attempts=5, backoff=0))

        @tasks.handler
        async def handle(self, body: str) -> None:
            raise ProviderError(400, "invalid_request_error", "Your credit balance is too low to access the API.")

    client = await world.start(poor=Poor)
    result = await client.poor.get_or_create("x").send("tasks", "one", wait=True, timeout=20)
    assert (result.status, result.attempts) == ("failed", 1)
    assert "add credits" in str(result.error)


async def test_several_handlers_at_once_keep_to_the_limits_and_make_one_pause(world: World) -> None:
    at_work, most, limits, full = set[str](), [0], [2], asyncio.Event()

    class Several(Actor):
        tasks = Queue(str, concurrency=5, limits=[ConcurrencyLimit(3, name="places")])

        @tasks.handler
        async def handle(self, body: str) -> None:
            at_work.add(body)
            most[0] = max(most[0], len(at_work))
            if len(at_work) == 3:
                full.set()
            try:
                await asyncio.wait_for(full.wait(), 20)
                await asyncio.sleep(0.02)
                if limits[0] > 0:
                    limits[0] -= 1
                    raise RateLimited(retry_after=1, limit="places")
            finally:
                at_work.discard(body)

    client = await world.start(several=Several)
    handle = client.several.get_or_create("x")
    receipts = [await handle.send("tasks", str(number)) for number in range(12)]
    results = [await receipt.result(20) for receipt in receipts]
    assert [(result.status, result.attempts) for result in results] == [("completed", 1)] * 12
    assert most == [3]


async def test_a_thread_that_outlives_its_attempt_keeps_its_place_in_the_limit(world: World) -> None:
    goes_on, begun = threading.Event(), list[str]()

    class Stubborn(Actor):
        tasks = Queue(str, limits=[ConcurrencyLimit(1, name="place")], handler_timeout=0.2, retry=Retry(attempts=1))

        @tasks.handler
        def handle(self, body: str) -> None:
            begun.append(body)
            if body == "hangs":
                goes_on.wait(20)

    class Other(Actor):
        tasks = Queue(str, limits=[ConcurrencyLimit(1, name="place")])

        @tasks.handler
        def handle(self, body: str) -> None:
            begun.append(body)

    client = await world.start(stubborn=Stubborn, other=Other)
    try:
        hung = await client.stubborn.get_or_create("x").send("tasks", "hangs", wait=True, timeout=20)
        assert hung.status == "failed"
        waits = await client.other.get_or_create("x").send("tasks", "waits")
        assert (await waits.result(0.3)).status == "timed_out"
        assert world.registry.limits["place"].used == 1
    finally:
        goes_on.set()
    assert (await waits.result(5)).status == "completed"
    assert begun == ["hangs", "waits"]
