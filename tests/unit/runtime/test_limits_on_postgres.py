"""Limits as actors and users see them, with queues on PostgreSQL: the tests of files, run over a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.brokers.postgres_setting import DatabaseClock
from tests.unit.runtime.shared_world import SharedWorld
from tests.unit.runtime.test_limited_actions import *  # noqa: F403
from tests.unit.runtime.test_limits import *  # noqa: F403
from tests.unit.runtime.test_pause_history import (
    night,  # noqa: F401
    test_a_pause_in_force_has_no_end_and_one_that_is_ended_by_hand_ends_then,  # noqa: F401
    test_the_pauses_of_a_queue_are_kept_with_their_reasons_and_lengths,  # noqa: F401
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each host has a file of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def world(tmp_path: Path, postgres_url: str) -> AsyncIterator[SharedWorld]:
    made = SharedWorld(tmp_path, postgres_url)
    await made.create()
    yield made
    await made.close()


@pytest.fixture
async def background_world(tmp_path: Path, postgres_url: str) -> AsyncIterator[SharedWorld]:
    made = SharedWorld(tmp_path, postgres_url, background=True)
    await made.create()
    yield made
    await made.close()


@pytest.fixture
async def slow_world(
    tmp_path: Path,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[SharedWorld]:
    """Looks that make up for lost notifications would take hours of this clock a minute each."""
    clock = DatabaseClock(postgres_url)
    monkeypatch.setattr("agentq_nb._host.host.SystemClock", lambda: clock)
    monkeypatch.setattr("agentq_nb._brokers.local.broker.SystemClock", lambda: clock)
    monkeypatch.setattr("agentq_nb._brokers.postgres.broker.SystemClock", lambda: clock)
    for module in ("broker", "notifications"):
        monkeypatch.setattr(f"agentq_nb._brokers.postgres.{module}.POLL", 900.0)
    made = SharedWorld(tmp_path, postgres_url, clock)
    await made.create()
    yield made
    await made.close()
