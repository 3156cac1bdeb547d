"""``kill -9`` of a real kernel while handlers work: what was in flight comes again, and only the guilty one ends as dead.

A ledger outside of the store says what each handler did: it writes there first.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.kernel.conftest import IN_BOTH_PLACES
from tests.kernel.driving import Kernel
from tests.kernel.test_kill import COUNT, deaths_while_running, results_of

CELL = """
import asyncio, os, time
from agentq_nb import Actor, Queue, Retry, create_client, setup
from pydantic import BaseModel

def note(*words):
    with open("ledger.txt", "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")

class Book(BaseModel):
    done: list[str] = []

class Worker(Actor):
    jobs = Queue(str, reply=int, concurrency=CONCURRENCY, retry=Retry(crashes=2))
    state: Book

    @jobs.handler
    KIND work(self, body, message):
        note("began", body, message.attempt)
        WORK
        return message.attempt

registry = setup(use={"worker": Worker})
await registry.start()
worker = create_client().worker.get_or_create("main")
"""

KINDS = pytest.mark.parametrize("kind", ["async def", "def"])


def cell(kind: str, work: str, concurrency: int = 3) -> str:
    return CELL.replace("KIND", kind).replace("WORK", work).replace("CONCURRENCY", str(concurrency))


def waits(kind: str) -> str:
    """A line that waits for an hour."""
    return "await asyncio.sleep(3600)" if kind == "async def" else "time.sleep(3600)"


def ledger(folder: Path) -> list[list[str]]:
    path = folder / "ledger.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def send(kernel: Kernel, bodies: list[str]) -> list[str]:
    return list(kernel.value(f"[(await worker.send('jobs', body, idempotency_key=body)).id for body in {bodies!r}]"))


def until_at_work(kernel: Kernel, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(ledger(kernel.cwd)) < count:
        assert time.monotonic() < deadline
        kernel.listen(0.02)


def kill(kernel: Kernel) -> None:
    os.kill(kernel.pid, signal.SIGKILL)
    while kernel.alive:
        time.sleep(0.01)
    kernel.restart()


@KINDS
@IN_BOTH_PLACES
def test_what_was_in_flight_comes_again_first_and_what_was_done_does_not(kernel: Kernel, kind: str) -> None:
    work = f"if body != 'quick' and message.attempt == 1: {waits(kind)}"
    kernel.run(cell(kind, work)).check()
    quick = send(kernel, ["quick"])
    assert results_of(kernel, quick) == [("completed", None)]
    sent = send(kernel, ["a", "b", "c", "d"])
    until_at_work(kernel, 4)
    kill(kernel)
    kernel.run(cell(kind, "pass", concurrency=2)).check()
    assert send(kernel, ["quick", "a", "b", "c", "d"]) == [*quick, *sent]
    assert results_of(kernel, [*quick, *sent]) == [("completed", None)] * 5
    begun = Counter((words[1], int(words[2])) for words in ledger(kernel.cwd))
    assert begun == Counter([("quick", 1), ("a", 1), ("b", 1), ("c", 1), ("a", 2), ("b", 2), ("c", 2), ("d", 1)])
    assert ledger(kernel.cwd)[-1][1:] == ["d", "1"]
    assert dict(kernel.value(f"(await registry.sql({COUNT!r})).rows"))["message.crashed"] == 3


@KINDS
@IN_BOTH_PLACES
def test_one_of_several_at_work_that_kills_becomes_a_dead_letter_and_the_others_do_not(
    kernel: Kernel, kind: str
) -> None:
    kernel.run(cell(kind, waits(kind))).check()
    sent = send(kernel, ["a", "kill", "b", "after"])
    until_at_work(kernel, 3)
    kill(kernel)
    pause = "await asyncio.sleep(0.3)" if kind == "async def" else "time.sleep(0.3)"
    work = f"{pause}; body == 'kill' and os.kill(os.getpid(), 9); note('ended', body)"
    wait = f"[await create_client().receipt(id).result() for id in {sent!r}]"
    assert deaths_while_running(kernel, cell(kind, work), wait) <= 4
    assert results_of(kernel, sent) == [("completed", None), ("failed", "crashed"), *[("completed", None)] * 2]
    ended = Counter(words[1] for words in ledger(kernel.cwd) if words[0] == "ended")
    assert ended == Counter(["a", "b", "after"])


@KINDS
def test_suspects_run_one_at_a_time_until_each_has_settled(kernel: Kernel, kind: str) -> None:
    kernel.run(cell(kind, waits(kind))).check()
    sent = send(kernel, ["a", "b", "c", "d", "e"])
    until_at_work(kernel, 3)
    kill(kernel)
    (kernel.cwd / "ledger.txt").unlink()
    pause = "await asyncio.sleep(0.2)" if kind == "async def" else "time.sleep(0.2)"
    kernel.run(cell(kind, f"{pause}; note('ended', body)")).check()
    assert results_of(kernel, sent) == [("completed", None)] * 5
    words = [(line[0], line[1]) for line in ledger(kernel.cwd)]
    for place in range(0, 6, 2):
        assert words[place][0] == "began"
        assert words[place + 1] == ("ended", words[place][1])
    assert {body for _, body in words[:6]} == {"a", "b", "c"}


@IN_BOTH_PLACES
def test_a_reply_and_an_update_of_the_state_survive_a_kill_together(kernel: Kernel) -> None:
    work = "await message.complete(len(body), update=lambda book: book.done.append(body)); note('done', body); return"
    kernel.run(cell("async def", work)).check()
    kernel.run(
        "sending = asyncio.gather(*(worker.send('jobs', f'job-{n}', idempotency_key=f'job-{n}') for n in range(300)))"
    ).check()
    until_at_work(kernel, 200)
    kill(kernel)
    kernel.run(cell("async def", work)).check()
    sent = send(kernel, [f"job-{number}" for number in range(300)])
    assert {status for status, _ in results_of(kernel, sent)} == {"completed"}
    kernel.run(
        """
