"""``kill -9`` of a process whose prompts have limits: what the agent wrote down outside the store says what began."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.agent_os.prompt_ledger import COUNT, PER
from tests.unit.ledger import BUSY, Ledger, live, live_through_kills, too_early

MESSAGES = 30
KILLS = int(os.environ.get("AGENTQ_LIMIT_KILLS", "5"))


@pytest.mark.timeout(300)
def test_prompts_and_messages_never_exceed_a_shared_window_across_kills(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    said = live_through_kills(
        lambda: live("tests.unit.agent_os.prompt_ledger", str(tmp_path), str(MESSAGES)),
        lambda: sum(int(begun["number"]) % 2 == 0 for begun in ledger.facts("began")),  # prompts to the agent
        KILLS,
        lambda chance: chance.choice([0.0, 0.01, chance.uniform(0, PER)]),
    )
    assert too_early([begun["at"] for begun in ledger.facts("began")], COUNT, PER - BUSY) == [], said
    assert len({ended["number"] for ended in ledger.facts("ended")}) == MESSAGES
