"""``kill -9`` of a process whose messages wait for others: what the handlers wrote down outside of the store says what began."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.ledger import Ledger, live, live_through_kills
from tests.unit.runtime.chain_ledger import FAILS, MESSAGES, after

KILLS = int(os.environ.get("AGENTQ_CHAIN_KILLS", "8"))


def behind(number: int) -> set[int]:
    """All that waits for this one, directly or not."""
    found = {number}
    for other in range(MESSAGES):
        if found.intersection(after(other)):
            found.add(other)
    return found - {number}


@pytest.mark.timeout(300)
def test_nothing_starts_early_and_nothing_is_lost_or_left_waiting_across_kills(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    said = live_through_kills(
        lambda: live("tests.unit.runtime.chain_ledger", str(tmp_path)),
        lambda: len(ledger.facts()),
        KILLS,
        lambda chance: chance.choice([0.0, 0.01, chance.uniform(0, 0.1), chance.uniform(0, 0.3)]),
    )
    began = ledger.facts("began")
    assert [fact["number"] for fact in began if not fact["right"]] == [], said
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for place, fact in enumerate(began):
        first.setdefault(fact["number"], place)
        last[fact["number"]] = place
    # What begins again after what waits for it has begun had not completed durably.
    early = [(one, other) for other in first for one in after(other) if last.get(one, MESSAGES**2) > first[other]]
    assert early == [], said
    settled = {fact["number"]: (fact["status"], fact["error"]) for fact in ledger.facts("settled")}
    expected = dict.fromkeys(range(MESSAGES), ("completed", None))
    expected |= dict.fromkeys(behind(FAILS), ("cancelled", "predecessor_failed")) | {FAILS: ("failed", "error")}
    assert settled == expected, said
    assert set(first).isdisjoint(behind(FAILS)), said
