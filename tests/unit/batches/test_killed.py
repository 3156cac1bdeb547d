"""Batches and a process that is killed: what had completed is not done again, and nothing is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

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
