"""A place for the queues of a test's hosts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres_queues import own_queues


@pytest.fixture
def store(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of queues on PostgreSQL that no other test has. The host's own file is in the test's folder."""
    monkeypatch.chdir(tmp_path)
    with own_queues(postgres_url) as address:
        yield address