from agentq_nb import action
class Reader(Worker):
    @action
    async def book(self):
        return self.state.done
await registry.deploy("worker", Reader)
"""
    ).check()
    book = kernel.value("await worker.book()")
    assert sorted(book) == sorted(f"job-{number}" for number in range(300))
    told = Counter(words[1] for words in ledger(kernel.cwd) if words[0] == "done")
    begun = Counter(words[1] for words in ledger(kernel.cwd) if words[0] == "began")
    assert set(begun) == set(book)
    assert max(told.values()) == 1


@IN_BOTH_PLACES
def test_an_orderly_restart_puts_back_all_at_work_and_counts_nothing(kernel: Kernel) -> None:
    kernel.run(cell("async def", waits("async def"))).check()
    sent = send(kernel, ["a", "b", "c", "d"])
    until_at_work(kernel, 3)
    kernel.restart()
    kernel.run(cell("async def", "pass")).check()
    kernel.run(f"results = [await create_client().receipt(id).result(60) for id in {sent!r}]").check()
    assert kernel.value("[(r.status, r.response) for r in results]") == [["completed", 1]] * 4
    counts = dict(kernel.value(f"(await registry.sql({COUNT!r})).rows"))
    assert counts["message.released"] == 3
    assert "message.crashed" not in counts


@IN_BOTH_PLACES
def test_a_shutdown_does_not_hang_on_the_thread_of_a_handler(kernel: Kernel) -> None:
    kernel.run(cell("def", waits("def"))).check()
    sent = send(kernel, ["a"])
    until_at_work(kernel, 1)
    began = time.monotonic()
    kernel.run("await registry.stop()", timeout=60).check()
    kernel.restart()
    assert time.monotonic() - began < 40
    kernel.run(cell("def", "pass")).check()
    assert results_of(kernel, sent) == [("completed", None)]


def test_running_the_cell_again_deploys_new_handlers(kernel: Kernel) -> None:
    kernel.run("%load_ext agentq_nb").check()
    code = cell("async def", "await asyncio.sleep(0.05); note('old', body)").partition("registry = ")[0]
    kernel.run(code).check()
    kernel.run("%agentq start").check()
    kernel.run("from agentq_nb import create_client\nworker = create_client().worker.get_or_create('main')").check()
    first = send(kernel, [f"old-{number}" for number in range(6)])
    kernel.run(code.replace("note('old', body)", "note('new', body)")).check()
    second = send(kernel, ["new-1"])
    assert results_of(kernel, [*first, *second]) == [("completed", None)] * 7
    by = {words[1]: words[0] for words in ledger(kernel.cwd) if words[0] in ("old", "new")}
    assert by["new-1"] == "new"
    assert by["old-0"] == "old"
    assert len(by) == 7
