"""Words sent elsewhere by a process that is killed, and by the next one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.unit.host.receiver import receiving

PROGRAM = """
import asyncio, os, pathlib, signal, sys
from agentq_nb import Actor, Queue, Retry, create_client, setup

folder, url, kills = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "kill"

class Worker(Actor):
    tasks = Queue(str, retry=Retry(attempts=1))

    @tasks.handler
    async def work(self, text):
        if text == "fail":
            raise ValueError(text)

async def main():
    async with setup(use={"worker": Worker}, store=folder / "killed.agentq.duckdb", notify=url) as registry:
        worker = create_client().worker.get_or_create("w")
        if kills:
            await (await worker.send_many("tasks", ["a"], name="before")).results()
            while not (folder / "told").exists():
                await asyncio.sleep(0.05)
            await asyncio.sleep(2)                          # the mark is in the log
            await (await worker.send("tasks", "fail")).result()
            await (await worker.send_many("tasks", ["a"], name="at the end")).results()
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(6)

asyncio.run(main())
"""


def test_what_happened_before_a_kill_is_told_by_the_next_process_and_nothing_twice(tmp_path: Path) -> None:
    with receiving() as receiver:
        words = [sys.executable, "-c", PROGRAM, str(tmp_path), receiver.url]
        first = subprocess.Popen([*words, "kill"], stderr=subprocess.PIPE)
        receiver.came.wait(60)
        (tmp_path / "told").touch()
        assert first.wait(60) == -signal.SIGKILL, first.stderr and first.stderr.read()
        assert receiver.titles == ["Batch 'before' is done"]
        again = subprocess.run([*words, "go on"], capture_output=True, text=True, timeout=120)
        assert again.returncode == 0, again.stderr
        assert sorted(receiver.titles) == [
            "1 message of worker, queue 'tasks', failed",
            "Batch 'at the end' is done",
            "Batch 'before' is done",
        ]
        if first.stderr is not None:
            first.stderr.close()
