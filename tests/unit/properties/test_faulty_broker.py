"""Programs over a broker that answers late, loses leases and is unavailable: nothing is lost, nothing hangs.

The clock races: it jumps to the next timer whenever nothing else is left to do, so minutes of trouble pass at once.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agentq_nb._actor.actor import Actor, action
from agentq_nb._actor.queue import Queue
from agentq_nb._client.client import Client
from agentq_nb._client.receipt import Receipt, Result
from agentq_nb._policies.retry import Retry
from agentq_nb._store import EventLog
from agentq_nb.errors import AgentqError, LeaseLost, QueueFull, Unavailable
from tests.unit.fake_broker import FakeBroker
from tests.unit.fake_clock import FakeClock
from tests.unit.fake_server import Server
from tests.unit.faults import FaultyNetwork, LateNetwork
from tests.unit.properties.hosts import hosting

ATTEMPTS = 3
MESSAGES = 40
ACTORS = 3
PATIENCE = 30.0


class Task(BaseModel):
    number: int
    failures: int
    """Attempts that fail before one completes."""


class Ledger(BaseModel):
    done: list[int] = []
    noted: list[int] = []


class Clerk(Actor, sleep_timeout=5.0):
    """Settles by itself what it is given, and keeps a book of it."""

    tasks = Queue(Task, reply=int, retry=Retry(attempts=ATTEMPTS, backoff=1.0))
    state: Ledger
    handled: Counter[int]

    async def run(self) -> None:
        async for message in self.tasks.iter(completable=True):
            self.handled[message.body.number] += 1
            self.state.done.append(message.body.number)
            if message.attempt <= message.body.failures:
                raise ValueError("as the task says")
            await message.complete(message.body.number * 2)

    @action
    async def note(self, number: int) -> None:
        self.state.noted.append(number)

    @action
    async def book(self) -> dict[str, Any]:
        return self.state.model_dump()


class PlainClerk(Clerk):
    """Its messages settle when it asks for the next one."""

    tasks = Queue(Task, retry=Retry(attempts=ATTEMPTS, backoff=1.0))

    async def run(self) -> None:
        async for message in self.tasks.iter():
            self.handled[message.body.number] += 1
            self.state.done.append(message.body.number)
            if message.attempt <= message.body.failures:
                raise ValueError("as the task says")


async def insist(attempt: Any) -> Any:
    """Do it again until it is known to be done: what a caller does that meets Unavailable."""
    while True:
        try:
            return await attempt()
        except AgentqError as error:
            if not isinstance(error, (Unavailable, LeaseLost)) and error.full_code != "actor.aborted":
                raise


async def send_all(client: Client, tasks: list[Task]) -> list[Receipt[Any]]:
    async def send(task: Task) -> Receipt[Any]:
        handle = client.clerk.get_or_create([str(task.number % ACTORS)])
        return await insist(lambda: handle.send("tasks", task, idempotency_key=str(task.number)))

    return list(await asyncio.gather(*map(send, tasks)))


async def lose_leases(server: Server, clock: FakeClock, chance: random.Random) -> None:
    """The broker takes leases away at times of its own choosing."""
    while True:
        await clock.sleep(chance.uniform(0.5, 8.0))
        if server.epochs:
            server.end(server.epochs[chance.choice(sorted(server.epochs))], lost=True)


def tasks_of(seed: int) -> list[Task]:
    chance = random.Random(seed)
    return [Task(number=n, failures=chance.choice((0, 0, 0, 1, 2, ATTEMPTS))) for n in range(MESSAGES)]


def expected(task: Task, reply: bool) -> tuple[str, int | None, int]:
    """Status, reply and attempts, as the plain model has it."""
    if task.failures >= ATTEMPTS:
        return ("failed", None, ATTEMPTS)
    return ("completed", task.number * 2 if reply else None, task.failures + 1)


@pytest.fixture
def log(tmp_path: Path) -> Any:
    log = EventLog.open(tmp_path / "host.duckdb")
    yield log
    log.close()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Clerk, PlainClerk])
@pytest.mark.parametrize("rate", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("seed", range(4))
async def test_every_accepted_message_ends_as_the_model_says(
    log: EventLog, kind: type[Clerk], rate: float, seed: int
) -> None:
    clock = FakeClock()
    server = Server(clock)
    network = FaultyNetwork(seed, clock, rate)
    tasks = tasks_of(seed)
    cls = type("Clerk", (kind,), {"handled": Counter[int]()})
    async with (
        clock.racing(),
        asyncio.timeout(PATIENCE),
        hosting(FakeBroker(server, network), log, clock, clerk=cls) as client,
    ):
        trouble = asyncio.create_task(lose_leases(server, clock, random.Random(seed))) if rate else None
        receipts = await send_all(client, tasks)
        assert len({receipt.id for receipt in receipts}) == MESSAGES
        results: list[Result[Any]] = [await insist(receipt.result) for receipt in receipts]
        if trouble is not None:
            trouble.cancel()
        books = [await insist(client.clerk.get_or_create([str(n)]).book) for n in range(ACTORS)]
        states = {actor: server.states[actor] for actor in server.states}
    ended = [(result.status, result.response, result.attempts) for result in results]
    assert ended == [expected(task, reply=kind is Clerk) for task in tasks]
    done = sorted(number for book in books for number in book["done"])
    assert done == [task.number for task in tasks if task.failures < ATTEMPTS]
    for task in tasks:
        assert cls.handled[task.number] >= min(task.failures + 1, ATTEMPTS)
    assert [Ledger.model_validate_json(states[f"clerk/{n}"]).model_dump() for n in range(ACTORS)] == books
    assert not any(message.live for message in server.messages.values())
    if rate >= 0.1:
        assert min(network.calls_lost, network.answers_lost, network.leases_lost) > 0


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(4))
async def test_actions_and_handlers_keep_each_others_changes(log: EventLog, seed: int) -> None:
    """An action whose call returned is in the book; one that raised may be; nothing else is."""
    clock = FakeClock()
    server = Server(clock)
    tasks = tasks_of(seed)
    cls = type("Clerk", (Clerk,), {"handled": Counter[int]()})
    confirmed: list[int] = []
    async with (
        clock.racing(),
        asyncio.timeout(PATIENCE),
        hosting(FakeBroker(server, FaultyNetwork(seed, clock, 0.05)), log, clock, clerk=cls) as client,
    ):
        handle = client.clerk.get_or_create("0")

        async def note(number: int) -> None:
            try:
                await handle.note(number)
                confirmed.append(number)
            except AgentqError:
                await clock.sleep(0.5)

        receipts = [
            await insist(lambda task=task: handle.send("tasks", task, idempotency_key=str(task.number)))
            for task in tasks
        ]
        for number in range(40):
            await note(number)
        for receipt in receipts:
            await insist(receipt.result)
        book = await insist(handle.book)
    assert sorted(book["done"]) == [task.number for task in tasks if task.failures < ATTEMPTS]
    noted = book["noted"]
    assert len(noted) == len(set(noted))
    assert set(confirmed) <= set(noted) <= set(range(40))
    assert confirmed


@pytest.mark.anyio
async def test_a_send_whose_answer_got_lost_is_repeated_with_the_same_id(log: EventLog) -> None:
    clock = FakeClock()
    server = Server(clock)

    class LosesTheFirstAnswers(FaultyNetwork):
        async def call(self, apply: Any) -> Any:
            self.rate = 0.0
            result = await super().call(apply)
            if apply.__qualname__.startswith("FakeBroker.with_room") and self.answers_lost < 3:
                self.answers_lost += 1
                raise Unavailable("The answer got lost.")
            return result

    network = LosesTheFirstAnswers(0, clock, 0.0)
    async with clock.racing(), asyncio.timeout(PATIENCE):
        cls = type("Clerk", (Clerk,), {"handled": Counter[int]()})
        async with hosting(FakeBroker(server, network), log, clock, clerk=cls) as client:
            handle = client.clerk.get_or_create("0")
            result = await handle.send("tasks", Task(number=4, failures=0), wait=True)
            assert (result.status, result.response, result.attempts) == ("completed", 8, 1)
    assert network.answers_lost == 3
    assert len(server.messages) == 1
    assert cls.handled == {4: 1}


@pytest.mark.anyio
async def test_a_keeper_that_stays_unavailable_is_reported_after_a_few_repeats(log: EventLog) -> None:
    clock = FakeClock()
    network = FaultyNetwork(0, clock, 1.0)
    async with clock.racing(), asyncio.timeout(PATIENCE):
        cls = type("Clerk", (Clerk,), {"handled": Counter[int]()})
        async with hosting(FakeBroker(Server(clock), network), log, clock, clerk=cls) as client:
            began = clock.time()
            with pytest.raises(Unavailable):
                await client.clerk.get_or_create("0").send("tasks", Task(number=1, failures=0))
            assert 1.0 < clock.time() - began < 60.0


@pytest.mark.anyio
async def test_a_refusal_is_not_repeated(log: EventLog) -> None:
    clock = FakeClock()
    server = Server(clock)

    class Small(Actor):
        tasks = Queue(int, max_size=1)

    async with (
        clock.racing(),
        asyncio.timeout(PATIENCE),
        hosting(FakeBroker(server), log, clock, small=Small) as client,
    ):
        handle = client.small.get_or_create()
        await handle.send("tasks", 1)
        began = clock.time()
        with pytest.raises(QueueFull):
            await handle.send("tasks", 2)
        assert clock.time() == began


@pytest.mark.anyio
async def test_two_hosts_over_one_server_share_the_actors(log: EventLog) -> None:
    """What one host cannot run, since the other does, is left to the other; when that one dies, it is taken over."""
    clock = FakeClock()
    server = Server(clock)
    cls = type("Clerk", (Clerk,), {"handled": Counter[int]()})
    tasks = [Task(number=n, failures=0) for n in range(12)]
    async with clock.racing(), asyncio.timeout(PATIENCE):
        dying = FakeBroker(server)
        async with hosting(FakeBroker(server), log, clock, clerk=cls) as client:
            async with hosting(dying, log, clock, clerk=cls) as other:
                receipts = await send_all(other, tasks[:6])
                dying.crash()
            receipts += await send_all(client, tasks[6:])
            results = [await insist(client.receipt(receipt.id).result) for receipt in receipts]
            books = [await insist(client.clerk.get_or_create([str(n)]).book) for n in range(ACTORS)]
    assert {result.status for result in results} == {"completed"}
    assert sorted(number for book in books for number in book["done"]) == list(range(12))


class Sharing(Actor):
    """Many receivers of the same queue, and what each of them sees while it holds a message."""

    tasks = Queue(int)
    held: set[int]
    most: list[int]

    @action
    async def take_two(self) -> list[int]:
        return [await self.handle_one(), await self.handle_one()]

    async def handle_one(self) -> int:
        message = await self.queue.next()
        assert message is not None
        self.held.add(message.body)
        for _ in range(5):
            await asyncio.sleep(0)
            self.most.append(len(self.held))
        self.held.discard(message.body)
        return message.body


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(8))
async def test_one_message_is_held_at_a_time_however_late_the_keeper_answers(log: EventLog, seed: int) -> None:
    clock = FakeClock()
    cls = type("Sharing", (Sharing,), {"held": set[int](), "most": list[int]()})
    broker = FakeBroker(Server(clock), LateNetwork(seed))
    async with asyncio.timeout(PATIENCE), hosting(broker, log, clock, sharing=cls) as client:
        handle = client.sharing.get_or_create("a")
        takes = [asyncio.ensure_future(handle.take_two()) for _ in range(6)]
        await asyncio.gather(*(handle.send("tasks", number) for number in range(12)))
        taken = [number for pair in await asyncio.gather(*takes) for number in pair]
        assert sorted(taken) == list(range(12))
        assert set(cls.most) == {1}
