"""Failures announce themselves in scripts: the first ones of a kind, then every tenfold, never five hundred lines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agentq_nb._actor.failure_record import Failures, new_failures
from agentq_nb._core.ids import ActorId, MessageId

ACTOR = ActorId("runner/main")

SCRIPT = """
import asyncio
from agentq_nb import Actor, Queue, Retry, create_client, setup
class Runner(Actor):
    rows = Queue(int, retry=Retry(attempts=1))
    async def run(self):
        async for message in self.queue.iter(completable=True):
            await message.fail(ValueError(f"no such row {message.body}"))
async def main():
    registry = setup(use={"runner": Runner}, store="first.agentq.duckdb")
    await registry.start()
    runner = create_client().runner.get_or_create(["main"])
    for number in range(50):
        await runner.send("rows", number, wait=True)
    await registry.stop()
asyncio.run(main())
"""


def error(text: str, kind: str = "ValueError") -> dict[str, str]:
    return {"type": kind, "message": text}


def test_failures_of_one_kind_are_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    for number in range(500):
        failures.note_message(MessageId(f"m{number}"), ACTOR, "rows", error(f"no such row {number}"))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "Message m0 of 'runner/main', queue 'rows', failed: ValueError: no such row 0"
    assert [line.partition(" (")[2] for line in lines[1:]] == [
        f"{count} failures like this so far)" for count in (2, 3, 10, 100)
    ]


def test_what_is_new_is_counted_by_kind() -> None:
    failures = Failures()
    failures.note_message(MessageId("m1"), ACTOR, "rows", error("a"))
    before = failures.counts()
    failures.note_message(MessageId("m2"), ACTOR, "rows", error("b"))
    failures.note_message(MessageId("m3"), ACTOR, "rows", error("c"))
    failures.note_actor(ACTOR, "run", error("c"))
    failures.note_actor(ACTOR, "on_wake", error("d", "OSError"))
    assert [failure.text for failure in new_failures(before, failures.counts())] == [
        "2 messages of runner, queue 'rows', failed: ValueError: c",
        "on_wake of runner failed: OSError: d",
    ]
    assert new_failures(failures.counts(), failures.counts()) == []


def test_a_script_prints_them_without_any_setup_of_logging(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert len(lines) == 4
    assert "of 'runner/main', queue 'rows', failed: ValueError: no such row 0" in lines[0]
    assert lines[-1].endswith("(10 failures like this so far)")
