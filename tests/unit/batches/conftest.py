"""A registry that no host runs for yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentq_nb import Registry, setup


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    """Its host is started by the first call that needs it, and stopped at the end."""
    registry = setup(store=tmp_path / "map.agentq.duckdb")
    yield registry
    await registry.stop()
