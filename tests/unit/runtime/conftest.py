"""A world for each test, on the machine's clock or on one that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.fake_clock import FakeClock
from tests.unit.runtime.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """On the machine's clock."""
    made = World(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def slow_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """On a clock that stands still until ``await slow_world.pass_by(seconds)``."""
    clock = FakeClock()
    monkeypatch.setattr("agentq_nb._host.host.SystemClock", lambda: clock)
    monkeypatch.setattr("agentq_nb._brokers.local.broker.SystemClock", lambda: clock)
    made = World(tmp_path, clock)
    yield made
    await made.close()


@pytest.fixture
async def background_world(tmp_path: Path) -> AsyncIterator[World]:
    """On the machine's clock, its host in a thread of its own."""
    made = World(tmp_path, background=True)
    yield made
    await made.close()
