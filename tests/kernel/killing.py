"""The load of the kill tests: runs inside a kernel and writes down, in a journal that outlives it, what was promised.

Eight actors are busy at once. Each fact goes to the journal by one ``os.write``, which a kill does not take back:
before something is asked for (``sending``, ``acting``, ``completing``) and after it was acknowledged (``sent``,
``acted``, ``completed``), and when a handler begins (``began``).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from agentq_nb import Actor, Message, Queue, Registry, Result, Retry, action, create_client, setup
from agentq_nb._client.handle import ActorHandle

STORE = "load.duckdb"
RESULTS = "results.json"
PATIENT = Retry(attempts=1000, crashes=1000, backoff=0.005)
"""No message of the load becomes a dead letter by bad luck: what is counted is what is settled."""


Fact = dict[str, Any]


def journal_path(folder: Path, life: int) -> Path:
    return folder / f"journal-{life:03}.jsonl"


def read_journal(folder: Path, life: int) -> list[Fact]:
    """The facts of one life. A kill may cut the last line short: that fact was never told to anybody."""
    path = journal_path(folder, life)
    *whole, _cut = path.read_bytes().split(b"\n") if path.exists() else [b""]
    return [json.loads(line) for line in whole]


class Journal:
    """Facts as JSON lines, one file for each life of the kernel."""

    def __init__(self, folder: Path, life: int) -> None:
        self._file = os.open(journal_path(folder, life), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, fact: str, **values: Any) -> None:
        """Append one fact. It is in the page cache when this returns, where a kill does not reach it."""
        os.write(self._file, json.dumps({"fact": fact, **values}).encode() + b"\n")


class Account(BaseModel):
    """A set of numbers, told by its size and its sum."""

    count: int = 0
    total: int = 0

    def add(self, number: int) -> None:
        self.count += 1
        self.total += number


class Ledger(BaseModel):
    """The state of the load's actors: each field is changed by one kind of work only."""

    handled: Account = Account()
    answered: Account = Account()
    acted: dict[str, Account] = {}
    """By the kernel's life, so that what a kill left open can be told for each kill by itself."""


class Job(BaseModel):
    number: int


def answer_to(number: int) -> str:
    """The reply that the load's handlers give."""
    return f"answer to {number}"


def is_refused(number: int) -> bool:
    """Whether the handler fails this message for good."""
    return number % 11 == 2


class Busy(Actor, sleep_timeout=None):
    """What all actors of the load have."""

    handle = Queue(Job, retry=PATIENT)
    answer = Queue(Job, reply=str, retry=PATIENT)
    state: Ledger

    @action
    async def ledger(self) -> dict[str, Any]:
        """The state as actions see it."""
        return self.state.model_dump()

    @action
    async def act(self, life: int, number: int) -> None:
        """Change a field that no message changes."""
        await asyncio.sleep(0.002 * (number % 3))
        self.state.acted.setdefault(str(life), Account()).add(number)
        await asyncio.sleep(0.002 * (number % 2))

    async def handle_jobs(self) -> None:
        async for message in self.queue.iter(["handle"]):
            await self._begin(message)
            self.state.handled.add(message.body.number)
            await self._work(message)

    async def answer_jobs(self) -> None:
        async for message in self.queue.iter(["answer"], completable=True):
            await self._begin(message)
            number = message.body.number
            self.state.answered.add(number)
            await self._work(message)
            if is_refused(number):
                await message.fail(f"{number} is refused")
            elif number % 7 == 1 and message.attempt == 1:
                await message.retry(after=0.003)
                continue
            else:
                self._note("completing", message)
                await message.complete(answer_to(number))
            self._note("completed", message)

    async def _begin(self, message: Message[Job, Any]) -> None:
        self._note("began", message, attempt=message.attempt)

    async def _work(self, message: Message[Job, Any]) -> None:
        number = message.body.number
        await asyncio.sleep(0.001 * (number % 5) if number % 5 else 0)
        if number % 13 == 3 and message.attempt == 1:
            raise RuntimeError(f"{number} fails at its first attempt")

    def _note(self, fact: str, message: Message[Job, Any], **values: Any) -> None:
        load().journal.note(
            fact, actor=self.actor_id, queue=message.queue, id=message.id, number=message.body.number, **values
        )


class Handling(Busy, sleep_timeout=None):
    """Takes plain messages: settled when the next one is asked for."""

    async def run(self) -> None:
        await self.handle_jobs()


class Answering(Busy, sleep_timeout=None):
    """Completes each message itself."""

    async def run(self) -> None:
        await self.answer_jobs()


