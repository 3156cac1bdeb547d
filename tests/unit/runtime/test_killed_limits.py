"""``kill -9`` of a process whose queues have limits: what the handlers wrote down outside of the store says what began."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.unit.ledger import BUSY, Ledger, live, live_through_kills, too_early
from tests.unit.runtime.limit_ledger import COUNT, PAUSE, PER

MESSAGES = 40
KILLS = int(os.environ.get("AGENTQ_LIMIT_KILLS", "6"))


def start(folder: Path) -> subprocess.Popen[bytes]:
    return live("tests.unit.runtime.limit_ledger", str(folder), str(MESSAGES))


@pytest.mark.timeout(300)
def test_a_window_is_never_exceeded_across_kills(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    said = live_through_kills(
        lambda: start(tmp_path),
        lambda: len(ledger.facts("began")),
        KILLS,
        lambda chance: chance.choice([0.0, 0.01, chance.uniform(0, PER), chance.uniform(0, 2 * PER)]),
    )
    assert too_early([begun["at"] for begun in ledger.facts("began")], COUNT, PER - BUSY) == [], said
    assert len({ended["id"] for ended in ledger.facts("ended")}) == MESSAGES


@pytest.mark.timeout(120)
def test_a_kill_while_the_provider_pauses_the_queues_changes_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    process = start(tmp_path)
    deadline = time.monotonic() + 60
    while not ledger.facts("limited"):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(0.3)
    process.kill()
    process.wait()
    assert start(tmp_path).wait(timeout=60) == 0
    (limited,) = ledger.facts("limited")
    later = [begun for begun in ledger.facts("began") if begun["at"] > limited["at"] + 0.25]
    assert min(begun["at"] for begun in later) >= limited["at"] + PAUSE
    assert next(begun for begun in later if begun["id"] == limited["id"])["attempt"] == 1
