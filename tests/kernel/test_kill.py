"""``kill -9`` of a real kernel: under load at random moments, by its own messages, and orderly restarts beside it.

``AGENTQ_KILLS`` and ``AGENTQ_KILL_SEED`` set how many random kills there are, and repeat a choice of moments.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.kernel.accounts import Accounts, doubtful, read_journals
from tests.kernel.conftest import IN_BOTH_PLACES
from tests.kernel.driving import CellResult, Kernel, KernelDied
from tests.kernel.killing import read_journal

KILLS = int(os.environ.get("AGENTQ_KILLS", "40"))


def wait_for_fact(folder: Path, life: int, fact: str, cell: CellResult) -> None:
    """Until the journal of this life tells of the fact."""
    deadline = time.monotonic() + 60
    while not any(found["fact"] == fact for found in read_journal(folder, life)):
        assert time.monotonic() < deadline, f"no {fact} in life {life}: {cell.traceback}"
        time.sleep(0.005)


def kill_under_load(kernel: Kernel, life: int, chance: random.Random) -> threading.Timer:
    """Put the kernel under load; the timer kills it, now and then while it still takes up what the last kill left.

    Every second host lives in the background.
    """
    left = doubtful(read_journals(kernel.cwd))
    in_background = life % 2 == 1
    cell = kernel.submit(f"await killing.begin({str(kernel.cwd)!r}, {life}, {left!r}, {in_background})")
    early = chance.random() < 0.25
    wait_for_fact(kernel.cwd, life, "opening" if early else "loading", cell)
    seconds = chance.uniform(0, 0.2) if early else chance.uniform(0.05, 1.5)
    timer = threading.Timer(seconds, os.kill, (kernel.pid, signal.SIGKILL))
    timer.start()
    return timer


@pytest.mark.timeout(900)
def test_random_kills_under_load_lose_nothing_and_repeat_only_what_was_in_flight(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("AGENTQ_KILL_SEED", random.randrange(2**32)))
    chance = random.Random(seed)
    with contextlib.ExitStack() as kernels:

        def begin() -> Kernel:
            kernel = kernels.enter_context(Kernel(tmp_path))
            kernel.run("from tests.kernel import killing").check()
            return kernel

        kernel = begin()
        for life in range(KILLS):
            timer = kill_under_load(kernel, life, chance)
            following = begin()  # beside the load: it saves the time, and adds to the load
            timer.join()
            while kernel.alive:
                time.sleep(0.01)
            kernel = following
        kernel.run(f"await killing.finish({str(tmp_path)!r}, {KILLS})", timeout=300).check()

    accounts = Accounts.of(tmp_path)
    with capsys.disabled():
        # A worker's stdout is not shown.
        print(f"\n{accounts.summary(KILLS)} (AGENTQ_KILL_SEED={seed})", file=sys.stderr)
    assert accounts.wrong == []
    assert accounts.lost == 0
    assert accounts.repeats > 0
    assert len(accounts.acknowledged) > KILLS


SETUP = """
from agentq_nb import create_client, setup
registry = setup(use={"worker": Worker})
await registry.start()
worker = create_client().worker.get_or_create("main")
"""

KILLING = """
import asyncio, os
from agentq_nb import Actor, Queue, Retry

class Worker(Actor):
    jobs = Queue(str, retry=Retry(crashes=3))

    async def run(self):
        RUN
