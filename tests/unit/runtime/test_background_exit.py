"""The process ends while a host in a thread of its own is at work: nothing hangs, is lost, or counts as an attempt."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest

PROGRAM = """
import asyncio, sys, threading, time
from agentq_nb import Actor, Queue, Retry, create_client, setup

sent, inside = threading.Event(), threading.Event()

class Worker(Actor):
    tasks = Queue(str, retry=Retry(attempts=1))

    async def run(self):
        async for message in self.queue.iter(completable=True):
            while not sent.is_set():
                await asyncio.sleep(0.01)
            if message.body == "work":
                inside.set()
                WORK
            await message.complete()

registry = setup(use={"worker": Worker}, store="exit.duckdb", background=True)
registry.run(registry.start())
worker = create_client().worker.get_or_create("main")
for body in BODIES:
    receipt = registry.run(worker.send("tasks", body))
sent.set()
END
"""

IN_WORKER_THREADS = """
                long = asyncio.create_task(asyncio.to_thread(time.sleep, 1))  # which Python waits for first
                while True:
                    await asyncio.to_thread(time.sleep, 0.001)
"""


def run(
    folder: Path, work: str, end: str, bodies: tuple[str, ...] = ("work", "next")
) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("WORK", work).replace("END", end).replace("BODIES", repr(bodies))
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def kinds(folder: Path) -> Counter[str]:
    """How often each kind of event is in the file, read as another program would."""
    with duckdb.connect(str(folder / "exit.duckdb"), read_only=True) as file:
        rows: list[tuple[Any, ...]] = file.execute("select kind from events order by seq").fetchall()
    return Counter(kind for (kind,) in rows)


@pytest.mark.file_only
@pytest.mark.parametrize(
    "work",
    [
        "await asyncio.sleep(3600)",
        "time.sleep(3600)  # blocks the host's loop",
        IN_WORKER_THREADS,
        "await self.in_thread(time.sleep, 3600)",
    ],
    ids=["waiting", "blocking", "in worker threads", "in one long thread"],
)
def test_what_is_in_flight_at_the_end_is_put_back_uncounted(tmp_path: Path, work: str) -> None:
    ended = run(tmp_path, work, "inside.wait(30); time.sleep(0.2)")
    assert ended.returncode == 0, ended.stderr
    found = kinds(tmp_path)
    assert (found["message.released"], found["host.stopped"]) == (1, 1)
    assert not found.keys() & {"message.failed", "message.retried", "message.crashed", "message.completed"}
    again = run(tmp_path, "pass", "print(registry.run(receipt.result(30)).attempts)", bodies=("last",))
    assert again.stdout.split() == ["1"], again.stderr
    assert kinds(tmp_path)["message.completed"] == 3


@pytest.mark.parametrize("end", ["raise RuntimeError('the script fails')", "sys.exit(3)"])
def test_a_script_that_ends_badly_closes_the_file_all_the_same(tmp_path: Path, end: str) -> None:
    ended = run(tmp_path, "pass", f"registry.run(receipt.result(30)); {end}")
    assert ended.returncode in (1, 3)
    assert kinds(tmp_path)["host.stopped"] == 1


def test_after_a_stop_nothing_is_left_that_would_hold_up_the_end(tmp_path: Path) -> None:
    end = (
        "registry.run(receipt.result(30)); registry.run(registry.stop())\n"
        "while threading.active_count() > 1: time.sleep(0.01)\n"
        "print('alone')"
    )
    ended = run(tmp_path, "pass", end)
    assert (ended.returncode, ended.stdout.split()) == (0, ["alone"]), ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_child_that_is_forked_after_a_stop_closes_nothing_twice(tmp_path: Path) -> None:
    end = (
        "registry.run(receipt.result(30)); registry.run(registry.stop())\n"
        "import os; files = [open('exit.duckdb.guard') for _ in range(9)]; child = os.fork()\n"
        "if child == 0: print(len([file.read(1) for file in files])); sys.exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    ended = run(tmp_path, "pass", end)
    assert (ended.returncode, ended.stdout.split(), ended.stderr) == (0, ["9"], "")


def test_a_forked_child_that_ends_does_not_end_its_parents_host(tmp_path: Path) -> None:
    end = (
        "import os; child = os.fork()\n"
        "if child == 0: sys.exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "print(registry.run(worker.send('tasks', 'after', wait=True)).status)"
    )
    ended = run(tmp_path, "pass", end)
    assert (ended.returncode, ended.stdout.split()) == (0, ["completed"]), ended.stderr
    assert kinds(tmp_path)["host.stopped"] == 1
