"""Batches and a process that is killed: what had completed is not done again, and nothing is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SENDING = """
import asyncio, os, pathlib, signal, sys
from agentq_nb import Actor, Queue, create_client, setup

folder, killed_at = pathlib.Path(sys.argv[1]), int(sys.argv[2])

class Worker(Actor):
    tasks = Queue(int, reply=int)
    async def run(self):
        async for message in self.tasks.iter(completable=True):
            if message.body == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            await message.complete(message.body * 2)
            with open(folder / "ledger", "a") as ledger:     # after the completion is durable
                print(message.body, file=ledger)

async def main():
    async with setup(use={"worker": Worker}, store=folder / "killed.agentq.duckdb") as registry:
        worker = create_client().worker.get_or_create("w")
        batch = await worker.send_many("tasks", range(20), name="twenty")
        print("added", batch.added)
        results = await (await registry.batch("twenty")).results()
        print([result.unwrap() for result in results] == [2 * number for number in range(20)])

asyncio.run(main())
"""


def run(script: str, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, str(folder), *map(str, words)], capture_output=True, text=True, timeout=120
    )


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def test_a_batch_goes_on_after_a_kill_and_repeats_nothing_that_had_completed(tmp_path: Path) -> None:
    killed = run(SENDING, tmp_path, 7)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert lines(tmp_path / "ledger") == [str(number) for number in range(7)]
    again = run(SENDING, tmp_path, -1)
    assert again.stdout.splitlines() == ["added 0", "True"], again.stderr
    assert lines(tmp_path / "ledger") == [str(number) for number in range(20)]


MAPPING = """
import asyncio, os, pathlib, signal, sys
import agentq_nb, pandas

folder, killed_at, concurrency = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

def work(row):
    with open(folder / "ledger", "a") as ledger:             # before anything else
        print(row["number"], file=ledger)
    if row["number"] == killed_at:
        import time
        time.sleep(0.3)                                      # what completed before is durable by now
        os.kill(os.getpid(), signal.SIGKILL)
    return {"double": 2 * row["number"], "number": 0}

async def main():
    frame = pandas.DataFrame({"number": [*range(29), 28], "gap": [None, 1.5] * 15}, index=range(100, 130))
    batch = await agentq_nb.map(work, frame, name="thirty", concurrency=concurrency, store=folder / "map.agentq.duckdb")
    table = await batch.frame()
    assert list(table.index) == list(frame.index)
    assert list(table.columns) == ["number", "gap", "status", "double", "reply_number", "error", "attempts", "seconds"]
    print(table["double"].tolist() == [2 * number for number in frame["number"]], set(table["status"]))

asyncio.run(main())
"""


def test_a_map_that_is_killed_does_nothing_twice_that_had_completed(tmp_path: Path) -> None:
    killed = run(MAPPING, tmp_path, 15, 3)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = lines(tmp_path / "ledger")
    assert len(before) >= 15
    again = run(MAPPING, tmp_path, -1, 2)
    assert again.stdout.splitlines() == ["True {'completed'}"], again.stderr
    assert again.stderr == ""
    starts = lines(tmp_path / "ledger")
    assert set(starts) == {str(number) for number in range(29)}
    repeated = {number for number in before if number in starts[len(before) :]} - {"28"}
    assert "15" in repeated
    assert len(repeated) <= 3  # only what was at work when it was killed
    assert 30 <= len(starts) <= 33


IN_PARTS = """
import asyncio, os, pathlib, signal, sys
from agentq_nb import Actor, Queue, create_client, setup
from agentq_nb._brokers.local import batch_enqueue

folder, killed_after = pathlib.Path(sys.argv[1]), int(sys.argv[2])
batch_enqueue._LARGEST_COMMIT = 4000                         # some 38 rows
arrive, commits = batch_enqueue.Sending._arrive, []

async def counted(sending, entries):
    await arrive(sending, entries)
    commits.append(len(entries))
    if len(commits) == killed_after:
        print(sum(commits), flush=True)
        await asyncio.sleep(0.2)                             # its first rows are handled meanwhile
        os.kill(os.getpid(), signal.SIGKILL)

batch_enqueue.Sending._arrive = counted

class Worker(Actor):
    tasks = Queue(int, reply=int)

    @tasks.handler
    async def work(self, number: int) -> int:
        with open(folder / "ledger", "a") as ledger:         # before anything else
            print(number, file=ledger)
        await asyncio.sleep(0.01)
        return number * 2

