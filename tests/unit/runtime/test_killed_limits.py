"""``kill -9`` of a process whose queues have limits: what the handlers wrote down outside of the store says what began."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.runtime.limit_ledger import COUNT, PAUSE, PER

MESSAGES = 40
KILLS = int(os.environ.get("AGENTQ_LIMIT_KILLS", "6"))
CHECKOUT = Path(__file__).parents[3]


def ledger(folder: Path) -> list[dict[str, Any]]:
    path = folder / "ledger.jsonl"
    whole = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in whole]


def begun(folder: Path) -> list[dict[str, Any]]:
    return [fact for fact in ledger(folder) if fact["fact"] == "began"]


def live(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.unit.runtime.limit_ledger", str(folder), str(MESSAGES)]
    return subprocess.Popen(command, cwd=CHECKOUT)


def until_it_goes_on(folder: Path, before: int, process: subprocess.Popen[bytes]) -> None:
    """Until this life has begun to handle something, or is done."""
    deadline = time.monotonic() + 60
    while len(begun(folder)) == before and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.timeout(300)
def test_a_window_is_never_exceeded_across_kills(tmp_path: Path) -> None:
    seed = int(os.environ.get("AGENTQ_KILL_SEED", random.randrange(2**32)))
    chance = random.Random(seed)
    for _ in range(KILLS):
        process = live(tmp_path)
        until_it_goes_on(tmp_path, len(begun(tmp_path)), process)
        time.sleep(chance.choice([0.0, 0.01, chance.uniform(0, PER), chance.uniform(0, 2 * PER)]))
        process.kill()
        process.wait()
    assert live(tmp_path).wait(timeout=200) == 0

    facts = ledger(tmp_path)
    starts = [fact["at"] for fact in facts if fact["fact"] == "began"]
    too_early = [
        (later - earlier) for earlier, later in zip(starts, starts[COUNT:], strict=False) if later - earlier < PER
    ]
    assert too_early == [], f"AGENTQ_KILL_SEED={seed}"
    assert len({fact["id"] for fact in facts if fact["fact"] == "ended"}) == MESSAGES


@pytest.mark.timeout(120)
def test_a_kill_while_the_provider_pauses_the_queues_changes_nothing(tmp_path: Path) -> None:
    process = live(tmp_path)
    deadline = time.monotonic() + 60
    while not any(fact["fact"] == "limited" for fact in ledger(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(0.3)
    process.kill()
    process.wait()
    assert live(tmp_path).wait(timeout=60) == 0
    facts = ledger(tmp_path)
    (limited,) = [fact for fact in facts if fact["fact"] == "limited"]
    later = [fact for fact in facts if fact["fact"] == "began" and fact["at"] > limited["at"] + 0.25]
    assert min(fact["at"] for fact in later) >= limited["at"] + PAUSE
    assert next(fact for fact in later if fact["id"] == limited["id"])["attempt"] == 1
