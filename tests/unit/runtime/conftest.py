"""A world for each test, on the machine's clock or on one that the test moves."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.postgres_address.sitecustomize import SERVER
from tests.unit.brokers.postgres_setting import DatabaseClock
from tests.unit.fake_clock import FakeClock
from tests.unit.runtime.postgres_world import FileWorld
from tests.unit.runtime.world import World


@pytest.fixture
def new_world(tmp_path: Path) -> Callable[..., World]:
    """Makes a world, given what it has besides a folder; see :mod:`tests.postgres`."""
    return partial(FileWorld if SERVER in os.environ else World, tmp_path)


@pytest.fixture
def standing_clock() -> Iterator[FakeClock]:
    """A clock that stands still for hosts and, where there is one, their database."""
    if SERVER not in os.environ:
        yield FakeClock()
        return
    clock = DatabaseClock(os.environ[SERVER])
    yield clock
    clock.disconnect()


@pytest.fixture
async def world(new_world: Callable[..., World]) -> AsyncIterator[World]:
    """On the machine's clock."""
    made = new_world()
    yield made
    await made.close()


@pytest.fixture
async def slow_world(
    new_world: Callable[..., World], standing_clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """On a clock that stands still until ``await slow_world.pass_by(seconds)``."""
    for module in ("_host.host", "_brokers.local.broker", "_brokers.postgres.broker"):
        monkeypatch.setattr(f"agentq_nb.{module}.SystemClock", lambda: standing_clock)
    # In one process no notification is lost, and looking every few seconds makes hours of a test's clock long.
    for seconds in ("broker.PostgresBroker.look_every", "notifications.POLL", "upkeep.POLL"):
        monkeypatch.setattr(f"agentq_nb._brokers.postgres.{seconds}", 3600.0)
    made = new_world(standing_clock)
    yield made
    await made.close()


@pytest.fixture
async def background_world(new_world: Callable[..., World]) -> AsyncIterator[World]:
    """On the machine's clock, its host in a thread of its own."""
    made = new_world(background=True)
    yield made
    await made.close()