class Both(Busy, sleep_timeout=None):
    """Takes from both queues side by side."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.handle_jobs())
            tasks.create_task(self.answer_jobs())


CLASSES: dict[str, type[Actor]] = {"handling": Handling, "answering": Answering, "both": Both}
QUEUES = {"handling": ["handle"], "answering": ["answer"], "both": ["handle", "answer"]}
ACTORS = [("handling", "a"), ("handling", "b"), ("handling", "c"), ("answering", "a"), ("answering", "b")]
ACTORS += [("answering", "c"), ("both", "a"), ("both", "b")]


class Load:
    """Senders and callers of one life of the kernel."""

    def __init__(self, folder: Path, life: int) -> None:
        self.journal = Journal(folder, life)
        self.life = life
        self._random = random.Random(os.urandom(8))
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, doubtful: Sequence[tuple[str, str, str, int]]) -> None:
        """Start everything. ``doubtful``: actor, key, queue and number of earlier sends that were not acknowledged."""
        client = create_client()
        for actor, key in ACTORS:
            handle = client.actor(actor).get_or_create([key])
            for queue in QUEUES[actor]:
                again = [number for name, part, place, number in doubtful if (name, part, place) == (actor, key, queue)]
                self._start(self._send_with_keys(handle, queue, again))
                self._start(self._send_in_bursts(handle, queue))
            if "answer" in QUEUES[actor]:
                self._start(self._ask(handle))
            self._start(self._call(handle))
            self._start(self._call(handle))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(work))

    def _number(self) -> int:
        return self._random.getrandbits(48)

    async def _pause(self) -> None:
        await asyncio.sleep(self._random.choice([0, 0.01, 0.05, 0.1]))

    async def _send_with_keys(self, handle: ActorHandle, queue: str, again: Sequence[int]) -> None:
        """What an earlier life does not know to have sent is sent again: the key sees to it that it is there once."""
        for number in again:
            await self._send(handle, queue, number, keyed=True)
        while True:
            await self._send(handle, queue, self._number(), keyed=True)
            await self._pause()

    async def _send_in_bursts(self, handle: ActorHandle, queue: str) -> None:
        while True:
            size = self._random.choice([1, 2, 5])
            await asyncio.gather(*(self._send(handle, queue, self._number()) for _ in range(size)))
            await self._pause()

    async def _send(self, handle: ActorHandle, queue: str, number: int, *, keyed: bool = False) -> None:
        where = {"actor": handle.actor_id, "queue": queue, "number": number}
        self.journal.note("sending", keyed=keyed, **where)
        receipt = await handle.send(queue, {"number": number}, idempotency_key=str(number) if keyed else None)
        self.journal.note("sent", id=receipt.id, **where)

    async def _ask(self, handle: ActorHandle) -> None:
        while True:
            number = self._number()
            self.journal.note("sending", keyed=False, actor=handle.actor_id, queue="answer", number=number)
            result = await handle.send("answer", {"number": number}, wait=True)
            self.journal.note("answered", id=result.message_id, number=number, **told(result))

    async def _call(self, handle: ActorHandle) -> None:
        while True:
            number = self._number()
            self.journal.note("acting", actor=handle.actor_id, number=number)
            await handle.act(self.life, number)
            self.journal.note("acted", actor=handle.actor_id, number=number)
            await self._pause()


def told(result: Result[Any]) -> dict[str, Any]:
    """A result as the journal has it."""
    return {"status": result.status, "response": result.response}


_load: Load | None = None


def load() -> Load:
    """The load of this kernel."""
    assert _load is not None, "no load has begun in this kernel"
    return _load


async def _open(folder: Path, background: bool = False) -> Registry:
    return await setup(use=CLASSES, store=folder / STORE, background=background).start()


async def begin(folder: str, life: int, doubtful: Sequence[tuple[str, str, str, int]], background: bool) -> None:
    """Open the file and put it under load: work of earlier lives comes again while new work is sent."""
    global _load
    _load = Load(Path(folder), life)
    load().journal.note("opening", pid=os.getpid())
    await _open(Path(folder), background)
    load().journal.note("loading")
    load().begin(doubtful)


async def finish(folder: str, life: int) -> None:
    """Send nothing more, wait for all, and write down what the receipts tell and the states are. Closes the file."""
    global _load
    _load = Load(Path(folder), life)
    load().journal.note("opening", pid=os.getpid())
    registry = await _open(Path(folder))
    client = create_client()
    known = [row[0] for row in (await registry.sql("select message_id from messages")).rows]
    results = {message: told(await client.receipt(message).result(timeout=120)) for message in known}
    states = {f"{actor}/{key}": await client.actor(actor).get_or_create([key]).ledger() for actor, key in ACTORS}
    await registry.stop()
    Path(folder, RESULTS).write_text(json.dumps({"results": results, "states": states}))
