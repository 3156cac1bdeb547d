"""Three hosts on one PostgreSQL keep their promises while hosts, servers and networks fail: one seed of each kind of fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distributed.plan import KINDS, SMALL, make_plan
from tests.distributed.promises import broken_promises
from tests.distributed.run import Run
from tests.postgres_server import required_programs


@pytest.fixture
def found() -> Path:
    """The programs of PostgreSQL."""
    return required_programs()


@pytest.mark.parametrize("seed", range(len(KINDS)), ids=KINDS)
def test_every_acknowledged_message_is_settled_once_in_order_with_its_reply(
    tmp_path: Path, found: Path, seed: int
) -> None:
    """``python -m tests.distributed --small --seed N`` runs one of them again."""
    run = Run(make_plan(seed, size=SMALL), tmp_path).go(found)
    assert broken_promises(run) == []


def test_a_seed_gives_the_same_plan_each_time() -> None:
    assert make_plan(7) == make_plan(7) != make_plan(7 + len(KINDS))
    assert {make_plan(seed).kind for seed in range(len(KINDS))} == set(KINDS)
