"""Limits as actors and users see them, with queues on PostgreSQL: the tests of files, run over a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.unit.brokers.postgres_setting import DatabaseClock
from tests.unit.runtime.postgres_world import SharedWorld
from tests.unit.runtime.test_limited_actions import *  # noqa: F403
from tests.unit.runtime.test_limits import *  # noqa: F403
from tests.unit.runtime.test_pause_history import (
    night,  # noqa: F401
    test_a_pause_in_force_has_no_end_and_one_that_is_ended_by_hand_ends_then,  # noqa: F401
    test_the_pauses_of_a_queue_are_kept_with_their_reasons_and_lengths,  # noqa: F401
)
from tests.unit.runtime.world import World


@pytest.fixture
def new_world(tmp_path: Path, store: str) -> Callable[..., World]:
    return partial(SharedWorld, tmp_path, store)


@pytest.fixture
def standing_clock(postgres_url: str) -> Iterator[DatabaseClock]:
    clock = DatabaseClock(postgres_url)
    yield clock
    clock.disconnect()
