"""A world for each test, on the machine's clock or on one that the test moves."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.postgres_address.sitecustomize import SERVER
from tests.unit.brokers.postgres_setting import DatabaseClock
from tests.unit.fake_clock import FakeClock
from tests.unit.runtime.postgres_world import PostgresWorld
from tests.unit.runtime.world import World

KIND = PostgresWorld if SERVER in os.environ else World
"""Of worlds; see :mod:`tests.postgres`."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """On the machine's clock."""
    made = KIND(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def slow_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """On a clock that stands still until ``await slow_world.pass_by(seconds)``."""
    clock = DatabaseClock(os.environ[SERVER]) if SERVER in os.environ else FakeClock()
    for module in ("_host.host", "_brokers.local.broker", "_brokers.postgres.broker"):
        monkeypatch.setattr(f"agentq_nb.{module}.SystemClock", lambda: clock)
    # In one process no notification is lost, and looking every few seconds makes hours of a test's clock long.
    for module in ("broker", "notifications"):
        monkeypatch.setattr(f"agentq_nb._brokers.postgres.{module}.POLL", 3600.0)
    made = KIND(tmp_path, clock)
    yield made
    await made.close()


@pytest.fixture
async def background_world(tmp_path: Path) -> AsyncIterator[World]:
    """On the machine's clock, its host in a thread of its own."""
    made = KIND(tmp_path, background=True)
    yield made
    await made.close()