"""

NOTHING = KILLING.replace("RUN", "return")
"""Takes no message: what is sent to it waits for better code."""

ONE_AFTER_THE_OTHER = KILLING.replace(
    "RUN",
    """async for message in self.queue.iter():
            if message.body == "kill":
                os.kill(os.getpid(), 9)""",
)

AFTER_AN_ORDINARY_ONE = KILLING.replace("jobs =", "ordinary = Queue(str)\n    jobs =").replace(
    "RUN",
    """while True:
            await self.queue.next(["ordinary"])
            message = await self.queue.next(["jobs"])
            if message.body == "kill":
                os.kill(os.getpid(), 9)""",
)

COUNT = "select kind, count(*) from events where message_id is not null group by kind"


def send_while_nobody_works(kernel: Kernel, worker: str, bodies: list[str]) -> list[str]:
    """Put messages into the queue of a worker that takes none yet, and restart the kernel. Their ids."""
    kernel.run(worker).check()
    kernel.run(SETUP).check()
    sent = kernel.value(f"[(await worker.send('jobs', body)).id for body in {bodies!r}]")
    kernel.restart()
    return list(sent)


def deaths_while_running(kernel: Kernel, *cells: str) -> int:
    """Run the cells in one kernel after the other until one lives to the end of the last; how many died."""
    deaths = 0
    while True:
        try:
            for code in cells:
                kernel.run(code).check()
        except KernelDied:
            deaths += 1
            assert deaths < 10, "the kernel is killed for ever"
            kernel.restart()
        else:
            return deaths


def settled(message: str) -> str:
    """A cell that waits for the message."""
    return f"await create_client().receipt({message!r}).result()"


def results_of(kernel: Kernel, messages: list[str]) -> list[tuple[str, str | None]]:
    """Status and error code of each message."""
    kernel.run(f"results = [await create_client().receipt(id).result(60) for id in {messages!r}]").check()
    return [
        (status, code) for status, code in kernel.value("[(r.status, r.error and r.error['code']) for r in results]")
    ]


@IN_BOTH_PLACES
def test_a_message_that_kills_the_kernel_each_time_becomes_a_dead_letter(kernel: Kernel) -> None:
    """Its very first start may be lost with the kernel, and is not counted then: one death more than ``crashes``."""
    sent = send_while_nobody_works(kernel, NOTHING, ["before", "kill", "after", "after that"])
    assert deaths_while_running(kernel, ONE_AFTER_THE_OTHER, SETUP, settled(sent[-1])) in (3, 4)
    assert results_of(kernel, sent) == [("completed", None), ("failed", "crashed"), *[("completed", None)] * 2]
    assert dict(kernel.value(f"(await registry.sql({COUNT!r})).rows"))["message.crashed"] >= 3


@IN_BOTH_PLACES
def test_a_message_that_kills_right_after_another_was_settled_becomes_a_dead_letter(kernel: Kernel) -> None:
    """Two deaths more at most: one that took the start with it, and one where another message may have been started."""
    nothing = AFTER_AN_ORDINARY_ONE.replace("while True:", "while False:")
    sent = send_while_nobody_works(kernel, nothing, ["kill", "after"])
    ordinary = "for body in ('first', 'second'):\n    await worker.send('ordinary', body)"
    cells = [AFTER_AN_ORDINARY_ONE, SETUP, ordinary, settled(sent[-1])]
    assert deaths_while_running(kernel, *cells) in (3, 4, 5)
    assert results_of(kernel, sent) == [("failed", "crashed"), ("completed", None)]
    innocent = "select count(*) from messages where queue = 'ordinary' and status = 'failed'"
    assert kernel.value(f"(await registry.sql({innocent!r})).rows") == [[0]]


TWO_WORKERS = """
import asyncio, os
from agentq_nb import Actor, Queue, Retry, create_client, setup

class Worker(Actor):
    jobs = Queue(str, retry=Retry(crashes=2))

    async def run(self):
        async for message in self.queue.iter():
            KILL

class Neighbour(Actor):
    jobs = Queue(str, reply=int, retry=Retry(crashes=1))

    async def run(self):
        async for message in self.queue.iter(completable=True):
            WORK

registry = setup(use={"worker": Worker, "neighbour": Neighbour})
await registry.start()
worker = create_client().worker.get_or_create("main")
neighbours = [create_client().neighbour.get_or_create(name) for name in "abc"]
"""


def two_workers(kill: str, work: str) -> str:
    return TWO_WORKERS.replace("KILL", kill).replace("WORK", work)


@IN_BOTH_PLACES
def test_a_message_that_kills_beside_others_becomes_a_dead_letter_and_the_others_do_not(kernel: Kernel) -> None:
    """One crash would be enough for the others: none is counted for them."""
    kernel.run(two_workers("await asyncio.sleep(3600)", "await asyncio.sleep(3600)")).check()
    sent = kernel.value("[(await n.send('jobs', 'slow')).id for n in neighbours]")
    sent += kernel.value("[(await worker.send('jobs', body)).id for body in ('kill', 'kill', 'after')]")
    while kernel.value(f"[await create_client().receipt(id).status() for id in {sent[:4]!r}]") != ["running"] * 4:
        kernel.listen(0.05)
    os.kill(kernel.pid, signal.SIGKILL)
    while kernel.alive:
        time.sleep(0.01)
    kernel.restart()
    code = two_workers(
        "if message.body == 'kill': os.kill(os.getpid(), 9)",
        "await asyncio.sleep(0.5); await message.complete(message.attempt)",
    )
    wait = f"[await create_client().receipt(id).result() for id in {sent!r}]"
    assert deaths_while_running(kernel, code, wait) <= 6
    assert results_of(kernel, sent) == [*[("completed", None)] * 3, *[("failed", "crashed")] * 2, ("completed", None)]


ASKING = """
import asyncio, os
from agentq_nb import Actor, Queue, Retry, create_client, setup

