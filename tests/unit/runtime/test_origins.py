"""What is sent, pushed, scheduled or called while a message is handled inherits its origin."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentq_nb import Actor, Queue, action
from agentq_nb._core.origin import HTTP, current_origin, least_trusted, under
from tests.unit.runtime.schedules import HOUR, TO_NEXT_HOUR
from tests.unit.runtime.world import World, until

pytestmark = pytest.mark.anyio

HOOK = "webhook:github"

SEEN: list[tuple[Any, str]] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    SEEN.clear()


def seen(what: Any) -> None:
    SEEN.append((what, current_origin.get()))


async def until_seen(count: int) -> dict[Any, str]:
    await until(lambda: len(SEEN) >= count)
    return dict(SEEN)


class Relay(Actor):
    """Passes on what it gets, in every way there is."""

    tasks = Queue(Any)
    beside = Queue(Any, concurrency=2)
    plain = Queue(Any)
    notes = Queue(Any)

    @tasks.handler
    async def pass_on(self, body: Any) -> None:
        seen("handler")
        other = self.actors.relay.get_or_create("other")
        await other.send("notes", "sent")
        await self.queue.push("notes", "pushed")
        await other.send_many("notes", ["of a batch"])
        await other.called("called")
        await self.schedule.after(0, self.called, "scheduled")
        await asyncio.gather(other.send("notes", "of a task"), asyncio.create_task(self.later(other)))
        await self.in_thread(seen, "in a thread")

    async def later(self, other: Any) -> None:
        await asyncio.sleep(0)
        await other.called("called by a task")

    @plain.handler
    def from_a_thread(self, body: Any) -> None:
        seen("plain handler")
        asyncio.run(self.queue.push("notes", "pushed by a thread"))

    @beside.handler
    async def two_at_once(self, body: Any) -> None:
        await asyncio.sleep(0.01)
        seen(body)

    @notes.handler
    async def note(self, body: Any) -> None:
        seen(body)

    @action
    async def called(self, body: Any) -> None:
        seen(body)
        if body == "called":
            await self.queue.push("notes", "pushed by an action")

    async def on_create(self, input: Any) -> None:
        if input is not None:
            seen("created")


PASSED_ON = (
    "handler",
    "sent",
    "pushed",
    "of a batch",
    "called",
    "pushed by an action",
    "scheduled",
    "of a task",
    "called by a task",
    "in a thread",
)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("origin", ["process", "socket", HTTP, HOOK])
async def test_all_that_a_handler_starts_inherits_its_messages_origin(
    world: World, background: bool, origin: str
) -> None:
    world.background = background
    relay = (await world.start(relay=Relay)).relay.get_or_create("main")
    with under(origin):
        await relay.send("tasks", 1)
    assert await until_seen(len(PASSED_ON)) == dict.fromkeys(PASSED_ON, origin)
    stored = await world.registry.sql("select body, origin from messages order by created_at")
    assert {found for _, found in stored} == {origin}


async def test_a_handler_in_a_thread_passes_it_on(world: World) -> None:
    relay = (await world.start(relay=Relay)).relay.get_or_create("main")
    with under(HOOK):
        await relay.send("plain", 1)
    assert await until_seen(2) == {"plain handler": HOOK, "pushed by a thread": HOOK}


async def test_what_follows_a_message_does_not_inherit_it(world: World) -> None:
    relay = (await world.start(relay=Relay)).relay.get_or_create("main")
    with under(HTTP):
        await relay.send("tasks", 1)
    await until_seen(len(PASSED_ON))
    SEEN.clear()
    await relay.send("tasks", 1)
    assert await until_seen(len(PASSED_ON)) == dict.fromkeys(PASSED_ON, "process")


async def test_handlers_side_by_side_have_each_their_own(world: World) -> None:
    relay = (await world.start(relay=Relay)).relay.get_or_create("main")
    for origin in (HTTP, "process", HOOK, "process"):
        with under(origin):
            await relay.send("beside", f"{origin} {len(SEEN)}")
    await until(lambda: len(SEEN) == 4)
    assert all(body.startswith(f"{origin} ") for body, origin in SEEN)


async def test_an_action_has_the_origin_of_its_call_and_so_has_on_create(world: World) -> None:
    kind = (await world.start(relay=Relay)).relay
    with under(HTTP):
        await kind.get_or_create("new", input=1).called("called")
    assert await until_seen(3) == {"created": HTTP, "called": HTTP, "pushed by an action": HTTP}
    SEEN.clear()
    await kind.get_or_create("new").called("again")
    assert SEEN == [("again", "process")]


class Reader(Actor):
    """Receives in a loop of its own."""

    tasks = Queue(Any)

    async def run(self) -> None:
        while True:
            batch = await self.queue.next_batch(3, "tasks", timeout=0.01)
            if batch:
                seen(tuple(message.body for message in batch))
            elif not SEEN or SEEN[-1][0] != "idle":
                seen("idle")


async def test_a_batch_has_the_least_trusted_origin_of_its_messages(world: World) -> None:
    reader = (await world.start(reader=Reader)).reader.get_or_create("main")
    with under("socket"):
        await reader.send_many("tasks", [1, 2])
    await until(lambda: ((1, 2), "socket") in SEEN)
    await until(lambda: SEEN[-1] == ("idle", "process"))
    await reader.pause("tasks")
    await reader.send("tasks", 3)
    with under(HOOK):
        await reader.send("tasks", 4)
    with under(HTTP):
        await reader.send("tasks", 5)
    await reader.resume("tasks")
    await until(lambda: ((3, 4, 5), HOOK) in SEEN)
    await until(lambda: SEEN[-1] == ("idle", "process"))


class Controlled(Actor):
    """Takes a message of a second queue while it holds one of the first."""

    tasks = Queue(Any)
    control = Queue(Any)

    async def run(self) -> None:
        async for _ in self.queue.iter("tasks"):
            await self.queue.next("control")
            seen("both")


async def test_a_second_message_in_the_same_task_does_not_hide_the_first(world: World) -> None:
    controlled = (await world.start(controlled=Controlled)).controlled.get_or_create("main")
    with under(HTTP):
        await controlled.send("tasks", 1)
    await controlled.send("control", 1)
    await until(lambda: SEEN == [("both", HTTP)])


class Timed(Actor):
    @action
    async def plan(self, expression: str, word: str) -> None:
        await self.schedule.cron("regular", expression, self.due, word)

    @action
    async def due(self, word: str) -> None:
        seen(word)


async def test_a_cron_schedule_keeps_the_origin_of_who_made_it_across_calls_and_restarts(slow_world: World) -> None:
    timed = (await slow_world.start(timed=Timed)).timed.get_or_create("main")
    with under(HOOK):
        await timed.plan("0 * * * *", "tick")
    await slow_world.pass_by(TO_NEXT_HOUR)
    await until(lambda: SEEN == [("tick", HOOK)])
    await slow_world.crash()
    await slow_world.pass_by(HOUR)
    await until(lambda: SEEN == [("tick", HOOK)] * 2)


async def test_a_schedule_that_trusted_code_makes_too_is_its_own(slow_world: World) -> None:
    timed = (await slow_world.start(timed=Timed)).timed.get_or_create("main")
    for origin, expected in ((HTTP, HTTP), ("process", "process"), (HTTP, "process")):
        with under(origin):
            await timed.plan("0 * * * *", "tick")
        SEEN.clear()
        await slow_world.pass_by(TO_NEXT_HOUR if origin == expected == HTTP else HOUR)
        await until(lambda expected=expected: [("tick", expected)] == SEEN)


async def test_an_origin_outlives_a_crash(world: World) -> None:
    relay = (await world.start(relay=Relay)).relay.get_or_create("main")
    await relay.pause("tasks")
    with under(HOOK):
        await relay.send("tasks", 1)
    client = await world.crash()
    await client.relay.get_or_create("main").resume("tasks")
    assert await until_seen(len(PASSED_ON)) == dict.fromkeys(PASSED_ON, HOOK)


async def test_no_option_of_a_send_sets_it(world: World) -> None:
    relay = (await world.start(relay=Relay)).relay.get_or_create("main")
    with pytest.raises(TypeError, match="no option 'origin'"):
        await relay.send("tasks", 1, origin="process")  # type: ignore[call-overload]  # what is tested


@pytest.mark.parametrize(
    ("first", "second", "least"),
    [
        ("process", "socket", "socket"),
        ("socket", "process", "socket"),
        ("socket", "http", "http"),
        ("http", HOOK, HOOK),
        (HOOK, "http", HOOK),
        (HOOK, "webhook:other", HOOK),
        ("http", "of a later version", "of a later version"),
        ("of a later version", "process", "of a later version"),
    ],
)
def test_the_least_trusted_of_two_counts(first: str, second: str, least: str) -> None:
    assert least_trusted(first, second) == least
