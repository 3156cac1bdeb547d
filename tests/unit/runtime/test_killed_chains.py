"""``kill -9`` of a process whose messages wait for others: what the handlers wrote down outside of the store says what began."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.runtime.chain_ledger import FAILS, MESSAGES, after, ledger_of

KILLS = int(os.environ.get("AGENTQ_CHAIN_KILLS", "8"))
CHECKOUT = Path(__file__).parents[3]


def live(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.unit.runtime.chain_ledger", str(folder)], cwd=CHECKOUT)


def until_it_goes_on(folder: Path, before: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while len(ledger_of(folder)) == before and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def behind(number: int) -> set[int]:
    """All that waits for this one, directly or not."""
    found = {number}
    for other in range(MESSAGES):
        if found.intersection(after(other)):
            found.add(other)
    return found - {number}


@pytest.mark.timeout(300)
def test_nothing_starts_early_and_nothing_is_lost_or_left_waiting_across_kills(tmp_path: Path) -> None:
    seed = int(os.environ.get("AGENTQ_KILL_SEED", random.randrange(2**32)))
    chance = random.Random(seed)
    for _ in range(KILLS):
        process = live(tmp_path)
        until_it_goes_on(tmp_path, len(ledger_of(tmp_path)), process)
        time.sleep(chance.choice([0.0, 0.01, chance.uniform(0, 0.1), chance.uniform(0, 0.3)]))
        process.kill()
        process.wait()
    assert live(tmp_path).wait(timeout=200) == 0

    facts, said = ledger_of(tmp_path), f"AGENTQ_KILL_SEED={seed}"
    began = [fact for fact in facts if fact["fact"] == "began"]
    assert [fact["number"] for fact in began if not fact["right"]] == [], said
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for place, fact in enumerate(began):
        first.setdefault(fact["number"], place)
        last[fact["number"]] = place
    # What begins again after what waits for it has begun had not completed durably.
    early = [(one, other) for other in first for one in after(other) if last.get(one, MESSAGES**2) > first[other]]
    assert early == [], said
    settled = {fact["number"]: (fact["status"], fact["error"]) for fact in facts if fact["fact"] == "settled"}
    expected = dict.fromkeys(range(MESSAGES), ("completed", None))
    expected |= dict.fromkeys(behind(FAILS), ("cancelled", "predecessor_failed")) | {FAILS: ("failed", "error")}
    assert settled == expected, said
    assert set(first).isdisjoint(behind(FAILS)), said
