"""``kill -9`` of a process whose prompts have limits: what the agent wrote down outside the store says what began."""

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

from tests.unit.agent_os.prompt_ledger import COUNT, PER

MESSAGES = 30
KILLS = int(os.environ.get("AGENTQ_LIMIT_KILLS", "5"))
CHECKOUT = Path(__file__).parents[3]


def ledger(folder: Path) -> list[dict[str, Any]]:
    path = folder / "ledger.jsonl"
    whole = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in whole]


def live(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.unit.agent_os.prompt_ledger", str(folder), str(MESSAGES)]
    return subprocess.Popen(command, cwd=CHECKOUT)


def prompts_begun(folder: Path) -> int:
    return sum(fact["fact"] == "began" and int(fact["number"]) % 2 == 0 for fact in ledger(folder))


def until_a_prompt_begins(folder: Path, before: int, process: subprocess.Popen[bytes]) -> None:
    """Until this life has sent a prompt to the agent, or is done."""
    deadline = time.monotonic() + 60
    while prompts_begun(folder) == before and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.timeout(300)
def test_prompts_and_messages_never_exceed_a_shared_window_across_kills(tmp_path: Path) -> None:
    seed = int(os.environ.get("AGENTQ_KILL_SEED", random.randrange(2**32)))
    chance = random.Random(seed)
    for _ in range(KILLS):
        process = live(tmp_path)
        until_a_prompt_begins(tmp_path, prompts_begun(tmp_path), process)
        time.sleep(chance.choice([0.0, 0.01, chance.uniform(0, PER)]))
        process.kill()
        process.wait()
    assert live(tmp_path).wait(timeout=200) == 0

    facts = ledger(tmp_path)
    starts = [fact["at"] for fact in facts if fact["fact"] == "began"]
    too_early = [
        later - earlier for earlier, later in zip(starts, starts[COUNT:], strict=False) if later - earlier < PER
    ]
    assert too_early == [], f"AGENTQ_KILL_SEED={seed}"
    assert len({fact["number"] for fact in facts if fact["fact"] == "ended"}) == MESSAGES