class Answerer(Actor):
    questions = Queue(str, reply=str, retry=Retry(crashes=2))

    async def run(self):
        async for message in self.queue.iter(completable=True):
            await asyncio.sleep(0.2)  # the question is in flight, and so is whoever asked it
            if message.body == "1":
                os.kill(os.getpid(), 9)
            await message.complete("because")

class Asker(Actor):
    jobs = Queue(str, retry=Retry(crashes=2))

    async def run(self):
        async for message in self.queue.iter():
            answerer = self.actors.answerer.get_or_create("main")
            await answerer.send("questions", str(message.attempt), wait=True)

registry = setup(use={"asker": Asker, "answerer": Answerer})
await registry.start()
asker = create_client().asker.get_or_create("main")
"""


@IN_BOTH_PLACES
def test_a_question_that_kills_becomes_a_dead_letter_and_whoever_asked_it_gets_the_answer(kernel: Kernel) -> None:
    ask = "result = await asker.send('jobs', 'why', idempotency_key='why', wait=True)"
    assert deaths_while_running(kernel, ASKING, ask) <= 5
    found = "select queue, status, error->>'$.code' from messages order by queue, message_id"
    assert kernel.value("result.status") == "completed"
    rows = kernel.value(f"[list(row) for row in (await registry.sql({found!r})).rows]")
    assert rows == [["jobs", "completed", None], ["questions", "failed", "crashed"], ["questions", "completed", None]]


DYING = """
import asyncio, os
from agentq_nb import Actor, action

class Worker(Actor):
    @action
    async def plan(self):
        await self.schedule.after(0, "die")

    @action
    async def die(self):
        os.kill(os.getpid(), 9)
"""


@IN_BOTH_PLACES
def test_a_scheduled_call_that_kills_the_kernel_each_time_becomes_a_dead_letter(kernel: Kernel) -> None:
    with contextlib.suppress(KernelDied):
        for cell in (DYING, SETUP, "await worker.plan()", "await asyncio.sleep(60)"):
            kernel.run(cell).check()
    kernel.restart()
    dead = """
while not (found := await registry.sql("select data->>'$.error.code' from events where kind = 'message.failed'")).rows:
    await asyncio.sleep(0.05)
"""
    assert 1 + deaths_while_running(kernel, DYING, SETUP, dead) in (5, 6)
    assert kernel.value("[list(row) for row in found.rows]") == [["crashed"]]


SLOW = KILLING.replace("Queue(str,", "Queue(str, reply=int,").replace(
    "RUN",
    """async for message in self.queue.iter(completable=True):
            await asyncio.sleep(SECONDS)
            await message.complete(message.attempt)""",
)


@pytest.mark.parametrize(("restarts", "background"), [(1, False), (1, True), (4, True)], indirect=["background"])
def test_an_orderly_restart_puts_back_what_is_in_flight_and_counts_nothing(kernel: Kernel, restarts: int) -> None:
    kernel.run(SLOW.replace("SECONDS", "3600")).check()
    kernel.run(SETUP).check()
    sent = kernel.value("[(await worker.send('jobs', body)).id for body in ('first', 'second')]")
    for left in reversed(range(restarts)):
        while kernel.value(f"await create_client().receipt({sent[0]!r}).status()") != "running":
            kernel.listen(0.05)
        kernel.restart()
        kernel.run(SLOW.replace("SECONDS", "3600" if left else "0")).check()
        kernel.run(SETUP).check()
    kernel.run(f"results = [await create_client().receipt(id).result(60) for id in {sent!r}]").check()
    assert kernel.value("[(r.status, r.response) for r in results]") == [["completed", 1], ["completed", 1]]
    counts = dict(kernel.value(f"(await registry.sql({COUNT!r})).rows"))
    assert counts["message.released"] == restarts
    assert "message.crashed" not in counts