async def main():
    async with setup(use={"worker": Worker}, store=folder / "parts.agentq.duckdb") as registry:
        batch = await create_client().worker.get_or_create("w").send_many("tasks", [*range(100), 7], name="parts")
        results = await (await registry.batch("parts")).results()
        right = [result.unwrap() for result in results] == [2 * number for number in [*range(100), 7]]
        print(batch.added, right, batch.progress())

asyncio.run(main())
"""


@pytest.mark.file_only
@pytest.mark.parametrize("commits", [1, 2])
def test_a_batch_killed_between_two_of_its_commits_is_sent_to_its_end_and_done_once(
    tmp_path: Path, commits: int
) -> None:
    killed = run(IN_PARTS, tmp_path, commits)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = lines(tmp_path / "ledger")
    assert before
    again = run(IN_PARTS, tmp_path, -1)
    added, right, progress = again.stdout.split(maxsplit=2)
    assert (right, progress.strip()) == ("True", "101 of 101 done"), again.stderr
    assert int(added) == 101 - int(killed.stdout), "each commit was there whole"
    starts = lines(tmp_path / "ledger")
    expected = sorted([*map(str, range(100)), "7"])
    repeated = sorted(starts)
    for number in expected:
        repeated.remove(number)
    assert repeated in ([], [before[-1]]), "only what was at work when it was killed"


STOPPED = """
import asyncio, os, pathlib, signal, sys
import agentq_nb
from agentq_nb import Actor, Queue, Retry, create_client, setup
from agentq_nb.errors import BatchStopped

folder, how = pathlib.Path(sys.argv[1]), sys.argv[2]

class Worker(Actor):
    tasks = Queue(int, reply=int, stop_after=10, concurrency=3, retry=Retry(attempts=1))

    @tasks.handler
    async def work(self, number: int) -> int:
        with open(folder / "ledger", "a") as ledger:
            print(number, file=ledger)
        if number >= 5 and how == "broken":
            raise KeyError("tex")
        return number

async def main():
    async with setup(use={"worker": Worker}, store=folder / "stopped.agentq.duckdb") as registry:
        worker = create_client().worker.get_or_create("w")
        batch = await worker.send_many("tasks", range(50), name="fifty")
        try:
            await batch
        except BatchStopped as stopped:
            print(stopped.metadata["reason"], batch.progress().failed, flush=True)
        if how == "broken":
            os.kill(os.getpid(), signal.SIGKILL)
        queue = (await worker.status()).queues[0]
        print(queue.stopped, queue.ready, len((folder / "ledger").read_text().split()))
        await batch.resume()
        await batch
        print(await batch.retry_failed(), (await batch).progress())

asyncio.run(main())
"""


def test_a_batch_that_ten_failures_stopped_is_stopped_after_a_kill_until_it_is_resumed(tmp_path: Path) -> None:
    killed = run(STOPPED, tmp_path, "broken")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = lines(tmp_path / "ledger")
    assert 15 <= len(before) <= 17, "what was at work may have begun"
    assert "10 messages in a row failed with the same error: KeyError: 'tex', at " in killed.stdout
    again = run(STOPPED, tmp_path, "corrected")
    reason, stands, ends = again.stdout.splitlines()
    assert reason == killed.stdout.strip()
    assert stands == f"True 35 {len(before)}", "nothing was begun before it was resumed"
    assert ends == "10 50 of 50 done"
    assert sorted(set(lines(tmp_path / "ledger"))) == sorted(map(str, range(50)))
    assert len(lines(tmp_path / "ledger")) == len(before) + 45


SYNC = """
import sys, agentq_nb as aq
batch = aq.map_sync(lambda word: word.upper(), ["a", "b"], name="words", store=sys.argv[1] + "/sync.duckdb")
print([result.response for result in batch], batch.results()[1].response, batch.progress().done, batch.wait() is batch)
print(batch.frame()["reply"].tolist(), batch.retry_failed(), batch.cancel(), batch.resume(), len(batch))
"""


def test_map_works_in_synchronous_code_and_python_c(tmp_path: Path) -> None:
    done = run(SYNC, tmp_path)
    assert done.stdout.splitlines() == ["['A', 'B'] B 2 True", "['A', 'B'] 0 0 False 2"], done.stderr
    assert done.stderr == ""
